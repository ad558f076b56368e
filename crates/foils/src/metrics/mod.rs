//! How good is a ranking, and do two rankings agree? Rank metrics with their bootstrap intervals.

mod evaluation;

pub use evaluation::{Comparison, Evaluation, Histogram, Interval, Mover};
