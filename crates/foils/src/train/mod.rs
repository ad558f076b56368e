//! The loop: steps, schedules, batches, checkpoints, logs. May use every other room; only studies and the command use it.

mod grad_cache;
mod summary;

pub use grad_cache::{Chunk, ChunkEncoder, Side, cached_gradients};
pub use summary::{NegativesSeen, StepRecord, TrainSummary, Validation};
