//! Functions of each number by itself.

use super::PIECE;
use crate::simd::{self, Float, fill_pieces};
use rayon::prelude::*;

/// GELU (Hendrycks & Gimpel 2016) in its exact form, `x Φ(x)` with the normal distribution function Φ. In f32 to a relative
/// error of 1e-6 for |x| ≤ 5 and an absolute one of 1e-9 beyond.
pub fn gelu<T: Float>(x: &[T]) -> Vec<T> {
    fill_pieces(x.len(), PIECE, |i, y| simd::gelu(&x[i * PIECE..][..y.len()], y))
}

/// The gradient of [`gelu`] with respect to `x`, in place of the gradient `g` of its result.
///
/// # Panics
/// When they are not of one length.
pub fn gelu_backward<T: Float>(x: &[T], g: &mut [T]) {
    assert_eq!(x.len(), g.len(), "gradient of the output");
    g.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).for_each(|(g, x)| simd::gelu_backward(x, g));
}

/// `max(x, 0)` in place; NaN stays.
pub fn relu<T: Float>(x: &mut [T]) {
    x.par_chunks_mut(PIECE).for_each(|x| x.iter_mut().for_each(|x| *x = if *x < T::ZERO { T::ZERO } else { *x }));
}

/// The gradient of [`relu`] from its result `y`, in place of the gradient `g` of that result: 0 where `y` is 0.
///
/// # Panics
/// When they are not of one length.
pub fn relu_backward<T: Float>(y: &[T], g: &mut [T]) {
    assert_eq!(y.len(), g.len(), "gradient of the output");
    g.par_chunks_mut(PIECE).zip(y.par_chunks(PIECE)).for_each(|(g, y)| {
        g.iter_mut().zip(y).for_each(|(g, &y)| *g = if y > T::ZERO { *g } else { T::ZERO });
    });
}
