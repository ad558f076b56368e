//! Is this build numerically right on this machine? Golden vectors (inputs, parameters → outputs and gradients in f64) are run
//! through the library, function name by function name. The adapters here unpack and pack; all maths is the library's.

mod amcl;
mod autodiff;
mod baselines_contrastive;
mod baselines_mining;
mod cacr;
mod case;
mod contrastive_behaviour;
mod dcl;
mod eci;
mod groco;
mod meco;
mod ranking_losses;
mod registry;
mod retrieval_metrics;
mod soft_infonce;
mod unpg;

pub use case::{Array, Case, GoldenFile, Outputs};
pub use registry::{Function, functions};

use foils::{Error, Result};
use serde::Serialize;
use std::path::Path;

/// The result of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// The file's `paper`.
    pub paper: String,
    /// The case's name.
    pub name: String,
    /// The function that it calls.
    pub function: String,
    /// What differs; empty when the case passed.
    pub failures: Vec<Failure>,
}

/// One output that is not as the golden vector has it.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The output's name, or empty when the call itself failed.
    pub output: String,
    /// Largest |ours − golden|, where both are numbers.
    pub largest_error: Option<f64>,
    /// The tolerance atol + rtol·|golden| at that entry.
    pub tolerance: Option<f64>,
    /// In words.
    pub message: String,
}

/// Runs every case of a golden file.
///
/// # Errors
/// When the file cannot be read or is not a golden file. A case that fails is a result and not an error.
pub fn run_file(path: impl AsRef<Path>) -> Result<Vec<CaseResult>> {
    let path = path.as_ref();
    let file = GoldenFile::read(path)?;
    if file.cases.is_empty() {
        return Err(Error::file(path, None, "holds no cases"));
    }
    let functions = functions();
    Ok(file.cases.iter().map(|case| run_case(&file.paper, case, functions.get(case.function.as_str()))).collect())
}

fn run_case(paper: &str, case: &Case, function: Option<&Function>) -> CaseResult {
    let said = |message: String| vec![Failure { output: String::new(), largest_error: None, tolerance: None, message }];
    let failures = match function {
        None => said(format!("unknown function `{}`", case.function)),
        Some(function) => match function(case) {
            Err(error) => said(error.to_string()),
            Ok(ours) => case.outputs.iter().filter_map(|(name, golden)| differs(name, golden, ours.get(name), case)).collect(),
        },
    };
    CaseResult { paper: paper.to_owned(), name: case.name.clone(), function: case.function.clone(), failures }
}

