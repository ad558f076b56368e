//! Rows made ready for products: divided by their length if asked for, with squared distances as inner products, and the gradient
//! through both.

use super::settings::{Settings, Similarity};
use crate::simd::Row;
use rayon::prelude::*;
use std::borrow::Cow;

/// Norms are taken to be no smaller than this, so that a zero row stays zero.
const NORM_FLOOR: f64 = 1e-12;

/// Which factor of the product.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Anchors,
    Candidates,
}

/// Rows of `width` values whose inner products with the other side's are the similarities, and what the way back needs.
pub(super) struct Prepared<'a, T: Clone> {
    pub rows: Cow<'a, [T]>,
    pub width: usize,
    dim: usize,
    /// ‖x‖ of each given row; empty when they are not divided by it.
    norms: Vec<f64>,
    /// Set when the rows hold two more values, which make −‖a − c‖² of an inner product.
    distance: Option<Side>,
}

impl<'a, T: Row> Prepared<'a, T> {
    pub fn new(given: &'a [T], dim: usize, side: Side, settings: &Settings) -> Self {
        let norms: Vec<f64> = if settings.cosine { given.par_chunks(dim).map(|x| norm(x)).collect() } else { Vec::new() };
        let mut rows = Cow::Borrowed(given);
        if settings.cosine {
            rows.to_mut().par_chunks_mut(dim).zip(&norms).for_each(|(x, &norm)| {
                let norm = norm.max(NORM_FLOOR);
                x.iter_mut().for_each(|v| *v = T::from_f64(v.to_f64() / norm));
            });
        }
        let (mut width, mut distance) = (dim, None);
        if settings.similarity == Similarity::NegativeSquaredDistance {
            (width, distance) = (dim + 2, Some(side));
            rows = Cow::Owned(rows.par_chunks(dim).flat_map_iter(|x| with_squares(x, side)).collect());
        }
        Self { rows, width, dim, norms, distance }
    }

    /// The length of the longest prepared row.
    pub fn longest(&self) -> f64 {
        if !self.norms.is_empty() && self.distance.is_none() {
            return 1.0;
        }
        self.rows.par_chunks(self.width).map(|x| norm(x)).reduce(|| 0.0, |x, y| if y > x || y.is_nan() { y } else { x })
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[T] {
        &self.rows[i * self.width..][..self.width]
    }

    /// The gradient of the given rows from that of the prepared ones; nothing from nothing.
    pub fn backward(&self, mut grad: Vec<T>) -> Vec<T> {
        if grad.is_empty() {
            return grad;
        }
        if let Some(side) = self.distance {
            let mut given = vec![T::ZERO; grad.len() / self.width * self.dim];
            given
                .par_chunks_mut(self.dim)
                .zip(grad.par_chunks(self.width))
                .zip(self.rows.par_chunks(self.width))
                .for_each(|((to, g), x)| without_squares(to, g, x, side));
            grad = given;
        }
        // (I − u uᵀ) · ∂L/∂u / ‖x‖; below the floor the divisor is a constant and the projection falls away.
        let factor = if self.distance == Some(Side::Candidates) { 0.5 } else { 1.0 };
        grad.par_chunks_mut(self.dim).zip(self.rows.par_chunks(self.width)).zip(&self.norms).for_each(|((g, x), &norm)| {
            let unit = &x[..self.dim];
            let (along, norm) = if norm > NORM_FLOOR { (factor * factor * T::dot(g, unit), norm) } else { (0.0, NORM_FLOOR) };
            for (g, u) in g.iter_mut().zip(unit) {
                *g = T::from_f64((g.to_f64() - along * u.to_f64()) / norm);
            }
        });
        grad
    }
}

/// (a, ‖a‖², 1) and (2c, −1, −‖c‖²): their inner product is −‖a − c‖².
fn with_squares<T: Row>(x: &[T], side: Side) -> impl Iterator<Item = T> + '_ {
    let square = T::dot(x, x);
    let (factor, tail) = match side {
        Side::Anchors => (1.0, [square, 1.0]),
        Side::Candidates => (2.0, [-1.0, -square]),
    };
    x.iter().map(move |v| T::from_f64(factor * v.to_f64())).chain(tail.map(T::from_f64))
}

/// Sets the gradient of the row that [`with_squares`] was given, by the chain rule.
fn without_squares<T: Row>(to: &mut [T], grad: &[T], x: &[T], side: Side) {
    let dim = to.len();
    let (factor, square) = match side {
        Side::Anchors => (1.0, 2.0 * grad[dim].to_f64()),
        // The row holds 2c.
        Side::Candidates => (2.0, -grad[dim + 1].to_f64()),
    };
    for ((to, g), x) in to.iter_mut().zip(grad).zip(x) {
        *to = T::from_f64(factor * g.to_f64() + square * x.to_f64());
    }
}

/// ‖x‖, also where the squares of an f64 would overflow or vanish.
pub(super) fn norm<T: Row>(x: &[T]) -> f64 {
    let direct = T::dot(x, x);
    if direct.is_finite() && direct > 1e-280 {
        return direct.sqrt();
    }
    let largest = x.iter().fold(0.0, |l: f64, v| l.max(v.to_f64().abs()));
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * x.iter().map(|v| (v.to_f64() / largest).powi(2)).sum::<f64>().sqrt()
}
