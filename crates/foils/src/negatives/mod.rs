//! Where do the foils come from? In-batch, queue, mined. Which of them to trust is [`crate::weighting`]'s question.

mod candidates;
mod examples;
mod hard;
mod judge;
mod miner;
mod mining;
mod near_copy;
mod queue;
mod resume;
mod select;
mod summary;
mod vectors;

#[cfg(test)]
mod mining_tests;

pub use candidates::Candidates;
pub use hard::{HardNegativeSettings, HardNegatives, mine_hard_negatives};
pub use miner::Miner;
pub use mining::{MineSettings, Mined, ScoredBy, mine};
pub use queue::{Queue, queue_update};
pub use resume::forget;
pub use select::{Sampling, Tally};
pub use summary::{EqualToPositive, MineSummary, Quantiles, Removed, TooFew};
