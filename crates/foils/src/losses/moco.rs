//! InfoNCE against a queue of older keys.

use super::Options;
use super::contrast::{Contrast, Contrasted, Ragged};
use crate::{Result, check};
use burn::tensor::Tensor;

/// MoCo's InfoNCE (baselines-contrastive, 3): logits [⟨q_i, k_i⟩, ⟨q_i, n_1⟩ … ⟨q_i, n_K⟩]/τ, mean cross-entropy with class 0. Key and
/// queue are constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MocoInfoNce {
    temperature: f64,
    normalize: bool,
    options: Options,
}

/// What [`MocoInfoNce::forward`] returns.
#[derive(Clone, Debug)]
pub struct MocoOutput {
    /// Shape `[1]`, on the graph of the query.
    pub loss: Tensor<1>,
    /// The share of queries whose own key is strictly nearer than everything in the queue.
    pub proxy_top1: f64,
}

impl MocoInfoNce {
    /// On normalised rows. 0.07 (v1) and 0.2 (v2) are usual.
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

    /// The loss of queries `[n, d]` with their keys `[n, d]` against the queue `[k, d]`. Enqueue the keys afterwards.
    ///
    /// # Errors
    /// When n or k is 0, shapes do not fit, a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, query: Tensor<2>, key: Tensor<2>, queue: Tensor<2>) -> Result<MocoOutput> {
        let result =
            against_queue(query, key, queue, |positives| Contrast::new(positives, self.temperature, self.normalize, self.options))?;
        let first = result.terms.iter().filter(|t| t.positive > t.hardest_negative).count();
        Ok(MocoOutput { loss: result.loss, proxy_top1: first as f64 / result.terms.len() as f64 })
    }
}

/// Queries whose positives are their own keys and whose negatives are the queue's.
pub(super) fn against_queue(
    query: Tensor<2>,
    key: Tensor<2>,
    queue: Tensor<2>,
    contrast: impl FnOnce(Ragged) -> Contrast,
) -> Result<Contrasted> {
    check::same_shape(("query", &query), ("key", &key))?;
    check::rows("query", &query, 1)?;
    check::rows("queue", &queue, 1)?;
    check::same_width(("query", &query), ("queue", &queue))?;
    let n = query.dims()[0];
    let positives = Ragged::new((0..n as u32).map(|i| [i]));
    let contrast = Contrast { first_negative: n, ..contrast(positives) };
    contrast.forward(("query", query), ("key and queue", Tensor::cat(vec![key.inner(), queue.inner()], 0)))
}
