//! The unit vectors that candidates are found and scored by, in memory or in files.

use crate::data::{Collection, Embeddings, Texts};
use crate::models::{Encoder, Role, embed_collection};
use crate::progress::Progress;
use crate::scratch::{Scratch, ScratchWriter};
use crate::search::{Ranking, check_directions, check_widths};
use crate::{Error, Result};
use foils_kernels::topk::{self, Corpus, TopK};
use std::ops::Range;
use std::path::Path;

/// Texts that are embedded at a time when vectors go into files.
const CHUNK: usize = 8192;

/// Where the vectors come from.
#[derive(Clone, Copy)]
pub(super) enum Given<'a> {
    /// Queries, documents.
    Vectors(&'a Embeddings, &'a Embeddings),
    Encoder(&'a dyn Encoder),
}

/// Vectors of unit length of all queries and documents.
pub(super) struct UnitVectors {
    dim: usize,
    store: Store,
}

enum Store {
    Held { queries: Vec<f32>, documents: Corpus<'static, f32> },
    Filed { queries: Scratch<f32>, documents: Scratch<f32> },
}

impl UnitVectors {
    /// In memory.
    pub fn held(collection: &Collection, given: Given) -> Result<Self> {
        let embedded;
        let (queries, documents) = match given {
            Given::Vectors(queries, documents) => (queries, documents),
            Given::Encoder(encoder) => {
                embedded = embed_collection(encoder, collection)?;
                (&embedded.0, &embedded.1)
            }
        };
        check(collection, queries, documents)?;
        let dim = documents.dim();
        let (queries, documents) = (topk::unit_rows(queries.data(), dim), topk::unit_rows(documents.data(), dim));
        Ok(Self { dim, store: Store::Held { queries, documents: Corpus::new(documents, dim) } })
    }

    /// In files on the disk of `scratch`.
    pub fn filed(collection: &Collection, given: Given, scratch: &Path) -> Result<Self> {
        let (dim, queries, documents) = match given {
            Given::Vectors(queries, documents) => {
                check(collection, queries, documents)?;
                let file = |vectors: &Embeddings| {
                    let mut out = ScratchWriter::new(scratch)?;
                    out.extend(&topk::unit_rows(vectors.data(), vectors.dim()))?;
                    out.finish()
                };
                (documents.dim(), file(queries)?, file(documents)?)
            }
            Given::Encoder(encoder) => {
                let queries = embed(encoder, Role::Query, &collection.queries, scratch)?;
                (encoder.dim(), queries, embed(encoder, Role::Document, &collection.corpus, scratch)?)
            }
        };
        Ok(Self { dim, store: Store::Filed { queries, documents } })
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    fn queries(&self, range: Range<usize>) -> &[f32] {
        let range = range.start * self.dim..range.end * self.dim;
        match &self.store {
            Store::Held { queries, .. } => &queries[range],
            Store::Filed { queries, .. } => &queries[range],
        }
    }

    /// The cosine similarity of a query and a document.
    pub fn score(&self, query: usize, document: u32) -> f32 {
        let document = match &self.store {
            Store::Held { documents, .. } => documents.row(document),
            Store::Filed { documents, .. } => &documents[document as usize * self.dim..][..self.dim],
        };
        topk::dot(self.queries(query..query + 1), document)
    }

    /// The `k` nearest documents of some queries. Of vectors in files, so many documents are taken at a time as `memory_bytes` allows
    /// for their 8-bit copies.
    pub fn top_k(&self, queries: Range<usize>, k: usize, memory_bytes: usize) -> Vec<Ranking> {
        let queries = self.queries(queries);
        match &self.store {
            Store::Held { documents, .. } => documents.top_k(queries, k, |_, _| false),
            Store::Filed { documents, .. } => {
                let mut best = TopK::new(queries, self.dim, k);
                let rows = (memory_bytes / best.bytes_for_each_document().max(1)).max(256);
                for (at, block) in documents.chunks(rows.saturating_mul(self.dim)).enumerate() {
                    best.block((at * rows) as u32, block, |_, _| false);
                }
                best.finish()
            }
        }
    }
}

fn check(collection: &Collection, queries: &Embeddings, documents: &Embeddings) -> Result<()> {
    for (what, vectors, texts) in [("query", queries, &collection.queries), ("document", documents, &collection.corpus)] {
        if vectors.rows() != texts.len() {
            return Err(Error::invalid(format!("{} {what} vectors for {} texts", vectors.rows(), texts.len())));
        }
        check_directions(what, vectors)?;
    }
    check_widths(queries, documents)
}

fn embed(encoder: &dyn Encoder, role: Role, texts: &Texts, scratch: &Path) -> Result<Scratch<f32>> {
    let mut out = ScratchWriter::new(scratch)?;
    let progress = Progress::new(texts.len() as u64, format!("embedding {}", if role == Role::Query { "queries" } else { "documents" }));
    for start in (0..texts.len()).step_by(CHUNK) {
        let range = start..(start + CHUNK).min(texts.len());
        let vectors = encoder.embed_as(role, &texts.texts.refs(range.clone()))?;
        encoder.forget_texts();
        if let Some(row) = vectors.first_zero_row() {
            let id = &texts.ids[start + row];
            return Err(Error::invalid(format!("the text {id} has the zero vector, which has no cosine with anything")));
        }
        out.extend(&topk::unit_rows(vectors.data(), vectors.dim()))?;
        progress.inc(range.len() as u64);
    }
    out.finish()
}