fn differs(name: &str, golden: &Array, ours: Option<&Array>, case: &Case) -> Option<Failure> {
    let said = |message: String| Failure { output: name.to_owned(), largest_error: None, tolerance: None, message };
    let Some(ours) = ours else { return Some(said("not returned".into())) };
    if ours.shape != golden.shape || ours.data.len() != golden.data.len() {
        return Some(said(format!("has shape {:?}, expected {:?} and {} values", ours.shape, golden.shape, golden.data.len())));
    }
    let exact = golden.dtype.as_deref().is_some_and(|d| d != "f64");
    let tolerance = |golden: f64| if exact { 0.0 } else { case.atol + case.rtol * golden.abs() };
    // The worst entry is the one that exceeds its own tolerance most; NaN exceeds every tolerance.
    let excess = |(&a, &b): (&f64, &f64)| match (a - b).abs() {
        _ if a == b => 0.0,
        apart if apart.is_nan() => f64::INFINITY,
        apart => apart - tolerance(b),
    };
    let worst = ours.data.iter().zip(&golden.data).enumerate().max_by(|x, y| excess(x.1).total_cmp(&excess(y.1)))?;
    if excess(worst.1) <= 0.0 {
        return None;
    }
    let (at, (&a, &b)) = worst;
    let (error, tolerance) = ((a - b).abs(), tolerance(b));
    Some(Failure {
        output: name.to_owned(),
        largest_error: Some(error),
        tolerance: Some(tolerance),
        message: format!("entry {at}: {a} instead of {b}, error {error:.3e}, tolerance {tolerance:.3e}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The first public case of a function.
    fn case(paper: &str, function: &str) -> Value {
        let path = format!("{}/../../golden/{paper}.json", env!("CARGO_MANIFEST_DIR"));
        let file: Value = foils::files::read_json(path).unwrap();
        let cases = file["cases"].as_array().unwrap();
        cases.iter().find(|c| c["function"] == function).unwrap_or_else(|| panic!("{function}")).clone()
    }

    fn run(case: &Value) -> CaseResult {
        let case: Case = serde_json::from_value(case.clone()).unwrap();
        run_case("", &case, functions().get(case.function.as_str()))
    }

    /// What the papers' specifications list as bad input and only the adapters see, or see first: each is a failure that says what was wrong.
    #[test]
    fn bad_input_is_a_failure_that_names_it() {
        let nan = || json!("nan");
        let of = [
            ("baselines-contrastive", "nt_xent", "params/temperature", json!(-0.1), "temperature = -0.1"),
            ("baselines-contrastive", "info_nce", "inputs/z1/data/0", nan(), "row 0, column 0 is NaN"),
            ("baselines-contrastive", "info_nce", "inputs/z1", json!({ "shape": [1, 4], "data": [1, 2, 3, 4] }), "z1 has shape [1, 4]"),
            ("baselines-contrastive", "moco_info_nce", "inputs/queue", json!({ "shape": [0, 4], "data": [] }), "queue has 0 rows"),
            ("baselines-contrastive", "queue_update", "params/ptr", json!(6), "ptr = 6"),
            ("baselines-contrastive", "momentum_update", "params/momentum", json!(1.1), "momentum = 1.1"),
            ("baselines-contrastive", "triplet_margin", "params/distance", json!("manhattan"), "manhattan"),
            ("baselines-contrastive", "triplet_margin", "params/margin", json!(-1), "margin = -1"),
            ("baselines-contrastive", "sup_con", "inputs/labels/data/0", json!(0.5), "0.5 is not an integer"),
            ("baselines-contrastive", "knn_predict", "inputs/bank_labels/data/0", json!(3), "label 0 is 3"),
            ("baselines-contrastive", "knn_predict", "params/k", json!(13), "k = 13"),
            ("baselines-contrastive", "barlow_twins", "params/eps", json!(-1), "eps = -1"),
            ("dcl", "dclw_loss", "params/sigma", json!(0), "sigma = 0"),
            ("dcl", "dcl_queue_loss", "inputs/queue", json!({ "shape": [0, 4], "data": [] }), "queue has 0 rows"),
            ("dcl", "npc_multiplier", "inputs/z2", json!({ "shape": [1, 4], "data": [1, 2, 3, 4] }), "z2 has [1, 4]"),
            ("amcl", "amcl_nt_xent", "params/negative_mode", json!("mean"), "mean"),
            ("amcl", "amcl_nt_xent", "params/beta", json!(-1), "beta = -1"),
            ("amcl", "amcl_moco", "inputs/tau_pos/data/0", json!(0), "tau_pos: entry 0 is 0"),
            ("amcl", "temperature_regularizer", "params/dim", json!(0), "dim = 0"),
            ("amcl", "adaptive_temperature", "params/tau_min", json!(2), "tau_min = 2"),
            ("groco", "differentiable_sort", "params/network", json!("bubble"), "`bubble`"),
            ("groco", "differentiable_sort", "params/distribution", json!("gaussian"), "`gaussian`"),
            ("groco", "differentiable_sort", "params/steepness", json!(0), "steepness = 0"),
            ("groco", "group_ordering_loss", "inputs/positives/data/0", nan(), "positives: row 0"),
            ("groco", "groco_loss", "params/topk_neg", json!(6), "topk_neg is 6"),
            ("groco", "groco_loss", "params/n_pos_views", json!(3), "3 full views of 2"),
            ("groco", "nt_xent_topk", "params/topk_neg", json!(0), "topk_neg = 0"),
            ("cacr", "cacr_loss", "params/cost", json!("cosine"), "`cosine`"),
            ("cacr", "cacr_loss", "params/tau_pos", json!(-1), "tau_pos = -1"),
            ("cacr", "cacr_queue_loss", "params/beta", json!(0), "beta = 0"),
            ("unpg", "unpg_loss", "params/head_type", json!("softmax"), "`softmax`"),
            ("unpg", "unpg_loss", "params/whisker", json!(-1), "whisker = -1"),
            ("unpg", "unpg_loss", "inputs/labels/data/0", json!(5), "label of row 0 is 5"),
            ("unpg", "box_whisker_filter", "inputs/similarities", json!({ "shape": [0], "data": [] }), "no similarities"),
            ("unpg", "pair_similarities", "inputs/features", json!({ "shape": [0, 4], "data": [] }), "0 rows"),
            ("contrastive-behaviour", "hard_contrastive_loss", "params/alpha", json!(0), "alpha = 0"),
            ("contrastive-behaviour", "simple_contrastive_loss", "params/lambda_neg", json!(-1), "lambda_neg = -1"),
            ("contrastive-behaviour", "hardness_profile", "inputs/similarity/shape", json!([4, 9]), "not a square"),
            ("contrastive-behaviour", "uniformity_metric", "params/t", json!(0), "t = 0"),
            ("contrastive-behaviour", "tolerance_metric", "params/reduction", json!("both"), "both"),
            ("soft-infonce", "soft_negative_weights", "params/alpha", json!(4), "alpha = 4"),
            ("soft-infonce", "soft_info_nce", "inputs/relevance/data/0", nan(), "the relevance of candidate 0 for anchor 0 is NaN"),
            ("soft-infonce", "bce_info_nce", "inputs/relevance/data/1", nan(), "the relevance of candidate 1 for anchor 0 is NaN"),
            ("soft-infonce", "soft_info_nce", "inputs/relevance/shape", json!([25, 1]), "shape [25, 1]"),
            ("soft-infonce", "weighted_info_nce", "params/weight_temperature", json!(0), "weight_temperature = 0"),
            ("soft-infonce", "false_negative_cancellation", "params/mode", json!("all"), "`all`"),
            ("soft-infonce", "false_negative_cancellation", "params/top_k", json!(4), "top_k = 4"),
            ("soft-infonce", "bm25_relevance", "inputs/tokens/data/0", json!(-1), "token id -1"),
            ("soft-infonce", "bm25_relevance", "params/average_length", json!(0), "average_length = 0"),
            ("soft-infonce", "mean_reciprocal_rank", "inputs/target/data/0", json!(6), "candidate 6 of 6"),
            ("soft-infonce", "mean_reciprocal_rank", "inputs/target/data/0", json!(-1), "-1 is out of range"),
            ("soft-infonce", "mean_reciprocal_rank", "inputs/target", json!({ "shape": [1], "data": [0] }), "1 targets"),
        ];
        for (paper, function, at, value, words) in of {
            let mut changed = case(paper, function);
            *changed.pointer_mut(&format!("/{at}")).unwrap_or_else(|| panic!("{function} has no {at}")) = value;
            let found = run(&changed).failures;
            assert!(found.len() == 1 && found[0].output.is_empty() && found[0].message.contains(words), "{function} {at}: {found:?}");
        }
    }

    /// A parameter of another variant may be null or absent.
    #[test]
    fn parameters_that_do_not_count_may_be_missing() {
        for (paper, function, names) in [
            ("groco", "differentiable_sort", &["art_lambda"][..]),
            ("cacr", "cacr_loss", &["rbf_t", "tau_plus", "debiased"]),
            ("unpg", "margin_logits", &["l_margin", "u_margin", "l_a", "u_a", "lambda_g"]),
            ("soft-infonce", "false_negative_cancellation", &["ratio"]),
        ] {
            let mut changed = case(paper, function);
            let params = changed["params"].as_object_mut().unwrap();
            for name in names {
                *params.get_mut(*name).unwrap_or_else(|| panic!("{function} has no {name}")) = Value::Null;
            }
            assert!(run(&changed).failures.is_empty(), "{function} with null");
            let params = changed["params"].as_object_mut().unwrap();
            names.iter().for_each(|name| drop(params.remove(*name)));
            assert!(run(&changed).failures.is_empty(), "{function} without");
        }
    }
}
