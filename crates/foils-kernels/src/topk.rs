//! Exact top-k by inner product: blocked products fused with one bounded buffer a query, so that the `[queries, documents]`
//! matrix never exists.
//!
//! A product is accumulated in an order that depends on block shapes and on the machine, so its last bits cannot decide ties.
//! It only says, within a rigorous error bound, which documents may be among the best; those are scored again by [`dot`],
//! whose value depends on the two vectors alone. Equal documents therefore tie exactly, and the result is the same bits for
//! every block size, thread count and machine.

use crate::{Real, product};
use rayon::prelude::*;
use std::cmp::Ordering;

/// Queries that share one product.
const QUERY_BLOCK: usize = 64;
/// Documents in one product: a block of scores is at most 64 × 1,024 values, which stays in the second-level cache.
const DOCUMENT_BLOCK: usize = 1024;
/// Scores that are compared with the threshold at once.
const STRIDE: usize = 32;

/// The order of every ranking: score descending, ties to the lower index. −0 ties with 0.
pub fn rank_order<T: Real>(a: &(u32, T), b: &(u32, T)) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}

/// ⟨a, b⟩, accumulated in f64 in a fixed order and rounded once: the same bits wherever it is computed.
///
/// # Panics
/// When the lengths differ.
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    const LANES: usize = 8;
    assert_eq!(a.len(), b.len(), "vectors of different lengths");
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f64; LANES];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += x[lane].to_f64() * y[lane].to_f64();
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x.to_f64() * y.to_f64()).sum();
    T::from_f64(sums.iter().sum::<f64>() + rest)
}

/// Every row divided by max(‖row‖₂, 1e-12).
pub fn unit_rows<T: Real>(rows: &[T], dim: usize) -> Vec<T> {
    let mut out = rows.to_vec();
    out.par_chunks_exact_mut(dim.max(1)).for_each(|row| {
        let norm = row.iter().map(|v| v.to_f64().powi(2)).sum::<f64>().sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v = T::from_f64(v.to_f64() / norm));
    });
    out
}

/// The best `k` of a stream of scored documents that come in ascending order of index.
pub(crate) struct Best<T> {
    k: usize,
    /// Up to 2k entries; halved whenever full, which costs O(1) an entry.
    entries: Vec<(u32, T)>,
    /// The k-th best score when the buffer was last halved; a later document must be strictly better.
    threshold: Option<T>,
}

impl<T: Real> Best<T> {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, entries: Vec::new(), threshold: None }
    }

    /// What a document must exceed to get in, once k are known.
    pub(crate) fn threshold(&self) -> Option<T> {
        self.threshold
    }

    /// Takes a document in if it may still be among the best. NaN never is.
    pub(crate) fn push(&mut self, document: u32, score: T) {
        let better = match self.threshold {
            Some(threshold) => score > threshold,
            None => score.partial_cmp(&score).is_some(),
        };
        if !better || self.k == 0 {
            return;
        }
        self.entries.push((document, score));
        if self.entries.len() >= self.k.saturating_mul(2) {
            self.entries.select_nth_unstable_by(self.k - 1, rank_order);
            self.entries.truncate(self.k);
            self.threshold = self.entries.last().map(|e| e.1);
        }
    }

    /// The best k, in rank order.
    pub(crate) fn into_ranking(mut self) -> Vec<(u32, T)> {
        self.entries.sort_unstable_by(rank_order);
        self.entries.truncate(self.k);
        self.entries
    }
}

