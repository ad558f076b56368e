//! Golden functions of baselines-contrastive.

use super::autodiff::{array, by_both_paths, constant, flat, leaf, loss_and_gradients};
use super::{Array, Case, Function, Outputs};
use foils::losses::{Alignment, BarlowTwins, Distance, InfoNce, MocoInfoNce, NtXent, Options, SupCon, TripletMargin, Uniformity, ZeroRows};
use foils::metrics::{KnnSettings, knn_predict};
use foils::{Error, Result};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] = &[
    ("info_nce", info_nce),
    ("nt_xent", nt_xent),
    ("moco_info_nce", moco_info_nce),
    ("queue_update", queue_update),
    ("momentum_update", momentum_update),
    ("triplet_margin", triplet_margin),
    ("sup_con", sup_con),
    ("alignment", alignment),
    ("uniformity", uniformity),
    ("barlow_twins", barlow_twins),
    ("knn_predict", knn),
];

/// Golden vectors may hold zero rows.
const ANY_ROWS: Options = Options { compute: foils::losses::Compute::Auto, zero_rows: ZeroRows::Allow };

fn info_nce(case: &Case) -> Result<Outputs> {
    let loss = InfoNce::new(case.param("temperature")?)?.normalize(case.param("normalize")?).symmetric(case.param("symmetric")?);
    by_both_paths(case, |options| {
        let (z1, z2) = (leaf(case, "z1")?, leaf(case, "z2")?);
        loss_and_gradients(loss.options(options).forward(z1.clone(), z2.clone())?, &[("z1", &z1), ("z2", &z2)])
    })
}

fn nt_xent(case: &Case) -> Result<Outputs> {
    let loss = NtXent::new(case.param("temperature")?)?.normalize(case.param("normalize")?);
    by_both_paths(case, |options| {
        let (z1, z2) = (leaf(case, "z1")?, leaf(case, "z2")?);
        loss_and_gradients(loss.options(options).forward(z1.clone(), z2.clone())?, &[("z1", &z1), ("z2", &z2)])
    })
}

fn moco_info_nce(case: &Case) -> Result<Outputs> {
    let loss = MocoInfoNce::new(case.param("temperature")?)?.normalize(case.param("normalize")?);
    by_both_paths(case, |options| {
        let query = leaf(case, "query")?;
        let output = loss.options(options).forward(query.clone(), constant(case, "key")?, constant(case, "queue")?)?;
        Ok(loss_and_gradients(output.loss, &[("query", &query)])?.with("proxy_top1", Array::scalar(output.proxy_top1)))
    })
}

fn queue_update(case: &Case) -> Result<Outputs> {
    let (queue, ptr) = foils::negatives::queue_update(constant(case, "queue")?, constant(case, "keys")?, case.param("ptr")?)?;
    Ok(Outputs::new().with("new_queue", array(queue)).with("new_ptr", Array::scalar(ptr as f64)))
}

fn momentum_update(case: &Case) -> Result<Outputs> {
    let momentum = case.param("momentum")?;
    // Parameters of any rank: one row, and back.
    let (target, online) = (case.input("target")?, case.input("online")?);
    if target.shape != online.shape {
        return Err(Error::invalid(format!("target has shape {:?}, online has {:?}", target.shape, online.shape)));
    }
    let new = foils::models::momentum_update(flat(target), flat(online), momentum)?;
    Ok(Outputs::new().with("new_target", Array::new(target.shape.clone(), array(new).data)))
}

fn triplet_margin(case: &Case) -> Result<Outputs> {
    let distance: Distance = case.param("distance")?;
    let loss = TripletMargin::new(case.param("margin")?)?.distance(distance).options(ANY_ROWS);
    let [a, p, n] = [leaf(case, "anchor")?, leaf(case, "positive")?, leaf(case, "negative")?];
    let value = loss.forward(a.clone(), p.clone(), n.clone())?;
    loss_and_gradients(value, &[("anchor", &a), ("positive", &p), ("negative", &n)])
}

fn sup_con(case: &Case) -> Result<Outputs> {
    let loss =
        SupCon::new(case.param("temperature")?)?.base_temperature(case.param("base_temperature")?)?.normalize(case.param("normalize")?);
    let labels = case.input("labels")?.integers()?;
    by_both_paths(case, |options| {
        let features = leaf(case, "features")?;
        loss_and_gradients(loss.options(options).forward(features.clone(), &labels)?, &[("features", &features)])
    })
}

fn alignment(case: &Case) -> Result<Outputs> {
    let loss = Alignment::new(case.param("alpha")?)?.normalize(case.param("normalize")?).options(ANY_ROWS);
    let (x, y) = (leaf(case, "x")?, leaf(case, "y")?);
    loss_and_gradients(loss.forward(x.clone(), y.clone())?, &[("x", &x), ("y", &y)])
}

fn uniformity(case: &Case) -> Result<Outputs> {
    let loss = Uniformity::new(case.param("t")?)?.normalize(case.param("normalize")?).options(ANY_ROWS);
    let x = leaf(case, "x")?;
    loss_and_gradients(loss.forward(x.clone())?, &[("x", &x)])
}

fn barlow_twins(case: &Case) -> Result<Outputs> {
    let loss = BarlowTwins::new(case.param("lambda_offdiag")?)?.eps(case.param("eps")?)?;
    let (z1, z2) = (leaf(case, "z1")?, leaf(case, "z2")?);
    let output = loss.forward(z1.clone(), z2.clone())?;
    let correlation = array(output.cross_correlation);
    Ok(loss_and_gradients(output.loss, &[("z1", &z1), ("z2", &z2)])?.with("cross_correlation", correlation))
}

fn knn(case: &Case) -> Result<Outputs> {
    let settings = KnnSettings { k: case.param("k")?, temperature: case.param("temperature")?, num_classes: case.param("num_classes")? };
    let (features, bank) = (case.input("features")?, case.input("bank")?);
    let ([m, dim], [_, bank_dim]) = (features.dims()?, bank.dims()?);
    if dim != bank_dim {
        return Err(Error::invalid(format!("features have shape {:?}, bank has {:?}", features.shape, bank.shape)));
    }
    let predicted = knn_predict(&features.data, &bank.data, dim, &case.input("bank_labels")?.integers()?, &settings)?;
    let predictions: Vec<f64> = predicted.predictions.iter().map(|&c| c as f64).collect();
    Ok(Outputs::new()
        .with("scores", Array::new([m, settings.num_classes], predicted.scores))
        .with("prediction", Array::new([m], predictions)))
}
