//! The MoCo form.

use super::{NegativeMode, check_heads, check_shape, check_temperatures, checked, mask, negatives, omega, unit};
use crate::{Error, Result, check};
use burn::tensor::Tensor;

/// [`super::AmclNtXent`] with queries, keys and a queue for each head (amcl, Eq. 2.2): the mean over queries of
/// Σ_c { −s_i/τ_i + βΩ(τ_i) + Neg }, the negatives being the head's queue. Keys and queue have no gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AmclMoco {
    beta: f64,
    mode: NegativeMode,
    normalize: bool,
}

impl AmclMoco {
    /// On normalised rows, with the nearest negative. β = 0.1 is usual.
    ///
    /// # Errors
    /// When `beta` is negative or not finite.
    pub fn new(beta: f64) -> Result<Self> {
        Ok(Self { beta: check::not_negative("beta", beta)?, mode: NegativeMode::Max, normalize: true })
    }

    /// Sets what the negatives add.
    #[must_use]
    pub fn mode(mut self, mode: NegativeMode) -> Self {
        self.mode = mode;
        self
    }

    /// Whether rows are divided by their norms.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// The loss of queries and keys `[heads, n, d]` and a queue `[heads, k, d]`, with the temperatures of positives `[heads, n]` and of
    /// negatives `[heads, n, k]`.
    ///
    /// # Errors
    /// When shapes do not fit, there is no head, n < 2 or k = 0, a value is not finite, or a temperature not above 0.
    pub fn forward(&self, query: Tensor<3>, key: Tensor<3>, queue: Tensor<3>, tau_pos: Tensor<2>, tau_neg: Tensor<3>) -> Result<Tensor<1>> {
        check::same_shape(("query", &query), ("key", &key))?;
        check_heads("query", &query)?;
        check_heads("key", &key)?;
        let [heads, n, dim] = query.dims();
        let k = queue.dims()[1];
        if k == 0 {
            return Err(Error::invalid("the queue is empty: there are no negatives"));
        }
        check_shape("queue", &queue, [heads, k, dim])?;
        check::values("queue", &queue, false)?;
        check_shape("tau_pos", &tau_pos, [heads, n])?;
        check_shape("tau_neg", &tau_neg, [heads, n, k])?;
        check_temperatures("tau_pos", &tau_pos)?;
        check_temperatures("tau_neg", &tau_neg)?;
        let (key, queue) = (key.inner(), queue.inner());
        let [query, key, queue] = [query, key, queue].map(|z| if self.normalize { unit(z) } else { z });
        let positive = (query.clone() * key).sum_dim(2).reshape([heads, n]);
        let pulled = (omega(tau_pos.clone(), dim).mul_scalar(self.beta) - positive / tau_pos).sum();
        let similarity = query.matmul(queue.swap_dims(1, 2));
        let none = mask(heads, [n, k], &similarity, |_, _| false);
        let pushed = negatives(self.mode, self.beta, similarity, tau_neg, none, dim).sum();
        checked((pulled + pushed).mul_scalar(1.0 / n as f64))
    }
}
