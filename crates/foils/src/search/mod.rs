//! What is near what? Exact top-k over embeddings and BM25 over words.
//! Every ranking here is by score descending, ties to the lower index.

mod dense;

pub use dense::{Similarity, similarity, top_k};
pub use foils_kernels::topk::rank_order;

/// (document index, score), best first.
pub type Ranking = Vec<(u32, f32)>;
