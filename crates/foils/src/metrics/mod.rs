//! How good is a ranking, and do two rankings agree? Rank metrics with their bootstrap intervals; probes of frozen features.

mod agreement;
mod auroc;
mod bootstrap;
mod evaluate;
mod evaluation;
mod histogram;
mod knn;
mod linear_probe;
mod ranking;
mod reciprocal_rank;
mod run;
mod student;

pub use agreement::{RankAgreement, rank_agreement};
pub use auroc::auroc;
pub use bootstrap::Bootstrap;
pub(crate) use evaluate::check_embeddings;
pub use evaluate::{EvaluateSettings, Evaluated, Vectors, evaluate, evaluate_rankings};
pub use evaluation::{Comparison, Evaluation, Interval, Mover};
pub use histogram::Histogram;
pub(crate) use knn::unit_rows;
pub use knn::{KnnPrediction, KnnSettings, knn_predict};
pub use linear_probe::{LinearProbe, ProbeSettings};
pub use ranking::{Gain, MapDenominator, PerQuery, RankMetrics, RetrievalSettings, of_run, retrieval_metrics};
pub use reciprocal_rank::mean_reciprocal_rank;
pub use run::{JudgedRun, judged_run};
pub use student::{SampleMean, sample_mean};
