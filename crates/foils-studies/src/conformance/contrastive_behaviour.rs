//! Golden functions of contrastive-behaviour.

use super::autodiff::{by_both_paths, leaf, loss_and_gradients};
use super::{Array, Case, Function, Outputs};
use burn::tensor::Tensor;
use foils::Result;
use foils::diagnostics::{Tolerance, TolerancePairs, hardness_profile};
use foils::losses::{HardContrastive, InfoNce, Options, Similarity, SimpleContrastive, Uniformity};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] = &[
    ("contrastive_loss", contrastive_loss),
    ("simple_contrastive_loss", simple_contrastive_loss),
    ("hard_contrastive_loss", hard_contrastive_loss),
    ("hard_simple_contrastive_loss", hard_simple_contrastive_loss),
    ("hardness_profile", profile),
    ("uniformity_metric", uniformity_metric),
    ("tolerance_metric", tolerance_metric),
];

fn of_views(case: &Case, loss: impl Fn(Options, Tensor<2>, Tensor<2>) -> Result<Tensor<1>>) -> Result<Outputs> {
    by_both_paths(case, |options| {
        let (z1, z2) = (leaf(case, "z1")?, leaf(case, "z2")?);
        loss_and_gradients(loss(options, z1.clone(), z2.clone())?, &[("z1", &z1), ("z2", &z2)])
    })
}

fn contrastive_loss(case: &Case) -> Result<Outputs> {
    let loss = InfoNce::new(case.param("temperature")?)?.normalize(case.param("normalize")?);
    of_views(case, |options, z1, z2| loss.options(options).forward(z1, z2))
}

fn simple_contrastive_loss(case: &Case) -> Result<Outputs> {
    let loss = SimpleContrastive::new(Some(case.param("lambda_neg")?))?.normalize(case.param("normalize")?);
    of_views(case, |options, z1, z2| loss.options(options).forward(z1, z2))
}

fn hard_contrastive_loss(case: &Case) -> Result<Outputs> {
    let loss = HardContrastive::new(case.param("temperature")?, case.param("alpha")?)?.normalize(case.param("normalize")?);
    of_views(case, |options, z1, z2| loss.options(options).forward(z1, z2))
}

fn hard_simple_contrastive_loss(case: &Case) -> Result<Outputs> {
    let loss = SimpleContrastive::new(Some(case.param("lambda_neg")?))?.hardest(case.param("alpha")?)?.normalize(case.param("normalize")?);
    of_views(case, |options, z1, z2| loss.options(options).forward(z1, z2))
}

fn profile(case: &Case) -> Result<Outputs> {
    let similarity = case.input("similarity")?;
    let [n, _]: [usize; 2] = similarity.dims()?;
    let found = hardness_profile(&similarity.data, n, case.param("temperature")?, Similarity::Dot)?;
    let square = |values| Array::new([n, n], values);
    Ok(Outputs::new()
        .with("probability", square(found.probability))
        .with("positive_gradient", Array::new([n], found.positive_gradient))
        .with("negative_gradient", square(found.negative_gradient))
        .with("relative_penalty", square(found.relative_penalty))
        .with("penalty_entropy", Array::new([n], found.penalty_entropy)))
}

fn uniformity_metric(case: &Case) -> Result<Outputs> {
    let uniformity = Uniformity::new(case.param("t")?)?.normalize(case.param("normalize")?);
    by_both_paths(case, |options| {
        let features = leaf(case, "features")?;
        loss_and_gradients(uniformity.options(options).forward(features.clone())?, &[("features", &features)])
    })
}

fn tolerance_metric(case: &Case) -> Result<Outputs> {
    let pairs: TolerancePairs = case.param("reduction")?;
    let features = case.input("features")?;
    let [_, dim] = features.dims()?;
    let tolerance = Tolerance::new(pairs).normalize(case.param("normalize")?);
    let value = tolerance.of(&features.data, dim, &case.input("labels")?.integers()?)?;
    Ok(Outputs::new().with("tolerance", Array::scalar(value)))
}
