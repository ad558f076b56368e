//! Multiple negatives ranking loss: the InfoNCE of sentence encoders.

use super::contrast::Contrast;
use super::{Options, RankingLoss, Similarity, Targets};
use crate::{Result, check};
use burn::tensor::Tensor;

/// Multiple negatives ranking loss (baselines-mining): mean over anchors of log Σ_j exp L_ij − L_i,p(i), L_ij = scale · sim(a_i, c_j),
/// over all candidates that are not excluded. An anchor whose positive stands alone adds 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultipleNegativesRanking {
    scale: f64,
    similarity: Similarity,
    options: Options,
}

impl MultipleNegativesRanking {
    /// With cosine similarity. `scale` is 1/temperature; 20 is usual.
    ///
    /// # Errors
    /// When `scale` is not a finite number above 0.
    pub fn new(scale: f64) -> Result<Self> {
        Ok(Self { scale: check::positive("scale", scale)?, similarity: Similarity::Cosine, options: Options::default() })
    }

    /// Sets the similarity.
    #[must_use]
    pub fn similarity(mut self, similarity: Similarity) -> Self {
        self.similarity = similarity;
        self
    }

    /// Sets how it is computed.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The loss of n-tuples: anchors `[b, d]`, their positives `[b, d]`, and columns of negatives, each `[b, d]`. Every
    /// positive and negative of the batch serves every anchor.
    ///
    /// # Errors
    /// As [`RankingLoss::forward`].
    pub fn tuples(&self, anchors: Tensor<2>, positives: Tensor<2>, negatives: Vec<Tensor<2>>) -> Result<Tensor<1>> {
        check::same_shape(("anchors", &anchors), ("positives", &positives))?;
        for column in &negatives {
            check::same_shape(("anchors", &anchors), ("negatives", column))?;
        }
        let targets = Targets::new((0..anchors.dims()[0] as u32).collect(), vec![]);
        let candidates = std::iter::once(positives).chain(negatives).collect();
        self.forward(anchors, Tensor::cat(candidates, 0), &targets)
    }
}

impl RankingLoss for MultipleNegativesRanking {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let shape = (anchors.dims()[0], candidates.dims()[0]);
        let contrast =
            Contrast { scale: self.scale, ..Contrast::of_targets(targets, shape, 1.0, self.similarity.normalizes(), self.options)? };
        Ok(contrast.forward(("anchors", anchors), ("candidates", candidates))?.loss)
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("MultipleNegativesRanking(scale {}, {})", self.scale, self.similarity)
    }
}
