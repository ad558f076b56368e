//! All pairs of rows, block by block: nothing of size n² is kept.

use foils_kernels::product;
use foils_kernels::simd::Row;
use rayon::prelude::*;

/// Rows of a block, and rows that it meets at a time.
const BLOCK: (usize, usize) = (128, 1024);

/// Calls `visit(state, i, j, values)` so that every pair i < j of rows of `rows` `[n, dim]` is met once: `values` are `alpha` times the
/// inner products of row i with rows j, j + 1, …. Each block of rows has a state of its own; they come back in order, whatever the
/// number of threads.
pub(super) fn above_diagonal<T: Row, S: Send>(
    rows: &[T],
    dim: usize,
    alpha: T,
    start: impl Fn() -> S + Sync,
    visit: impl Fn(&mut S, usize, usize, &mut [T]) + Sync,
) -> Vec<S> {
    let (tall, wide) = BLOCK;
    let of_block = |(block, left): (usize, &[T])| {
        let (first, m) = (block * tall, left.len() / dim);
        let mut state = start();
        let mut values = vec![T::ZERO; m * wide];
        for (at, right) in rows[first * dim..].chunks(wide * dim).enumerate() {
            let (column, n) = (first + at * wide, right.len() / dim);
            product(&mut values[..m * n], (m, n, dim), left, (dim, 1), right, (1, dim), false, alpha);
            for (i, row) in (first..).zip(values[..m * n].chunks_exact_mut(n)) {
                // Left of the diagonal each pair was met from the other side.
                let skip = (i + 1).saturating_sub(column).min(n);
                if skip < n {
                    visit(&mut state, i, column + skip, &mut row[skip..]);
                }
            }
        }
        state
    };
    rows.par_chunks(tall * dim).enumerate().map(of_block).collect()
}
