//! Maximum likelihood of energy-based models without Markov chains: with a running estimate of the normaliser, and plain.

use super::importance::Weights;
use super::{EnergyLoss, PartitionEstimate, input};
use crate::{Result, check};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Compositional optimisation of the likelihood (meco): with g = (1/m) Σ_j w_j, w = p̃/q at the noise samples, the running estimate
/// u ← (1 − β) u + β g of Z takes the place of g. The loss is −mean_i log p̃(x_i) + log u, its gradient
/// −mean_i ∇log p̃(x_i) + (1/m) Σ_j (w_j/u) ∇log p̃(x̃_j): u is a constant to it, and the weights sum to g/u.
///
/// u is the optimiser's state: one `Meco` serves one training; [`Meco::log_u`] is what to save beside the model and
/// [`Meco::resume`] what to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meco {
    beta: f64,
    log_u: Option<f64>,
}

impl Meco {
    /// `beta` is the share of the newest batch in u; 0.1 is a good start, 1 is [`MlePlugin`].
    ///
    /// # Errors
    /// When `beta` is not in (0, 1].
    pub fn new(beta: f64) -> Result<Self> {
        Ok(Self { beta: check::share("beta", beta)?, log_u: None })
    }

    /// log u after the last step; none before the first.
    pub fn log_u(&self) -> Option<f64> {
        self.log_u
    }

    /// Goes on from the log u of an earlier training. −∞ is an estimate of 0.
    ///
    /// # Errors
    /// When `log_u` is NaN or +∞.
    pub fn resume(mut self, log_u: f64) -> Result<Self> {
        input::each("log_u", &[log_u], |v| v < f64::INFINITY, "must be a number below infinity")?;
        self.log_u = Some(log_u);
        Ok(self)
    }

    /// Moves u by one batch, log p̃ at the data `[n]` and log p̃ and log q at the noise samples `[m]`, and gives the loss and its
    /// gradients. The first batch is u by itself.
    ///
    /// # Errors
    /// When n or m is 0, lengths differ, a value is NaN or +∞, log p̃ is −∞ at data or log q at a noise sample, or all weights are
    /// 0 (the model puts no mass on the noise). u is left as it was then.
    pub fn step(&mut self, log_model_data: &[f64], log_model_noise: &[f64], log_noise_noise: &[f64]) -> Result<EnergyLoss> {
        input::model_at_data(log_model_data)?;
        let weights = Weights::new(log_model_noise, log_noise_noise)?;
        let log_g = weights.estimate().log_z;
        let log_u = match self.log_u {
            Some(before) if self.beta < 1.0 => log_add((-self.beta).ln_1p() + before, self.beta.ln() + log_g),
            _ => log_g,
        };
        let result = likelihood(log_model_data, &weights, log_u)?;
        self.log_u = Some(log_u);
        Ok(result)
    }

    /// [`Meco::step`] on tensors: the loss, shape `[1]`, on the graph of log p̃ at the data `[n]` and at the noise samples `[m]`;
    /// log q is a constant. The values go through the host.
    ///
    /// # Errors
    /// As [`Meco::step`], and when the two differ in type or device.
    pub fn forward(&mut self, log_model_data: Tensor<1>, log_model_noise: Tensor<1>, log_noise_noise: Tensor<1>) -> Result<Tensor<1>> {
        let [data, noise, q] = [&log_model_data, &log_model_noise, &log_noise_noise].map(input::host);
        let EnergyLoss { loss, grad_log_model_data, grad_log_model_noise, .. } = self.step(&data, &noise, &q)?;
        input::with_gradients(
            loss,
            [("log_model_data", log_model_data, &grad_log_model_data), ("log_model_noise", log_model_noise, &grad_log_model_noise)],
        )
    }
}

/// Maximum likelihood with the normaliser of one batch of noise (meco, its baseline: [`Meco`] with β = 1). E[log g] < log Z, so the
/// loss is biased, the more the fewer the samples; the gradient's weights are the softmax of log w.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MlePlugin;

impl MlePlugin {
    /// The loss, its gradients, and the estimate of log Z with its effective sample size.
    ///
    /// # Errors
    /// As [`Meco::step`].
    pub fn evaluate(
        self,
        log_model_data: &[f64],
        log_model_noise: &[f64],
        log_noise_noise: &[f64],
    ) -> Result<(EnergyLoss, PartitionEstimate)> {
        input::model_at_data(log_model_data)?;
        let weights = Weights::new(log_model_noise, log_noise_noise)?;
        let estimate = weights.estimate();
        Ok((likelihood(log_model_data, &weights, estimate.log_z)?, estimate))
    }

    /// The loss, shape `[1]`, on the graph of log p̃ at the data `[n]` and at the noise samples `[m]`.
    ///
    /// # Errors
    /// As [`Meco::forward`].
    pub fn forward(self, log_model_data: Tensor<1>, log_model_noise: Tensor<1>, log_noise_noise: Tensor<1>) -> Result<Tensor<1>> {
        Meco::new(1.0)?.forward(log_model_data, log_model_noise, log_noise_noise)
    }
}

/// −mean log p̃ + log u.
fn likelihood(log_model_data: &[f64], weights: &Weights, log_u: f64) -> Result<EnergyLoss> {
    let n = log_model_data.len() as f64;
    let loss = log_u - log_model_data.iter().sum::<f64>() / n;
    input::finite_loss(loss)?;
    Ok(EnergyLoss {
        loss,
        grad_log_model_data: vec![-1.0 / n; log_model_data.len()],
        grad_log_model_noise: weights.over(log_u),
        grad_log_z: 0.0,
    })
}

/// log(eᵃ + eᵇ), b finite.
fn log_add(a: f64, b: f64) -> f64 {
    a.max(b) + (-(a - b).abs()).exp().ln_1p()
}
