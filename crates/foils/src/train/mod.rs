//! The loop: steps, schedules, batches, checkpoints, logs. May use every other room; only studies and the command use it.

mod summary;

pub use summary::{NegativesSeen, StepRecord, TrainSummary, Validation};
