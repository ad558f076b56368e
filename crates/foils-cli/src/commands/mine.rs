//! `foils mine INPUT -o OUTPUT`: hard negatives for pairs.

use super::convert::ColumnArgs;
use super::device::DeviceArg;
use super::embed::texts_of;
use crate::{Status, output};
use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use foils::data::formats::{Columns, Rows, beir, read_examples, write_rows};
use foils::data::{Collection, Shape};
use foils::negatives::{Candidates, MineSettings, MineSummary, Miner, Quantiles, Sampling, forget};
use foils::search::{Bm25Settings, Idf};
use foils::weighting::{MarginRule, NegativeFilter};
use foils::{Error, Result, files};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Mine hard negatives: candidates from words and vectors, filtered so that unlabelled positives are not among them.
#[derive(clap::Args)]
pub struct Args {
    /// Pairs (.jsonl, .csv, .tsv, .parquet; negatives in them join the corpus), or a BEIR folder.
    input: PathBuf,
    /// Documents to mine in beside the positives: one a line (.txt), or the field `text` of each JSON object (.jsonl); also .gz, .zst.
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Where to write the examples, in a format told by the extension.
    #[arg(short, long)]
    output: PathBuf,
    /// Where candidates come from: BM25, cosine similarity, the union of both by similarity (hybrid) or by reciprocal rank
    /// fusion (rrf), or chance.
    #[arg(long, default_value = "hybrid", value_parser = choice::<Candidates>(&CANDIDATES))]
    candidates: Candidates,
    /// The encoder that scores candidates: a name, a saved model's folder, or `none`.
    #[arg(long, default_value = "wordllama")]
    encoder: String,
    /// A second encoder that judges: margins and limits compare its similarities, and they are the scores that are written.
    /// Candidates are found and ordered as without it.
    #[arg(long, value_name = "ENCODER")]
    teacher: Option<String>,
    /// Negatives for each query.
    #[arg(short, long, default_value_t = 5)]
    num_negatives: usize,
    /// Skip so many of the hardest candidates that pass the limits.
    #[arg(long, default_value_t = 0)]
    range_min: usize,
    /// Look no further than so many candidates that pass the limits [default: range-min + 10 · num-negatives + most positives of a query].
    #[arg(long)]
    range_max: Option<usize>,
    /// Remove candidates whose similarity is above the positive's less this.
    #[arg(long, allow_negative_numbers = true)]
    absolute_margin: Option<f64>,
    /// Remove candidates whose similarity is above the positive's less this share of it; `off` for none [default: 0.05 with an encoder].
    #[arg(long)]
    relative_margin: Option<Limit>,
    /// What the relative margin means for a positive whose similarity is negative: s > s⁺ − |s⁺|·m (magnitude) or s > s⁺·(1 − m) (factor).
    #[arg(long, default_value = "magnitude", value_parser = choice::<MarginRule>(&MARGIN_RULES))]
    margin_rule: MarginRule,
    /// Remove candidates with a higher similarity.
    #[arg(long, allow_negative_numbers = true)]
    max_score: Option<f64>,
    /// Remove candidates with a lower similarity.
    #[arg(long, allow_negative_numbers = true)]
    min_score: Option<f64>,
    /// Take the hardest of what is left, or any of it.
    #[arg(long, default_value = "top", value_parser = choice::<Sampling>(&SAMPLINGS))]
    sampling: Sampling,
    /// For random candidates, random sampling, and an encoder with random weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Remove candidates that share this much of their words with a positive (Jaccard); 0 for none.
    #[arg(long, default_value_t = 0.9)]
    near_copy: f64,
    /// BM25: how soon repeating a word stops helping.
    #[arg(long, default_value_t = 1.2)]
    k1: f64,
    /// BM25: how much a long document is held back.
    #[arg(long, default_value_t = 0.75)]
    b: f64,
    /// BM25: the weight of a word.
    #[arg(long, default_value = "lucene", value_parser = choice::<Idf>(&IDFS))]
    idf: Idf,
    /// BM25: leave out common English words.
    #[arg(long)]
    stop_words: bool,
    /// How examples are laid out. `lists` keeps scores and is what the other commands read on.
    #[arg(long, default_value = "lists", value_parser = choice::<Shape>(&SHAPES))]
    shape: Shape,
    /// Write scores in shapes other than lists too: as a column `scores`, or in the place of labels.
    #[arg(long)]
    output_scores: bool,
    /// The split of a BEIR folder [default: test, or the only one].
    #[arg(long)]
    split: Option<String>,
    /// Keep the process's own memory under this (4GB, 500MB), whatever the size of the corpus: what does not fit goes to the output's
    /// disk meanwhile.
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Write the account of the run to this file too.
    #[arg(long, value_name = "MINE.json")]
    summary: Option<PathBuf>,
    /// Print the account as one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    columns: ColumnArgs,
}

