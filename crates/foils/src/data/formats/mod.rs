//! The file formats that people have: how each is read into, and written from, the types of [`crate::data`].
//!
//! | file | format |
//! |---|---|
//! | `jsonl` | one JSON object a line: pairs, triplets, n-tuples, labelled pairs and lists, FlagEmbedding lists |
//! | `delimited` | the same (but lists) as CSV and TSV |
//! | `parquet` | the same as Parquet |
//! | [`beir`] | a BEIR folder: `corpus.jsonl`, `queries.jsonl`, `qrels/*.tsv` |
//! | [`trec`] | TREC runs and relevance judgements |
//! | [`vectors`] | embeddings as `.npy` and safetensors |
//! | `columns` | which column plays which part, and how a row becomes an example |
//! | `reader`, `writer` | from rows to examples and back, whatever the format |
//! | `convert` | any of them into any other |
//!
//! Everything streams: an example is in memory only while it is looked at. Text formats may be compressed with gzip or
//! zstd; a byte order mark, CRLF and blank lines at the end are fine. Bad input is an [`Error`] naming file and line (for
//! Parquet, which has no lines, the row).

pub mod beir;
mod columns;
mod convert;
mod delimited;
mod guard;
mod jsonl;
mod lines;
mod parquet;
mod reader;
pub mod trec;
pub mod vectors;
mod writer;

#[cfg(test)]
mod tests;

pub use columns::Columns;
pub use convert::{Conversion, Converted, convert};
pub use reader::{ExampleReader, read_all, read_examples};
pub use writer::{Rows, Written, write_examples, write_rows};

use crate::{Error, Result};
use serde::Serialize;
use std::path::Path;

/// A file format for examples, told by the name of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line: `.jsonl`, `.ndjson`, `.json`.
    Jsonl,
    /// Comma-separated values with a header: `.csv`.
    Csv,
    /// Tab-separated values with a header: `.tsv`, `.tab`.
    Tsv,
    /// Apache Parquet: `.parquet`.
    Parquet,
}

impl Format {
    /// The format of `path` by its extension, with `.gz`, `.zst` or `.zstd` behind it allowed for text.
    ///
    /// # Errors
    /// When the extension is none of those.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (extension, compressed) = extension(path);
        match (extension.as_str(), compressed) {
            ("jsonl" | "ndjson" | "json", _) => Ok(Self::Jsonl),
            ("csv", _) => Ok(Self::Csv),
            ("tsv" | "tab", _) => Ok(Self::Tsv),
            ("parquet" | "pq", false) => Ok(Self::Parquet),
            ("parquet" | "pq", true) => {
                Err(Error::file(path, None, "Parquet compresses its own columns; a compressed .parquet is not read"))
            }
            _ => Err(Error::file(path, None, "examples are kept in .jsonl, .csv, .tsv (also with .gz or .zst) and .parquet files")),
        }
    }
}

/// The extension of `path` in lower case, without a compression suffix, and whether there was one.
fn extension(path: &Path) -> (String, bool) {
    let lower = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain = [".gz", ".zst", ".zstd"].iter().find_map(|suffix| lower.strip_suffix(suffix));
    let name = plain.unwrap_or(&lower);
    (name.rsplit_once('.').map(|(_, e)| e.to_owned()).unwrap_or_default(), plain.is_some())
}
