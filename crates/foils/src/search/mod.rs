//! What is near what? Exact top-k over embeddings and BM25 over words.
//! Every ranking here is by score descending, ties to the lower index.

mod bm25;
mod bm25_parts;
mod dense;
mod mapped;
mod stop_words;

pub(crate) use bm25::check_offsets;
pub use bm25::{Bm25, Bm25Index, Bm25Settings, Idf};
pub(crate) use bm25_parts::Bm25Parts;
pub use dense::{Similarity, similarity, top_k};
pub(crate) use dense::{check_directions, check_widths};
pub use foils_kernels::topk::rank_order;
pub use mapped::top_k_mapped;

/// (document index, score), best first.
pub type Ranking = Vec<(u32, f32)>;