pub(super) const CANDIDATES: [&str; 5] = ["bm25", "dense", "hybrid", "rrf", "random"];
const MARGIN_RULES: [&str; 2] = ["magnitude", "factor"];
const SAMPLINGS: [&str; 2] = ["top", "random"];
const IDFS: [&str; 2] = ["lucene", "okapi"];
const SHAPES: [&str; 5] = ["lists", "n-tuples", "triplets", "labeled-pairs", "labeled-lists"];

/// A parser of one of `names`, which are the names that the library's own settings files have.
pub(super) fn choice<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    names: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(|name| serde_json::from_value(serde_json::Value::String(name)))
}

/// A number, or `off`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Off,
    At(f64),
}

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            number => number.parse().map(Self::At).map_err(|_| format!("{number:?} is neither a number nor `off`")),
        }
    }
}

impl Args {
    fn settings(&self) -> MineSettings {
        let default = MineSettings::default().filter.relative_margin.filter(|_| self.has_encoder() || self.teacher.is_some());
        let filter = NegativeFilter {
            range_min: self.range_min,
            range_max: self.range_max,
            absolute_margin: self.absolute_margin,
            relative_margin: match self.relative_margin {
                None => default,
                Some(Limit::Off) => None,
                Some(Limit::At(margin)) => Some(margin),
            },
            margin_rule: self.margin_rule,
            max_score: self.max_score,
            min_score: self.min_score,
        };
        MineSettings {
            candidates: self.candidates,
            num_negatives: self.num_negatives,
            sampling: self.sampling,
            seed: self.seed,
            near_copy: self.near_copy,
            filter,
            bm25: Bm25Settings { k1: self.k1, b: self.b, idf: self.idf, stop_words: self.stop_words },
        }
    }

