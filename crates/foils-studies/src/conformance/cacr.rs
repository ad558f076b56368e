//! Golden functions of cacr.

use super::autodiff::{by_both_paths, constant, leaf, loss_and_gradients};
use super::{Array, Case, Function, Outputs};
use foils::losses::{Cacr, CacrOutput, RepulsionCost};
use foils::{Error, Result};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] =
    &[("cacr_loss", cacr_loss), ("cacr_weights", cacr_weights), ("cacr_queue_loss", cacr_queue_loss)];

fn cacr(case: &Case) -> Result<Cacr> {
    Ok(Cacr::new(case.param("tau_pos")?, case.param("tau_neg")?)?.normalize(case.param("normalize")?))
}

fn pack(outputs: Outputs, found: &CacrOutput) -> Outputs {
    outputs.with("attraction", Array::scalar(found.attraction)).with("repulsion", Array::scalar(found.repulsion))
}

fn cacr_loss(case: &Case) -> Result<Outputs> {
    let cost = match case.param::<String>("cost")?.as_str() {
        "euclidean" => RepulsionCost::Euclidean,
        "rbf" => RepulsionCost::Rbf { t: case.param("rbf_t")? },
        other => return Err(Error::invalid(format!("there is no cost `{other}`; there are euclidean and rbf"))),
    };
    let mut loss = cacr(case)?
        .factors(case.param("alpha")?, case.param("beta")?)?
        .cost(cost)?
        .positive_weighting(case.param("positive_weighting")?)
        .negative_weighting(case.param("negative_weighting")?)?;
    if case.param::<Option<bool>>("debiased")? == Some(true) {
        loss = loss.debiased(case.param("tau_plus")?)?;
    }
    by_both_paths(case, |options| {
        let views = leaf(case, "views")?;
        let found = loss.options(options).forward(views.clone())?;
        Ok(pack(loss_and_gradients(found.loss.clone(), &[("views", &views)])?, &found))
    })
}

fn cacr_weights(case: &Case) -> Result<Outputs> {
    let views = constant::<3>(case, "views")?;
    let [v, n, _] = views.dims();
    let found = cacr(case)?.weights(&views)?;
    Ok(Outputs::new()
        .with("positive_weights", Array::new([v, n, v - 1], found.positive))
        .with("negative_weights", Array::new([n, n - 1], found.negative)))
}

fn cacr_queue_loss(case: &Case) -> Result<Outputs> {
    let (loss, intra_batch) = (cacr(case)?.factors(case.param("alpha")?, case.param("beta")?)?, case.param("intra_batch")?);
    by_both_paths(case, |options| {
        let queries = leaf(case, "queries")?;
        let (keys, queue) = (constant(case, "keys")?, constant(case, "queue")?);
        let found = loss.options(options).forward_queue(queries.clone(), keys, queue, intra_batch)?;
        Ok(pack(loss_and_gradients(found.loss.clone(), &[("queries", &queries)])?, &found))
    })
}
