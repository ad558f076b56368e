//! `foils report RUN_DIR`: the run as one HTML page.

use crate::report::{self, RunFiles};
use crate::{Status, output};
use foils::Result;
use std::path::PathBuf;

/// Write one self-contained HTML page about a run: numbers, plots, queries that rose and fell.
#[derive(clap::Args)]
pub struct Args {
    /// The folder that `foils tune` wrote (mine.json, score.json, train.json, eval.json, tune.json; what is missing is left out).
    run_dir: PathBuf,
    /// Where to write the page [default: report.html in the run folder].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the result as one JSON object: {"report": path}.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Status> {
    let files = RunFiles::read(&args.run_dir)?;
    let path = args.output.clone().unwrap_or_else(|| args.run_dir.join("report.html"));
    foils::files::write(&path, report::render(&files))?;
    if args.json {
        output::json(&serde_json::json!({ "report": path.to_string_lossy() }))?;
    } else {
        println!("{}", path.display());
    }
    Ok(Status::Ok)
}
