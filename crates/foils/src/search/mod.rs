//! What is near what? Exact top-k over embeddings and BM25 over words.
