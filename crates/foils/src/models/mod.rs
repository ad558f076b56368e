//! What is being trained? Encoders of text and images; how they are saved and loaded. No loss and no loop here.

mod momentum;

pub use momentum::momentum_update;

use crate::Result;
use crate::data::Embeddings;
use burn::tensor::{Device, Gradients, Tensor};
use std::path::Path;

/// Turns texts into vectors.
pub trait Encoder: Send + Sync {
    /// The width of the vectors.
    fn dim(&self) -> usize;

    /// One vector a text, in order, as the model gives them (not normalised unless the model does).
    ///
    /// # Errors
    /// On a text from which no token is left, naming its position.
    fn embed(&self, texts: &[&str]) -> Result<Embeddings>;

    /// A digest of the weights: equal for equal models, wherever they were loaded from.
    fn fingerprint(&self) -> u128;

    /// Writes a folder that `SentenceTransformer(path)` loads and [`load`] reads back.
    ///
    /// # Errors
    /// When the folder cannot be written.
    fn save(&self, folder: &Path) -> Result<()>;
}

/// An encoder that the loop in [`crate::train`] can change.
///
/// Texts are prepared once ([`Trainable::prepare`]) and referred to by index afterwards, so that nothing is tokenised twice.
pub trait Trainable: Encoder {
    /// Tokenises (or looks up) the training texts; replaces what was prepared before.
    ///
    /// # Errors
    /// On a text from which no token is left, naming its position.
    fn prepare(&mut self, texts: &[&str]) -> Result<()>;

    /// `[rows.len(), dim]` vectors of prepared texts, on the autodiff graph of `device`. `seed` fixes whatever is random (dropout).
    ///
    /// # Errors
    /// On an index that was not prepared.
    fn forward(&mut self, rows: &[u32], device: &Device, seed: u64) -> Result<Tensor<2>>;

    /// One optimiser step from the gradients of the vectors that `forward` returned since the last step.
    ///
    /// # Errors
    /// When a gradient is NaN or infinite.
    fn step(&mut self, gradients: &mut Gradients, learning_rate: f64) -> Result<()>;

    /// The weights, to come back to with [`Trainable::restore`].
    fn snapshot(&self) -> Vec<u8>;

    /// Sets the weights from a [`Trainable::snapshot`] of the same model.
    ///
    /// # Errors
    /// When the bytes are not such a snapshot.
    fn restore(&mut self, snapshot: &[u8]) -> Result<()>;
}
