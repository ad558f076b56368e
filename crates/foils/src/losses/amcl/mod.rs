//! Contrastive losses over several projection heads in which every pair has a temperature of its own (amcl).
//!
//! A temperature belongs to a pair of rows of one head and may come from anywhere; [`AdaptiveTemperature`] predicts it from the two
//! rows. What keeps it in check is Ω(τ) = (d/2) ln τ + 1/τ, which comes from the likelihood of a Gaussian of variance τ.
//! [`AmclHeads`] are heads and temperatures as one module, which is trained along with an encoder.

mod barlow_twins;
mod contrast;
mod heads;
#[cfg(test)]
mod heads_tests;
mod temperature;
#[cfg(test)]
mod tests;

pub use barlow_twins::AmclBarlowTwins;
pub use contrast::Amcl;
pub use heads::{AmclHeads, AmclSettings, ReadTemperatures, Temperature};
pub use temperature::{AdaptiveTemperature, EntryTemperatures, TemperatureWeights};

use crate::{Error, Result, check};
use burn::tensor::{Bool, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// What an anchor's negatives add in one head; s are similarities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NegativeMode {
    /// s/τ − βΩ(τ) of the nearest negative, the first of equals, as published.
    #[default]
    Max,
    /// ln Σ exp( s/τ − βΩ(τ) ) of all, from the same likelihood.
    #[serde(rename = "logsumexp")]
    LogSumExp,
}

/// Ω(τ) = (dim/2)·ln τ + 1/τ, entry by entry; its least value is at τ = 2/dim.
///
/// # Errors
/// When `dim` is 0, or a temperature is not a finite number above 0.
pub fn temperature_regularizer<const D: usize>(tau: Tensor<D>, dim: usize) -> Result<Tensor<D>> {
    if dim == 0 {
        return Err(Error::invalid("dim = 0: rows have at least one number"));
    }
    check_temperatures("tau", &tau)?;
    Ok(omega(tau, dim))
}

fn omega<const D: usize>(tau: Tensor<D>, dim: usize) -> Tensor<D> {
    tau.clone().log().mul_scalar(dim as f64 / 2.0) + tau.recip()
}

fn check_temperatures<const D: usize>(name: &str, tau: &Tensor<D>) -> Result<()> {
    let data = tau.clone().inner().into_data();
    let wrong = match data.as_slice::<f32>() {
        Ok(values) => values.iter().position(|t| !(t.is_finite() && *t > 0.0)),
        Err(_) => data.iter::<f64>().position(|t| !(t.is_finite() && t > 0.0)),
    };
    match wrong.and_then(|at| Some((at, data.iter::<f64>().nth(at)?))) {
        Some((at, t)) => Err(Error::invalid(format!("{name}: entry {at} is {t}, and a temperature must be a finite number above 0"))),
        None => Ok(()),
    }
}

/// Heads `[c, n, d]` with at least one head and two rows, and finite.
fn check_heads(name: &str, z: &Tensor<3>) -> Result<()> {
    let [c, n, d] = z.dims();
    if c == 0 || n < 2 || d == 0 {
        return Err(Error::invalid(format!("{name} has the shape [{c}, {n}, {d}]: at least 1 head, 2 rows and 1 column are needed")));
    }
    check::values(name, z, false)
}

fn check_shape<const D: usize>(name: &str, x: &Tensor<D>, wanted: [usize; D]) -> Result<()> {
    if x.dims() == wanted {
        return Ok(());
    }
    Err(Error::invalid(format!("{name} has the shape {:?}, where {wanted:?} belongs to the rows", x.dims())))
}

/// Each row divided by its norm, of at least 1e-12.
fn unit(z: Tensor<3>) -> Tensor<3> {
    let norm = z.clone().powi_scalar(2).sum_dim(2);
    // The root has no gradient at 0.
    let zero = norm.clone().inner().lower_elem(1e-24);
    z / norm.mask_fill(zero, 1e-24).sqrt()
}

/// The same `[rows, columns]` for each head.
fn mask(heads: usize, [rows, columns]: [usize; 2], beside: &Tensor<3>, is: impl Fn(usize, usize) -> bool) -> Tensor<3, Bool> {
    let one: Vec<bool> = (0..rows * columns).map(|k| is(k / columns, k % columns)).collect();
    let device = beside.device().without_autodiff();
    Tensor::<3, Bool>::from_data(TensorData::new(one, [1, rows, columns]), &device).repeat_dim(0, heads)
}

/// What the negatives add, `[heads, rows, 1]`; `others` marks what is no negative.
fn negatives(mode: NegativeMode, beta: f64, similarity: Tensor<3>, tau: Tensor<3>, others: Tensor<3, Bool>, dim: usize) -> Tensor<3> {
    let unread = match mode {
        NegativeMode::Max => first_largest(similarity.clone().inner().mask_fill(others, f64::NEG_INFINITY)).bool_not(),
        NegativeMode::LogSumExp => others,
    };
    let tau = tau.mask_fill(unread.clone(), 1.0);
    let logits = similarity / tau.clone() - omega(tau, dim).mul_scalar(beta);
    match mode {
        NegativeMode::Max => logits.mask_fill(unread, 0.0).sum_dim(2),
        NegativeMode::LogSumExp => {
            let logits = logits.mask_fill(unread, f64::NEG_INFINITY);
            let shift = logits.clone().inner().max_dim(2);
            (logits - shift.clone()).exp().sum_dim(2).log() + shift
        }
    }
}

/// Where the largest value of each row is, the first of equals.
fn first_largest(values: Tensor<3>) -> Tensor<3, Bool> {
    let (dims, device) = (values.dims(), values.device().without_autodiff());
    let mut largest = vec![false; dims.iter().product()];
    for (row, at) in largest.chunks_exact_mut(dims[2]).zip(first_largest_of_rows(values)) {
        row[at] = true;
    }
    Tensor::from_data(TensorData::new(largest, dims), &device)
}

/// For each row of `[heads, rows, columns]` the column of its largest value, the first of equals.
fn first_largest_of_rows(values: Tensor<3>) -> Vec<usize> {
    fn of<T: PartialOrd>(values: &[T], columns: usize) -> Vec<usize> {
        let first = |row: &[T]| (1..row.len()).fold(0, |best, j| if row[j] > row[best] { j } else { best });
        values.chunks_exact(columns).map(first).collect()
    }
    let (columns, data) = (values.dims()[2], values.into_data());
    match data.as_slice::<f32>() {
        Ok(values) => of(values, columns),
        Err(_) => of(&data.iter::<f64>().collect::<Vec<_>>(), columns),
    }
}

fn checked(loss: Tensor<1>) -> Result<Tensor<1>> {
    check::loss(loss.clone().inner().into_scalar())?;
    Ok(loss)
}
