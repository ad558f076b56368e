//! What did the foils do? Scores of negative sets, coupling, alignment and uniformity.

mod set_score;

pub use set_score::{Baselines, ScoreReport, SetScore, UnsafePair};
