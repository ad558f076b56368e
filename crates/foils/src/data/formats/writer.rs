//! From examples to the rows of a file, whatever the format.

use super::delimited::DelimitedWriter;
use super::jsonl::JsonlWriter;
use super::parquet::ParquetWriter;
use super::{Format, reader};
use crate::data::{Example, Shape};
use crate::{Error, Result};
use serde::Serialize;
use std::path::Path;

/// The values of one row.
pub(super) enum Values<'a> {
    /// Texts, one a column, and a label in the last column.
    Flat { texts: &'a [&'a str], label: Option<bool> },
    /// A whole example.
    List(&'a Example),
}

/// A file being written row by row; nothing is there until `finish`.
pub(super) trait RowWriter {
    fn write(&mut self, values: &Values<'_>) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<()>;
}

/// What was written, and what the shape could not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Examples given.
    pub examples: u64,
    /// Rows written.
    pub rows: u64,
    /// Examples of which no row was written, because they have fewer negatives than the shape needs.
    pub dropped: u64,
    /// Negatives of the other examples that were left out: all of them in pairs, those above the fixed number in n-tuples.
    pub negatives_left_out: u64,
    /// The fixed number of negatives of n-tuples; 0 for other shapes.
    pub negatives: usize,
}

/// Writes examples into `path` in one of the formats of [`Format`], by its extension; the file appears when it is whole.
///
/// | shape | columns | rows of an example with p positives, n negatives |
/// |---|---|---|
/// | pairs | `anchor`, `positive` | p |
/// | triplets | `anchor`, `positive`, `negative` | p·n |
/// | n-tuples | `anchor`, `positive`, `negative_1`, …, `negative_k` | p, or none if n < k |
/// | labelled pairs | `anchor`, `text`, `label` | p + n |
/// | lists | `query`, `pos`, `neg`, `pos_scores`, `neg_scores` | 1 (not in CSV and TSV) |
///
/// For n-tuples k is the number of negatives of the first example; see [`write_tuples`] to set it.
/// Scores are kept by lists only.
///
/// # Errors
/// The first error of `examples`; an example that cannot be used (see [`super::read_examples`]); when no row is left to
/// write, or writing fails. Then there is no file, or the old one.
pub fn write_examples(path: impl AsRef<Path>, shape: Shape, examples: impl IntoIterator<Item = Result<Example>>) -> Result<Written> {
    write(path.as_ref(), shape, None, &mut examples.into_iter())
}

/// Like [`write_examples`] with [`Shape::NTuples`] of `negatives` negatives each.
///
/// # Errors
/// See [`write_examples`]; also when `negatives` is 0.
pub fn write_tuples(path: impl AsRef<Path>, negatives: usize, examples: impl IntoIterator<Item = Result<Example>>) -> Result<Written> {
    write(path.as_ref(), Shape::NTuples, Some(negatives), &mut examples.into_iter())
}

/// [`write_examples`] with the number of negatives of n-tuples, if it is set.
pub(super) fn write(path: &Path, shape: Shape, k: Option<usize>, examples: &mut dyn Iterator<Item = Result<Example>>) -> Result<Written> {
    let format = Format::of(path)?;
    if shape == Shape::Lists && matches!(format, Format::Csv | Format::Tsv) {
        return Err(Error::file(path, None, "CSV and TSV cannot hold lists; choose another shape, or .jsonl or .parquet"));
    }
    let mut examples = examples.peekable();
    let mut out = Written::default();
    if shape == Shape::NTuples {
        out.negatives = match (k, examples.peek()) {
            (Some(k), _) => k,
            (None, Some(Ok(first))) => first.negatives.len(),
            (None, _) => 1,
        };
        if out.negatives == 0 {
            return Err(Error::file(path, None, "n-tuples need at least one negative; the first example has none"));
        }
    }
    let header: Vec<String> = match shape {
        Shape::Pairs => ["anchor", "positive"].map(String::from).to_vec(),
        Shape::Triplets => ["anchor", "positive", "negative"].map(String::from).to_vec(),
        Shape::LabeledPairs => ["anchor", "text", "label"].map(String::from).to_vec(),
        Shape::Lists => ["query", "pos", "neg", "pos_scores", "neg_scores"].map(String::from).to_vec(),
        Shape::NTuples => {
            let numbered = (1..=out.negatives).map(|i| format!("negative_{i}"));
            ["anchor", "positive"].map(String::from).into_iter().chain(numbered).collect()
        }
    };
    let mut file: Box<dyn RowWriter> = match format {
        Format::Jsonl => Box::new(JsonlWriter::create(path, &header)?),
        Format::Csv => Box::new(DelimitedWriter::create(path, &header, b',')?),
        Format::Tsv => Box::new(DelimitedWriter::create(path, &header, b'\t')?),
        Format::Parquet => Box::new(ParquetWriter::create(path, shape, &header)?),
    };
    for example in examples {
        let example = example?;
        out.examples += 1;
        reader::check(&example).map_err(|m| Error::invalid(format!("example {}: {m}", out.examples)))?;
        let rows = out.rows;
        write_rows(&example, shape, file.as_mut(), &mut out)?;
        if rows == out.rows {
            out.dropped += 1;
        }
    }
    if out.rows == 0 {
        let reason = if out.examples == 0 { "there are no examples" } else { "no example has negatives enough for this shape" };
        return Err(Error::file(path, None, format!("not written: {reason}")));
    }
    file.finish()?;
    Ok(out)
}

fn write_rows(example: &Example, shape: Shape, file: &mut dyn RowWriter, out: &mut Written) -> Result<()> {
    let mut texts: Vec<&str> = vec![&example.anchor];
    let mut flat = |texts: &[&str], label| {
        out.rows += 1;
        file.write(&Values::Flat { texts, label })
    };
    match shape {
        Shape::Lists => {
            out.rows += 1;
            return file.write(&Values::List(example));
        }
        Shape::Pairs => {
            for positive in &example.positives {
                flat(&[&example.anchor, positive], None)?;
            }
            out.negatives_left_out += example.negatives.len() as u64;
        }
        Shape::Triplets => {
            for positive in &example.positives {
                for negative in &example.negatives {
                    flat(&[&example.anchor, positive, negative], None)?;
                }
            }
        }
        Shape::LabeledPairs => {
            let labelled = |label| move |text| (text, label);
            for (text, label) in example.positives.iter().map(labelled(true)).chain(example.negatives.iter().map(labelled(false))) {
                flat(&[&example.anchor, text], Some(label))?;
            }
        }
        Shape::NTuples => {
            let k = out.negatives;
            let Some(negatives) = example.negatives.get(..k) else { return Ok(()) };
            for positive in &example.positives {
                texts.truncate(1);
                texts.push(positive);
                texts.extend(negatives.iter().map(String::as_str));
                flat(&texts, None)?;
            }
            out.negatives_left_out += (example.negatives.len() - k) as u64;
        }
    }
    Ok(())
}
