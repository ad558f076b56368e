//! What do we learn from? Texts, pairs, collections with relevance, embeddings; their formats; registered data sets; batches.
//! Knows no other room but the types of [`crate::models`].

pub(crate) mod collection;
mod embeddings;
mod example;
pub mod formats;
pub mod images;
pub mod registry;
pub mod text;
mod text_list;

pub use collection::{Collection, Qrels, Texts};
pub use embeddings::Embeddings;
pub use example::{Example, Shape};
pub use text_list::TextList;
