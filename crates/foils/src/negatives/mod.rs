//! Where do the foils come from? In-batch, queue, mined. Which of them to trust is [`crate::weighting`]'s question.

mod summary;

pub use summary::{EqualToPositive, MineSummary, Quantiles, Removed, TooFew};
