//! Decoupled contrastive learning against a queue of older keys.

use super::Options;
use super::contrast::Contrast;
use super::moco::against_queue;
use crate::{Result, check};
use burn::tensor::Tensor;

/// DCL with MoCo's queue (dcl): mean_i [ −⟨q_i, k_i⟩/τ + log Σ_m exp(⟨q_i, n_m⟩/τ) ]. Key and queue are constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DclQueue {
    temperature: f64,
    normalize: bool,
    options: Options,
}

impl DclQueue {
    /// On normalised rows.
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

    /// The loss of queries `[n, d]` with their keys `[n, d]` against the queue `[k, d]`, shape `[1]`, on the graph of the query.
    ///
    /// # Errors
    /// When n or k is 0, shapes do not fit, a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, query: Tensor<2>, key: Tensor<2>, queue: Tensor<2>) -> Result<Tensor<1>> {
        let contrast = |positives| Contrast {
            positive_in_denominator: false,
            ..Contrast::new(positives, self.temperature, self.normalize, self.options)
        };
        Ok(against_queue(query, key, queue, contrast)?.loss)
    }
}
