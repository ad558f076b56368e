//! Golden functions of contrastive-behaviour.

use super::autodiff::{leaf, loss_and_gradients};
use super::{Array, Case, Function, Outputs};
use foils::Result;
use foils::diagnostics::{Tolerance, TolerancePairs};
use foils::losses::{Options, Uniformity, ZeroRows};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] = &[("uniformity_metric", uniformity_metric), ("tolerance_metric", tolerance_metric)];

fn uniformity_metric(case: &Case) -> Result<Outputs> {
    // Golden vectors may hold zero rows.
    let options = Options { zero_rows: ZeroRows::Allow, ..Options::default() };
    let loss = Uniformity::new(case.param("t")?)?.normalize(case.param("normalize")?).options(options);
    let features = leaf(case, "features")?;
    loss_and_gradients(loss.forward(features.clone())?, &[("features", &features)])
}

fn tolerance_metric(case: &Case) -> Result<Outputs> {
    let pairs: TolerancePairs = case.param("reduction")?;
    let features = case.input("features")?;
    let [_, dim] = features.dims()?;
    let tolerance = Tolerance::new(pairs).normalize(case.param("normalize")?);
    let value = tolerance.of(&features.data, dim, &case.input("labels")?.integers()?)?;
    Ok(Outputs::new().with("tolerance", Array::scalar(value)))
}
