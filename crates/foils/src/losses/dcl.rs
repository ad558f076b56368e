//! Decoupled contrastive learning: the positive leaves the denominator.

use super::contrast::{Contrast, PositiveWeight};
use super::two_views::TwoViews;
use super::{Options, RankingLoss, Similarity, Targets};
use crate::{Result, check};
use burn::tensor::Tensor;

/// DCL (dcl): L = mean_i [ −s⁺_i + log Σ_{negatives} exp s_ij ]. InfoNCE multiplies each anchor's gradient by
/// q_i = 1 − P(positive); here q_i ≡ 1. The loss can be negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dcl {
    temperature: f64,
    normalize: bool,
    symmetric: bool,
    options: Options,
}

/// DCLW (dcl): DCL with −w_i s⁺_i, w_i = 2 − n · softmax_i(⟨a, b⟩/σ), which stresses positives that are still far apart. The mean
/// of w is 1; it may be negative for a very easy positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dclw {
    dcl: Dcl,
    sigma: f64,
    detach_weight: bool,
}

impl Dcl {
    /// On normalised rows; in both directions where there are two views.
    ///
    /// # Errors
    /// When `temperature` is not a finite number above 0.
    pub fn new(temperature: f64) -> Result<Self> {
        let temperature = check::positive("temperature", temperature)?;
        Ok(Self { temperature, normalize: true, symmetric: true, options: Options::default() })
    }

    /// Whether rows are divided by their norms.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// Of two views: whether the second looks for the first too (the two losses are added, as in the public code). As a
    /// [`RankingLoss`] it is always the anchors that look.
    #[must_use]
    pub fn symmetric(mut self, symmetric: bool) -> Self {
        self.symmetric = symmetric;
        self
    }

    /// Sets how it is computed.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The loss of two views `[n, d]`; the negatives of an anchor are both views of all other samples.
    ///
    /// # Errors
    /// When the shapes differ, n < 2 (no negatives), a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, z1: Tensor<2>, z2: Tensor<2>) -> Result<Tensor<1>> {
        self.views(z1, z2, PositiveWeight::One)
    }

    fn views(&self, z1: Tensor<2>, z2: Tensor<2>, positive_weight: PositiveWeight) -> Result<Tensor<1>> {
        let (first, views) = (z1.clone(), TwoViews::new(z1, z2)?);
        let rows = if self.symmetric { 2 * views.n } else { views.n };
        let contrast = Contrast {
            excluded: views.selves(rows),
            positive_in_denominator: false,
            positive_weight,
            // 1/n in both directions: the two are added.
            anchor_weight: Some(vec![1.0 / views.n as f64; rows]),
            ..Contrast::new(views.partners(rows), self.temperature, self.normalize, self.options)
        };
        let anchors = if self.symmetric { views.rows.clone() } else { first };
        Ok(contrast.forward(("views", anchors), ("views", views.rows))?.loss)
    }

    fn ranking(&self, a: Tensor<2>, c: Tensor<2>, targets: &Targets, positive_weight: PositiveWeight) -> Result<Tensor<1>> {
        let shape = (a.dims()[0], c.dims()[0]);
        let contrast = Contrast {
            positive_in_denominator: false,
            positive_weight,
            ..Contrast::of_targets(targets, shape, self.temperature, self.normalize, self.options)?
        };
        Ok(contrast.forward(("anchors", a), ("candidates", c))?.loss)
    }
}

impl Dclw {
    /// On normalised rows, with the gradient flowing through the weights; in both directions where there are two views.
    ///
    /// # Errors
    /// When `temperature` or `sigma` (0.5 is usual) is not a finite number above 0.
    pub fn new(temperature: f64, sigma: f64) -> Result<Self> {
        Ok(Self { dcl: Dcl::new(temperature)?, sigma: check::positive("sigma", sigma)?, detach_weight: false })
    }

    /// Whether rows are divided by their norms.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.dcl.normalize = normalize;
        self
    }

    /// As [`Dcl::symmetric`].
    #[must_use]
    pub fn symmetric(mut self, symmetric: bool) -> Self {
        self.dcl.symmetric = symmetric;
        self
    }

    /// Whether the weights are constants to the gradient (the public code lets it flow).
    #[must_use]
    pub fn detach_weight(mut self, detach: bool) -> Self {
        self.detach_weight = detach;
        self
    }

    /// Sets how it is computed.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.dcl.options = options;
        self
    }

    /// The loss of two views `[n, d]`; the weight of a pair is the same in both directions.
    ///
    /// # Errors
    /// As [`Dcl::forward`].
    pub fn forward(&self, z1: Tensor<2>, z2: Tensor<2>) -> Result<Tensor<1>> {
        // In both directions every pair stands twice, and 2n softmax over 2n pairs is n softmax over n.
        self.dcl.views(z1, z2, self.weight())
    }

    fn weight(&self) -> PositiveWeight {
        PositiveWeight::Decoupled { sigma: self.sigma, detach: self.detach_weight }
    }
}

impl RankingLoss for Dcl {
    /// −s⁺ + log Σ exp over the candidates that are neither the positive nor excluded; an anchor without such is an error.
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        self.ranking(anchors, candidates, targets, PositiveWeight::One)
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("DCL(temperature {}, {})", self.temperature, Similarity::from_normalize(self.normalize))
    }
}

impl RankingLoss for Dclw {
    /// As of [`Dcl`], with the weights taken over the anchors of the batch.
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        self.dcl.ranking(anchors, candidates, targets, self.weight())
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        let similarity = Similarity::from_normalize(self.dcl.normalize);
        format!("DCLW(temperature {}, sigma {}, {similarity})", self.dcl.temperature, self.sigma)
    }
}
