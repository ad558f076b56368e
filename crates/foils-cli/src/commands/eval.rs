//! `foils eval`: how well does an encoder (or an existing run) rank, with which certainty, and what did training change?

use super::convert::ColumnArgs;
use super::device::DeviceArg;
use crate::{Status, output};
use foils::data::formats::{Columns, beir, read_all, trec};
use foils::data::{Collection, Embeddings};
use foils::metrics::{Bootstrap, Comparison, EvaluateSettings, Evaluation, Vectors, evaluate, evaluate_rankings, judged_run};
use foils::models::embed_collection;
use foils::search::Ranking;
use foils::{Error, Result};
use std::path::{Path, PathBuf};

/// Recall, Precision, MRR, nDCG and MAP at k on held-out queries, before and after training, with bootstrap intervals.
///
/// `foils eval --model DIR [--baseline NAME] DATA` embeds and searches; `foils eval --run FILE --qrels FILE` measures a TREC run that exists.
#[derive(clap::Args)]
pub struct Args {
    /// Held-out pairs (a file) or a BEIR folder.
    data: Option<PathBuf>,
    /// The encoder to evaluate: a saved model's folder or a registered name.
    #[arg(long)]
    model: Option<String>,
    /// The encoder that it started from, to compare with.
    #[arg(long, requires = "model")]
    baseline: Option<String>,
    /// With --model: write the rankings here as a TREC run (and those of the baseline beside it, as NAME.before.EXT).
    /// With --qrels: the run to measure.
    #[arg(long, value_name = "FILE")]
    run: Option<PathBuf>,
    /// TREC judgements for --run.
    #[arg(long, value_name = "FILE", conflicts_with = "model", requires = "run")]
    qrels: Option<PathBuf>,
    /// The cuts.
    #[arg(long = "k", value_delimiter = ',', default_values_t = [1, 3, 5, 10, 100])]
    ks: Vec<usize>,
    /// Bootstrap draws for the 95 % intervals.
    #[arg(long, default_value_t = 1000)]
    draws: usize,
    /// Fixes all that is random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
    /// Also write the result here, as JSON.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    columns: ColumnArgs,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Status> {
    let settings = EvaluateSettings { ks: args.ks.clone(), bootstrap: Bootstrap::new(args.draws, args.seed)?, ..Default::default() };
    let evaluation = match (&args.model, &args.data, &args.run, &args.qrels) {
        (Some(model), Some(data), _, None) => of_model(args, model, data, &settings)?,
        (None, None, Some(run), Some(qrels)) => of_run(run, qrels, &settings)?,
        _ => return Err(Error::invalid("give either --model and DATA, or --run and --qrels")),
    };
    if let Some(path) = &args.output {
        foils::files::write_json(path, &evaluation)?;
    }
    if args.json {
        output::json(&evaluation)?;
    } else {
        print(&evaluation);
    }
    Ok(Status::Ok)
}

fn of_model(args: &Args, model: &str, data: &Path, settings: &EvaluateSettings) -> Result<Evaluation> {
    let collection =
        if data.is_dir() { beir::read(data)? } else { Collection::from_examples(&read_all(data, &Columns::from(&args.columns))?)? };
    let embed = |name: &str| -> Result<[Embeddings; 2]> {
        let (queries, documents) = embed_collection(&*args.device.load(name, args.seed)?, &collection)?;
        Ok([queries, documents])
    };
    let (before, after) = (args.baseline.as_deref().map(embed).transpose()?, embed(model)?);
    let done = evaluate(&collection, before.as_ref().map(vectors), vectors(&after), settings)?;
    if let Some(path) = &args.run {
        write_run(path, &collection, &done.after)?;
        if let Some(before) = &done.before {
            write_run(&before_path(path), &collection, before)?;
        }
    }
    Ok(done.evaluation)
}

fn vectors([queries, documents]: &[Embeddings; 2]) -> Vectors<'_> {
    Vectors { queries, documents }
}

fn of_run(run: &Path, qrels: &Path, settings: &EvaluateSettings) -> Result<Evaluation> {
    let joined = judged_run(&trec::read_run(run)?, &trec::read_qrels(qrels)?)?;
    if joined.not_in_run > 0 {
        eprintln!("{} judged queries are not in the run and count as finding nothing", joined.not_in_run);
    }
    if joined.not_judged > 0 {
        eprintln!("{} queries of the run are not judged and are left out", joined.not_judged);
    }
    evaluate_rankings(&joined.rankings, &joined.qrels, joined.documents, settings)
}

fn write_run(path: &Path, collection: &Collection, rankings: &[Ranking]) -> Result<()> {
    let document = |(doc, score): &(u32, f32)| (collection.corpus.ids[*doc as usize].to_owned(), f64::from(*score));
    let run = collection.queries.ids.iter().zip(rankings);
    let run: Vec<_> = run.map(|(id, r)| trec::Ranking { query: id.to_owned(), documents: r.iter().map(document).collect() }).collect();
    trec::write_run(path, &run, "foils")
}

/// `out.run.gz` becomes `out.before.run.gz`.
fn before_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(match name.split_once('.') {
        Some((stem, rest)) => format!("{stem}.before.{rest}"),
        None => format!("{name}.before"),
    })
}

fn print(e: &Evaluation) {
    // A row a metric, a column a cut.
    let mut ks: Vec<usize> = e.metrics.iter().map(|m| m.k).collect();
    ks.sort_unstable();
    ks.dedup();
    let header: Vec<String> = std::iter::once("metric".to_owned()).chain(ks.iter().map(|k| format!("@{k}"))).collect();
    let mut table = output::table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for of_metric in e.metrics.chunk_by(|a, b| a.metric == b.metric) {
        let cell = |k: &usize| of_metric.iter().find(|m| m.k == *k).map(cell).unwrap_or_default();
        table.add_row(std::iter::once(of_metric[0].metric.clone()).chain(ks.iter().map(cell)));
    }
    println!("{table}\n{} queries over {} documents, 95 % bootstrap intervals", e.queries, e.documents);
    if e.queries_without_relevant > 0 {
        println!("{} queries have no relevant document and are left out", e.queries_without_relevant);
    }
    if !e.movers.is_empty() {
        println!("\nwhat moved most (rank of the positive before → after)");
    }
    for m in &e.movers {
        println!("{:>7} → {:<7} {}", m.rank_before, m.rank_after, output::one_line(&m.query, 100));
    }
}

/// The value and its interval; compared, the two values, and the difference and its interval.
fn cell(m: &Comparison) -> String {
    match (m.before, m.difference) {
        (Some(before), Some(d)) => {
            format!("{:.3} → {:.3}\n{:+.3}\n[{:+.3}, {:+.3}]", before.mean, m.after.mean, d.mean, d.low, d.high)
        }
        _ => format!("{:.3}\n[{:.3}, {:.3}]", m.after.mean, m.after.low, m.after.high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_before_lies_beside_the_run_after() {
        assert_eq!(before_path(Path::new("a/out.run.gz")), Path::new("a/out.before.run.gz"));
        assert_eq!(before_path(Path::new("out")), Path::new("out.before"));
    }
}
