//! CSV and TSV with a header (RFC 4180).
//!
//! Written with the `csv` crate. Read here, for what a user needs to find a mistake in a file of a million rows: the exact
//! line of every row also with CRLF and blank lines, and errors for a quote that is never closed (the sign of a file cut
//! off, or of quotes that are meant as letters) and for letters behind a closing quote, which that crate accepts silently.

use super::columns::Cell;
use super::lines::{LONGEST, Lines, split_ending};
use super::reader::{Row, Table};
use super::writer::{Header, RowWriter, Value};
use crate::files::AtomicFile;
use crate::{Error, Result};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

pub(super) struct Delimited {
    lines: Lines,
    delimiter: char,
    quotes: bool,
    header: Vec<String>,
}

impl Delimited {
    pub fn open(path: &Path, delimiter: char, quotes: bool) -> Result<Self> {
        let mut out = Self { lines: Lines::open(path)?, delimiter, quotes, header: Vec::new() };
        if let Some((_, header)) = out.record()? {
            out.header = header;
        }
        Ok(out)
    }

    /// The next record that is not a blank line, with its first line.
    fn record(&mut self) -> Result<Option<(u64, Vec<String>)>> {
        let mut fields = Vec::new();
        let mut field = String::new();
        // The line at which the quote that we are in was opened.
        let mut opened: Option<u64> = None;
        let mut start = None;
        loop {
            if !self.lines.advance()? {
                return opened.map_or(Ok(None), |line| Err(self.lines.error_at(line, UNCLOSED)));
            }
            let here = self.lines.number();
            let (mut rest, ending) = split_ending(self.lines.line());
            if start.is_none() && rest.is_empty() {
                continue;
            }
            let start = *start.get_or_insert(here);
            loop {
                if opened.is_some() {
                    let Some(quote) = rest.find('"') else {
                        field.push_str(rest);
                        field.push_str(ending);
                        break;
                    };
                    field.push_str(&rest[..quote]);
                    rest = &rest[quote + 1..];
                    if let Some(after) = rest.strip_prefix('"') {
                        field.push('"');
                        rest = after;
                        continue;
                    }
                    opened = None;
                    fields.push(std::mem::take(&mut field));
                    if rest.is_empty() {
                        return Ok(Some((start, fields)));
                    }
                    let Some(after) = rest.strip_prefix(self.delimiter) else {
                        let column = fields.len();
                        return Err(self.lines.error_at(here, format!("field {column}: letters behind the closing quote; {IF_LETTERS}")));
                    };
                    rest = after;
                } else if self.quotes && rest.starts_with('"') {
                    opened = Some(here);
                    rest = &rest[1..];
                } else {
                    match rest.split_once(self.delimiter) {
                        Some((text, after)) => {
                            fields.push(text.to_owned());
                            rest = after;
                        }
                        None => {
                            fields.push(rest.to_owned());
                            return Ok(Some((start, fields)));
                        }
                    }
                }
            }
            if field.len() > LONGEST {
                return Err(self.lines.error_at(opened.unwrap_or(start), UNCLOSED));
            }
        }
    }
}

const UNCLOSED: &str = "a quote opened here is never closed: the file is cut off, or its quotes are letters (option `no_quotes`)";
const IF_LETTERS: &str = "if quotes are letters in this file, use the option `no_quotes`";

impl Table for Delimited {
    fn next_row(&mut self) -> Result<Option<Row>> {
        let Some((at, fields)) = self.record()? else { return Ok(None) };
        if fields.len() != self.header.len() {
            return Err(self.lines.error_at(at, format!("{} fields; the header has {}", fields.len(), self.header.len())));
        }
        Ok(Some(Row { at, cells: fields.into_iter().map(Cell::Text).collect() }))
    }

    fn columns(&self) -> &[String] {
        &self.header
    }
}

pub(super) struct DelimitedWriter {
    path: PathBuf,
    out: csv::Writer<AtomicFile>,
}

impl DelimitedWriter {
    pub fn create(path: &Path, header: &Header, delimiter: u8) -> Result<Self> {
        let mut out = csv::WriterBuilder::new().delimiter(delimiter).from_writer(AtomicFile::create(path)?);
        out.write_record(header.iter().map(|column| &column.0)).map_err(|e| failed(path, e))?;
        Ok(Self { path: path.to_owned(), out })
    }
}

impl RowWriter for DelimitedWriter {
    fn write(&mut self, row: &[Value<'_>]) -> Result<()> {
        let fields = row.iter().map(|value| match value {
            Value::Text(text) => Ok(Cow::Borrowed(*text)),
            Value::Label(label) => Ok(Cow::Borrowed(if *label { "1" } else { "0" })),
            Value::Score(score) => Ok(Cow::Owned(score.to_string())),
            Value::Texts(_) | Value::Labels(_) | Value::Scores(_) => Err(Error::invalid("CSV and TSV cannot hold lists")),
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        self.out.write_record(fields.iter().map(|field| field.as_bytes())).map_err(|e| failed(&self.path, e))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let path = self.path;
        self.out.into_inner().map_err(|e| Error::io("write", &path)(e.into_error()))?.commit()
    }
}

fn failed(path: &Path, error: csv::Error) -> Error {
    let words = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(source) => Error::io("write", path)(source),
        _ => Error::file(path, None, format!("cannot be written: {words}")),
    }
}
