//! Exponential noise-contrastive estimation.

use super::EnergyLoss;
use super::nce::{Ratios, on_tensors};
use crate::Result;
use burn::tensor::Tensor;

/// eNCE (Liu, Rosenfeld, Ravikumar & Risteski 2022; meco): Δ = log p̃ − log_z − log q, loss ½ mean_data exp(−Δ/2) +
/// ½ mean_noise exp(Δ/2). Its gradients grow exponentially where model and noise are apart: minimise it by normalised gradient descent
/// ([`crate::nn::GradientDescent::normalized`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ence;

impl Ence {
    /// The loss and its gradients from log p̃ and log q at the data `[n]` and at the noise samples `[m]`.
    ///
    /// # Errors
    /// As [`super::Nce::evaluate`]; it overflows where |Δ| is above 1418.
    pub fn evaluate(
        self,
        log_model_data: &[f64],
        log_model_noise: &[f64],
        log_noise_data: &[f64],
        log_noise_noise: &[f64],
        log_z: f64,
    ) -> Result<EnergyLoss> {
        let half = |x: f64| 0.5 * (0.5 * x).exp();
        let ratios = Ratios::new([log_model_data, log_model_noise, log_noise_data, log_noise_noise], log_z)?;
        ratios.loss(|delta| (half(-delta), -0.5 * half(-delta)), |delta| (half(delta), 0.5 * half(delta)))
    }

    /// The loss, shape `[1]`, on the graph of log p̃ at the data `[n]`, at the noise samples `[m]`, and of log_z `[1]`; log q is a
    /// constant. The values go through the host.
    ///
    /// # Errors
    /// As [`super::Nce::forward`].
    pub fn forward(
        self,
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
