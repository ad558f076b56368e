//! `foils papers`: what is there of each paper?

use crate::{Status, output};
use foils::Result;
use foils_studies::papers::papers;

/// List the papers with what of each is implemented.
#[derive(clap::Args)]
pub struct Args {
    /// Print the list as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Status> {
    let papers = papers()?;
    if args.json {
        output::json(&serde_json::json!({ "papers": papers }))?;
        return Ok(Status::Ok);
    }
    let mut table = output::table(&["paper", "family", "title", "functions", "study"]);
    for p in &papers {
        let functions = format!("{} of {}", p.implemented.len(), p.paper.functions.len());
        let study = if p.study { "yes" } else { "" };
        table.add_row([&p.paper.slug, &p.paper.family, &p.paper.title, &functions, study]);
    }
    println!("{table}");
    let studies = papers.iter().filter(|p| p.study).count();
    let whole = papers.iter().filter(|p| p.implemented.len() == p.paper.functions.len()).count();
    println!("{} papers: {whole} with all their functions, {studies} with a study (`foils reproduce PAPER`)", papers.len());
    Ok(Status::Ok)
}