/// The `k` documents with the largest inner product for each query: (index, score), score descending, ties to the lower index.
/// `excluded(query, document)` takes documents out; fewer than `k` come back when fewer are left.
///
/// `queries` is `[q, dim]`, `documents` `[n, dim]`, row-major. Memory beyond the result is O(threads · (block + k)), never q × n.
/// Values should be finite; a document whose score is NaN is left out.
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
    assert!(dim > 0 && queries.len().is_multiple_of(dim) && documents.len().is_multiple_of(dim), "rows are not of width {dim}");
    let (q, n) = (queries.len() / dim, documents.len() / dim);
    assert!(u32::try_from(n).is_ok(), "more than 2^32 documents");
    if k == 0 || q == 0 || n == 0 {
        return vec![Vec::new(); q];
    }
    let bounds = ErrorBounds::new(documents, dim);
    // Few queries are not enough work for all threads: then the documents are split as well, and the parts merged.
    let threads = rayon::current_num_threads();
    let block = q.div_ceil(threads).clamp(1, QUERY_BLOCK);
    let query_blocks = q.div_ceil(block);
    let parts = threads.div_ceil(query_blocks).min(n.div_ceil(DOCUMENT_BLOCK));
    let part = n.div_ceil(parts);
    let found: Vec<Vec<Best<T>>> = (0..query_blocks * parts)
        .into_par_iter()
        .map(|task| {
            let (first_query, first_document) = (task / parts * block, task % parts * part);
            let rows = block.min(q - first_query);
            let last = (first_document + part).min(n);
            let mut best: Vec<Best<T>> = (0..rows).map(|_| Best::new(k)).collect();
            let mut scan = Scan { queries, documents, dim, bounds: &bounds, excluded: &excluded, scores: Vec::new() };
            let mut start = first_document;
            while start < last {
                let end = (start + DOCUMENT_BLOCK).min(last);
                scan.block(first_query, start..end, &mut best);
                start = end;
            }
            best
        })
        .collect();
    let mut rankings: Vec<Vec<(u32, T)>> = (0..q).map(|_| Vec::new()).collect();
    for (task, best) in found.into_iter().enumerate() {
        let first = task / parts * block;
        for (row, best) in best.into_iter().enumerate() {
            rankings[first + row].extend(best.into_ranking());
        }
    }
    if parts > 1 {
        rankings.iter_mut().for_each(|ranking| {
            ranking.sort_unstable_by(rank_order);
            ranking.truncate(k);
        });
    }
    rankings
}

/// How far a blocked product can be from [`dot`].
struct ErrorBounds {
    dim: usize,
    largest_norm: f64,
}

impl ErrorBounds {
    fn new<T: Real>(documents: &[T], dim: usize) -> Self {
        let largest_norm = documents.par_chunks_exact(dim).map(norm).reduce(|| 0.0, f64::max);
        Self { dim, largest_norm }
    }

    /// Both sums of n products are within (n + 1)·u·‖q‖‖d‖ of the truth to first order, u = ε/2 (Higham, *Accuracy and
    /// Stability*, 3.1), and rounding the result and the limit adds 2u; together with room for the higher orders. The last
    /// term covers products that underflow.
    fn of<T: Real>(&self, query: &[T]) -> f64 {
        let n = self.dim as f64;
        (n + 8.0) * T::EPSILON.to_f64() * norm(query) * self.largest_norm + n * f64::from(f32::MIN_POSITIVE)
    }
}

fn norm<T: Real>(row: &[T]) -> f64 {
    row.iter().map(|v| v.to_f64().powi(2)).sum::<f64>().sqrt()
}

struct Scan<'a, T, F> {
    queries: &'a [T],
    documents: &'a [T],
    dim: usize,
    bounds: &'a ErrorBounds,
    excluded: &'a F,
    scores: Vec<T>,
}

