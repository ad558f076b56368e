//! `foils convert IN OUT`: any of the file formats into any other.

use crate::{Status, output};
use foils::Result;
use foils::data::Shape;
use foils::data::formats::{Columns, Conversion, convert};
use std::path::PathBuf;

/// Turn a data set, or embeddings, from one file format into another.
///
/// Examples: .jsonl, .csv, .tsv (also with .gz or .zst) and .parquet, by the extension; pairs, triplets, n-tuples, labelled pairs
/// or lists, or FlagEmbedding lists, by the columns. A folder, or a name without an extension, is a BEIR folder. Embeddings: .npy and .safetensors.
#[derive(clap::Args)]
pub struct Args {
    /// The file, or BEIR folder, to read.
    input: PathBuf,
    /// The file, or BEIR folder, to write.
    output: PathBuf,
    /// The shape of the rows to write; by default that of the input.
    #[arg(long, value_enum)]
    to: Option<ShapeArg>,
    /// How many negatives n-tuples have; by default the number that keeps most negatives.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    negatives: Option<u32>,
    /// The split of a BEIR folder to read (by default test, or the only one) or to write (by default test).
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    #[command(flatten)]
    columns: ColumnArgs,
    /// Print what was done as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Which columns to read, for every command that reads examples.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ColumnArgs {
    /// The column of the anchor, if it is not called anchor, query, question or sentence1.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    anchor: Option<String>,
    /// The column of the positive, if it is not called positive, pos, answer, passage, sentence2 or text.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    positive: Option<String>,
    /// A column of negatives, if it is not called negative, neg, negative_1, …; may be given several times.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    negative: Vec<String>,
    /// The column of the label (1 positive, 0 negative), if it is not called label.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    label: Option<String>,
    /// The column of the similarities of the positives, if it is not called pos_scores.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    positive_scores: Option<String>,
    /// The column of the similarities of the negatives, if it is not called neg_scores.
    #[arg(long, value_name = "COLUMN", help_heading = "Columns")]
    negative_scores: Option<String>,
    /// Join adjacent rows of one anchor and positive into one example.
    #[arg(long, help_heading = "Columns")]
    group: bool,
    /// Leave out rows with an empty text, no positive, or a positive among the negatives, instead of ending with an error.
    #[arg(long, help_heading = "Columns")]
    skip_bad: bool,
    /// CSV and TSV: a quote is a letter like any other.
    #[arg(long, help_heading = "Columns")]
    no_quotes: bool,
}

impl From<&ColumnArgs> for Columns {
    fn from(args: &ColumnArgs) -> Self {
        Self {
            anchor: args.anchor.clone(),
            positive: args.positive.clone(),
            negative: args.negative.clone(),
            label: args.label.clone(),
            positive_scores: args.positive_scores.clone(),
            negative_scores: args.negative_scores.clone(),
            group: args.group,
            skip_bad: args.skip_bad,
            no_quotes: args.no_quotes,
        }
    }
}

/// The shapes, as the command line names them.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ShapeArg {
    Pairs,
    Triplets,
    NTuples,
    LabeledPairs,
    LabeledLists,
    Lists,
}

impl From<ShapeArg> for Shape {
    fn from(shape: ShapeArg) -> Self {
        match shape {
            ShapeArg::Pairs => Self::Pairs,
            ShapeArg::Triplets => Self::Triplets,
            ShapeArg::NTuples => Self::NTuples,
            ShapeArg::LabeledPairs => Self::LabeledPairs,
            ShapeArg::LabeledLists => Self::LabeledLists,
            ShapeArg::Lists => Self::Lists,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Status> {
    let options = Conversion {
        columns: Columns::from(&args.columns),
        to: args.to.map(Shape::from),
        negatives: args.negatives.map(|n| n as usize),
        split: args.split.clone(),
    };
    let done = convert(&args.input, &args.output, &options)?;
    if args.json {
        output::json(&done)?;
        return Ok(Status::Ok);
    }
    println!("{} → {}: {} rows read, {} written", done.from, done.to, done.rows_read, done.rows_written);
    for (count, what) in [
        (done.skipped, "left out because they cannot be used"),
        (done.dropped, "examples dropped because they have too few negatives"),
        (done.negatives_left_out, "negatives left out because the shape cannot hold them"),
    ] {
        if count > 0 {
            println!("{count} {what}");
        }
    }
    Ok(Status::Ok)
}
