//! Golden functions of dcl.

use super::autodiff::{by_both_paths, constant, leaf, loss_and_gradients};
use super::{Array, Case, Function, Outputs};
use foils::Result;
use foils::losses::{Dcl, DclQueue, Dclw};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] =
    &[("dcl_loss", dcl_loss), ("dclw_loss", dclw_loss), ("npc_multiplier", npc_multiplier), ("dcl_queue_loss", dcl_queue_loss)];

fn dcl_loss(case: &Case) -> Result<Outputs> {
    let loss = Dcl::new(case.param("temperature")?)?.normalize(case.param("normalize")?).symmetric(case.param("symmetric")?);
    by_both_paths(case, |options| {
        let (z1, z2) = (leaf(case, "z1")?, leaf(case, "z2")?);
        loss_and_gradients(loss.options(options).forward(z1.clone(), z2.clone())?, &[("z1", &z1), ("z2", &z2)])
    })
}

fn dclw_loss(case: &Case) -> Result<Outputs> {
    let loss = Dclw::new(case.param("temperature")?, case.param("sigma")?)?
        .normalize(case.param("normalize")?)
        .symmetric(case.param("symmetric")?)
        .detach_weight(case.param("detach_weight")?);
    by_both_paths(case, |options| {
        let (z1, z2) = (leaf(case, "z1")?, leaf(case, "z2")?);
        loss_and_gradients(loss.options(options).forward(z1.clone(), z2.clone())?, &[("z1", &z1), ("z2", &z2)])
    })
}

fn npc_multiplier(case: &Case) -> Result<Outputs> {
    let (z1, z2) = (constant(case, "z1")?, constant(case, "z2")?);
    let q = foils::diagnostics::npc_multiplier(&z1, &z2, case.param("temperature")?, case.param("normalize")?)?;
    Ok(Outputs::new().with("q1", Array::new([q.q1.len()], q.q1)).with("q2", Array::new([q.q2.len()], q.q2)))
}

fn dcl_queue_loss(case: &Case) -> Result<Outputs> {
    let loss = DclQueue::new(case.param("temperature")?)?.normalize(case.param("normalize")?);
    by_both_paths(case, |options| {
        let query = leaf(case, "query")?;
        let value = loss.options(options).forward(query.clone(), constant(case, "key")?, constant(case, "queue")?)?;
        loss_and_gradients(value, &[("query", &query)])
    })
}
