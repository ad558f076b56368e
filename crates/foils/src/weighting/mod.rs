//! Which foils to trust, and how much? Weights and filters.

mod filter;

pub use filter::{MarginRule, NegativeFilter, Rejection};
