//! The linear layer.

use super::{piece, rows};
use crate::product_threaded;
use crate::simd::{Float, fill_pieces};
use rayon::prelude::*;

/// `x W + b`: `x` is `[rows, from]`, `weight` `[from, to]`, `bias` `[to]`; the result is `[rows, to]`.
///
/// # Panics
/// When the slices are not of these shapes, or `from` or `to` is 0.
pub fn linear<T: Float>(x: &[T], weight: &[T], bias: Option<&[T]>, from: usize) -> Vec<T> {
    let (rows, to) = (rows(x.len(), from), rows(weight.len(), from));
    assert!(to > 0 && bias.is_none_or(|b| b.len() == to), "bias of {to} outputs");
    let mut y = fill_pieces(rows * to, piece(to), |_, y| {
        if let Some(bias) = bias {
            y.chunks_exact_mut(to).for_each(|y| y.copy_from_slice(bias));
        }
    });
    product_threaded(&mut y, (rows, to, from), x, (from, 1), weight, (to, 1), bias.is_some(), T::ONE);
    y
}

/// The gradients of [`linear`].
#[derive(Clone, Debug)]
pub struct LinearGradients<T> {
    /// With respect to the input, `[rows, from]`, where asked for.
    pub x: Option<Vec<T>>,
    /// With respect to the weights, `[from, to]`.
    pub weight: Vec<T>,
    /// With respect to the bias, `[to]`: the sum of the rows of the gradient of the result.
    pub bias: Vec<T>,
}

/// The gradients of [`linear`] from the gradient `g`, `[rows, to]`, of its result.
///
/// # Panics
/// As [`linear`], and when `g` does not have its shape.
pub fn linear_backward<T: Float>(x: &[T], weight: &[T], g: &[T], from: usize, want_x: bool) -> LinearGradients<T> {
    let (rows, to) = (rows(x.len(), from), rows(weight.len(), from));
    assert_eq!(g.len(), rows * to, "gradient of the output");
    let grad_x = want_x.then(|| {
        let mut grad_x = fill_pieces(x.len(), piece(from), |_, _| {});
        product_threaded(&mut grad_x, (rows, from, to), g, (to, 1), weight, (1, to), false, T::ONE);
        grad_x
    });
    let mut grad_weight = fill_pieces(weight.len(), piece(to), |_, _| {});
    product_threaded(&mut grad_weight, (from, to, rows), x, (1, from), g, (to, 1), false, T::ONE);
    LinearGradients { x: grad_x, weight: grad_weight, bias: column_sums(g, to) }
}

/// The sum of all rows of `width`.
fn column_sums<T: Float>(x: &[T], width: usize) -> Vec<T> {
    let parts: Vec<Vec<T>> = x
        .par_chunks(piece(width))
        .map(|rows| {
            let mut sums = vec![T::ZERO; width];
            for row in rows.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(s, &v)| *s += v);
            }
            sums
        })
        .collect();
    let mut total = vec![0.0; width];
    for part in &parts {
        total.iter_mut().zip(part).for_each(|(t, v)| *t += v.to_f64());
    }
    total.into_iter().map(T::from_f64).collect()
}
