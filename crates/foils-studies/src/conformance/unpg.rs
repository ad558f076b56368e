//! Golden functions of unpg.

use super::autodiff::{constant, leaf, loss_and_gradients};
use super::{Array, Case, Function, Outputs};
use foils::losses::{MagFace, MarginHead, Unpg};
use foils::weighting::{BoxWhisker, PairSimilarities};
use foils::{Error, Result};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] = &[
    ("pair_similarities", pair_similarities),
    ("box_whisker_filter", box_whisker_filter),
    ("margin_logits", margin_logits),
    ("unpg_loss", unpg_loss),
];

fn pair_similarities(case: &Case) -> Result<Outputs> {
    let features = case.input("features")?;
    let [_, dim] = features.dims()?;
    let found = PairSimilarities::of(&features.data, dim, &case.input("labels")?.integers()?)?;
    let list = |values: Vec<f64>| Array::new([values.len()], values);
    Ok(Outputs::new().with("positive", list(found.positive)).with("negative", list(found.negative)))
}

fn box_whisker_filter(case: &Case) -> Result<Outputs> {
    let found = BoxWhisker::new(case.param("whisker")?)?.filter(&case.input("similarities")?.data)?;
    Ok(Outputs::new()
        .with("kept", Array::new([found.kept.len()], found.kept))
        .with("lower", Array::scalar(found.lower))
        .with("upper", Array::scalar(found.upper)))
}

fn head(case: &Case) -> Result<MarginHead> {
    Ok(match case.param::<String>("head_type")?.as_str() {
        "cosface" => MarginHead::CosFace { margin: case.param("margin")? },
        "arcface" => MarginHead::ArcFace { margin: case.param("margin")? },
        "magface" => MarginHead::MagFace(MagFace {
            l_margin: case.param("l_margin")?,
            u_margin: case.param("u_margin")?,
            l_a: case.param("l_a")?,
            u_a: case.param("u_a")?,
            lambda_g: case.param("lambda_g")?,
        }),
        other => return Err(Error::invalid(format!("there is no head `{other}`; there are cosface, arcface and magface"))),
    })
}

fn margin_logits(case: &Case) -> Result<Outputs> {
    let labels = case.input("labels")?.integers()?;
    let found = head(case)?.logits(constant(case, "features")?, constant(case, "class_weights")?, &labels)?;
    Ok(Outputs::new()
        .with("logits", super::autodiff::array(found.logits))
        .with("magnitude_loss", Array::scalar(found.magnitude_loss.into_scalar())))
}

fn unpg_loss(case: &Case) -> Result<Outputs> {
    let filter = if case.param("use_unpg")? { Some(BoxWhisker::new(case.param("whisker")?)?) } else { None };
    let loss = Unpg::new(head(case)?, case.param("scale")?)?.pairs(filter);
    let (features, class_weights) = (leaf(case, "features")?, leaf(case, "class_weights")?);
    let found = loss.forward(features.clone(), class_weights.clone(), &case.input("labels")?.integers()?)?;
    let outputs = loss_and_gradients(found.loss, &[("features", &features), ("class_weights", &class_weights)])?;
    Ok(outputs.with("n_kept", Array::scalar(found.kept as f64)))
}
