//! Golden functions of groco.

use super::autodiff::{array, leaf, loss_and_gradients};
use super::{Case, Function, Outputs};
use burn::tensor::{DType, Device, Tensor, TensorData};
use foils::losses::groco::{Distribution, Groco, GroupOrdering, Network, NtXentTopK, SortingNetwork};
use foils::{Error, Result};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] = &[
    ("differentiable_sort", differentiable_sort),
    ("group_ordering_loss", group_ordering_loss),
    ("groco_loss", groco_loss),
    ("nt_xent_topk", nt_xent_topk),
];

fn network(case: &Case) -> Result<SortingNetwork> {
    let network = match case.param::<String>("network")?.as_str() {
        "odd_even" => Network::OddEven,
        "bitonic" => Network::Bitonic,
        other => return Err(Error::invalid(format!("there is no network `{other}`; there are odd_even and bitonic"))),
    };
    let distribution = match case.param::<String>("distribution")?.as_str() {
        "cauchy" => Distribution::Cauchy,
        "logistic" => Distribution::Logistic,
        "logistic_phi" => Distribution::LogisticPhi { lambda: case.param("art_lambda")? },
        "reciprocal" => Distribution::Reciprocal,
        "optimal" => Distribution::Optimal,
        other => return Err(Error::invalid(format!("there is no distribution `{other}`"))),
    };
    SortingNetwork::new(network, distribution, case.param("steepness")?)
}

fn differentiable_sort(case: &Case) -> Result<Outputs> {
    let scores = leaf::<2>(case, "scores")?;
    let found = network(case)?.sort(scores.clone())?;
    let ranks: Vec<f64> = (1..=scores.dims()[1]).map(|r| r as f64).collect();
    let ranks = Tensor::<2>::from_data(TensorData::new(ranks, [1, scores.dims()[1]]), (&Device::flex(), DType::F64));
    let (sorted, permutation) = (array(found.sorted.clone()), array(found.permutation));
    Ok(loss_and_gradients((found.sorted * ranks).sum(), &[("scores", &scores)])?.with("sorted", sorted).with("permutation", permutation))
}

fn group_ordering_loss(case: &Case) -> Result<Outputs> {
    let (positives, negatives) = (leaf(case, "positives")?, leaf(case, "negatives")?);
    let loss = GroupOrdering::new(network(case)?).forward(positives.clone(), negatives.clone())?;
    loss_and_gradients(loss, &[("positives", &positives), ("negatives", &negatives)])
}

fn groco_loss(case: &Case) -> Result<Outputs> {
    let views = leaf(case, "views")?;
    let loss = Groco::new(case.param("topk_neg")?)?.network(network(case)?).stop_grad(case.param("stop_grad")?);
    loss_and_gradients(loss.forward(views.clone(), case.param("n_pos_views")?)?, &[("views", &views)])
}

fn nt_xent_topk(case: &Case) -> Result<Outputs> {
    let (z1, z2) = (leaf(case, "z1")?, leaf(case, "z2")?);
    let loss = NtXentTopK::new(case.param("temperature")?, case.param("topk_neg")?)?.stop_grad(case.param("stop_grad")?);
    loss_and_gradients(loss.forward(z1.clone(), z2.clone())?, &[("z1", &z1), ("z2", &z2)])
}
