//! The SimCLR form.

use super::{NegativeMode, check_heads, check_shape, check_temperatures, checked, mask, negatives, omega, unit};
use crate::{Result, check};
use burn::tensor::Tensor;

/// Multi-head NT-Xent with a temperature for each pair (amcl, Eq. 2.1): Z^c = [z1^c; z2^c], s^c = Z^c Z^cᵀ, and the mean over the 2n anchors of
/// Σ_c { −s_ip/τ_ip + βΩ(τ_ip) + Neg }, Neg by [`NegativeMode`] over the 2n − 2 others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AmclNtXent {
    beta: f64,
    mode: NegativeMode,
    normalize: bool,
}

impl AmclNtXent {
    /// On normalised rows, with the nearest negative. β = 0.1 is usual.
    ///
    /// # Errors
    /// When `beta` is negative or not finite.
    pub fn new(beta: f64) -> Result<Self> {
        Ok(Self { beta: check::not_negative("beta", beta)?, mode: NegativeMode::Max, normalize: true })
    }

    /// Sets what the negatives add.
    #[must_use]
    pub fn mode(mut self, mode: NegativeMode) -> Self {
        self.mode = mode;
        self
    }

    /// Whether rows are divided by their norms.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// The loss of two views `[heads, n, d]` and the temperatures `[heads, 2n, 2n]` of anchors (rows) and contrasts (columns), first view
    /// first. Temperatures that are not read have no gradient.
    ///
    /// # Errors
    /// When shapes do not fit, there is no head or n < 2, a value is not finite, or a temperature not above 0.
    pub fn forward(&self, z1: Tensor<3>, z2: Tensor<3>, tau: Tensor<3>) -> Result<Tensor<1>> {
        check::same_shape(("z1", &z1), ("z2", &z2))?;
        check_heads("z1", &z1)?;
        check_heads("z2", &z2)?;
        let [heads, n, dim] = z1.dims();
        let rows = 2 * n;
        check_shape("tau", &tau, [heads, rows, rows])?;
        check_temperatures("tau", &tau)?;
        let z = Tensor::cat(vec![z1, z2], 1);
        let z = if self.normalize { unit(z) } else { z };
        let similarity = z.clone().matmul(z.swap_dims(1, 2));
        let partner = |i: usize, j: usize| j == (i + n) % rows;
        let not_positive = mask(heads, [rows, rows], &similarity, |i, j| !partner(i, j));
        let pulled = omega(tau.clone(), dim).mul_scalar(self.beta) - similarity.clone() / tau.clone();
        let pulled = pulled.mask_fill(not_positive, 0.0).sum();
        let others = mask(heads, [rows, rows], &similarity, |i, j| i == j || partner(i, j));
        let pushed = negatives(self.mode, self.beta, similarity, tau, others, dim).sum();
        checked((pulled + pushed).mul_scalar(1.0 / rows as f64))
    }
}
