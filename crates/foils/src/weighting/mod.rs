//! Which foils to trust, and how much? Weights and filters.

mod batch_bm25;
mod box_whisker;
mod filter;
mod soft_negatives;

pub use batch_bm25::BatchBm25;
pub use box_whisker::{BoxWhisker, Kept, PairSimilarities};
pub use filter::{MarginRule, NegativeFilter, Rejection};
pub(crate) use soft_negatives::negatives;
pub use soft_negatives::{Cancellation, SoftNegatives, SoftWeights};
