//! Top-k over documents that come in blocks, which need not all be in memory.

use super::shortlist::{Rows, Shortlist, settle};
use super::{exact, screen};
use crate::Real;
use crate::simd::int8::{self, Engine};
use rayon::prelude::*;
use std::ops::Range;

/// Queries that are searched together: their coded rows stay in the second-level cache, and together they score so many documents
/// that reading those is reading from one end to the other.
const QUERIES: usize = 1020;
/// Fewer queries do not make up for coding the documents.
const FEWEST_QUERIES: usize = 48;
/// Narrower rows are not cheaper in 8 bits, because comparing takes as long as multiplying.
const NARROWEST: usize = 16;
/// After so many documents a screen is asked whether it pays.
const STRIDE: usize = 256;
/// The screen does not pay when more than one in so many of its documents had to be scored: scoring one takes as long as
/// multiplying 60 in f32, and screening saves three quarters of that.
const SCORED_SHARE: usize = 50;

/// The best `k` documents of each query, by inner product, of documents that are handed over in blocks.
///
/// ```
/// use foils_kernels::topk::TopK;
/// let mut best = TopK::new(&[1.0f32, 0.0], 2, 2);
/// best.block(0, &[1.0, 5.0, 3.0, 0.0], |_, _| false);
/// best.block(2, &[2.0, 2.0], |_, _| false);
/// assert_eq!(best.finish(), [[(1, 3.0), (2, 2.0)]]);
/// ```
pub struct TopK<'a, T> {
    queries: &'a [T],
    dim: usize,
    k: usize,
    engine: Option<Engine>,
    chunks: Vec<Chunk<T>>,
    /// Room for the coded documents of a block.
    coded: screen::Documents,
    seen: usize,
}

/// Queries that are searched together.
struct Chunk<T> {
    shortlists: Vec<Shortlist<T>>,
    coded: Option<screen::Queries>,
    /// So many documents are searched without the screen, because it did not pay.
    pause: usize,
}

/// What rows of this width are screened with, if screening them is quicker than multiplying them as they are.
pub(super) fn screening_engine(dim: usize) -> Option<Engine> {
    Some(Engine::best()).filter(|engine| engine.is_fast() && (NARROWEST..=int8::WIDEST).contains(&dim))
}

impl<'a, T: Real> TopK<'a, T> {
    /// For `[q, dim]` queries. A screen with 8-bit products is used where the processor multiplies those fast enough and there
    /// are enough queries.
    ///
    /// # Panics
    /// When `dim` is 0 or the length is no multiple of it.
    pub fn new(queries: &'a [T], dim: usize, k: usize) -> Self {
        assert!(dim > 0 && queries.len().is_multiple_of(dim), "rows are not of width {dim}");
        let pays = queries.len() / dim >= FEWEST_QUERIES;
        Self::with_engine(queries, dim, k, screening_engine(dim).filter(|_| pays))
    }

    pub(super) fn with_engine(queries: &'a [T], dim: usize, k: usize, engine: Option<Engine>) -> Self {
        let q = queries.len() / dim;
        let rows = q.div_ceil(q.div_ceil(QUERIES).max(1).next_multiple_of(rayon::current_num_threads())).max(1);
        let chunk = |queries: &[T]| Chunk {
            shortlists: (0..queries.len() / dim).map(|_| Shortlist::new(k)).collect(),
            coded: engine.map(|engine| screen::Queries::new(engine, queries, dim)),
            pause: 0,
        };
        let chunks = queries.par_chunks(rows * dim).map(chunk).collect();
        Self { queries, dim, k, engine, chunks, coded: screen::Documents::default(), seen: 0 }
    }

    /// Without the 8-bit screen; the result is the same.
    pub fn unscreened(queries: &'a [T], dim: usize, k: usize) -> Self {
        Self::with_engine(queries, dim, k, None)
    }

    /// Takes in `[n, dim]` documents, the first of which has the index `first`; blocks may come in any order.
    /// `excluded(query, document)` takes documents out.
    ///
    /// # Panics
    /// When the length is no multiple of `dim` or an index does not fit 32 bits.
    pub fn block(&mut self, first: u32, documents: &[T], excluded: impl Fn(usize, u32) -> bool + Sync) {
        let mut coded = std::mem::take(&mut self.coded);
        let screen = self.engine.filter(|_| self.k > 0 && self.chunks.iter().any(|chunk| chunk.pause == 0));
        if let Some(engine) = screen {
            coded.fill(engine, documents, self.dim);
        }
        self.search(first, documents, screen.map(|_| &coded), excluded);
        self.coded = coded;
    }

