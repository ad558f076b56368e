//! What did the foils do? Scores of negative sets, coupling, uniformity and tolerance, similarities of positives and negatives.

mod coupling;
pub mod eci;
mod exact_sum;
mod hardness;
mod negative_sets;
mod pairs;
mod principal;
mod set_score;
mod similarity;
mod spread;

pub use coupling::{Coupling, npc_multiplier};
pub use eci::{Capacity, Eci, EciSettings, Margin, eci_curve, eci_from_embeddings, eci_from_scores};
pub use hardness::{HardnessProfile, hardness_profile};
pub use negative_sets::{NegativeSet, ScoreSettings, gather, score_embedded, score_sets};
pub use principal::PrincipalAxes;
pub use set_score::{Baselines, ComponentIntervals, ScoreReport, SetScore, UnsafePair};
pub use similarity::SimilarityHistograms;
pub use spread::{Tolerance, TolerancePairs, uniformity};
