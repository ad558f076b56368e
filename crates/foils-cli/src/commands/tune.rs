//! `foils tune`: the whole way, on the user's pairs or on the registered code-search data.

use super::convert::ColumnArgs;
use super::device::{CacheArg, LoraArgs, PrecisionArg, PromptArgs, TeacherArgs, seconds};
use super::mine::{CANDIDATES, choice};
use super::train::losses;
use crate::{Status, output, report};
use clap::builder::PossibleValuesParser;
use foils::data::formats::{Columns, read_all};
use foils::data::{Example, registry};
use foils::device::DeviceName;
use foils::metrics::{SampleMean, sample_mean};
use foils::negatives::Candidates;
use foils::train::tune::{CompareSettings, ComparisonTable, Judge, TuneData, TuneResult, TuneSettings, WAYS, compare, tune};
use foils::{Result, files};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Mine negatives, clean them, score them, train an encoder on them, evaluate it, and report.
///
/// Without a file it tunes on docstring → function pairs of pinned Python packages.
#[derive(clap::Args)]
pub struct Args {
    /// Pairs to tune on (JSONL, CSV, TSV, Parquet; .gz and .zst too).
    pairs: Option<PathBuf>,
    /// Pairs that choose the checkpoint; without it a share of PAIRS is held out.
    #[arg(long, requires = "test", requires = "pairs")]
    validation: Option<PathBuf>,
    /// Pairs that the result is measured on; without it a share of PAIRS is held out.
    #[arg(long, requires = "validation", requires = "pairs")]
    test: Option<PathBuf>,
    /// The run folder.
    #[arg(short, long, default_value = "foils-run")]
    out: PathBuf,
    /// Settings as a TOML file; what is given here beside it comes first.
    #[arg(long)]
    config: Option<PathBuf>,
    /// What is tuned: wordllama, static-random, minilm, or a sentence-transformers folder.
    #[arg(long)]
    encoder: Option<String>,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    cache: CacheArg,
    /// Fixes batches, sampling and splits.
    #[arg(long)]
    seed: Option<u64>,
    /// Try eight ways of mining and pick one. By `eci` (no training, the default) or `race` (short trainings).
    #[arg(long, num_args = 0..=1, default_missing_value = "eci", value_parser = judge)]
    auto: Option<Judge>,
    /// Mine nothing: negatives are those of the batch and of the file.
    #[arg(long)]
    in_batch_only: bool,
    /// Where candidates for negatives come from (as in `foils mine`).
    #[arg(long, value_parser = choice::<Candidates>(&CANDIDATES))]
    candidates: Option<Candidates>,
    /// Negatives mined for each query.
    #[arg(short, long)]
    num_negatives: Option<usize>,
    /// The loss, as in `foils train`.
    #[arg(long, value_parser = losses())]
    loss: Option<String>,
    #[command(flatten)]
    teacher: TeacherArgs,
    /// Passes over the pairs.
    #[arg(long)]
    epochs: Option<usize>,
    /// Pairs in a batch.
    #[arg(long)]
    batch_size: Option<usize>,
    /// The peak learning rate [default: what suits the encoder].
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Where vectors, losses and dense layers are computed: cpu, cuda, vulkan, metal, wgpu (each needs a build with
    /// that feature), or cuda:1 and so on [default: cpu].
    #[arg(long)]
    device: Option<DeviceName>,
    #[command(flatten)]
    precision: PrecisionArg,
    /// Train every way of mining in full over so many seeds and print the table, instead of tuning once.
    #[arg(long, value_name = "SEEDS", conflicts_with = "auto")]
    compare: Option<u64>,
    /// With --compare: the ways to train (in-batch, random, bm25, dense, dense-filtered, dense-from-11, hybrid-filtered,
    /// rrf-filtered) [default: all].
    #[arg(long, value_name = "WAY", value_delimiter = ',', requires = "compare", value_parser = PossibleValuesParser::new(WAYS))]
    ways: Vec<String>,
    /// With --compare: the judges to ask [default: both].
    #[arg(long, value_name = "JUDGE", value_delimiter = ',', requires = "compare", value_parser = judge)]
    judges: Option<Vec<Judge>>,
    /// Seconds between checkpoints of a training, from which the same command goes on when it is started again.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    checkpoint_every: Duration,
    /// A small setting: a tenth of the code-search pairs, one epoch. For a first look and for tests.
    #[arg(long)]
    quick: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    columns: ColumnArgs,
}

fn judge(text: &str) -> std::result::Result<Judge, String> {
    match text {
        "race" => Ok(Judge::Race),
        "eci" => Ok(Judge::Eci),
        _ => Err("the judges are `race` and `eci`".into()),
    }
}

/// Runs the command.
///
/// # Errors
/// As [`tune`], and when the files cannot be read.
pub fn run(args: &Args) -> Result<Status> {
    crate::memory::keep_what_is_freed();
    let settings = settings(args)?;
    let data = data(args, &settings)?;
    let say = |line: &str| eprintln!("{line}");
    if let Some(seeds) = args.compare {
        let mut compared = CompareSettings::all(settings.seed, seeds);
        if !args.ways.is_empty() {
            compared.ways.clone_from(&args.ways);
        }
        compared.judges = args.judges.clone().unwrap_or(compared.judges);
        let table = compare(&data, &settings, &compared, &args.out, &say)?;
        if args.json {
            output::json(&table)?
        } else {
            print_comparison(&table)
        }
        return Ok(Status::Ok);
    }
    let result = tune(&data, &settings, &args.out, &say)?;
    let page = args.out.join("report.html");
    files::write(&page, report::render(&report::RunFiles::read(&args.out)?))?;
    if args.json {
        output::json(&result)?
    } else {
        print(&result, &args.out)
    }
    Ok(Status::Ok)
}

fn settings(args: &Args) -> Result<TuneSettings> {
    let mut settings = args.config.as_deref().map_or_else(|| Ok(TuneSettings::default()), TuneSettings::read)?;
    if args.quick {
        settings.train.epochs = 1;
    }
    if let Some(encoder) = &args.encoder {
        settings.encoder.clone_from(encoder);
    }
    settings.lora = args.lora.settings().or(settings.lora);
    settings.embedding_cache = args.cache.folder()?;
    settings.checkpoint_every = args.checkpoint_every;
    settings.train.precision = args.precision.precision.or(settings.train.precision);
    settings.query_prompt = args.prompts.query_prompt.clone().or(settings.query_prompt);
    settings.document_prompt = args.prompts.document_prompt.clone().or(settings.document_prompt);
    if let Some(seed) = args.seed {
        settings.seed = seed;
        settings.mine.seed = seed;
    }
    if let Some(loss) = &args.loss {
        settings.train.loss.clone_from(loss);
    }
    settings.auto = args.auto.or(settings.auto);
    settings.in_batch_only |= args.in_batch_only;
    settings.mine.candidates = args.candidates.unwrap_or(settings.mine.candidates);
    settings.mine.num_negatives = args.num_negatives.unwrap_or(settings.mine.num_negatives);
    settings.train.epochs = args.epochs.unwrap_or(settings.train.epochs);
    settings.train.batch_size = args.batch_size.unwrap_or(settings.train.batch_size);
    settings.train.learning_rate = args.learning_rate.unwrap_or(settings.train.learning_rate);
    settings.train.device = args.device.unwrap_or(settings.train.device);
    args.teacher.apply(&mut settings.train);
    // Not after the data was read: is there such a device?
    settings.train.device.open()?;
    Ok(settings)
}

fn data(args: &Args, settings: &TuneSettings) -> Result<TuneData> {
    let read = |path: &Path| read_all(path, &Columns::from(&args.columns));
    match (&args.pairs, &args.validation, &args.test) {
        (None, ..) => {
            let mut splits = registry::code_search()?;
            if args.quick {
                splits.train = thin(splits.train, 10);
            }
            TuneData::from_parts(splits.train, &splits.validation, &splits.test)
        }
        (Some(pairs), Some(validation), Some(test)) => TuneData::from_parts(read(pairs)?, &read(validation)?, &read(test)?),
        (Some(pairs), ..) => TuneData::split(read(pairs)?, settings.held_out, settings.seed),
    }
}

/// Every `n`-th example, so that all packages stay in.
fn thin(examples: Vec<Example>, n: usize) -> Vec<Example> {
    examples.into_iter().step_by(n).collect()
}

fn print(result: &TuneResult, out: &Path) {
    let mut table = output::table(&["metric", "before", "after", "difference (95 %)"]);
    for row in &result.metrics {
        table.add_row([
            format!("{}@{}", row.metric, row.k),
            row.before.map_or(String::new(), |b| format!("{:.4}", b.mean)),
            format!("{:.4}", row.after.mean),
            row.difference.map_or(String::new(), |d| format!("{:+.4} ({:+.4} … {:+.4})", d.mean, d.low, d.high)),
        ]);
    }
    println!("{table}");
    println!(
        "held-out nDCG@10 {:.4} -> {:.4} ({:+.1} %), negatives: {}, {:.0} s",
        result.ndcg_before,
        result.ndcg_after,
        100.0 * result.relative_gain,
        result.strategy,
        result.seconds.get("total").copied().unwrap_or_default(),
    );
    println!("the model is in {}, the report in {}", out.join("model").display(), out.join("report.html").display());
}

fn print_comparison(table: &ComparisonTable) {
    let mean = |v: &[f64]| sample_mean(v).map_or(f64::NAN, |m| m.mean);
    let shown = |v: &[f64]| match sample_mean(v) {
        None => "-".to_owned(),
        Some(m) => m.sd.map_or_else(|| format!("{:.4}", m.mean), |sd| format!("{:.4} ± {sd:.4}", m.mean)),
    };
    let interval = |m: SampleMean| m.interval.map_or(String::new(), |(low, high)| format!(" ({low:+.4} … {high:+.4})"));
    let in_batch = table.rows.iter().find(|r| r.eci.is_empty()).map(|r| r.test.clone());
    let mut out =
        output::table(&["negatives", "ECI", "unsafe", "validation nDCG@10", "held-out nDCG@10", "gain", "over in-batch (95 %)", "train s"]);
    for row in &table.rows {
        let over = in_batch.as_ref().filter(|_| !row.eci.is_empty()).and_then(|base| {
            let differences: Vec<f64> = row.test.iter().zip(base).map(|(a, b)| a - b).collect();
            sample_mean(&differences).filter(|_| row.test.len() == base.len())
        });
        out.add_row([
            row.name.clone(),
            if row.eci.is_empty() { "-".into() } else { format!("{:.4}", mean(&row.eci)) },
            if row.unsafe_rate.is_empty() { "-".into() } else { format!("{:.2}", mean(&row.unsafe_rate)) },
            shown(&row.validation),
            shown(&row.test),
            format!("{:+.1} %", 100.0 * (mean(&row.test) / table.untuned - 1.0)),
            over.map_or("-".into(), |m| format!("{:+.4}{}", m.mean, interval(m))),
            format!("{:.1}", mean(&row.seconds)),
        ]);
    }
    println!("{out}");
    println!("untuned held-out nDCG@10 {:.4}; ± is the standard deviation over {} seeds", table.untuned, table.seeds.len());
    let trusted = if table.eci_trusted { "trusted" } else { "not trusted" };
    if let Some(agreement) = &table.agreement {
        println!(
            "ECI against held-out nDCG@10, means over seeds: Spearman {:+.2}, Kendall {:+.2} (ECI is {trusted} here)",
            agreement.spearman, agreement.kendall_tau_b
        );
    }
    if let Some(m) = sample_mean(&table.agreements.iter().map(|a| a.spearman).collect::<Vec<_>>()) {
        println!("the same within each of {} seeds: Spearman {:+.2}{}", table.agreements.len(), m.mean, interval(m));
    }
    for judge in &table.judges {
        println!(
            "judge {}: picked {}; mean regret {:.4}, {:.1} s",
            judge.judge,
            judge.picked.join(" | "),
            mean(&judge.regret),
            mean(&judge.seconds)
        );
    }
}
