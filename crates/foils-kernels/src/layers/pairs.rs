//! A network of one hidden layer on all pairs of rows, whose first layer is a sum of one for each side.

use super::{piece, rows};
use crate::simd::{self, Float, fill_pieces};
use rayon::prelude::*;

/// `[n, m]`: `Σ_k w_k max(left_ik + right_jk, 0)` of every row of `left` `[n, width]` with every row of `right` `[m, width]`, the width
/// being that of `w`. The `[n, m, width]` hidden units are never in memory.
///
/// # Panics
/// When either side is not rows of that width.
pub fn pair_scores<T: Float>(left: &[T], right: &[T], w: &[T]) -> Vec<T> {
    let (n, m) = (rows(left.len(), w.len()), rows(right.len(), w.len()));
    let row = |i: usize| &left[i * w.len()..][..w.len()];
    let piece = piece(m);
    fill_pieces(n * m, piece, |p, y| {
        y.chunks_mut(m.max(1)).enumerate().for_each(|(i, y)| simd::pair_scores(row(p * piece / m.max(1) + i), right, w, y));
    })
}

/// Gradients of [`pair_scores`] with respect to its arguments.
#[derive(Clone, Debug)]
pub struct PairGradients<T> {
    /// `[n, width]`.
    pub left: Vec<T>,
    /// `[m, width]`.
    pub right: Vec<T>,
    /// `[width]`.
    pub w: Vec<T>,
}

/// The gradients from that of the result, `g` `[n, m]`.
///
/// # Panics
/// As [`pair_scores`], and when `g` has another length than `n · m`.
pub fn pair_scores_backward<T: Float>(left: &[T], right: &[T], w: &[T], g: &[T]) -> PairGradients<T> {
    let (n, m, width) = (rows(left.len(), w.len()), rows(right.len(), w.len()), w.len());
    assert_eq!(g.len(), n * m, "gradient of the output");
    let turned: Vec<T> = (0..m).flat_map(|j| (0..n).map(move |i| g[i * m + j])).collect();
    let mut grads = PairGradients { left: sums(left, right, g, width), right: sums(right, left, &turned, width), w: Vec::new() };
    // Σ_ij g_ij max(left_i + right_j, 0) is the sum over each side of its rows times the sums just made.
    let mut of_w = vec![0.0; width];
    for (x, sums) in [(left, &grads.left), (right, &grads.right)] {
        for (x, sums) in x.chunks_exact(width).zip(sums.chunks_exact(width)) {
            of_w.iter_mut().zip(x.iter().zip(sums)).for_each(|(of_w, (x, s))| *of_w += x.to_f64() * s.to_f64());
        }
    }
    grads.w = of_w.into_iter().map(T::from_f64).collect();
    for side in [&mut grads.left, &mut grads.right] {
        side.par_chunks_exact_mut(width).for_each(|row| row.iter_mut().zip(w).for_each(|(x, &w)| *x = *x * w));
    }
    grads
}

/// `[n, width]`: for each row on the left, Σ_j g_ij where the sum with row j on the right is above 0.
fn sums<T: Float>(left: &[T], right: &[T], g: &[T], width: usize) -> Vec<T> {
    let (m, mut sums) = (right.len() / width, vec![T::ZERO; left.len()]);
    // A row of sums goes through all of the right side: one row is work enough.
    let of_row = |(i, (sums, left)): (usize, (&mut [T], &[T]))| simd::pair_sums(left, right, &g[i * m..][..m], sums);
    sums.par_chunks_exact_mut(width).zip(left.par_chunks_exact(width)).enumerate().for_each(of_row);
    sums
}
