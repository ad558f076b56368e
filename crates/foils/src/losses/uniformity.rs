//! Uniformity: how evenly rows fill the sphere.

use super::contrast::normalize_rows;
use super::{Options, ZeroRows};
use crate::{Result, check};
use burn::tensor::{Bool, Tensor, TensorData};

/// Uniformity (baselines-contrastive, 6): log mean_{i<j} exp(−t ‖x_i − x_j‖²); at most 0, and 0 when all rows coincide. Takes memory
/// for several `[n, n]` matrices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniformity {
    t: f64,
    normalize: bool,
    options: Options,
}

impl Uniformity {
    /// On normalised rows. t = 2 is usual.
    ///
    /// # Errors
    /// When `t` is not a finite number above 0.
    pub fn new(t: f64) -> Result<Self> {
        Ok(Self { t: check::positive("t", t)?, normalize: true, options: Options::default() })
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

    /// The uniformity of rows `[n, d]`, shape `[1]`.
    ///
    /// # Errors
    /// When n < 2 (no pairs), a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, x: Tensor<2>) -> Result<Tensor<1>> {
        check::rows("x", &x, 2)?;
        check::values("x", &x, self.normalize && self.options.zero_rows == ZeroRows::Refuse)?;
        let n = x.dims()[0];
        let x = if self.normalize { normalize_rows(x) } else { x };
        // Distances do not change when all rows move; near the origin their squares lose less to rounding.
        let x = if self.normalize { x } else { x.clone() - x.mean_dim(0) };
        let squares = x.clone().powi_scalar(2).sum_dim(1);
        let distances = squares.clone() + squares.transpose() - x.clone().matmul(x.clone().transpose()).mul_scalar(2.0);
        // Every pair stands twice off the diagonal.
        let diagonal = (0..n * n).map(|k| k / n == k % n).collect::<Vec<_>>();
        let diagonal = Tensor::<2, Bool>::from_data(TensorData::new(diagonal, [n, n]), &x.device().without_autodiff());
        let logits = distances.mul_scalar(-self.t).mask_fill(diagonal, f64::NEG_INFINITY);
        let shift = logits.clone().inner().max();
        let sum = (logits - shift.clone().unsqueeze::<2>()).exp().sum();
        let loss = sum.log() + shift - ((n * (n - 1)) as f64).ln();
        check::loss(loss.clone().inner().into_scalar())?;
        Ok(loss)
    }
}
