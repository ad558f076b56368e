//! One JSON object a line.

use super::columns::Cell;
use super::lines::Lines;
use super::reader::{Row, Table};
use super::writer::{Header, RowWriter, Value as Written};
use crate::files::AtomicFile;
use crate::{Error, Result};
use serde_json::Value;
use std::io::Write;
use std::path::Path;

pub(super) struct Jsonl {
    lines: Lines,
    /// The keys of the row read last.
    keys: Vec<String>,
}

impl Jsonl {
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { lines: Lines::open(path)?, keys: Vec::new() })
    }
}

impl Table for Jsonl {
    fn next_row(&mut self) -> Result<Option<Row>> {
        let Some(object) = next_object(&mut self.lines)? else { return Ok(None) };
        if !self.keys.iter().eq(object.keys()) {
            self.keys = object.keys().cloned().collect();
        }
        Ok(Some(Row { at: self.lines.number(), cells: object.into_iter().map(|(_, v)| cell(v)).collect() }))
    }

    fn columns(&self) -> &[String] {
        &self.keys
    }
}

/// The object on the next line that is not blank.
pub(super) fn next_object(lines: &mut Lines) -> Result<Option<serde_json::Map<String, Value>>> {
    if !lines.advance_filled()? {
        return Ok(None);
    }
    match serde_json::from_str(lines.text()) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(other) => Err(lines.error(format!("{}; each line must be one JSON object", kind(&other)))),
        Err(e) => {
            // Its own "at line 1" would mislead: every line is parsed alone.
            let message = e.to_string();
            let reason = message.rsplit_once(" at line ").map_or(message.as_str(), |(m, _)| m);
            Err(lines.error(format!("not a JSON object, at column {}: {reason}", e.column())))
        }
    }
}

fn cell(value: Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::String(text) => Cell::Text(text),
        Value::Bool(b) => Cell::Number(f64::from(u8::from(b))),
        Value::Number(n) => n.as_f64().map_or(Cell::Other("a number too large"), Cell::Number),
        Value::Array(items) => Cell::list(items.into_iter().map(cell)),
        Value::Object(_) => Cell::Other("an object"),
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::String(_) => "a text",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub(super) struct JsonlWriter {
    out: AtomicFile,
    header: Header,
    /// A row is put together here: a compressor is slow on crumbs.
    row: Vec<u8>,
}

impl JsonlWriter {
    pub fn create(path: &Path, header: Header) -> Result<Self> {
        Ok(Self { out: AtomicFile::create(path)?, header, row: Vec::new() })
    }
}

impl RowWriter for JsonlWriter {
    fn write(&mut self, row: &[Written<'_>]) -> Result<()> {
        let path = self.out.path().to_owned();
        let out = &mut self.row;
        out.clear();
        let mut write = || -> std::io::Result<()> {
            // By hand, because a map would lose the order of the columns.
            let mut before = b"{";
            for ((name, _), value) in self.header.iter().zip(row) {
                if matches!(value, Written::Scores(scores) if scores.is_empty()) {
                    continue;
                }
                out.write_all(before)?;
                before = b",";
                serde_json::to_writer(&mut *out, name)?;
                out.write_all(b":")?;
                match value {
                    Written::Text(text) => serde_json::to_writer(&mut *out, text)?,
                    Written::Texts(texts) => serde_json::to_writer(&mut *out, texts)?,
                    Written::Label(label) => serde_json::to_writer(&mut *out, &u8::from(*label))?,
                    Written::Labels(labels) => serde_json::to_writer(&mut *out, &labels.iter().map(|&l| i64::from(l)).collect::<Vec<_>>())?,
                    Written::Score(score) => serde_json::to_writer(&mut *out, score)?,
                    Written::Scores(scores) => serde_json::to_writer(&mut *out, scores)?,
                }
            }
            out.write_all(b"}\n")?;
            self.out.write_all(out)
        };
        write().map_err(Error::io("write", &path))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.out.commit()
    }
}
