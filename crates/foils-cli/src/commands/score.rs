//! `foils score`: how good are sets of negatives, before any training?

use super::convert::ColumnArgs;
use super::device::DeviceArg;
use crate::{Status, output};
use foils::data::formats::{Columns, read_all};
use foils::diagnostics::{Capacity, ScoreReport, ScoreSettings, SetScore, gather, score_sets};
use foils::metrics::{Bootstrap, Interval};
use foils::{Error, Result};
use std::path::PathBuf;

/// Score sets of negatives before training: ECI, its components, plain baselines, and the hardest unsafe pairs.
///
/// Each set is a file of examples (as `foils mine` writes them) with negatives for the same anchors. The encoder is the frozen one from which training
/// would start; where it is too weak for the scores to mean much, that is said.
#[derive(clap::Args)]
pub struct Args {
    /// The frozen encoder: a registered name or a saved model's folder.
    #[arg(long, default_value = "wordllama")]
    encoder: String,
    /// A negative set and its name; give it once for each set.
    #[arg(long = "set", value_name = "NAME=FILE", required = true, value_parser = named_path)]
    sets: Vec<(String, PathBuf)>,
    /// The queries and positives, when the sets may lack some of them; also more documents to judge the encoder by.
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// How set size counts.
    #[arg(long, value_enum, default_value = "per-query")]
    capacity: SetSize,
    /// Bootstrap draws for the 95 % intervals.
    #[arg(long, default_value_t = 200)]
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

#[derive(Clone, Copy, clap::ValueEnum)]
enum SetSize {
    /// log(1 + mean negatives of a query)
    PerQuery,
    /// log(1 + all negatives)
    Total,
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("a set is given as NAME=FILE".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Status> {
    let read = |path: &PathBuf| read_all(path, &Columns::from(&args.columns));
    let pairs = args.pairs.as_ref().map(read).transpose()?;
    let sets = args.sets.iter().map(|(name, path)| Ok((name.clone(), read(path)?))).collect::<Result<Vec<_>>>()?;
    if let Some((name, path)) = args.sets.iter().zip(&sets).find(|(_, (_, e))| e.iter().all(|e| e.negatives.is_empty())).map(|(s, _)| s) {
        return Err(Error::file(path, None, format!("the set {name} has no negatives: there is nothing to score")));
    }
    let (collection, sets) = gather(pairs.as_deref(), &sets)?;
    let settings = ScoreSettings {
        capacity: match args.capacity {
            SetSize::PerQuery => Capacity::PerQuery,
            SetSize::Total => Capacity::Total,
        },
        bootstrap: Bootstrap::new(args.draws, args.seed)?,
        ..ScoreSettings::default()
    };
    let encoder = args.device.load(&args.encoder, args.seed)?;
    let report = score_sets(&*encoder, &collection, &sets, &settings)?;
    if let Some(path) = &args.output {
        foils::files::write_json(path, &report)?;
    }
    if args.json {
        output::json(&report)?;
    } else {
        print(&report);
    }
    Ok(Status::Ok)
}

fn print(report: &ScoreReport) {
    let mut table = output::table(&["set", "ECI", "hardness", "safety", "efficiency", "unsafe", "capacity", "ECI (mean margin)"]);
    for s in &report.sets {
        let i = &s.intervals;
        let mut row = vec![s.name.clone()];
        row.extend([s.eci, i.hardness, i.safety, i.efficiency, i.unsafe_rate, i.capacity, s.eci_mean_margin].map(with_interval));
        table.add_row(row);
    }
    println!("{table}\n");
    let mut table = output::table(&["baseline", "similarity", "margin", "negatives", "near positive", "InfoNCE", "queries without"]);
    for s in &report.sets {
        let b = &s.baselines;
        let numbers = [b.mean_similarity, b.mean_margin].map(|v| format!("{v:.3}"));
        let [similarity, margin] = numbers;
        let near = format!("{:.1} %", 100.0 * b.near_positive);
        let without = s.queries_without_negatives.to_string();
        table.add_row([&s.name, &similarity, &margin, &b.size.to_string(), &near, &format!("{:.3}", b.info_nce), &without]);
    }
    println!("{table}\n");
    report.sets.iter().for_each(print_unsafe_pairs);
    if report.sets.len() > 1 {
        println!("{}", differences(report));
    }
    println!("The positive scores above the mean of its negatives for {:.1} % of the queries.", 100.0 * report.encoder_positive_above);
    println!("{}", report.trust_reason);
}

fn print_unsafe_pairs(set: &SetScore) {
    if set.unsafe_pairs.is_empty() {
        return;
    }
    println!("{}: hardest negatives at or above their positive", set.name);
    for pair in &set.unsafe_pairs {
        println!("  query           {}", output::one_line(&pair.query, 100));
        println!("  positive  {:.3} {}", pair.positive_score, output::one_line(&pair.positive, 100));
        println!("  negative  {:.3} {}\n", pair.negative_score, output::one_line(&pair.negative, 100));
    }
}

fn differences(report: &ScoreReport) -> String {
    let pairs = report.sets.len() * (report.sets.len() - 1) / 2;
    if report.different.is_empty() {
        return "No two sets differ in ECI: every 95 % interval of a difference holds 0.".to_owned();
    }
    let listed: Vec<String> = report.different.iter().map(|(better, worse)| format!("{better} > {worse}")).collect();
    format!("{} of {pairs} pairs of sets differ in ECI (95 % interval of the difference): {}.", listed.len(), listed.join(", "))
}

fn with_interval(i: Interval) -> String {
    format!("{:.3}\n[{:.3}, {:.3}]", i.mean, i.low, i.high)
}
