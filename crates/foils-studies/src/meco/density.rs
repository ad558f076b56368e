//! The density of real data: an energy network over a few whitened dimensions, trained by each method and judged by its held-out
//! likelihood.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::silu;
use burn::tensor::{DType, Device, Tensor, TensorData};
use foils::losses::energy::{Ence, Meco, MlePlugin, Nce, PartitionEstimate, estimate_partition};
use foils::nn::{self, AdamW};
use foils::{Result, seed};
use rand::RngExt;

/// Data samples a step.
const BATCH: usize = 100;
/// The standard deviation of the noise N(0, 1.5² I): the data have 1, and q needs heavier tails.
const NOISE_STD: f64 = 1.5;

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    Meco { beta: f64 },
    MlePlugin,
    Nce,
    Ence,
}

/// One training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    pub objective: Objective,
    pub learning_rate: f64,
    /// m.
    pub noise_samples: usize,
    pub steps: usize,
}

/// log p̃(x) = MLP(x) − ‖x‖²/8, the network having two hidden layers of 64 SiLU; and log_z for the objectives that learn it.
#[derive(Module, Debug)]
pub struct Energy {
    weights: Vec<Param<Tensor<2>>>,
    biases: Vec<Param<Tensor<1>>>,
    log_z: Param<Tensor<1>>,
}

impl Energy {
    /// Uniform in ±1/√(inputs), by the seed alone.
    fn new(dim: usize, seed: u64, device: &Device) -> Self {
        let mut rng = seed::rng(seed, 1);
        let mut uniform = |n: usize, inputs: usize| {
            let limit = 1.0 / (inputs as f32).sqrt();
            (0..n).map(|_| rng.random_range(-limit..=limit)).collect::<Vec<f32>>()
        };
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for (from, to) in [(dim, 64), (64, 64), (64, 1)] {
            weights.push(Param::from_data(TensorData::new(uniform(from * to, from), [from, to]), device));
            biases.push(Param::from_data(TensorData::new(uniform(to, from), [to]), device));
        }
        Self { weights, biases, log_z: Param::from_data([0.0f32], device) }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<1> {
        let tail = x.clone().powi_scalar(2).sum_dim(1).mul_scalar(-0.125);
        let last = self.weights.len() - 1;
        let out = self.weights.iter().zip(&self.biases).enumerate().fold(x, |x, (i, (weight, bias))| {
            let x = nn::linear(x, weight.val(), Some(bias.val()));
            if i < last { silu(x) } else { x }
        });
        (out + tail).flatten(0, 1)
    }

    /// log p̃ of rows, without a graph.
    pub fn log_model(&self, rows: &[f32], dim: usize) -> Vec<f64> {
        let plain = self.valid();
        let device = plain.log_z.val().device();
        rows.chunks(2_000 * dim)
            .flat_map(|rows| plain.forward(tensor(rows, dim, &device)).into_data().iter::<f64>().collect::<Vec<_>>())
            .collect()
    }
}

fn tensor(rows: &[f32], dim: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(rows.to_vec(), [rows.len() / dim, dim]), device)
}

/// `n` rows of noise.
fn draw_noise(n: usize, dim: usize, rng: &mut seed::Rng) -> Vec<f32> {
    (0..n * dim).map(|_| (NOISE_STD * seed::normal(rng)) as f32).collect()
}

/// log q of rows.
fn log_noise(rows: &[f32], dim: usize) -> Vec<f64> {
    let constant = dim as f64 * (NOISE_STD.ln() + super::gaussian::HALF_LOG_TAU);
    rows.chunks(dim).map(|row| -0.5 * row.iter().map(|v| (f64::from(*v) / NOISE_STD).powi(2)).sum::<f64>() - constant).collect()
}

/// Trains on whitened rows `[n, dim]` with Adam and a learning rate that falls to 0 along a cosine. Initial weights, batches and
/// noise depend on the seed and not on the objective.
///
/// # Errors
/// When the training diverges.
pub fn train(rows: &[f32], dim: usize, training: Training, seed: u64, device: &Device) -> Result<Energy> {
    let Training { objective, learning_rate, noise_samples, steps } = training;
    let mut energy = Energy::new(dim, seed, device);
    let mut adam = AdamW::default();
    adam.settings.weight_decay = 0.0;
    let mut meco = Meco::new(if let Objective::Meco { beta } = objective { beta } else { 1.0 })?;
    let nce = Nce::new(1.0)?;
    let mut rng = seed::rng(seed, 2);
    for step in 0..steps {
        let mut batch: Vec<f32> = Vec::with_capacity((BATCH + noise_samples) * dim);
        for _ in 0..BATCH {
            let row = rng.random_range(0..rows.len() / dim);
            batch.extend(&rows[row * dim..(row + 1) * dim]);
        }
        batch.extend(draw_noise(noise_samples, dim, &mut rng));
        // One pass over data and noise.
        let log_model = energy.forward(tensor(&batch, dim, device));
        let log_q = Tensor::<1>::from_data(TensorData::new(log_noise(&batch, dim), [BATCH + noise_samples]), (device, DType::F32));
        let halves = |x: Tensor<1>| [x.clone().narrow(0, 0, BATCH), x.narrow(0, BATCH, noise_samples)];
        let ([data, noise], [q_data, q_noise]) = (halves(log_model), halves(log_q));
        let loss = match objective {
            Objective::Meco { .. } => meco.forward(data, noise, q_noise)?,
            Objective::MlePlugin => MlePlugin.forward(data, noise, q_noise)?,
            Objective::Nce => nce.forward(data, noise, q_data, q_noise, energy.log_z.val())?,
            Objective::Ence => Ence.forward(data, noise, q_data, q_noise, energy.log_z.val())?,
        };
        let gradients = GradientsParams::from_grads(loss.backward(), &energy);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
        energy = adam.step(learning_rate * cosine, energy, gradients);
    }
    Ok(energy)
}

