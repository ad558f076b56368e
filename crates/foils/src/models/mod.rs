//! What is being trained? Encoders of text and images; how they are saved and loaded. No loss and no loop here.

mod adapter;
mod bert;
mod embedding_cache;
mod folder;
mod host;
pub mod image;
mod lazy_adamw;
mod load;
mod momentum;
mod pieces;
mod prompts;
mod static_encoder;
mod tokens;

pub use adapter::{Activation, Adapter, Head};
#[cfg(test)]
pub(crate) use bert::tests::Folder as BertFolder;
pub use bert::{BertEncoder, DEFAULT_CHUNK_TOKENS, LoraSettings, LoraTarget, Pooling};
pub use embedding_cache::EmbeddingCache;
pub use folder::{FolderWriter, ModuleEntry};
pub use lazy_adamw::LazyAdamW;
pub use load::{LoadOptions, load, load_with};
pub use momentum::{MomentumCopy, momentum_update};
pub(crate) use prompts::prompted;
pub use prompts::{Prompted, Prompts, Role};
pub use static_encoder::StaticEncoder;
pub use tokens::DEFAULT_MAX_TOKENS;

use crate::data::{Collection, Embeddings, Texts};
use crate::{Error, Result};
use burn::tensor::{Device, Gradients, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;
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

    /// [`Encoder::embed`] with what the model wants to see before a text of this role.
    ///
    /// # Errors
    /// As [`Encoder::embed`].
    fn embed_as(&self, _role: Role, texts: &[&str]) -> Result<Embeddings> {
        self.embed(texts)
    }

    /// What the model wants to see before texts, if anything.
    fn prompts(&self) -> Option<&Prompts> {
        None
    }

    /// Computes on `device` from here on, where it computes with tensors; by default it does not.
    fn to_device(&mut self, _device: &Device) {}

    /// Gives back the memory of what it remembers of texts, so as not to tokenise them twice.
    fn forget_texts(&self) {}

    /// A digest of the weights: equal for equal models, wherever they were loaded from.
    fn fingerprint(&self) -> u128;

    /// Adds this model's modules to a folder that is being written; a model that wraps another adds the inner one's first.
    ///
    /// # Errors
    /// When a file cannot be written, or this kind of model has no form that sentence-transformers knows (the default).
    fn write_modules(&self, _folder: &mut FolderWriter) -> Result<()> {
        Err(Error::invalid("this kind of encoder cannot be saved as a sentence-transformers folder"))
    }

    /// Writes a folder that `SentenceTransformer(path)` loads and [`load`] reads back. It appears whole or not at all;
    /// a model folder of that name is replaced.
    ///
    /// # Errors
    /// When the folder cannot be written, or holds something else than a model.
    fn save(&self, folder: &Path) -> Result<()> {
        let mut writer = FolderWriter::create(folder)?;
        self.write_modules(&mut writer)?;
        writer.commit()
    }
}

/// An encoder that the loop in [`crate::train`] can change.
///
/// Texts are prepared once ([`Trainable::prepare`]) and referred to by index afterwards, so that nothing is tokenised twice.
pub trait Trainable: Encoder {
    /// Tokenises (or looks up) the training texts; replaces what was prepared before, and starts the optimiser afresh.
    ///
    /// # Errors
    /// On a text from which no token is left, naming its position.
    fn prepare(&mut self, texts: &[&str]) -> Result<()>;

    /// `[rows.len(), dim]` vectors of prepared texts, on the autodiff graph of `device`. `seed` fixes whatever is random (dropout).
    ///
    /// # Errors
    /// On an index that was not prepared.
    fn forward(&mut self, rows: &[u32], device: &Device, seed: u64) -> Result<Tensor<2>>;

    /// The vectors of prepared texts with the current weights, off the graph: what [`Encoder::embed`] gives for their texts.
    ///
    /// # Errors
    /// On an index that was not prepared.
    fn embed_prepared(&self, rows: &[u32]) -> Result<Embeddings>;

    /// One optimiser step from the gradients of the vectors that `forward` returned since the last step. Vectors that no
    /// gradient reached count as 0.
    ///
    /// # Errors
    /// When a gradient is NaN or infinite; then nothing has changed.
    fn step(&mut self, gradients: &mut Gradients, learning_rate: f64) -> Result<()>;

    /// A peak learning rate that suits what is trained.
    fn learning_rate(&self) -> f64;

    /// The weights, to come back to with [`Trainable::restore`].
    fn snapshot(&self) -> Vec<u8>;

    /// Sets the weights from a [`Trainable::snapshot`] of the same model.
    ///
    /// # Errors
    /// When the bytes are not such a snapshot.
    fn restore(&mut self, snapshot: &[u8]) -> Result<()>;

    /// All that the next step depends on, the weights and what the optimiser keeps, to go on with in another process by
    /// [`Trainable::set_training_state`].
    fn training_state(&self) -> Vec<u8>;

    /// Goes on from the [`Trainable::training_state`] of the same model, whose texts were prepared.
    ///
    /// # Errors
    /// When the bytes are not such a state.
    fn set_training_state(&mut self, state: &[u8]) -> Result<()>;
}

/// The bytes of something that is written for another process of the same program to read.
pub(crate) fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("numbers and lists of known lengths have this form")
}

/// What [`to_bytes`] made bytes of.
pub(crate) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|e| Error::invalid(format!("the state is cut off or of another kind: {e}")))
}

/// The vectors of a collection's queries and of its documents.
///
/// # Errors
/// As [`Encoder::embed`].
pub fn embed_collection(encoder: &dyn Encoder, collection: &Collection) -> Result<(Embeddings, Embeddings)> {
    let embed = |role, texts: &Texts| encoder.embed_as(role, &texts.texts.refs(0..texts.len()));
    Ok((embed(Role::Query, &collection.queries)?, embed(Role::Document, &collection.corpus)?))
}

#[cfg(test)]
mod tests;
