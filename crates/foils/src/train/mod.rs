//! The loop: steps, schedules, batches, checkpoints, logs. May use every other room; only studies and the command use it.

mod batches;
mod candidates;
mod checkpoint;
mod fit;
mod grad_cache;
mod queue;
mod relevance;
mod schedule;
mod self_supervised;
mod settings;
mod summary;
mod teacher;
mod tensorboard;
mod training_set;
pub mod tune;
mod validation;
mod weights;

pub use batches::{BatchSampler, Epoch};
pub use checkpoint::Checkpoints;
pub use fit::{RunFiles, fit};
pub use grad_cache::{Chunk, ChunkEncoder, Side, cached_gradients};
pub use schedule::{Decay, Schedule};
pub use self_supervised::{KeyEncoder, SelfSupervised, ViewBatch};
pub use settings::{MarginKind, TrainSettings};
pub use summary::{NegativesSeen, StepRecord, TrainSummary, Validation};
pub use tensorboard::EventWriter;
pub use training_set::TrainingSet;
pub use weights::WeightSettings;
