//! `foils conformance FILE.json…`: is this build numerically right on this machine?

use crate::{Status, output};
use foils::Result;
use foils_studies::conformance::{CaseResult, run_file};
use std::path::PathBuf;

/// Run golden vectors through the library in f64 and compare.
#[derive(clap::Args)]
pub struct Args {
    /// Golden files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command; [`Status::Failed`] when a case fails.
pub fn run(args: &Args) -> Result<Status> {
    let mut results: Vec<CaseResult> = Vec::new();
    for file in &args.files {
        results.extend(run_file(file)?);
    }
    let failed = results.iter().filter(|r| !r.failures.is_empty()).count();
    let passed = results.len() - failed;
    if args.json {
        output::json(&serde_json::json!({ "passed": passed, "failed": failed, "cases": results }))?;
    } else {
        for result in &results {
            for failure in &result.failures {
                println!("{}/{} {} {}: {}", result.paper, result.name, result.function, failure.output, failure.message);
            }
        }
        println!("{passed} passed, {failed} failed");
    }
    Ok(if failed == 0 { Status::Ok } else { Status::Failed })
}
