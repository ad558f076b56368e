//! The Barlow Twins form.

use super::{check_heads, check_shape, check_temperatures, checked, mask, omega};
use crate::losses::barlow_twins::standardize;
use crate::{Result, check};
use burn::tensor::Tensor;

/// Barlow Twins over several heads with a temperature for each entry of the cross-correlation C (amcl, Eq. 2.3):
/// Σ_c { Σ_l [(1 − C_ll/τ_ll)² + βΩ(τ_ll)] + Σ_{l≠m} [λ C_lm²/τ_lm − βΩ(τ_lm)] }.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AmclBarlowTwins {
    lambda_offdiag: f64,
    beta: f64,
    eps: f64,
}

impl AmclBarlowTwins {
    /// With ε = 1e-5 in the standard deviations. λ = 0.0051 and β = 0.1 are usual.
    ///
    /// # Errors
    /// When a value is negative or not finite.
    pub fn new(lambda_offdiag: f64, beta: f64) -> Result<Self> {
        let lambda_offdiag = check::not_negative("lambda_offdiag", lambda_offdiag)?;
        Ok(Self { lambda_offdiag, beta: check::not_negative("beta", beta)?, eps: 1e-5 })
    }

    /// Sets ε. Without it (0) no column may be constant.
    ///
    /// # Errors
    /// When it is negative or not finite.
    pub fn eps(mut self, eps: f64) -> Result<Self> {
        self.eps = check::not_negative("eps", eps)?;
        Ok(self)
    }

    /// The loss of two views `[heads, n, d]` and temperatures `[heads, d, d]`.
    ///
    /// # Errors
    /// When shapes do not fit, there is no head or n < 2, a value is not finite, a temperature not above 0, or a column is constant while ε is 0.
    pub fn forward(&self, z1: Tensor<3>, z2: Tensor<3>, tau: Tensor<3>) -> Result<Tensor<1>> {
        check::same_shape(("z1", &z1), ("z2", &z2))?;
        check_heads("z1", &z1)?;
        check_heads("z2", &z2)?;
        let [heads, n, dim] = z1.dims();
        check_shape("tau", &tau, [heads, dim, dim])?;
        check_temperatures("tau", &tau)?;
        let (z1, z2) = (standardize("z1", z1, self.eps)?, standardize("z2", z2, self.eps)?);
        let c = z1.swap_dims(1, 2).matmul(z2).mul_scalar(1.0 / n as f64);
        let held = omega(tau.clone(), dim).mul_scalar(self.beta);
        let on = (c.clone() / tau.clone()).neg().add_scalar(1.0).powi_scalar(2) + held.clone();
        let off = (c.clone().powi_scalar(2) / tau).mul_scalar(self.lambda_offdiag) - held;
        let diagonal = mask(heads, [dim, dim], &c, |l, m| l == m);
        checked(on.mask_fill(diagonal.clone().bool_not(), 0.0).sum() + off.mask_fill(diagonal, 0.0).sum())
    }
}
