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
    let file: GoldenFile = foils::files::read_json(path)?;
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
    if ours.shape != golden.shape {
        return Some(said(format!("has shape {:?}, expected {:?}", ours.shape, golden.shape)));
    }
    let exact = golden.dtype.as_deref().is_some_and(|d| d != "f64");
    let tolerance = |golden: f64| if exact { 0.0 } else { case.atol + case.rtol * golden.abs() };
    // The worst entry is the one that exceeds its own tolerance most; NaN exceeds every tolerance.
    let excess = |(&a, &b): (&f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() - tolerance(b) };
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
