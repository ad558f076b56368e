//! The forms with a softmax or a nearest negative: two views, and a queue.

use super::{NegativeMode, check_heads, check_shape, check_temperatures, checked, first_largest_of_rows, mask, negatives, omega, unit};
use crate::losses::setters::setters;
use crate::{Error, Result, check};
use burn::tensor::{Int, Tensor};

/// AMCL on SimCLR and MoCo (amcl): every pair of rows and head has a temperature. With similarities s of one head and
/// Ω(τ) = (d/2) ln τ + 1/τ an anchor adds −s/τ + βΩ(τ) for its positive, and what [`NegativeMode`] says for its negatives; heads are summed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amcl {
    beta: f64,
    pub(super) mode: NegativeMode,
    normalize: bool,
}

impl Amcl {
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

    setters!(normalize);

    /// SimCLR's form, Eq. 2.1: Z^c = [z1^c; z2^c], s^c = Z^c Z^cᵀ, and the mean over the 2n anchors, each with 2n − 2 negatives. Of two views `[heads, n, d]` and the temperatures `[heads, 2n, 2n]` of anchors (rows) and contrasts (columns), first view
    /// first. Temperatures that are not read have no gradient.
    ///
    /// # Errors
    /// When shapes do not fit, there is no head or n < 2, a value is not finite, or a temperature not above 0.
    pub fn forward(&self, z1: Tensor<3>, z2: Tensor<3>, tau: Tensor<3>) -> Result<Tensor<1>> {
        check::same_shape(("z1", &z1), ("z2", &z2))?;
        check_heads("z1", &z1)?;
        check_heads("z2", &z2)?;
        let [heads, n, dim] = z1.dims();
        let rows = 2 * n;
        check_shape("tau", &tau, [heads, rows, rows])?;
        check_temperatures("tau", &tau)?;
        let z = Tensor::cat(vec![z1, z2], 1);
        let z = if self.normalize { unit(z) } else { z };
        let similarity = z.clone().matmul(z.swap_dims(1, 2));
        let partner = |i: usize, j: usize| j == (i + n) % rows;
        let not_positive = mask(heads, [rows, rows], &similarity, |i, j| !partner(i, j));
        // Temperatures that are not read are 1 from here on, so that none of them can make a gradient infinite.
        let own = tau.clone().mask_fill(not_positive.clone(), 1.0);
        let pulled = omega(own.clone(), dim).mul_scalar(self.beta) - similarity.clone() / own;
        let pulled = pulled.mask_fill(not_positive, 0.0).sum();
        let others = mask(heads, [rows, rows], &similarity, |i, j| i == j || partner(i, j));
        let pushed = negatives(self.mode, self.beta, similarity, tau, others, dim).sum();
        checked((pulled + pushed).mul_scalar(1.0 / rows as f64))
    }

    /// MoCo's form, Eq. 2.2: the mean over queries of Σ_c { −s_i/τ_i + βΩ(τ_i) + Neg }, the negatives being the head's queue. Of queries and keys `[heads, n, d]` and a queue `[heads, k, d]`, with the temperatures of positives `[heads, n]` and of
    /// negatives `[heads, n, k]`.
    ///
    /// # Errors
    /// When shapes do not fit, there is no head, n < 2 or k = 0, a value is not finite, or a temperature not above 0.
    pub fn forward_queue(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        queue: Tensor<3>,
        tau_pos: Tensor<2>,
        tau_neg: Tensor<3>,
    ) -> Result<Tensor<1>> {
        check_queue(&query, &key, &queue)?;
        let ([heads, n, dim], k) = (query.dims(), queue.dims()[1]);
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

    /// Of two views `[heads, 2n, dim]`, first view first, each row's partner and its nearest negative.
    pub(super) fn partners_and_nearest(&self, z: &Tensor<3>) -> [Tensor<3>; 2] {
        let rows = z.dims()[1];
        let n = rows / 2;
        let partners = Tensor::cat(vec![z.clone().narrow(1, n, n), z.clone().narrow(1, 0, n)], 1);
        [partners, self.nearest(z, z.clone(), |i, j| i == j || j == (i + n) % rows)]
    }

    /// For each anchor `[heads, r, dim]` the most similar of `others` `[heads, m, dim]`, the first of equals, but for those that are
    /// no negatives: `[heads, r, dim]`. The choice has no gradient; what is chosen has.
    pub(super) fn nearest(&self, anchors: &Tensor<3>, others: Tensor<3>, is_none: impl Fn(usize, usize) -> bool) -> Tensor<3> {
        let ([heads, r, dim], m) = (anchors.dims(), others.dims()[1]);
        let [a, b] = [anchors.clone().inner(), others.clone().inner()].map(|z| if self.normalize { unit(z) } else { z });
        let similarity = a.matmul(b.swap_dims(1, 2));
        let none = mask(heads, [r, m], &similarity, is_none);
        let chosen = first_largest_of_rows(similarity.mask_fill(none, f64::NEG_INFINITY));
        let rows: Vec<i64> = chosen.into_iter().enumerate().map(|(i, j)| (i / r * m + j) as i64).collect();
        let rows = Tensor::<1, Int>::from_data(rows.as_slice(), &others.device().without_autodiff());
        others.reshape([heads * m, dim]).select(0, rows).reshape([heads, r, dim])
    }

    /// The loss of anchors `[heads, r, dim]` with [`NegativeMode::Max`] from what it reads: their positives and nearest negatives, and
    /// the temperatures `[heads, r]` that `tau` gives to pairs of those.
    pub(super) fn of_nearest(
        &self,
        anchors: Tensor<3>,
        [positives, nearest]: [Tensor<3>; 2],
        tau: impl Fn(Tensor<3>, Tensor<3>) -> Result<Tensor<2>>,
    ) -> Result<Tensor<1>> {
        let [heads, r, dim] = anchors.dims();
        let direction = |z: &Tensor<3>| if self.normalize { unit(z.clone()) } else { z.clone() };
        let a = direction(&anchors);
        let logits = |other: Tensor<3>| -> Result<Tensor<2>> {
            let similarity = (a.clone() * direction(&other)).sum_dim(2).reshape([heads, r]);
            let tau = tau(anchors.clone(), other)?;
            Ok(similarity / tau.clone() - omega(tau, dim).mul_scalar(self.beta))
        };
        checked((logits(nearest)? - logits(positives)?).sum().mul_scalar(1.0 / r as f64))
    }
}

pub(super) fn check_queue(query: &Tensor<3>, key: &Tensor<3>, queue: &Tensor<3>) -> Result<()> {
    check::same_shape(("query", query), ("key", key))?;
    check_heads("query", query)?;
    check_heads("key", key)?;
    let ([heads, _, dim], k) = (query.dims(), queue.dims()[1]);
    if k == 0 {
        return Err(Error::invalid("the queue is empty: there are no negatives"));
    }
    check_shape("queue", queue, [heads, k, dim])?;
    check::values("queue", queue, false)
}
