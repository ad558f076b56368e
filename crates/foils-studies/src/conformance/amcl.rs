//! Golden functions of amcl.

use super::autodiff::{array, constant, leaf, loss_and_gradients};
use super::{Array, Case, Function, Outputs};
use burn::tensor::Tensor;
use foils::losses::amcl::{Amcl, AmclBarlowTwins, TemperatureWeights, temperature_regularizer};
use foils::{Error, Result};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] = &[
    ("adaptive_temperature", adaptive_temperature),
    ("temperature_regularizer", regularizer),
    ("amcl_nt_xent", nt_xent),
    ("amcl_moco", moco),
    ("amcl_barlow_twins", barlow_twins),
];

fn adaptive_temperature(case: &Case) -> Result<Outputs> {
    let [z_a, z_b, w1, w2] = ["z_a", "z_b", "w1", "w2"].map(|name| leaf::<2>(case, name));
    let (z_a, z_b, w1, w2) = (z_a?, z_b?, w1?, w2?);
    let (b1, b2) = (leaf::<1>(case, "b1")?, leaf::<1>(case, "b2")?);
    let (low, high) = (case.param("tau_min")?, case.param("tau_max")?);
    let network = TemperatureWeights::new(w1.clone(), b1.clone(), w2.clone(), b2.clone(), low, high)?;
    let tau = network.pairs(z_a.clone(), z_b.clone())?;
    // The diagonal of all pairs must say the same.
    let square = network.all_pairs(z_a.clone(), z_b.clone())?.inner().into_data();
    let p = tau.dims()[0];
    let mut apart = square.iter::<f64>().step_by(p + 1).zip(array(tau.clone()).data);
    if let Some((x, y)) = apart.find(|(x, y)| (x - y).abs() > 1e-12 * y.abs()) {
        return Err(Error::invalid(format!("all pairs give {x} where the pair gives {y}")));
    }
    let found = tau.clone().sum().backward();
    let missing = || Error::invalid("a gradient is missing");
    let mut outputs =
        loss_and_gradients(network.pairs(z_a.clone(), z_b.clone())?.sum(), &[("z_a", &z_a), ("z_b", &z_b), ("w1", &w1), ("w2", &w2)])?;
    for (name, bias) in [("grad_b1", &b1), ("grad_b2", &b2)] {
        outputs = outputs.with(name, array(bias.grad(&found).ok_or_else(missing)?));
    }
    Ok(outputs.with("tau", array(tau)))
}

/// Temperatures of any shape, as one list; the result has their shape.
fn regularizer(case: &Case) -> Result<Outputs> {
    let input = case.input("tau")?;
    let tau = super::autodiff::flat(input).autodiff().require_grad();
    let omega = temperature_regularizer(tau.clone(), case.param("dim")?)?;
    let outputs = loss_and_gradients(omega.clone().sum(), &[("tau", &tau)])?;
    let gradient = outputs.get("grad_tau").map(|g| Array::new(input.shape.clone(), g.data.clone()));
    let gradient = gradient.ok_or_else(|| Error::invalid("the gradient is missing"))?;
    let loss = outputs.get("loss").cloned().ok_or_else(|| Error::invalid("the loss is missing"))?;
    Ok(Outputs::new().with("loss", loss).with("omega", Array::new(input.shape.clone(), array(omega).data)).with("grad_tau", gradient))
}

fn nt_xent(case: &Case) -> Result<Outputs> {
    let loss = Amcl::new(case.param("beta")?)?.mode(case.param("negative_mode")?).normalize(case.param("normalize")?);
    let (z1, z2, tau) = (leaf(case, "z1")?, leaf(case, "z2")?, leaf(case, "tau")?);
    loss_and_gradients(loss.forward(z1.clone(), z2.clone(), tau.clone())?, &[("z1", &z1), ("z2", &z2), ("tau", &tau)])
}

fn moco(case: &Case) -> Result<Outputs> {
    let loss = Amcl::new(case.param("beta")?)?.mode(case.param("negative_mode")?).normalize(case.param("normalize")?);
    let (query, tau_neg) = (leaf(case, "query")?, leaf(case, "tau_neg")?);
    let tau_pos = leaf::<2>(case, "tau_pos")?;
    let (key, queue) = (constant(case, "key")?, constant(case, "queue")?);
    // A graph is walked once.
    let value = || loss.forward_queue(query.clone(), Tensor::clone(&key), Tensor::clone(&queue), tau_pos.clone(), tau_neg.clone());
    let of_positive = tau_pos.grad(&value()?.backward()).ok_or_else(|| Error::invalid("a gradient is missing"))?;
    Ok(loss_and_gradients(value()?, &[("query", &query), ("tau_neg", &tau_neg)])?.with("grad_tau_pos", array(of_positive)))
}

fn barlow_twins(case: &Case) -> Result<Outputs> {
    let loss = AmclBarlowTwins::new(case.param("lambda_offdiag")?, case.param("beta")?)?.eps(case.param("eps")?)?;
    let (z1, z2, tau) = (leaf(case, "z1")?, leaf(case, "z2")?, leaf(case, "tau")?);
    loss_and_gradients(loss.forward(z1.clone(), z2.clone(), tau.clone())?, &[("z1", &z1), ("z2", &z2), ("tau", &tau)])
}
