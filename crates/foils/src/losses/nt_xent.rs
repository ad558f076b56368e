//! NT-Xent: InfoNCE within and across two views.

use super::Options;
use super::contrast::Contrast;
use super::two_views::TwoViews;
use crate::{Result, check};
use burn::tensor::Tensor;

/// NT-Xent of SimCLR (baselines-contrastive, 2): Z = [z1; z2], s = ZZᵀ/τ without the diagonal,
/// L = mean over all 2n rows of [ −s_i,p(i) + log Σ_{j≠i} exp s_ij ].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NtXent {
    temperature: f64,
    normalize: bool,
    options: Options,
}

impl NtXent {
    /// On normalised rows. 0.5 is usual for small images, 0.1 for large ones.
    ///
    /// # Errors
    /// When `temperature` is not a finite number above 0.
    pub fn new(temperature: f64) -> Result<Self> {
        Ok(Self { temperature: check::positive("temperature", temperature)?, normalize: true, options: Options::default() })
    }

    /// Whether rows are divided by their norms.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// Sets how it is computed.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The loss of two views `[n, d]`.
    ///
    /// # Errors
    /// When the shapes differ, n < 2, a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, z1: Tensor<2>, z2: Tensor<2>) -> Result<Tensor<1>> {
        let views = TwoViews::new(z1, z2)?;
        let rows = 2 * views.n;
        let contrast = Contrast {
            excluded: views.selves(rows),
            ..Contrast::new(views.partners(rows), self.temperature, self.normalize, self.options)
        };
        Ok(contrast.forward(("views", views.rows.clone()), ("views", views.rows))?.loss)
    }
}
