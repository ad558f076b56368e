//! What the energy objectives ask of log densities, and how a gradient that is known enters the graph.

use crate::{Error, Result, check};
use burn::tensor::{Tensor, TensorData};

/// log p̃ at data: at least one, all finite. Without mass on its data a model has no likelihood.
pub(super) fn model_at_data(values: &[f64]) -> Result<()> {
    not_empty("log_model_data", values)?;
    each("log_model_data", values, |v| v.is_finite(), "must be finite")
}

/// log p̃ and log q at noise samples. log p̃ = −∞ is a sample to which the model gives no mass; q must cover its own samples.
pub(super) fn at_noise(log_model: &[f64], log_noise: &[f64]) -> Result<()> {
    not_empty("log_model_noise", log_model)?;
    same_length(("log_model_noise", log_model), ("log_noise_noise", log_noise))?;
    each("log_model_noise", log_model, |v| v < f64::INFINITY, "must be a number below infinity")?;
    each("log_noise_noise", log_noise, f64::is_finite, "must be finite: the noise distribution covers its own samples")
}

/// log q at data; −∞ is data that the noise does not reach.
pub(super) fn noise_at_data(log_model: &[f64], log_noise: &[f64]) -> Result<()> {
    same_length(("log_model_data", log_model), ("log_noise_data", log_noise))?;
    each("log_noise_data", log_noise, |v| v < f64::INFINITY, "must be a number below infinity")
}

fn not_empty(name: &str, values: &[f64]) -> Result<()> {
    if values.is_empty() { Err(Error::invalid(format!("{name} has 0 values, needs at least 1"))) } else { Ok(()) }
}

fn same_length(a: (&str, &[f64]), b: (&str, &[f64])) -> Result<()> {
    if a.1.len() == b.1.len() {
        return Ok(());
    }
    Err(Error::invalid(format!("{} has {} values, {} has {}", a.0, a.1.len(), b.0, b.1.len())))
}

/// Also false for NaN, of which no comparison holds.
pub(super) fn each(name: &str, values: &[f64], good: impl Fn(f64) -> bool, must: &str) -> Result<()> {
    match values.iter().position(|v| !good(*v)) {
        Some(at) => Err(Error::invalid(format!("{name}: value {at} is {}, {must}", values[at]))),
        None => Ok(()),
    }
}

/// A loss that is not finite is refused rather than returned.
pub(super) fn finite_loss(value: f64) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Error::invalid(format!("the loss is {value}: the log densities of model and noise are too far apart")))
}

/// The values of a tensor, in f64.
pub(super) fn host(x: &Tensor<1>) -> Vec<f64> {
    x.clone().inner().into_data().iter::<f64>().collect()
}

/// A tensor of shape `[1]` whose value is `value`, and whose gradient by each of `inputs` is the one beside it.
///
/// # Errors
/// When the inputs are not of one type and on one device.
pub(super) fn with_gradients<const N: usize>(value: f64, inputs: [(&str, Tensor<1>, &[f64]); N]) -> Result<Tensor<1>> {
    let first = &inputs[0];
    for (name, x, _) in &inputs {
        check::same_kind((first.0, &first.1), (name, x))?;
    }
    let like = (&first.1.device(), first.1.dtype());
    let mut loss = Tensor::from_data([value], like);
    for (_, x, gradient) in inputs {
        // −∞ minus itself is NaN; where log p̃ is −∞ the gradient is 0.
        let x = x.clone().mask_fill(x.clone().inner().is_finite().bool_not(), 0.0);
        let gradient = Tensor::<1>::from_data(TensorData::new(gradient.to_vec(), [gradient.len()]), like);
        // Exactly 0, with the gradient that is wanted.
        loss = loss + ((x.clone() - x.detach()) * gradient).sum();
    }
    Ok(loss)
}
