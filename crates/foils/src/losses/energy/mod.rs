//! Energy-based models: log p̃_θ of a sample is known, its normaliser Z_θ is not. The foils are samples of a noise distribution q
//! whose log density is known.
//!
//! Every objective here takes log densities per sample, so that any model can stand behind them: log p̃ at the data `[n]` and at
//! the noise samples `[m]`, and log q at the noise samples, or at both. Everything is computed in logs, in f64 on the host, from
//! tensors of any float type on any device; what comes back is a loss on their graph.
//!
//! | objective | what stands for Z | |
//! |---|---|---|
//! | [`Meco`] | a running estimate u of E_q[p̃/q] | maximum likelihood with few noise samples |
//! | [`MlePlugin`] | the mean over one batch of noise | its baseline: biased, the more so the fewer the samples |
//! | [`Nce`] | a learned log_z | logistic classification, data against noise |
//! | [`Ence`] | a learned log_z | the same with an exponential loss |
//!
//! [`estimate_partition`] gives log Z of a trained model with the effective sample size, which says whether to trust it.

mod ence;
mod importance;
mod input;
mod meco;
mod nce;
#[cfg(test)]
mod tests;

pub use ence::Ence;
pub use importance::{PartitionEstimate, estimate_partition};
pub use meco::{Meco, MlePlugin};
pub use nce::Nce;

/// A loss and its gradients by the log densities of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct EnergyLoss {
    /// The loss.
    pub loss: f64,
    /// By log p̃ at the data, `[n]`.
    pub grad_log_model_data: Vec<f64>,
    /// By log p̃ at the noise samples, `[m]`.
    pub grad_log_model_noise: Vec<f64>,
    /// By the learned log_z; 0 where there is none.
    pub grad_log_z: f64,
}
