//! Contrastive losses that look at hardness on purpose, or not at all.

use super::contrast::{Contrast, Keep, Negatives};
use super::setters::setters;
use super::{Options, RankingLoss, Similarity, Targets};
use crate::{Error, Result, check};
use burn::tensor::Tensor;

/// The hard contrastive loss (contrastive-behaviour): InfoNCE over the hardest share α of each anchor's negatives,
/// L_i = −log[ e^{s_ii/τ} / (e^{s_ii/τ} + Σ_{kept} e^{s_ij/τ}) ]. Of M negatives those not below the k-th largest s_ij are kept,
/// k = ⌈αM⌉ within 1..=M, ties all; the choice has no gradient, and what is not kept has none. Without batch norm in the
/// encoder it tends to collapse: look at the uniformity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HardContrastive {
    temperature: f64,
    alpha: f64,
    normalize: bool,
    options: Options,
}

impl HardContrastive {
    /// On normalised rows.
    ///
    /// # Errors
    /// When `temperature` is not a finite number above 0, or `alpha` not above 0 and at most 1.
    pub fn new(temperature: f64, alpha: f64) -> Result<Self> {
        let temperature = check::positive("temperature", temperature)?;
        Ok(Self { temperature, alpha: check::share("alpha", alpha)?, normalize: true, options: Options::default() })
    }

    setters!(normalize, options);

    /// The loss of two views `[n, d]`: row i of one belongs to row i of the other.
    ///
    /// # Errors
    /// When the shapes differ, n < 2, a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, z1: Tensor<2>, z2: Tensor<2>) -> Result<Tensor<1>> {
        let targets = views(&z1, &z2)?;
        RankingLoss::forward(self, z1, z2, &targets)
    }
}

impl RankingLoss for HardContrastive {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let shape = (anchors.dims()[0], candidates.dims()[0]);
        let contrast = Contrast {
            keep: Keep::Hardest(self.alpha),
            ..Contrast::of_targets(targets, shape, self.temperature, self.normalize, self.options)?
        };
        Ok(contrast.forward(("anchors", anchors), ("candidates", candidates))?.loss)
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        let similarity = Similarity::from_normalize(self.normalize);
        format!("HardContrastive(temperature {}, alpha {}, {similarity})", self.temperature, self.alpha)
    }
}

/// The simple contrastive loss (contrastive-behaviour): L_i = −s_ii + λ Σ_{j≠i} s_ij, which pushes all negatives alike;
/// hard-simple, with [`SimpleContrastive::hardest`]: only the hardest share of them. No temperature: InfoNCE tends to it, with
/// λ = 1/(number of negatives), as its temperature grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimpleContrastive {
    lambda_neg: Option<f64>,
    alpha: Option<f64>,
    normalize: bool,
    options: Options,
}

impl SimpleContrastive {
    /// On normalised rows. `lambda_neg` is λ; none: 1/(candidates − 1), the limit of InfoNCE.
    ///
    /// # Errors
    /// When `lambda_neg` is not a finite number of at least 0.
    pub fn new(lambda_neg: Option<f64>) -> Result<Self> {
        let lambda_neg = lambda_neg.map(|l| check::not_negative("lambda_neg", l)).transpose()?;
        Ok(Self { lambda_neg, alpha: None, normalize: true, options: Options::default() })
    }

    /// The same of the hardest share `alpha` of each anchor's negatives, as in [`HardContrastive`].
    ///
    /// # Errors
    /// When `alpha` is not above 0 and at most 1.
    pub fn hardest(mut self, alpha: f64) -> Result<Self> {
        self.alpha = Some(check::share("alpha", alpha)?);
        Ok(self)
    }

    setters!(normalize, options);

    /// The loss of two views `[n, d]`: row i of one belongs to row i of the other.
    ///
    /// # Errors
    /// As [`HardContrastive::forward`].
    pub fn forward(&self, z1: Tensor<2>, z2: Tensor<2>) -> Result<Tensor<1>> {
        let targets = views(&z1, &z2)?;
        RankingLoss::forward(self, z1, z2, &targets)
    }

    fn name(&self) -> &'static str {
        if self.alpha.is_some() { "HardSimpleContrastive" } else { "SimpleContrastive" }
    }
}

impl RankingLoss for SimpleContrastive {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let (n, m) = (anchors.dims()[0], candidates.dims()[0]);
        if m < 2 {
            return Err(Error::invalid(format!("{m} candidates: there are no negatives")));
        }
        targets.refuse_weights(self.name())?;
        let contrast = Contrast {
            keep: self.alpha.map_or(Keep::All, Keep::Hardest),
            negatives: Negatives::Sum { weight: self.lambda_neg.unwrap_or(1.0 / (m - 1) as f64) },
            ..Contrast::of_targets(targets, (n, m), 1.0, self.normalize, self.options)?
        };
        Ok(contrast.forward(("anchors", anchors), ("candidates", candidates))?.loss)
    }

    fn describe(&self) -> String {
        let similarity = Similarity::from_normalize(self.normalize);
        let lambda = self.lambda_neg.map_or("1/negatives".to_owned(), |l| l.to_string());
        let alpha = self.alpha.map_or(String::new(), |a| format!(", alpha {a}"));
        format!("{}(lambda {lambda}{alpha}, {similarity})", self.name())
    }
}

/// Row i belongs to row i.
fn views(z1: &Tensor<2>, z2: &Tensor<2>) -> Result<Targets> {
    check::same_shape(("z1", z1), ("z2", z2))?;
    check::rows("z1", z1, 2)?;
    Ok(Targets::new((0..z1.dims()[0] as u32).collect(), Vec::new()))
}
