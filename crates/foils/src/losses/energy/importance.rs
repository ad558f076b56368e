//! Importance weights of noise samples, in logs.

use super::input;
use crate::{Error, Result};

/// An estimate of log Z from noise samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PartitionEstimate {
    /// log g, g = (1/m) Σ w_j: g is an unbiased estimate of Z, so log g lies below log Z on average.
    pub log_z: f64,
    /// (Σw)² / Σw², from 1 to m.
    pub effective_sample_size: f64,
    /// m.
    pub samples: usize,
}

impl PartitionEstimate {
    /// Whether the effective sample size is at least 1 % of the samples. Below that a few samples decide, and log Z is not to be
    /// trusted (it is usually too small).
    pub fn is_reliable(&self) -> bool {
        self.effective_sample_size >= 0.01 * self.samples as f64
    }
}

/// log Z of a model by importance sampling (meco): w_j = exp(log p̃(x̃_j) − log q(x̃_j)). For a held-out likelihood take fresh samples,
/// 1e5 or more.
///
/// # Errors
/// When there are no samples, the lengths differ, a value is NaN or +∞, log q is −∞ at one of its own samples, or all weights
/// are 0.
pub fn estimate_partition(log_model_noise: &[f64], log_noise_noise: &[f64]) -> Result<PartitionEstimate> {
    Ok(Weights::new(log_model_noise, log_noise_noise)?.estimate())
}

/// log w_j, checked.
pub(super) struct Weights {
    pub logs: Vec<f64>,
    largest: f64,
}

impl Weights {
    pub fn new(log_model_noise: &[f64], log_noise_noise: &[f64]) -> Result<Self> {
        input::at_noise(log_model_noise, log_noise_noise)?;
        let logs: Vec<f64> = log_model_noise.iter().zip(log_noise_noise).map(|(p, q)| p - q).collect();
        input::each("log weight", &logs, |v| v < f64::INFINITY, "must be below infinity")?;
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if largest == f64::NEG_INFINITY {
            return Err(Error::invalid(format!("the model puts no mass on the noise: all {} weights are 0", logs.len())));
        }
        Ok(Self { logs, largest })
    }

    pub fn estimate(&self) -> PartitionEstimate {
        let (sum, squares) = self.logs.iter().fold((0.0, 0.0), |(sum, squares), log| {
            let w = (log - self.largest).exp();
            (sum + w, squares + w * w)
        });
        let samples = self.logs.len();
        let log_z = self.largest + sum.ln() - (samples as f64).ln();
        PartitionEstimate { log_z, effective_sample_size: sum * sum / squares, samples }
    }

    /// w_j / (m u): the gradient of log u by each log p̃(x̃_j), u being a constant.
    pub fn over(&self, log_u: f64) -> Vec<f64> {
        let shift = log_u + (self.logs.len() as f64).ln();
        self.logs.iter().map(|log| (log - shift).exp()).collect()
    }
}
