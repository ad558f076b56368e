//! What did the foils do? Scores of negative sets, coupling, alignment and uniformity.

mod coupling;
mod set_score;

pub use coupling::{Coupling, npc_multiplier};
pub use set_score::{Baselines, ScoreReport, SetScore, UnsafePair};
