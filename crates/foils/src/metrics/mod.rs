//! How good is a ranking, and do two rankings agree? Rank metrics with their bootstrap intervals.

mod agreement;
mod auroc;
mod bootstrap;
mod evaluate;
mod evaluation;
mod knn;
mod ranking;
mod run;
mod student;

pub use agreement::{RankAgreement, rank_agreement};
pub use auroc::auroc;
pub use bootstrap::Bootstrap;
pub(crate) use evaluate::check_embeddings;
pub use evaluate::{EvaluateSettings, Evaluated, Vectors, evaluate, evaluate_rankings};
pub use evaluation::{Comparison, Evaluation, Histogram, Interval, Mover};
pub use knn::{KnnPrediction, KnnSettings, knn_predict};
pub use ranking::{Gain, MapDenominator, PerQuery, RankMetrics, RetrievalSettings, of_run, retrieval_metrics};
pub use run::{JudgedRun, judged_run};
pub use student::{SampleMean, sample_mean};
