//! Rows of length one, and the gradient through the division.

use crate::simd::Row;
use rayon::prelude::*;
use std::borrow::Cow;

/// Norms are taken to be no smaller than this, so that a zero row stays zero.
pub(super) const NORM_FLOOR: f64 = 1e-12;

/// Rows with what the way back needs.
pub(super) struct Unit<'a, T: Clone> {
    /// The rows, of length one unless they were left as they are.
    pub rows: Cow<'a, [T]>,
    /// ‖x‖ of each given row; empty when the rows were left as they are.
    pub norms: Vec<f64>,
}

/// u = x / max(‖x‖, 1e-12), row by row.
pub(super) fn unit_rows<T: Row>(rows: &[T], dim: usize) -> Unit<'static, T> {
    let norms: Vec<f64> = rows.par_chunks(dim).map(|x| norm(x)).collect();
    let mut unit = rows.to_vec();
    unit.par_chunks_mut(dim).zip(&norms).for_each(|(x, &norm)| {
        let norm = norm.max(NORM_FLOOR);
        x.iter_mut().for_each(|v| *v = T::from_f64(v.to_f64() / norm));
    });
    Unit { rows: Cow::Owned(unit), norms }
}

/// Turns ∂L/∂u into ∂L/∂x = (I − u uᵀ) · ∂L/∂u / ‖x‖; below the floor the divisor is a constant and the projection falls away.
pub(super) fn unit_rows_backward<T: Row>(grad: &mut [T], unit: &Unit<T>, dim: usize) {
    if unit.norms.is_empty() {
        return;
    }
    grad.par_chunks_mut(dim).zip(unit.rows.par_chunks(dim)).zip(&unit.norms).for_each(|((g, u), &norm)| {
        let (along, norm) = if norm > NORM_FLOOR { (T::dot(g, u), norm) } else { (0.0, NORM_FLOOR) };
        for (g, u) in g.iter_mut().zip(u) {
            *g = T::from_f64((g.to_f64() - along * u.to_f64()) / norm);
        }
    });
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
