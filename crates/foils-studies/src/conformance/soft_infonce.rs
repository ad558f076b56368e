//! Golden functions of soft-infonce.

use super::autodiff::{by_both_paths, leaf, loss_and_gradients};
use super::{Array, Case, Function, Outputs};
use burn::tensor::Tensor;
use foils::losses::{InfoNce, Options, RankingLoss, RelevanceInfoNce, SoftInfoNce, Targets};
use foils::metrics::mean_reciprocal_rank;
use foils::weighting::{BatchBm25, Cancellation, SoftNegatives};
use foils::{Error, Result};

/// Function name → adapter.
pub const FUNCTIONS: &[(&str, Function)] = &[
    ("soft_negative_weights", soft_negative_weights),
    ("soft_info_nce", soft_info_nce),
    ("weighted_info_nce", weighted_info_nce),
    ("bce_info_nce", bce_info_nce),
    ("kl_info_nce", kl_info_nce),
    ("false_negative_cancellation", false_negative_cancellation),
    ("bm25_relevance", bm25_relevance),
    ("mean_reciprocal_rank", reciprocal_rank),
];

/// The relevance `[n, n]`, and each query's positive: its own code.
fn relevance(case: &Case) -> Result<(Vec<f64>, Vec<u32>)> {
    let relevance = case.input("relevance")?;
    let [n, m]: [usize; 2] = relevance.dims()?;
    if n < 2 || n != m {
        return Err(Error::invalid(format!("the relevance has shape [{n}, {m}]: as many codes as queries are needed, two at least")));
    }
    Ok((relevance.data.clone(), (0..n as u32).collect()))
}

fn soft(case: &Case) -> Result<SoftNegatives> {
    SoftNegatives::new(case.param("weight_temperature")?, case.param("alpha")?, case.param("beta")?, case.param("min_weight")?)
}

fn soft_negative_weights(case: &Case) -> Result<Outputs> {
    let (relevance, positive) = relevance(case)?;
    let n = positive.len();
    let found = soft(case)?.weights(&relevance, n, &positive, &[])?;
    let off_diagonal = |all: Vec<f64>| {
        let values: Vec<f64> = all.into_iter().enumerate().filter(|(at, _)| at / n != at % n).map(|(_, v)| v).collect();
        Array::new([n, n - 1], values)
    };
    Ok(Outputs::new().with("weights", off_diagonal(found.weights)).with("similarity", off_diagonal(found.similarity)))
}

fn ranked(case: &Case, targets: &Targets, loss: impl Fn(Options) -> Result<Box<dyn RankingLoss>>) -> Result<Outputs> {
    by_both_paths(case, |options| {
        let (query, code) = (leaf(case, "query")?, leaf(case, "code")?);
        let value: Tensor<1> = loss(options)?.forward(query.clone(), code.clone(), targets)?;
        loss_and_gradients(value, &[("query", &query), ("code", &code)])
    })
}

fn temperature(case: &Case) -> Result<(f64, bool)> {
    Ok((case.param("score_temperature")?, case.param("normalize")?))
}

fn soft_info_nce(case: &Case) -> Result<Outputs> {
    let ((relevance, positive), (temperature, normalize)) = (relevance(case)?, temperature(case)?);
    let weights = soft(case)?.weights(&relevance, positive.len(), &positive, &[])?.weights;
    let targets = Targets { weights, ..Targets::new(positive, Vec::new()) };
    ranked(case, &targets, |options| Ok(Box::new(SoftInfoNce::new(temperature)?.normalize(normalize).options(options))))
}

fn learned(case: &Case, loss: impl Fn(f64, f64) -> Result<RelevanceInfoNce>) -> Result<Outputs> {
    let ((teacher, positive), (temperature, normalize)) = (relevance(case)?, temperature(case)?);
    let targets = Targets { teacher, ..Targets::new(positive, Vec::new()) };
    let weight_temperature = case.param("weight_temperature")?;
    ranked(case, &targets, |options| Ok(Box::new(loss(temperature, weight_temperature)?.normalize(normalize).options(options))))
}

fn weighted_info_nce(case: &Case) -> Result<Outputs> {
    learned(case, RelevanceInfoNce::weighted)
}

fn bce_info_nce(case: &Case) -> Result<Outputs> {
    learned(case, RelevanceInfoNce::bce)
}

fn kl_info_nce(case: &Case) -> Result<Outputs> {
    let (info_nce_weight, kl_weight) = (case.param("info_nce_weight")?, case.param("kl_weight")?);
    learned(case, |temperature, weight_temperature| RelevanceInfoNce::kl(temperature, weight_temperature, info_nce_weight, kl_weight))
}

fn false_negative_cancellation(case: &Case) -> Result<Outputs> {
    let ((relevance, positive), (temperature, normalize)) = (relevance(case)?, temperature(case)?);
    let cancellation = match case.param::<String>("mode")?.as_str() {
        "top_k" => Cancellation::TopK(case.param("top_k")?),
        "ratio" => Cancellation::Ratio(case.param("ratio")?),
        other => return Err(Error::invalid(format!("there is no mode `{other}`; there are top_k and ratio"))),
    };
    let excluded = cancellation.excluded(&relevance, positive.len(), &positive, &[])?;
    let targets = Targets::new(positive, excluded);
    ranked(case, &targets, |options| Ok(Box::new(InfoNce::new(temperature)?.normalize(normalize).options(options))))
}

fn bm25_relevance(case: &Case) -> Result<Outputs> {
    let tokens = case.input("tokens")?;
    let ([n, width], ids): ([usize; 2], _) = (tokens.dims()?, tokens.integers()?);
    let texts: Vec<&[i64]> = (0..n).map(|i| &ids[i * width..(i + 1) * width]).collect();
    let found = BatchBm25::new(case.param("average_length")?, case.param("min_token_id")?)?.relevance(&texts, &texts)?;
    Ok(Outputs::new().with("relevance", Array::new([n, n], found)))
}

fn reciprocal_rank(case: &Case) -> Result<Outputs> {
    let targets = case.input("target")?.integers()?;
    let target = |t: i64| usize::try_from(t).map_err(|_| Error::invalid(format!("the target {t} is out of range")));
    let targets = targets.into_iter().map(target).collect::<Result<Vec<_>>>()?;
    let scores = case.input("scores")?;
    let [queries, _]: [usize; 2] = scores.dims()?;
    if queries != targets.len() {
        return Err(Error::invalid(format!("scores have shape {:?}, and there are {} targets", scores.shape, targets.len())));
    }
    let mrr = mean_reciprocal_rank(&scores.data, &targets, case.param("cutoff")?)?;
    Ok(Outputs::new().with("mrr", Array::scalar(mrr)))
}
