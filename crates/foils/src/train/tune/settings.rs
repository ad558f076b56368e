//! All settings of a tuning run, as one TOML file has them.

use crate::models::LoraSettings;
use crate::negatives::MineSettings;
use crate::train::{Checkpoints, TrainSettings};
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings of `foils tune`: a TOML file with these names, written out beside the results.
///
/// ```
/// let settings: foils::train::tune::TuneSettings = foils::train::tune::TuneSettings::parse("seed = 3\n[mine]\nnum_negatives = 4\n").unwrap();
/// assert_eq!((settings.seed, settings.mine.num_negatives), (3, 4));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuneSettings {
    /// What is tuned: `wordllama`, `static-random`, `minilm`, or a sentence-transformers folder.
    pub encoder: String,
    /// What comes before queries, instead of what the encoder's folder says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_prompt: Option<String>,
    /// What comes before documents, instead of what the encoder's folder says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_prompt: Option<String>,
    /// Train low-rank updates of a transformer alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSettings>,
    /// A folder for the vectors of the untuned transformer ([`crate::models::EmbeddingCache`]); not in the file, since it changes nothing.
    #[serde(skip)]
    pub embedding_cache: Option<PathBuf>,
    /// The least time between two checkpoints of a training; not in the file, since it changes nothing.
    #[serde(skip, default = "every")]
    pub checkpoint_every: Duration,
    /// Fixes batches, sampling and splits.
    pub seed: u64,
    /// Share of the pairs held out for validation, and again for the test, where no such files are given.
    pub held_out: f64,
    /// Train with in-batch negatives alone: nothing is mined.
    pub in_batch_only: bool,
    /// Try several ways of mining and pick one: by this judge.
    pub auto: Option<Judge>,
    /// How negatives are mined.
    pub mine: MineSettings,
    /// What is minimised, how long and how fast.
    pub train: TrainSettings,
}

/// Who picks among ways of mining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The highest ECI; no training at all (paper `eci`).
    Eci,
    /// Successive halving: short trainings, of which the better half on validation data goes on for longer.
    Race,
}

impl Judge {
    /// As the setting is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eci => "eci",
            Self::Race => "race",
        }
    }
}

fn every() -> Duration {
    Checkpoints::EVERY
}

impl Default for TuneSettings {
    fn default() -> Self {
        Self {
            encoder: "wordllama".into(),
            query_prompt: None,
            document_prompt: None,
            lora: None,
            embedding_cache: None,
            checkpoint_every: every(),
            seed: 0,
            held_out: 0.1,
            in_batch_only: false,
            auto: None,
            mine: MineSettings::default(),
            train: TrainSettings::default(),
        }
    }
}

impl TuneSettings {
    /// Those of a run in the folder `out`.
    pub(super) fn checkpoints(&self, out: &Path) -> Checkpoints {
        Checkpoints { every: self.checkpoint_every, ..Checkpoints::in_folder(out.join("checkpoints")) }
    }

    /// From TOML text; what is not named keeps its default.
    ///
    /// # Errors
    /// On anything that is no such TOML; unknown names are refused.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| Error::invalid(format!("settings: {e}")))
    }

    /// From a TOML file.
    ///
    /// # Errors
    /// As [`TuneSettings::parse`], naming file and line.
    pub fn read(path: &Path) -> Result<Self> {
        let mut text = String::new();
        files::open(path)?.read_to_string(&mut text).map_err(Error::io("read", path))?;
        toml::from_str(&text).map_err(|e: toml::de::Error| {
            let line = e.span().map(|s| text[..s.start].matches('\n').count() as u64 + 1);
            Error::file(path, line, e.message())
        })
    }

    /// As TOML.
    ///
    /// # Errors
    /// When a value has no TOML form.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Error::invalid(format!("cannot write the settings as TOML: {e}")))
    }
}