impl<T: Real, F: Fn(usize, u32) -> bool> Scan<'_, T, F> {
    /// Scores the queries of `best`, which begin at `first_query`, against a range of documents.
    fn block(&mut self, first_query: usize, range: std::ops::Range<usize>, best: &mut [Best<T>]) {
        let (rows, columns, dim) = (best.len(), range.len(), self.dim);
        let queries = &self.queries[first_query * dim..(first_query + rows) * dim];
        let documents = &self.documents[range.start * dim..range.end * dim];
        self.scores.resize(rows * columns, T::ZERO);
        product(&mut self.scores, (rows, columns, dim), queries, (dim, 1), documents, (1, dim), false, T::ONE);
        for (row, best) in best.iter_mut().enumerate() {
            let query = &queries[row * dim..(row + 1) * dim];
            let bound = self.bounds.of(query);
            // `!(score < limit)` and not `score >= limit`: a product that overflowed to NaN must still be looked at.
            let limit = |best: &Best<T>| best.threshold().map_or(T::from_f64(f64::NEG_INFINITY), |t| T::from_f64(t.to_f64() - bound));
            let mut bar: T = limit(best);
            for (chunk, scores) in self.scores[row * columns..(row + 1) * columns].chunks(STRIDE).enumerate() {
                if scores.iter().fold(true, |all, &score| all & (score < bar)) {
                    continue;
                }
                for (column, &score) in scores.iter().enumerate() {
                    let document = range.start + chunk * STRIDE + column;
                    if matches!(score.partial_cmp(&bar), Some(Ordering::Less)) || (self.excluded)(first_query + row, document as u32) {
                        continue;
                    }
                    best.push(document as u32, dot(query, &self.documents[document * dim..(document + 1) * dim]));
                    bar = limit(best);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive<T: Real>(queries: &[T], documents: &[T], dim: usize, k: usize, excluded: impl Fn(usize, u32) -> bool) -> Vec<Vec<u32>> {
        queries
            .chunks(dim)
            .enumerate()
            .map(|(q, query)| {
                let score = |d: usize| (0..dim).map(|c| query[c].to_f64() * documents[d * dim + c].to_f64()).sum::<f64>();
                let mut all: Vec<(u32, f64)> =
                    (0..documents.len() / dim).filter(|&d| !excluded(q, d as u32)).map(|d| (d as u32, score(d))).collect();
                all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
                all.into_iter().take(k).map(|e| e.0).collect()
            })
            .collect()
    }

    fn indices<T: Copy>(rankings: &[Vec<(u32, T)>]) -> Vec<Vec<u32>> {
        rankings.iter().map(|r| r.iter().map(|e| e.0).collect()).collect()
    }

    /// Small whole numbers: every sum is exact in any order, so ties are ties and both codes must agree to the last index.
    fn grid(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed | 1;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 33) % 5) as f32 - 2.0
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn agrees_with_naive_code(q in 0usize..70, n in 0usize..300, dim in 1usize..20, k in 0usize..40, seed in any::<u64>(), out in 1u32..5) {
            let (queries, documents) = (grid(q * dim, seed), grid(n * dim, seed ^ 0xabcdef));
            let excluded = |q: usize, d: u32| out > 1 && (d + q as u32).is_multiple_of(out);
            let ours = top_k(&queries, &documents, dim, k, excluded);
            prop_assert_eq!(indices(&ours), naive(&queries, &documents, dim, k, excluded));
            let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let in_f64 = top_k(&wide(&queries), &wide(&documents), dim, k, excluded);
            prop_assert_eq!(indices(&in_f64), indices(&ours));
            for (row, ranking) in ours.iter().enumerate() {
                for &(d, score) in ranking {
                    prop_assert_eq!(score, dot(&queries[row * dim..][..dim], &documents[d as usize * dim..][..dim]));
                }
            }
        }
    }

    /// 0.1-like values: products round, and copies of one document must still tie to the lower index wherever blocks end.
    #[test]
    fn copies_tie_across_blocks_and_thread_counts() {
        let dim = 37;
        let noise =
            |len: usize, seed: u64| grid(len, seed).iter().enumerate().map(|(i, v)| v * 0.1 + (i % 7) as f32 * 0.013).collect::<Vec<_>>();
        let kinds = noise(11 * dim, 3);
        let n = 2 * DOCUMENT_BLOCK + 77;
        let documents: Vec<f32> = (0..n).flat_map(|d| kinds[d % 11 * dim..][..dim].to_vec()).collect();
        let queries = noise(131 * dim, 9);
        let run = |threads: usize, rows: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| top_k(&queries[..rows * dim], &documents, dim, 300, |_, _| false))
        };
        let one = run(1, 131);
        for (row, ranking) in one.iter().enumerate() {
            let kind = ranking[0].0 % 11;
            let copies: Vec<u32> = (0..n as u32).filter(|d| d % 11 == kind).collect();
            let first: Vec<u32> = ranking.iter().map(|e| e.0).take(copies.len()).collect();
            assert_eq!(first, copies, "query {row}");
        }
        assert_eq!(one, run(3, 131));
        assert_eq!(one[..1], run(4, 1));
        assert_eq!(one[..2], run(2, 2));
    }

    #[test]
    fn an_overflowing_product_and_nan_are_handled() {
        let big = f32::MAX;
        // The f32 product of the first document is inf − inf; its true score is 0.
        let documents = [big, big, 0.0, -1.0, f32::NAN, 0.0, 0.0, 1e-30];
        let ranking = top_k(&[big, -big], &documents, 2, 4, |_, _| false);
        assert_eq!(indices(&ranking), [[1, 0, 3]]);
        assert!(top_k::<f32>(&[], &[1.0], 1, 3, |_, _| false).is_empty());
        assert_eq!(top_k::<f32>(&[1.0], &[], 1, 3, |_, _| false), [[]]);
    }
}
