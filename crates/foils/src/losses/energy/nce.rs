//! Noise-contrastive estimation, and what it shares with its exponential variant.

use super::{EnergyLoss, input};
use crate::{Result, check};
use burn::tensor::Tensor;

/// NCE (Gutmann & Hyvärinen 2010; baselines-graph-recsys): Δ = log p̃ − log_z − log q − log ν, loss mean_data softplus(−Δ) +
/// ν · mean_noise softplus(Δ). log_z is learned with the model and tends to log Z.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nce {
    noise_ratio: f64,
}

impl Nce {
    /// ν, `noise_ratio`, is how many noise samples there are for each data sample; 1 is usual.
    ///
    /// # Errors
    /// When `noise_ratio` is not a finite number above 0.
    pub fn new(noise_ratio: f64) -> Result<Self> {
        Ok(Self { noise_ratio: check::positive("noise_ratio", noise_ratio)? })
    }

    /// The loss and its gradients from log p̃ and log q at the data `[n]` and at the noise samples `[m]`.
    ///
    /// # Errors
    /// When n or m is 0, lengths differ, a value is NaN or +∞, log p̃ is −∞ at data or log q at a noise sample, log_z is not finite,
    /// or the loss overflows.
    pub fn evaluate(
        &self,
        log_model_data: &[f64],
        log_model_noise: &[f64],
        log_noise_data: &[f64],
        log_noise_noise: &[f64],
        log_z: f64,
    ) -> Result<EnergyLoss> {
        let (nu, log_nu) = (self.noise_ratio, self.noise_ratio.ln());
        let ratios = Ratios::new([log_model_data, log_model_noise, log_noise_data, log_noise_noise], log_z)?;
        ratios.loss(
            |delta| (softplus(log_nu - delta), -sigmoid(log_nu - delta)),
            |delta| (nu * softplus(delta - log_nu), nu * sigmoid(delta - log_nu)),
        )
    }

    /// The loss, shape `[1]`, on the graph of log p̃ at the data `[n]`, at the noise samples `[m]`, and of log_z `[1]`; log q is a
    /// constant. The values go through the host.
    ///
    /// # Errors
    /// As [`Nce::evaluate`], when log_z is not one number, or tensors on the graph differ in type or device.
    pub fn forward(
        &self,
        log_model_data: Tensor<1>,
        log_model_noise: Tensor<1>,
        log_noise_data: Tensor<1>,
        log_noise_noise: Tensor<1>,
        log_z: Tensor<1>,
    ) -> Result<Tensor<1>> {
        on_tensors(log_model_data, log_model_noise, [log_noise_data, log_noise_noise], log_z, |[a, b, c, d], z| {
            self.evaluate(a, b, c, d, z)
        })
    }
}

/// log p̃ − log_z − log q at data and at noise samples.
pub(super) struct Ratios {
    data: Vec<f64>,
    noise: Vec<f64>,
}

impl Ratios {
    /// Of log p̃ at data and at noise, log q at data and at noise.
    pub fn new([model_data, model_noise, noise_data, noise_noise]: [&[f64]; 4], log_z: f64) -> Result<Self> {
        input::model_at_data(model_data)?;
        input::at_noise(model_noise, noise_noise)?;
        input::noise_at_data(model_data, noise_data)?;
        input::each("log_z", &[log_z], f64::is_finite, "must be finite")?;
        let of = |model: &[f64], noise: &[f64]| model.iter().zip(noise).map(|(p, q)| p - log_z - q).collect::<Vec<_>>();
        Ok(Self { data: of(model_data, noise_data), noise: of(model_noise, noise_noise) })
    }

    /// mean_data f(Δ) + mean_noise h(Δ), each with its derivative.
    pub fn loss(&self, f: impl Fn(f64) -> (f64, f64), h: impl Fn(f64) -> (f64, f64)) -> Result<EnergyLoss> {
        let (at_data, grad_log_model_data) = mean(&self.data, f);
        let (at_noise, grad_log_model_noise) = mean(&self.noise, h);
        let loss = at_data + at_noise;
        input::finite_loss(loss)?;
        let grad_log_z = -grad_log_model_data.iter().chain(&grad_log_model_noise).sum::<f64>();
        Ok(EnergyLoss { loss, grad_log_model_data, grad_log_model_noise, grad_log_z })
    }
}

fn mean(deltas: &[f64], f: impl Fn(f64) -> (f64, f64)) -> (f64, Vec<f64>) {
    let share = 1.0 / deltas.len() as f64;
    let mut sum = 0.0;
    let slopes = deltas.iter().map(|&delta| {
        let (value, slope) = f(delta);
        sum += value * share;
        slope * share
    });
    let slopes = slopes.collect();
    (sum, slopes)
}

/// Runs an objective with a learned log_z on tensors.
pub(super) fn on_tensors(
    log_model_data: Tensor<1>,
    log_model_noise: Tensor<1>,
    log_noise: [Tensor<1>; 2],
    log_z: Tensor<1>,
    evaluate: impl FnOnce([&[f64]; 4], f64) -> Result<EnergyLoss>,
) -> Result<Tensor<1>> {
    if log_z.dims() != [1] {
        return Err(crate::Error::invalid(format!("log_z has shape {:?}, must be [1]", log_z.dims())));
    }
    let [a, b, c, d] = [&log_model_data, &log_model_noise, &log_noise[0], &log_noise[1]].map(input::host);
    let result = evaluate([&a, &b, &c, &d], input::host(&log_z)[0])?;
    input::with_gradients(
        result.loss,
        [
            ("log_model_data", log_model_data, &result.grad_log_model_data),
            ("log_model_noise", log_model_noise, &result.grad_log_model_noise),
            ("log_z", log_z, &[result.grad_log_z]),
        ],
    )
}

/// log(1 + eˣ).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    // By the side on which the exponential cannot overflow.
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}
