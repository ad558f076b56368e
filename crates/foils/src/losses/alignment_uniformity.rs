//! Alignment and uniformity as one objective.

use super::setters::setters;
use super::{Alignment, Options, RankingLoss, Similarity, Targets, Uniformity};
use crate::{Result, check};
use burn::tensor::Tensor;

/// Alignment of anchors and their positives plus the weighted uniformity of anchors and of candidates (Wang and Isola's objective;
/// baselines-contrastive, 6): mean_i ‖a_i − p_i‖² + weight · ½ (U(anchors) + U(candidates)), U = log mean_{i<j} exp(−t ‖x_i − x_j‖²).
/// Candidates push each other away whoever's they are, mined ones too, so that none can be left out for one anchor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlignmentUniformity {
    weight: f64,
    t: f64,
    normalize: bool,
    options: Options,
}

impl AlignmentUniformity {
    /// On normalised rows. A weight of 1 and t = 2 are usual.
    ///
    /// # Errors
    /// When `weight` is negative or not finite, or `t` is not a finite number above 0.
    pub fn new(weight: f64, t: f64) -> Result<Self> {
        let weight = check::not_negative("uniformity_weight", weight)?;
        Ok(Self { weight, t: check::positive("uniformity_t", t)?, normalize: true, options: Options::default() })
    }

    setters!(normalize, options);
}

impl RankingLoss for AlignmentUniformity {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        check::same_width(("anchors", &anchors), ("candidates", &candidates))?;
        targets.check(anchors.dims()[0], candidates.dims()[0])?;
        targets.refuse_weights("uniformity")?;
        let alignment = Alignment::new(2.0)?.normalize(self.normalize).options(self.options);
        let uniformity = Uniformity::new(self.t)?.normalize(self.normalize).options(self.options);
        let pulled = alignment.forward(anchors.clone(), targets.positives_of(&candidates))?;
        let pushed = uniformity.forward(anchors)? + uniformity.forward(candidates)?;
        Ok(pulled + pushed.mul_scalar(0.5 * self.weight))
    }

    fn takes_exclusions(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        let similarity = Similarity::from_normalize(self.normalize);
        format!("AlignmentUniformity(weight {}, t {}, {similarity})", self.weight, self.t)
    }
}
