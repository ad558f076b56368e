//! From the rows of a file to examples, whatever the format.

use super::columns::{Cell, Columns, Layout};
use super::{Format, delimited, jsonl, parquet};
use crate::data::{Example, Shape, text};
use crate::{Error, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The cells of one row, and where it is: its (first) line in a text file, its number from 1 in Parquet.
pub(super) struct Row {
    pub at: u64,
    pub cells: Vec<Cell>,
}

/// A file as rows of cells.
pub(super) trait Table: Send {
    /// The next row.
    fn next_row(&mut self) -> Result<Option<Row>>;

    /// The names of its cells. In JSONL each row has its own.
    fn columns(&self) -> &[String];
}

/// Reads examples one by one. After an error it ends.
pub struct ExampleReader {
    path: PathBuf,
    format: Format,
    shape: Shape,
    options: Columns,
    table: Box<dyn Table>,
    /// The names for which `layout` was made.
    names: Vec<String>,
    layout: Layout,
    /// The first row, read to learn the shape.
    first: Option<Row>,
    /// The example that rows are being joined into.
    open: Option<(u64, Example)>,
    ended: bool,
    rows: u64,
    skipped: u64,
}

/// Opens a file of examples: JSONL, CSV, TSV (also with `.gz`, `.zst`) or Parquet, told by its extension; pairs, triplets,
/// n-tuples, labelled pairs or FlagEmbedding lists, told by its columns.
///
/// # Errors
/// When the file cannot be read, is empty, or its columns are not understood. The iterator then gives an error, naming
/// file and line, for broken rows (wrong types, ragged, not UTF-8, cut off) and for what cannot be learned from: an empty
/// text, an anchor without a positive, a positive that is among the negatives by [`text::normalize`] (these last three
/// are counted instead with [`Columns::skip_bad`]).
pub fn read_examples(path: impl AsRef<Path>, columns: &Columns) -> Result<ExampleReader> {
    let path = path.as_ref();
    let format = Format::of(path)?;
    let mut table: Box<dyn Table> = match format {
        Format::Jsonl => Box::new(jsonl::Jsonl::open(path)?),
        Format::Csv => Box::new(delimited::Delimited::open(path, ',', !columns.no_quotes)?),
        Format::Tsv => Box::new(delimited::Delimited::open(path, '\t', !columns.no_quotes)?),
        Format::Parquet => Box::new(parquet::Parquet::open(path, columns)?),
    };
    let first = table.next_row()?;
    let names = table.columns().to_vec();
    let Some(first) = first else {
        let what = if names.is_empty() { "is empty" } else { "has columns but no rows" };
        return Err(Error::file(path, None, format!("{what}; there are no examples to read")));
    };
    // A wrong header is shown at the header, not at the first row under it.
    let line = match format {
        Format::Jsonl => Some(first.at),
        Format::Csv | Format::Tsv => Some(1),
        Format::Parquet => None,
    };
    let layout = Layout::resolve(&names, columns).map_err(|m| Error::file(path, line, m))?;
    let shape = layout.shape(&first.cells);
    Ok(ExampleReader {
        path: path.to_owned(),
        format,
        shape,
        options: columns.clone(),
        table,
        names,
        layout,
        first: Some(first),
        open: None,
        ended: false,
        rows: 0,
        skipped: 0,
    })
}

/// All examples of a file, in memory.
///
/// # Errors
/// See [`read_examples`]; also when every example had to be skipped.
pub fn read_all(path: impl AsRef<Path>, columns: &Columns) -> Result<Vec<Example>> {
    let mut reader = read_examples(path, columns)?;
    let all = reader.by_ref().collect::<Result<Vec<_>>>()?;
    if all.is_empty() {
        return Err(Error::file(&reader.path, None, format!("none of its {} rows can be used", reader.rows)));
    }
    Ok(all)
}

impl ExampleReader {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format of the file.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How the examples are laid out, as the first row shows it.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Rows read so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows or joined examples left out so far ([`Columns::skip_bad`]).
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Joins adjacent rows of one anchor and positive from here on, as [`Columns::group`] does.
    pub fn grouped(mut self) -> Self {
        self.options.group = true;
        self
    }

    fn error(&self, at: u64, message: String) -> Error {
        match self.format {
            Format::Parquet => Error::file(&self.path, None, format!("row {at}: {message}")),
            _ => Error::file(&self.path, at, message),
        }
    }

    /// The example of the next row that can be used.
    fn row(&mut self) -> Result<Option<(u64, Example)>> {
        loop {
            let row = match self.first.take() {
                Some(row) => Some(row),
                None => self.table.next_row()?,
            };
            let Some(Row { at, mut cells }) = row else { return Ok(None) };
            self.rows += 1;
            if self.table.columns() != self.names {
                self.names = self.table.columns().to_vec();
                let layout = Layout::resolve(&self.names, &self.options).map_err(|m| self.error(at, m))?;
                if layout.labelled() != self.layout.labelled() {
                    let words = if layout.labelled() { "has a label, the rows before have" } else { "has no label, the rows before have" };
                    return Err(self.error(at, format!("{words} {}", if layout.labelled() { "none" } else { "one" })));
                }
                self.layout = layout;
            }
            let example = self.layout.example(&mut cells, &self.names).map_err(|m| self.error(at, m))?;
            match check_texts(&example) {
                Ok(()) => return Ok(Some((at, example))),
                Err(_) if self.options.skip_bad => self.skipped += 1,
                Err(message) => return Err(self.error(at, message)),
            }
        }
    }

    /// The next example, joined where rows have to be.
    fn example(&mut self) -> Result<Option<(u64, Example)>> {
        let (labelled, group) = (self.layout.labelled(), self.options.group);
        if !labelled && !group {
            return self.row();
        }
        loop {
            let Some((at, next)) = self.row()? else { return Ok(self.open.take()) };
            match &mut self.open {
                Some((_, open)) if open.anchor == next.anchor && (labelled || open.positives == next.positives) => {
                    if labelled {
                        open.positives.extend(next.positives);
                    }
                    open.negatives.extend(next.negatives);
                    open.negative_scores.extend(next.negative_scores);
                }
                open => {
                    if let Some(done) = open.replace((at, next)) {
                        return Ok(Some(done));
                    }
                }
            }
        }
    }
}

impl Iterator for ExampleReader {
    type Item = Result<Example>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.example() {
                Ok(Some((at, example))) => match check(&example) {
                    Ok(()) => return Some(Ok(example)),
                    Err(_) if self.options.skip_bad => self.skipped += 1,
                    Err(message) => {
                        self.ended = true;
                        let hint = if self.layout.labelled() && example.positives.is_empty() {
                            " (rows of one anchor must stand together: sort the file by the anchor)"
                        } else {
                            ""
                        };
                        return Some(Err(self.error(at, message + hint)));
                    }
                },
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Empty texts.
fn check_texts(example: &Example) -> Result<(), String> {
    if example.anchor.trim().is_empty() {
        return Err("the anchor is empty".into());
    }
    for (part, texts) in [("positive", &example.positives), ("negative", &example.negatives)] {
        if let Some(i) = texts.iter().position(|t| t.trim().is_empty()) {
            return Err(if texts.len() == 1 { format!("the {part} is empty") } else { format!("{part} {} is empty", i + 1) });
        }
    }
    Ok(())
}

/// Whether an example can be learned from and written: texts, a positive, scores that fit, no positive among the negatives.
///
/// # Errors
/// In words, without the place.
pub(super) fn check(example: &Example) -> Result<(), String> {
    check_texts(example)?;
    if example.positives.is_empty() {
        return Err("the anchor has no positive".into());
    }
    let parts =
        [("positive", &example.positive_scores, example.positives.len()), ("negative", &example.negative_scores, example.negatives.len())];
    for (part, scores, texts) in parts {
        if !scores.is_empty() && scores.len() != texts {
            return Err(format!("{} {part} scores for {texts} {part}s", scores.len()));
        }
        if let Some(score) = scores.iter().find(|s| !s.is_finite()) {
            return Err(format!("the {part} score {score} is not a finite number"));
        }
    }
    if let Some(same) = shared(&example.positives, &example.negatives) {
        let shown: String = same.chars().take(60).collect();
        return Err(format!("a positive is among the negatives: {shown:?}"));
    }
    Ok(())
}

/// The first negative that is equal to a positive in normal form ([`text::normalize`]).
fn shared<'a>(positives: &[String], negatives: &'a [String]) -> Option<&'a String> {
    const FEW: usize = 8;
    // Most texts differ in their first word; that need not cost the normal form of everything that is read.
    if positives.len() <= FEW && positives.iter().chain(negatives).all(|t| t.is_ascii()) {
        return negatives.iter().find(|n| positives.iter().any(|p| same_ascii(p, n)));
    }
    let positives: HashSet<u128> = positives.iter().map(|p| text::digest(p)).collect();
    negatives.iter().find(|n| positives.contains(&text::digest(n)))
}

/// Whether two ASCII texts have one normal form: the same words in any case, with any white space between them.
fn same_ascii(a: &str, b: &str) -> bool {
    let mut b = b.split_whitespace();
    a.split_whitespace().all(|word| b.next().is_some_and(|other| word.eq_ignore_ascii_case(other))) && b.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_short_way_agrees_with_the_normal_form(a in "[aAbB \t\u{b}\n\u{1c}\u{0}]{0,5}", b in "[aAbB \t\u{b}\n\u{1c}\u{0}]{0,5}") {
            prop_assert_eq!(same_ascii(&a, &b), text::normalize(&a) == text::normalize(&b));
        }
    }
}