    fn has_encoder(&self) -> bool {
        self.encoder != "none"
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Status> {
    // What is wrong with the request should show before an hour of mining, not after.
    let settings = args.settings();
    settings.validate()?;
    let rows = Rows { shape: args.shape, negatives: Some(args.num_negatives), scores: args.output_scores };
    rows.check(&args.output)?;
    if args.output_scores && args.candidates == Candidates::Random && !args.has_encoder() && args.teacher.is_none() {
        return Err(Error::invalid("--output-scores: random candidates without an encoder have no scores"));
    }
    // Beside the output, since the folder for temporary files often is memory.
    let beside = files::folder_of(&args.output);
    let part = files::with_suffix(&args.output, ".part");
    let collection = read(args, args.memory.map(|_| beside))?;
    let encoder = if args.has_encoder() { Some(args.device.load(&args.encoder, args.seed)?) } else { None };
    let mut miner = Miner::new(&collection, &settings).resume_in(&part);
    if let Some(encoder) = &encoder {
        miner = miner.with_encoder(&**encoder);
    }
    let teacher = args.teacher.as_deref().map(|name| args.device.load_teacher(name, args.seed)).transpose()?;
    if let Some(teacher) = &teacher {
        miner = miner.with_teacher(&**teacher);
    }
    if let Some(memory) = args.memory {
        miner = miner.within(usize::try_from(memory.as_u64()).unwrap_or(usize::MAX), beside);
    }
    let mut mined = miner.run()?;
    mined.summary.settings["encoder"] = args.encoder.clone().into();
    if let Some(teacher) = &args.teacher {
        mined.summary.settings["teacher"] = teacher.clone().into();
    }

    let written = write_rows(&args.output, rows, mined.examples(&collection).map(Ok))?;
    if let Some(path) = &args.summary {
        files::write_json(path, &mined.summary)?;
    }
    forget(&part)?;
    for warning in &mined.summary.warnings {
        eprintln!("warning: {warning}");
    }
    if written.dropped > 0 {
        eprintln!("warning: {} queries have too few negatives for this shape and were not written", written.dropped);
    }
    if args.json {
        output::json(&mined.summary)?;
    } else {
        print(&mined.summary);
        println!("{} rows written to {}", written.rows, args.output.display());
    }
    Ok(Status::Ok)
}

/// With `scratch` the texts lie on that folder's disk.
fn read(args: &Args, scratch: Option<&Path>) -> Result<Collection> {
    let (input, split) = (&args.input, args.split.as_deref());
    if input.is_dir() {
        if let Some(corpus) = &args.corpus {
            return Err(Error::file(
                corpus,
                None,
                format!("cannot join the documents of {}, which have ids of their own", input.display()),
            ));
        }
        let scratch = scratch.map(Path::to_owned);
        let options = beir::Options { split: split.map(str::to_owned), scratch, ..beir::Options::default() };
        return Ok(beir::read_with(input, &options)?.collection);
    }
    if split.is_some() {
        return Err(Error::file(input, None, "is no BEIR folder and so has no --split"));
    }
    let examples = read_examples(input, &Columns::from(&args.columns))?;
    let documents = args.corpus.as_ref().map(|corpus| texts_of(corpus, "text")).transpose()?;
    Collection::from_stream(examples, documents.into_iter().flatten(), scratch)
}

fn print(summary: &MineSummary) {
    let share = |count: u64| match summary.candidates {
        0 => String::new(),
        all => format!("{:.1} %", 100.0 * count as f64 / all as f64),
    };
    let equal = &summary.equal_to_positive;
    let mut table = output::table(&["candidates", "number", "share"]);
    let rows = [("all", summary.candidates), ("a positive", equal.by_id), ("the text of a positive", equal.by_text)];
    let near = [("nearly a positive", equal.nearly)];
    let removed = summary.removed.iter().map(|r| (r.filter.as_str(), r.count)).filter(|r| r.1 > 0);
    let last = [("not needed", summary.unused), ("kept", summary.kept)];
    for (name, count) in rows.into_iter().chain(near).chain(removed).chain(last) {
        table.add_row([name.to_owned(), count.to_string(), share(count)]);
    }
    println!("{table}");

    if summary.positive_scores != Quantiles::default() {
        let mut table = output::table(&["scores", "min", "25 %", "median", "75 %", "max", "mean"]);
        let scores =
            [("positives", summary.positive_scores), ("negatives", summary.negative_scores), ("positive − negative", summary.differences)];
        for (name, q) in scores {
            let numbers = [q.min, q.q25, q.median, q.q75, q.max, q.mean].map(|v| format!("{v:.3}"));
            table.add_row(std::iter::once(name.to_owned()).chain(numbers));
        }
        println!("{table}");
        let (before, after) = (summary.candidates_above_positive, summary.kept_above_positive);
        println!("{before} candidates and {after} negatives score above their query's positive");
    }
    println!("{} queries, {} documents, {} queries with too few negatives", summary.queries, summary.documents, summary.too_few);
    for query in summary.too_few_examples.iter().take(5) {
        println!("  {} ({} found): {}", query.id, query.found, first_line(&query.text));
    }
}

/// The first line of a text, cut to what fits.
fn first_line(text: &str) -> String {
    const WIDTH: usize = 80;
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(WIDTH).collect();
    if short.len() < text.len() { short + " …" } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(options: &[&str]) -> Result<MineSettings, clap::Error> {
        Command::try_parse_from(["mine", "in.jsonl", "-o", "out.jsonl"].iter().chain(options)).map(|c| c.args.settings())
    }

    #[test]
    fn without_options_it_does_what_the_library_does() {
        assert_eq!(parse(&[]).unwrap(), MineSettings::default());
    }

    #[test]
    fn every_choice_that_help_names_is_one() {
        let all = [("--candidates", &CANDIDATES[..]), ("--margin-rule", &MARGIN_RULES), ("--sampling", &SAMPLINGS), ("--idf", &IDFS)];
        for (option, names) in all.into_iter().chain([("--shape", &SHAPES[..])]) {
            for name in names {
                assert!(parse(&[option, name]).is_ok(), "{option} {name}");
            }
            assert!(parse(&[option, "other"]).is_err());
        }
        assert_eq!(parse(&["--candidates", "rrf"]).unwrap().candidates, Candidates::Rrf);
        assert_eq!(parse(&["--margin-rule", "factor"]).unwrap().filter.margin_rule, MarginRule::Factor);
    }

    #[test]
    fn the_default_margin_needs_an_encoder_and_can_be_turned_off() {
        let margin = |options: &[&str]| parse(options).unwrap().filter.relative_margin;
        assert_eq!(margin(&["--relative-margin", "0.1"]), Some(0.1));
        assert_eq!(margin(&["--relative-margin", "off"]), None);
        assert_eq!(margin(&["--encoder", "none"]), None);
        assert_eq!(margin(&["--encoder", "none", "--teacher", "minilm"]), Some(0.05));
        assert_eq!(margin(&["--encoder", "none", "--relative-margin", "0.1"]), Some(0.1));
        assert!(parse(&["--relative-margin", "some"]).is_err());
    }
}
