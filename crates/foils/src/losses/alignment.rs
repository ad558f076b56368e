//! Alignment: how far positives are apart.

use super::contrast::normalize_rows;
use super::{Options, ZeroRows};
use crate::{Result, check};
use burn::tensor::Tensor;

/// Alignment (baselines-contrastive, 6): mean_i ‖x_i − y_i‖₂^α, with gradient 0 for a pair that coincides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alignment {
    alpha: f64,
    normalize: bool,
    options: Options,
}

impl Alignment {
    /// On normalised rows. α = 2 is usual.
    ///
    /// # Errors
    /// When `alpha` is not a finite number above 0.
    pub fn new(alpha: f64) -> Result<Self> {
        Ok(Self { alpha: check::positive("alpha", alpha)?, normalize: true, options: Options::default() })
    }

    /// Whether rows are divided by their norms.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// Sets what is done with zero rows.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The mean over pairs of rows `[n, d]`, shape `[1]`.
    ///
    /// # Errors
    /// When n is 0, the shapes differ, a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, x: Tensor<2>, y: Tensor<2>) -> Result<Tensor<1>> {
        check::rows("x", &x, 1)?;
        check::same_shape(("x", &x), ("y", &y))?;
        let nonzero = self.normalize && self.options.zero_rows == ZeroRows::Refuse;
        check::values("x", &x, nonzero)?;
        check::values("y", &y, nonzero)?;
        let (x, y) = if self.normalize { (normalize_rows(x), normalize_rows(y)) } else { (x, y) };
        let squared = (x - y).powi_scalar(2).sum_dim(1);
        let loss = if self.alpha == 2.0 {
            squared.mean()
        } else {
            // For α < 2 the power has no gradient at 0: those rows go around it.
            let zero = squared.clone().inner().equal_elem(0.0);
            squared.mask_fill(zero.clone(), 1.0).log().mul_scalar(self.alpha / 2.0).exp().mask_fill(zero, 0.0).mean()
        };
        check::loss(loss.clone().inner().into_scalar())?;
        Ok(loss)
    }
}
