//! Layers of neural networks on rows of numbers, forward and backward: what a framework builds from a dozen passes over memory,
//! in one or two. Work is cut into pieces that the shape alone fixes, and sums over rows are added up in the order of the
//! pieces: results do not depend on the number of threads, but for the products in [`linear`](linear()), whose order is the
//! `gemm` crate's.

mod activation;
mod adamw;
mod attention;
mod cross_entropy;
mod layer_norm;
mod linear;
mod pairs;
mod softmax;
#[cfg(test)]
mod tests;

pub use crate::simd::Float;
pub use activation::{gelu, gelu_backward, relu, relu_backward};
pub use adamw::AdamW;
pub use attention::{Attention, AttentionGradients};
pub use cross_entropy::cross_entropy;
pub use layer_norm::{NormGradients, layer_norm, layer_norm_backward};
pub use linear::{LinearGradients, linear, linear_backward};
pub use pairs::{PairGradients, pair_scores, pair_scores_backward};
pub use softmax::{softmax, softmax_backward};

use rayon::prelude::*;

/// Numbers that one thread takes at a time: 64 KiB in f32.
const PIECE: usize = 16_384;

/// The numbers of as many rows as make a piece, at least one.
fn piece(width: usize) -> usize {
    (PIECE / width.max(1)).max(1) * width
}

/// Adds `from` to `to`, number by number, threaded.
///
/// # Panics
/// When they are not of one length.
pub fn add<T: Float>(to: &mut [T], from: &[T]) {
    assert_eq!(to.len(), from.len(), "numbers to add");
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| {
        to.iter_mut().zip(from).for_each(|(a, &b)| *a += b);
    });
}

/// Panics unless `len` numbers are whole rows of `width`; how many rows.
fn rows(len: usize, width: usize) -> usize {
    assert!(width > 0 && len.is_multiple_of(width), "{len} numbers are not rows of {width}");
    len / width
}
