//! Reports: one HTML page from the JSON files that the steps of `foils tune` leave in a run folder, and one from a study ([`study`]).
//!
//! The page stands alone: no scripts, no fonts, no images, no network (its content security policy forbids them), plots as
//! inline SVG. Numbers are shown as the steps wrote them; what is computed here is arrangement (shares, sums, bins), no method.

mod cells;
mod charts;
#[cfg(test)]
mod fixture;
mod html;
mod page;
mod scale;
mod sections;
pub mod study;
#[cfg(test)]
mod tests;

pub use page::render;

use foils::diagnostics::ScoreReport;
use foils::metrics::Evaluation;
use foils::negatives::MineSummary;
use foils::train::TrainSummary;
use foils::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What a run folder holds; a step that was not run has left nothing.
#[derive(Clone, Debug, Default)]
pub struct RunFiles {
    /// The folder.
    pub folder: PathBuf,
    /// `mine.json`.
    pub mine: Option<MineSummary>,
    /// `score.json`.
    pub score: Option<ScoreReport>,
    /// `train.json`.
    pub train: Option<TrainSummary>,
    /// `eval.json`.
    pub eval: Option<Evaluation>,
    /// `tune.json`: settings, seconds and strategies as far as they are there.
    pub tune: Option<Map<String, Value>>,
}

impl RunFiles {
    /// Reads the files of `folder`.
    ///
    /// # Errors
    /// When `folder` is not a folder or holds none of the files; when one of them cannot be read or is broken (names file and line).
    pub fn read(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::file(folder, None, "is not a folder; the folder that `foils tune` wrote is needed here"));
        }
        let tune = match read::<Value>(folder, "tune.json")? {
            None => None,
            Some(Value::Object(map)) => Some(map),
            Some(_) => return Err(Error::file(folder.join("tune.json"), 1, "expected a JSON object")),
        };
        let files = Self {
            folder: folder.to_owned(),
            mine: read(folder, "mine.json")?,
            score: read(folder, "score.json")?,
            train: read(folder, "train.json")?,
            eval: read(folder, "eval.json")?,
            tune,
        };
        if files.mine.is_none() && files.score.is_none() && files.train.is_none() && files.eval.is_none() && files.tune.is_none() {
            let expected = "holds none of mine.json, score.json, train.json, eval.json and tune.json; the folder that `foils tune` wrote is needed here";
            return Err(Error::file(folder, None, expected));
        }
        Ok(files)
    }
}

/// A file of the folder, or `None` when it is not there.
fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>> {
    match foils::files::read_json(folder.join(name)) {
        Ok(value) => Ok(Some(value)),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
