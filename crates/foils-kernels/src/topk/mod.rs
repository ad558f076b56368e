//! Exact top-k by inner product: blocked products fused with one bounded buffer a query, so that the `[queries, documents]`
//! matrix never exists.
//!
//! A product of 8-bit copies (where the processor multiplies those fast), or a blocked product in the numbers' own precision,
//! only says, within a rigorous error bound, which documents may be among the best. Those are scored by [`dot`], whose value
//! depends on the two vectors alone. Equal documents therefore tie exactly, and the result is the same bits for every block
//! size, thread count and machine, screened or not.

mod corpus;
mod exact;
mod screen;
mod shortlist;
mod stream;
#[cfg(test)]
mod tests;

use crate::Real;
pub use corpus::Corpus;
use rayon::prelude::*;
use std::cmp::Ordering;
pub use stream::TopK;

/// Documents that [`top_k`] looks at together.
const BLOCK: usize = 64 * 1024;

/// The order of every ranking: score descending, ties to the lower index. −0 ties with 0.
pub fn rank_order<T: Real>(a: &(u32, T), b: &(u32, T)) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}

/// ⟨a, b⟩, accumulated in f64 in a fixed order and rounded once: the same bits wherever it is computed.
///
/// # Panics
/// When the lengths differ.
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    assert_eq!(a.len(), b.len(), "vectors of different lengths");
    T::from_f64(crate::simd::ordered_dot(a, b))
}

/// Every row divided by max(‖row‖₂, 1e-12).
pub fn unit_rows<T: Real>(rows: &[T], dim: usize) -> Vec<T> {
    let mut out = rows.to_vec();
    make_unit_rows(&mut out, dim);
    out
}

/// [`unit_rows`] in place.
pub fn make_unit_rows<T: Real>(rows: &mut [T], dim: usize) {
    rows.par_chunks_exact_mut(dim.max(1)).for_each(|row| {
        let norm = row.iter().map(|v| v.to_f64().powi(2)).sum::<f64>().sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v = T::from_f64(v.to_f64() / norm));
    });
}

/// The `k` documents with the largest inner product for each query: (index, score), score descending, ties to the lower index.
/// `excluded(query, document)` takes documents out (lists of them: [`crate::Lists::members`]); fewer than `k` come back when fewer
/// are left. Documents that are searched again are better kept as a [`Corpus`].
///
/// `queries` is `[q, dim]`, `documents` `[n, dim]`, row-major. Memory beyond the result is an 8-bit copy of 65,536 documents and
/// O(q · k), never q × n. Values should be finite; a document whose score is NaN is left out.
///
/// # Panics
/// When `dim` is 0, a length is no multiple of `dim`, or there are more than 2³² documents.
pub fn top_k<T: Real>(
    queries: &[T],
    documents: &[T],
    dim: usize,
    k: usize,
    excluded: impl Fn(usize, u32) -> bool + Sync,
) -> Vec<Vec<(u32, T)>> {
    assert!(dim > 0 && documents.len().is_multiple_of(dim), "rows are not of width {dim}");
    assert!(u32::try_from(documents.len() / dim).is_ok(), "more than 2^32 documents");
    let mut best = TopK::new(queries, dim, k);
    for (at, block) in documents.chunks(BLOCK * dim).enumerate() {
        best.block((at * BLOCK) as u32, block, &excluded);
    }
    best.finish()
}
