//! Documents that are searched many times.

use super::stream::screening_engine;
use super::{BLOCK, TopK, screen};
use crate::Real;
use crate::simd::int8::Engine;
use std::borrow::Cow;
use std::sync::OnceLock;

/// Documents whose 8-bit copies are made once, at the first search, for all searches.
///
/// The copies take `dim` bytes for each document, rounded up to a multiple of 4 (with AMX of 64), and 12 more: about a quarter of
/// the documents themselves in f32. They are made where the processor multiplies 8-bit numbers fast and `dim` is at least 16.
///
/// ```
/// use foils_kernels::topk::Corpus;
/// let corpus = Corpus::new(vec![1.0f32, 5.0, 3.0, 0.0], 2);
/// assert_eq!(corpus.top_k(&[1.0, 0.0], 1, |_, _| false), [[(1, 3.0)]]);
/// assert_eq!(corpus.top_k(&[0.0, 1.0], 1, |_, _| false), [[(0, 5.0)]]);
/// ```
pub struct Corpus<'a, T: Clone> {
    documents: Cow<'a, [T]>,
    dim: usize,
    engine: Option<Engine>,
    /// Of each block of documents.
    coded: OnceLock<Vec<screen::Documents>>,
}

impl<'a, T: Real> Corpus<'a, T> {
    /// `[n, dim]` documents, row-major, owned or borrowed.
    ///
    /// # Panics
    /// When `dim` is 0, the length is no multiple of it, or there are more than 2³² documents.
    pub fn new(documents: impl Into<Cow<'a, [T]>>, dim: usize) -> Self {
        let documents = documents.into();
        assert!(dim > 0 && documents.len().is_multiple_of(dim), "rows are not of width {dim}");
        assert!(u32::try_from(documents.len() / dim).is_ok(), "more than 2^32 documents");
        Self { documents, dim, engine: screening_engine(dim), coded: OnceLock::new() }
    }

    /// One with this engine, for tests.
    #[cfg(test)]
    pub(super) fn with_engine(documents: &'a [T], dim: usize, engine: Option<Engine>) -> Self {
        Self { engine, ..Self::new(documents, dim) }
    }

    /// Document `i`.
    ///
    /// # Panics
    /// When there is none.
    pub fn row(&self, i: u32) -> &[T] {
        &self.documents[i as usize * self.dim..][..self.dim]
    }

    /// [`super::top_k`] of these documents for `[q, dim]` queries, to the bit. Memory beyond the result and the 8-bit copies is
    /// O(q · k).
    ///
    /// # Panics
    /// When the length is no multiple of `dim`.
    pub fn top_k(&self, queries: &[T], k: usize, excluded: impl Fn(usize, u32) -> bool + Sync) -> Vec<Vec<(u32, T)>> {
        assert!(queries.len().is_multiple_of(self.dim), "rows are not of width {}", self.dim);
        let blocks = || self.documents.chunks(BLOCK * self.dim);
        let coded = self.engine.map(|engine| {
            self.coded.get_or_init(|| {
                let code = |block| {
                    let mut coded = screen::Documents::default();
                    coded.fill(engine, block, self.dim);
                    coded
                };
                blocks().map(code).collect()
            })
        });
        let mut best = TopK::with_engine(queries, self.dim, k, self.engine);
        for (at, block) in blocks().enumerate() {
            best.search((at * BLOCK) as u32, block, coded.map(|coded| &coded[at]), &excluded);
        }
        best.finish()
    }
}
