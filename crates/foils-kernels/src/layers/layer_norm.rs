//! Layer norm.

use super::{piece, rows};
use crate::simd::{self, Float, fill_pieces};
use rayon::prelude::*;

/// `γ (x − mean) / √(variance + ε) + β` of every row of `x`, `[rows, γ.len()]`, with the row's own mean and biased variance
/// (Ba et al. 2016). A row of equal values becomes β.
///
/// # Panics
/// When γ is empty, β is not as long, or `x` is not rows of their width.
pub fn layer_norm<T: Float>(x: &[T], gamma: &[T], beta: &[T], epsilon: f64) -> Vec<T> {
    assert_eq!(gamma.len(), beta.len(), "as many offsets as scales");
    rows(x.len(), gamma.len());
    let piece = piece(gamma.len());
    fill_pieces(x.len(), piece, |i, y| simd::layer_norm(&x[i * piece..][..y.len()], gamma, beta, epsilon, y))
}

/// The gradients of [`layer_norm`] with respect to its parameters.
#[derive(Clone, Debug)]
pub struct NormGradients<T> {
    /// With respect to the scale γ.
    pub gamma: Vec<T>,
    /// With respect to the offset β.
    pub beta: Vec<T>,
}

/// The gradients of [`layer_norm`]: that of `x` in place of the gradient `g` of the result. The statistics of the rows are
/// computed again, which costs less than to keep them.
///
/// # Panics
/// As [`layer_norm`], and when `g` is not as long as `x`.
pub fn layer_norm_backward<T: Float>(x: &[T], gamma: &[T], epsilon: f64, g: &mut [T]) -> NormGradients<T> {
    let width = gamma.len();
    rows(x.len(), width);
    assert_eq!(x.len(), g.len(), "gradient of the output");
    let piece = piece(width);
    let parts: Vec<NormGradients<T>> = g
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .map(|(g, x)| {
            let mut part = NormGradients { gamma: vec![T::ZERO; width], beta: vec![T::ZERO; width] };
            simd::layer_norm_backward(x, gamma, epsilon, g, &mut part.gamma, &mut part.beta);
            part
        })
        .collect();
    let total = |part: fn(&NormGradients<T>) -> &[T]| {
        let mut total = vec![0.0; width];
        for p in &parts {
            total.iter_mut().zip(part(p)).for_each(|(t, v)| *t += v.to_f64());
        }
        total.into_iter().map(T::from_f64).collect()
    };
    NormGradients { gamma: total(|p| &p.gamma), beta: total(|p| &p.beta) }
}
