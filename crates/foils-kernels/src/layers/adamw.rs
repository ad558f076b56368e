//! AdamW in one pass over parameters, gradients and moments.

use super::PIECE;
use crate::simd::{self, AdamWConstants, Float};
use rayon::prelude::*;

/// AdamW (Loshchilov & Hutter 2019) as PyTorch computes it: with mₜ = β₁ mₜ₋₁ + (1 − β₁) g and vₜ = β₂ vₜ₋₁ + (1 − β₂) g²,
/// `p ← p (1 − η λ) − η · mₜ / (1 − β₁ᵗ) / (√(vₜ / (1 − β₂ᵗ)) + ε)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment, β₁.
    pub beta_1: f64,
    /// Decay of the second moment, β₂.
    pub beta_2: f64,
    /// Added to the root of the second moment, ε.
    pub epsilon: f64,
    /// Decoupled weight decay, λ.
    pub weight_decay: f64,
}

impl Default for AdamW {
    /// PyTorch's defaults: 0.9, 0.999, 1e-8, 0.01.
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

impl AdamW {
    /// Step number `t` (the first is 1) with learning rate `learning_rate` on parameters `p` with gradient `g` and moments
    /// `first` and `second`, which start as zeros. Threaded.
    ///
    /// # Panics
    /// When the slices are not of one length, or `t` is 0.
    pub fn step<T: Float>(&self, t: i32, learning_rate: f64, p: &mut [T], g: &[T], first: &mut [T], second: &mut [T]) {
        assert!(t > 0, "steps are counted from 1");
        let lengths = [g.len(), first.len(), second.len()];
        assert!(lengths.iter().all(|&n| n == p.len()), "{} parameters, gradient and moments of {lengths:?}", p.len());
        let constants = AdamWConstants {
            keep: T::from_f64(1.0 - learning_rate * self.weight_decay),
            move_first: T::from_f64(1.0 - self.beta_1),
            beta_2: T::from_f64(self.beta_2),
            move_second: T::from_f64(1.0 - self.beta_2),
            rate: T::from_f64(learning_rate / (1.0 - self.beta_1.powi(t))),
            root: T::from_f64((1.0 / (1.0 - self.beta_2.powi(t))).sqrt()),
            epsilon: T::from_f64(self.epsilon),
        };
        let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
        let pieces = p.par_chunks_mut(PIECE).zip(g.par_chunks(PIECE)).zip(moments);
        pieces.for_each(|((p, g), (first, second))| simd::adamw(p, g, first, second, &constants));
    }
}
