//! Where do the foils come from? In-batch, queue, mined. Which of them to trust is [`crate::weighting`]'s question.

mod candidates;
mod examples;
mod hard;
mod mining;
mod near_copy;
mod queue;
mod select;
mod summary;

#[cfg(test)]
mod mining_tests;

pub use candidates::Candidates;
pub use hard::{HardNegativeSettings, HardNegatives, mine_hard_negatives};
pub use mining::{MineSettings, Mined, ScoredBy, mine, mine_with_teacher};
pub use queue::{Queue, queue_update};
pub use select::{Sampling, Tally};
pub use summary::{EqualToPositive, MineSummary, Quantiles, Removed, TooFew};
