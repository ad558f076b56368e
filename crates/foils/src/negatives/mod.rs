//! Where do the foils come from? In-batch, queue, mined. Which of them to trust is [`crate::weighting`]'s question.

mod queue;
mod summary;

pub use queue::{Queue, queue_update};
pub use summary::{EqualToPositive, MineSummary, Quantiles, Removed, TooFew};
