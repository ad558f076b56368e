//! Any of the formats into any other.

use super::{Columns, Format, Rows, Written, beir, read_examples, vectors, write_rows};
use crate::data::{Collection, Example, Shape};
use crate::progress::Progress;
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

#[cfg(test)]
mod tests;

/// How to convert.
#[derive(Clone, Debug, Default)]
pub struct Conversion {
    /// The columns of the input, and whether to leave out bad rows.
    pub columns: Columns,
    /// The shape of the output; by default that of the input (pairs for a BEIR folder).
    pub to: Option<Shape>,
    /// How many negatives n-tuples have; by default the number that keeps most negatives.
    pub negatives: Option<usize>,
    /// The split of a BEIR folder: which to read (by default `test` or the only one), which to write (by default `test`).
    pub split: Option<String>,
}

/// What was converted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// What the input is: `jsonl triplets`, `beir`, `npy`, …
    pub from: String,
    /// What the output is.
    pub to: String,
    /// Rows read: lines of examples, judged pairs of a BEIR folder, vectors.
    pub rows_read: u64,
    /// Rows left out because they cannot be used ([`Columns::skip_bad`]).
    pub skipped: u64,
    /// Examples made of those rows; 0 for vectors.
    pub examples: u64,
    /// Rows written.
    pub rows_written: u64,
    /// Examples that the output's shape cannot hold: they have too few negatives.
    pub dropped: u64,
    /// Negatives of the other examples that the output's shape cannot hold.
    pub negatives_left_out: u64,
}

/// Converts `input` into `output`. A folder, or a name without an extension, is a BEIR folder; `.npy` and `.safetensors` are
/// embeddings; all else is a file of examples ([`Format`]). Files of examples are streamed; a BEIR folder is held in
/// memory. Triplets of one anchor and positive that stand together are joined when the output is lists (labelled ones too) or n-tuples.
///
/// # Errors
/// Those of reading and writing the formats, and for embeddings on one side only. Then nothing is written.
pub fn convert(input: impl AsRef<Path>, output: impl AsRef<Path>, options: &Conversion) -> Result<Converted> {
    let (input, output) = (input.as_ref(), output.as_ref());
    match (vectors::is_vectors(input), vectors::is_vectors(output)) {
        (true, true) => return convert_vectors(input, output),
        (true, false) => return Err(Error::file(output, None, "embeddings can only become .npy or .safetensors")),
        (false, true) => return Err(Error::file(output, None, "examples cannot become embeddings without an encoder")),
        (false, false) => {}
    }
    if input.is_dir() { from_folder(input, output, options) } else { from_file(input, output, options) }
}

fn convert_vectors(input: &Path, output: &Path) -> Result<Converted> {
    let embeddings = vectors::read(input)?;
    vectors::write(output, &embeddings)?;
    let rows = embeddings.rows() as u64;
    Ok(Converted {
        from: super::extension(input).0,
        to: super::extension(output).0,
        rows_read: rows,
        rows_written: rows,
        ..Converted::default()
    })
}

fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.extension().is_none()
}

fn from_folder(input: &Path, output: &Path, options: &Conversion) -> Result<Converted> {
    let read = beir::Options { split: options.split.clone(), skip_bad: options.columns.skip_bad, scratch: None };
    let beir::Read { collection, split, skipped } = beir::read_with(input, &read)?;
    let judged = (0..collection.qrels.len()).map(|q| collection.qrels.of(q).len() as u64).sum();
    let mut out =
        Converted { from: "beir".into(), rows_read: judged, skipped, examples: collection.queries.len() as u64, ..Converted::default() };
    if is_folder(output) {
        beir::write(output, &collection, &split)?;
        (out.to, out.rows_written) = ("beir".into(), judged);
        return Ok(out);
    }
    let shape = options.to.unwrap_or(Shape::Pairs);
    let rows = Rows { negatives: options.negatives, ..Rows::of(shape) };
    let written = write_rows(output, rows, beir::examples(&collection).map(Ok))?;
    out.take(output, shape, written)?;
    Ok(out)
}

fn from_file(input: &Path, output: &Path, options: &Conversion) -> Result<Converted> {
    let progress = Progress::new(0, "converting");
    let mut reader = read_examples(input, &options.columns)?;
    let from = reader.shape();
    let to = options.to.unwrap_or(from);
    let join = from == Shape::Triplets && matches!(to, Shape::Lists | Shape::LabeledLists | Shape::NTuples);
    if join {
        reader = reader.grouped();
    }
    let mut out = Converted { from: format!("{} {}", name(&reader.format()), name(&from)), ..Converted::default() };
    if is_folder(output) {
        let examples = reader.by_ref().inspect(|_| progress.inc(1)).collect::<Result<Vec<Example>>>()?;
        if examples.is_empty() {
            return Err(Error::file(input, None, format!("none of its {} rows can be used", reader.rows())));
        }
        let collection = Collection::from_examples(&examples)?;
        beir::write(output, &collection, options.split.as_deref().unwrap_or("test"))?;
        out.to = "beir".into();
        out.examples = examples.len() as u64;
        out.rows_written = (0..collection.qrels.len()).map(|q| collection.qrels.of(q).len() as u64).sum();
    } else {
        let mut negatives = options.negatives;
        if to == Shape::NTuples && negatives.is_none() {
            progress.say("counting negatives");
            let mut again = read_examples(input, &options.columns)?;
            if join {
                again = again.grouped();
            }
            negatives = Some(best_number(again.inspect(|_| progress.inc(1)))?);
            progress.say("converting");
        }
        let written = write_rows(output, Rows { negatives, ..Rows::of(to) }, reader.by_ref().inspect(|_| progress.inc(1)))?;
        out.take(output, to, written)?;
    }
    (out.rows_read, out.skipped) = (reader.rows(), reader.skipped());
    Ok(out)
}

/// The number k for which most negatives are kept when each example with at least k has k of them.
fn best_number(examples: impl Iterator<Item = Result<Example>>) -> Result<usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for example in examples {
        *counts.entry(example?.negatives.len()).or_default() += 1;
    }
    let (mut best, mut most, mut with) = (1, 0, 0);
    for (&k, &count) in counts.iter().rev() {
        with += count;
        if k * with > most {
            (best, most) = (k, k * with);
        }
    }
    Ok(best)
}

impl Converted {
    fn take(&mut self, output: &Path, shape: Shape, written: Written) -> Result<()> {
        self.to = format!("{} {}", name(&Format::of(output)?), name(&shape));
        self.examples = written.examples;
        self.rows_written = written.rows;
        self.dropped = written.dropped;
        self.negatives_left_out = written.negatives_left_out;
        Ok(())
    }
}

/// The name that serde gives to a variant.
fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