    /// [`TopK::block`] of documents that are coded already.
    pub(super) fn search(
        &mut self,
        first: u32,
        documents: &[T],
        coded: Option<&screen::Documents>,
        excluded: impl Fn(usize, u32) -> bool + Sync,
    ) {
        let dim = self.dim;
        assert!(documents.len().is_multiple_of(dim), "rows are not of width {dim}");
        let n = documents.len() / dim;
        assert!(u32::try_from(first as usize + n).is_ok(), "more than 2^32 documents");
        if n == 0 || self.k == 0 {
            return;
        }
        let largest_norm = coded.map_or_else(|| exact::largest_norm(documents, dim), |coded| coded.largest_norm);
        let rows = self.chunks.first().map_or(1, |chunk| chunk.shortlists.len());
        // Few queries are not enough work for all threads: then the documents are split as well.
        let parts = rayon::current_num_threads().div_ceil(self.chunks.len().max(1)).min(n.div_ceil(STRIDE));
        let part = n.div_ceil(parts).next_multiple_of(int8::COLUMNS);
        let block = Block { first, documents, dim, largest_norm, screen: self.engine.zip(coded), k: self.k };
        let seen = self.seen;
        let queries = self.queries.par_chunks(rows * dim);
        self.chunks.par_iter_mut().zip(queries).enumerate().for_each(|(at, (chunk, queries))| {
            let excluded = |row: usize, document: u32| excluded(at * rows + row, document);
            let coded = chunk.coded.as_ref().filter(|_| chunk.pause == 0);
            let search = |range, shortlists: &mut [Shortlist<T>]| block.search(queries, coded, range, shortlists, excluded);
            let paid = if parts == 1 {
                search(0..n, &mut chunk.shortlists)
            } else {
                let in_part = |p: usize| {
                    let mut shortlists: Vec<_> = chunk.shortlists.iter().map(Shortlist::part).collect();
                    let paid = search((p * part).min(n)..((p + 1) * part).min(n), &mut shortlists);
                    (paid, shortlists)
                };
                let found: Vec<_> = (0..parts).into_par_iter().map(in_part).collect();
                found.into_iter().fold(true, |all, (paid, shortlists)| {
                    chunk.shortlists.iter_mut().zip(shortlists).for_each(|(whole, part)| whole.merge(part));
                    all && paid
                })
            };
            // What did not pay is tried again after as many documents as have gone by: that wastes little, however they lie.
            chunk.pause = if paid { chunk.pause.saturating_sub(n) } else { seen + n };
        });
        self.seen += n;
    }

    /// The bytes that a block takes, while it is searched, for each of its documents; beyond these there are the queries'
    /// coded rows, or packed ones for each thread that searches without them, and shortlists of at most 8k + 512 entries for each query that is searched at the moment.
    pub fn bytes_for_each_document(&self) -> usize {
        self.engine.map_or(0, |engine| screen::Documents::bytes(engine, self.dim))
    }

    /// How many documents have been scored exactly so far, for all queries together: what the screen did not rule out.
    pub fn scored(&self) -> u64 {
        self.chunks.iter().flat_map(|chunk| &chunk.shortlists).map(Shortlist::scored).sum()
    }

    /// The best `k` of each query: (index, score), score descending, ties to the lower index. NaN never is among them.
    pub fn finish(self) -> Vec<Vec<(u32, T)>> {
        self.chunks.into_iter().flat_map(|chunk| chunk.shortlists).map(Shortlist::into_ranking).collect()
    }
}

/// What all queries' searches of one block share.
struct Block<'a, T> {
    first: u32,
    documents: &'a [T],
    dim: usize,
    k: usize,
    largest_norm: f64,
    screen: Option<(Engine, &'a screen::Documents)>,
}

impl<T: Real> Block<'_, T> {
    /// Searches a range of the documents and settles the shortlists; whether the screen paid (true without one).
    fn search(
        &self,
        queries: &[T],
        coded: Option<&screen::Queries>,
        range: Range<usize>,
        shortlists: &mut [Shortlist<T>],
        excluded: impl Fn(usize, u32) -> bool,
    ) -> bool {
        let scored = |shortlists: &[Shortlist<T>]| shortlists.iter().map(Shortlist::scored).sum::<u64>();
        let before = scored(shortlists);
        let allowed = (shortlists.len() * (4 * self.k).saturating_add(range.len() / SCORED_SHARE)) as u64;
        let pays = |shortlists: &[Shortlist<T>]| scored(shortlists) - before <= allowed;
        let rows = Rows { dim: self.dim, queries, documents: self.documents, first: self.first };
        let mut start = range.start;
        if let (Some((engine, documents)), Some(queries)) = (self.screen, coded) {
            let scan = screen::Scan { engine, rows, queries, documents, excluded: &excluded };
            while start < range.end && pays(shortlists) {
                let end = (start + STRIDE).min(range.end);
                scan.range(start..end, shortlists);
                start = end;
            }
        }
        if start < range.end {
            let scan = exact::Scan { rows, largest_norm: self.largest_norm, excluded: &excluded };
            scan.range(start..range.end, shortlists);
        }
        settle(&rows, 0, shortlists);
        coded.is_none() || pays(shortlists)
    }
}
