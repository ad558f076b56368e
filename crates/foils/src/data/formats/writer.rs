//! From examples to the rows of a file, whatever the format.

use super::delimited::DelimitedWriter;
use super::jsonl::JsonlWriter;
use super::parquet::ParquetWriter;
use super::{Format, reader};
use crate::data::{Example, Shape};
use crate::{Error, Result};
use serde::Serialize;
use std::path::Path;

/// What stands in one place of a row.
pub(super) enum Value<'a> {
    Text(&'a str),
    Texts(Vec<&'a str>),
    Label(bool),
    Labels(Vec<bool>),
    Score(f32),
    /// An empty list stands for none, in the columns of [`Kind::MaybeScores`].
    Scores(Vec<f32>),
}

/// What stands in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Texts,
    Label,
    Labels,
    Score,
    Scores,
    MaybeScores,
}

impl Kind {
    fn is_list(self) -> bool {
        matches!(self, Self::Texts | Self::Labels | Self::Scores | Self::MaybeScores)
    }
}

/// The name of a column and what stands in it.
pub(super) type Header = Vec<(String, Kind)>;

/// A file being written row by row; nothing is there until `finish`.
pub(super) trait RowWriter {
    /// `row` has a value for each column of the header, of its kind.
    fn write(&mut self, row: &[Value<'_>]) -> Result<()>;
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

/// How examples become rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// The layout of a row.
    pub shape: Shape,
    /// The number of negatives of n-tuples; by default that of the first example.
    pub negatives: Option<usize>,
    /// Also write the scores, which lists always have, as sentence-transformers' `mine_hard_negatives` does with `output_scores`:
    /// a column `scores` of the similarities of the row's texts to the anchor (triplets, n-tuples), or `score` and `scores` in the
    /// place of `label` and `labels`.
    pub scores: bool,
}

impl Rows {
    /// Rows of a shape, without scores.
    pub fn of(shape: Shape) -> Self {
        Self { shape, negatives: None, scores: false }
    }

    fn header(&self, negatives: usize) -> Header {
        let of = |columns: &[(&str, Kind)]| columns.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect::<Header>();
        let mut header = match self.shape {
            Shape::Pairs | Shape::NTuples => of(&[("anchor", Kind::Text), ("positive", Kind::Text)]),
            Shape::Triplets => of(&[("anchor", Kind::Text), ("positive", Kind::Text), ("negative", Kind::Text)]),
            Shape::LabeledPairs if self.scores => of(&[("anchor", Kind::Text), ("text", Kind::Text), ("score", Kind::Score)]),
            Shape::LabeledPairs => of(&[("anchor", Kind::Text), ("text", Kind::Text), ("label", Kind::Label)]),
            Shape::LabeledLists if self.scores => of(&[("query", Kind::Text), ("docs", Kind::Texts), ("scores", Kind::Scores)]),
            Shape::LabeledLists => of(&[("query", Kind::Text), ("docs", Kind::Texts), ("labels", Kind::Labels)]),
            Shape::Lists => of(&[
                ("query", Kind::Text),
                ("pos", Kind::Texts),
                ("neg", Kind::Texts),
                ("pos_scores", Kind::MaybeScores),
                ("neg_scores", Kind::MaybeScores),
            ]),
        };
        if self.shape == Shape::NTuples {
            header.extend((1..=negatives).map(|i| (format!("negative_{i}"), Kind::Text)));
        }
        if self.scores && matches!(self.shape, Shape::Triplets | Shape::NTuples) {
            header.push(("scores".into(), Kind::Scores));
        }
        header
    }

    /// Checks that a file can hold such rows.
    ///
    /// # Errors
    /// On an extension of no [`Format`], and when there are lists in the rows and the file is CSV or TSV.
    pub fn check(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let delimited = matches!(Format::of(path)?, Format::Csv | Format::Tsv);
        if delimited && self.header(1).iter().any(|(_, kind)| kind.is_list()) {
            let what = if self.scores { "lists; choose another shape or no scores" } else { "lists; choose another shape" };
            return Err(Error::file(path, None, format!("CSV and TSV cannot hold {what}, or .jsonl or .parquet")));
        }
        Ok(())
    }
}

/// Writes examples into `path` in one of the formats of [`Format`], by its extension; the file appears when it is whole.
///
/// | shape | columns | rows of an example with p positives, n negatives |
/// |---|---|---|
/// | pairs | `anchor`, `positive` | p |
/// | triplets | `anchor`, `positive`, `negative` | p·n |
/// | n-tuples | `anchor`, `positive`, `negative_1`, …, `negative_k` | p, or none if n < k |
/// | labelled pairs | `anchor`, `text`, `label` | p + n |
/// | labelled lists | `query`, `docs`, `labels` | 1, or none if n = 0 (not in CSV and TSV) |
/// | lists | `query`, `pos`, `neg`, `pos_scores`, `neg_scores` | 1 (not in CSV and TSV) |
///
/// For n-tuples k is the number of negatives of the first example. [`write_rows`] can set it, and write scores in every shape.
///
/// # Errors
/// The first error of `examples`; an example that cannot be used (see [`super::read_examples`]); when no row is left to
/// write, or writing fails. Then there is no file, or the old one.
pub fn write_examples(path: impl AsRef<Path>, shape: Shape, examples: impl IntoIterator<Item = Result<Example>>) -> Result<Written> {
    write_rows(path, Rows::of(shape), examples)
}

/// [`write_examples`] with all that can be said about the rows.
///
/// # Errors
/// See [`write_examples`] and [`Rows::check`]; also when n-tuples are to have 0 negatives, and when scores are asked for that an
/// example does not have.
pub fn write_rows(path: impl AsRef<Path>, rows: Rows, examples: impl IntoIterator<Item = Result<Example>>) -> Result<Written> {
    write(path.as_ref(), rows, &mut examples.into_iter())
}

fn write(path: &Path, rows: Rows, examples: &mut dyn Iterator<Item = Result<Example>>) -> Result<Written> {
    rows.check(path)?;
    let mut examples = examples.peekable();
    let mut out = Written::default();
    if rows.shape == Shape::NTuples {
        out.negatives = match (rows.negatives, examples.peek()) {
            (Some(k), _) => k,
            (None, Some(Ok(first))) => first.negatives.len(),
            (None, _) => 1,
        };
        if out.negatives == 0 {
            return Err(Error::file(path, None, "n-tuples need at least one negative; the first example has none"));
        }
    }
    let header = rows.header(out.negatives);
    let mut file: Box<dyn RowWriter> = match Format::of(path)? {
        Format::Jsonl => Box::new(JsonlWriter::create(path, header)?),
        Format::Csv => Box::new(DelimitedWriter::create(path, &header, b',')?),
        Format::Tsv => Box::new(DelimitedWriter::create(path, &header, b'\t')?),
        Format::Parquet => Box::new(ParquetWriter::create(path, &header)?),
    };
    for example in examples {
        let example = example?;
        out.examples += 1;
        let number = out.examples;
        let check = || {
            reader::check(&example)?;
            let scored = [(&example.positive_scores, &example.positives), (&example.negative_scores, &example.negatives)];
            if rows.scores && scored.iter().any(|(scores, texts)| scores.len() != texts.len()) {
                return Err("it has no scores, which are to be written".into());
            }
            Ok(())
        };
        check().map_err(|m: String| Error::invalid(format!("example {number}: {m}")))?;
        let before = out.rows;
        write_example(&example, rows, file.as_mut(), &mut out)?;
        if before == out.rows {
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

fn write_example(example: &Example, rows: Rows, file: &mut dyn RowWriter, out: &mut Written) -> Result<()> {
    fn texts(texts: &[String]) -> Vec<&str> {
        texts.iter().map(String::as_str).collect()
    }
    let Example { anchor, positives, negatives, positive_scores, negative_scores } = example;
    let mut row = |values: &[Value<'_>]| {
        out.rows += 1;
        file.write(values)
    };
    match rows.shape {
        Shape::Lists => {
            let scores = [positive_scores, negative_scores].map(|s| Value::Scores(s.clone()));
            let [of_positives, of_negatives] = scores;
            row(&[Value::Text(anchor), Value::Texts(texts(positives)), Value::Texts(texts(negatives)), of_positives, of_negatives])?;
        }
        Shape::Pairs => {
            for positive in positives {
                row(&[Value::Text(anchor), Value::Text(positive)])?;
            }
            out.negatives_left_out += negatives.len() as u64;
        }
        Shape::Triplets => {
            for (p, positive) in positives.iter().enumerate() {
                for (n, negative) in negatives.iter().enumerate() {
                    let mut values = vec![Value::Text(anchor), Value::Text(positive), Value::Text(negative)];
                    values.extend(rows.scores.then(|| Value::Scores(vec![positive_scores[p], negative_scores[n]])));
                    row(&values)?;
                }
            }
        }
        Shape::LabeledPairs => {
            for (label, of_label, scores) in [(true, positives, positive_scores), (false, negatives, negative_scores)] {
                for (i, text) in of_label.iter().enumerate() {
                    let last = if rows.scores { Value::Score(scores[i]) } else { Value::Label(label) };
                    row(&[Value::Text(anchor), Value::Text(text), last])?;
                }
            }
        }
        Shape::LabeledLists => {
            if negatives.is_empty() {
                return Ok(());
            }
            let last = if rows.scores {
                Value::Scores([&positive_scores[..], negative_scores].concat())
            } else {
                Value::Labels((0..positives.len() + negatives.len()).map(|i| i < positives.len()).collect())
            };
            row(&[Value::Text(anchor), Value::Texts([texts(positives), texts(negatives)].concat()), last])?;
        }
        Shape::NTuples => {
            let k = out.negatives;
            let Some(negatives) = negatives.get(..k) else { return Ok(()) };
            for (p, positive) in positives.iter().enumerate() {
                let mut values = vec![Value::Text(anchor), Value::Text(positive)];
                values.extend(negatives.iter().map(|n| Value::Text(n)));
                values.extend(rows.scores.then(|| Value::Scores([&positive_scores[p..=p], &negative_scores[..k]].concat())));
                row(&values)?;
            }
            out.negatives_left_out += (example.negatives.len() - k) as u64;
        }
    }
    Ok(())
}