/// A held-out likelihood, and how far to trust it.
#[derive(Clone, Copy, Debug)]
pub struct HeldOut {
    /// −mean log p̃ + log Z, in nats.
    pub nll: f64,
    /// Of log Z, from fresh noise.
    pub partition: PartitionEstimate,
}

impl HeldOut {
    /// The effective sample size as a share of the draws.
    pub fn share(&self) -> f64 {
        self.partition.effective_sample_size / self.partition.samples as f64
    }
}

/// The likelihood of whitened rows, Z being estimated from `draws` samples of noise that no training saw.
///
/// # Errors
/// When log p̃ is not finite: the training diverged.
pub fn held_out(energy: &Energy, rows: &[f32], dim: usize, draws: usize, seed: u64) -> Result<HeldOut> {
    let mut rng = seed::rng(seed, 3);
    let (mut model, mut noise) = (Vec::with_capacity(draws), Vec::with_capacity(draws));
    while model.len() < draws {
        let samples = draw_noise((draws - model.len()).min(10_000), dim, &mut rng);
        model.extend(energy.log_model(&samples, dim));
        noise.extend(log_noise(&samples, dim));
    }
    let partition = estimate_partition(&model, &noise)?;
    let log_model = energy.log_model(rows, dim);
    Ok(HeldOut { nll: partition.log_z - log_model.iter().sum::<f64>() / log_model.len() as f64, partition })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clusters, whitened: far from Gaussian, with a likelihood that is known.
    fn clusters(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = seed::rng(seed, 0);
        let mut row = || {
            let side = if rng.random_bool(0.5) { 0.95 } else { -0.95 };
            [side + 0.3 * seed::normal(&mut rng), seed::normal(&mut rng)].map(|v| v as f32)
        };
        (0..n).flat_map(|_| row()).collect()
    }

    /// −mean log p of the rows under what drew them.
    fn true_nll(rows: &[f32]) -> f64 {
        let normal = |x: f64, sd: f64| (-0.5 * (x / sd).powi(2)).exp() / (sd * std::f64::consts::TAU.sqrt());
        let of = |r: &[f32]| {
            let (x, y) = (f64::from(r[0]), f64::from(r[1]));
            (0.5 * (normal(x - 0.95, 0.3) + normal(x + 0.95, 0.3)) * normal(y, 1.0)).ln()
        };
        -rows.chunks(2).map(of).sum::<f64>() / (rows.len() / 2) as f64
    }

    #[test]
    fn every_objective_learns_the_density() {
        let device = Device::flex().autodiff();
        let (rows, test) = (clusters(2_000, 1), clusters(1_000, 2));
        let best = true_nll(&test);
        let nll = |objective, steps| {
            let training = Training { objective, learning_rate: 1e-2, noise_samples: 100, steps };
            let found = held_out(&train(&rows, 2, training, 4, &device).unwrap(), &test, 2, 20_000, 4).unwrap();
            assert!(found.partition.is_reliable(), "{found:?}");
            found.nll
        };
        let untrained = nll(Objective::MlePlugin, 0);
        for objective in [Objective::Meco { beta: 0.1 }, Objective::MlePlugin, Objective::Nce, Objective::Ence] {
            let found = nll(objective, 300);
            assert!(found > best - 0.05, "{objective:?}: {found} cannot be below {best} but by the error of log Z");
            assert!(found - best < 0.35 * (untrained - best), "{objective:?}: {found} between {untrained} and {best}");
        }
    }

    #[test]
    fn log_densities_of_noise_are_normal() {
        // d · log(1.5 √2π) at 0; one standard deviation costs ½.
        let at = log_noise(&[0.0, 0.0, 1.5, 0.0], 2);
        assert!((at[0] + 2.0 * (1.5 * std::f64::consts::TAU.sqrt()).ln()).abs() < 1e-12 && (at[0] - at[1] - 0.5).abs() < 1e-12);
    }
}
