//! Where a training run stands, kept on disk while it goes on.

use super::candidates::Counts;
use super::queue::Queue;
use super::{StepRecord, Validation};
use crate::data::{Collection, Example};
use crate::models::{Trainable, from_bytes, to_bytes};
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// How the names of checkpoints end.
const EXTENSION: &str = "checkpoint";

/// Where checkpoints are kept, how often and how many.
///
/// A run that finds a checkpoint of its own in the folder (the same settings, examples, validation data and weights at the start) goes on
/// from it, and ends with the bytes that it would have ended with. Those of another run are removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoints {
    /// The folder; it is made when it is needed, and [`Checkpoints::forget`] removes it.
    pub folder: PathBuf,
    /// The least time between two.
    pub every: Duration,
    /// How many of the last are kept; 0: none are written.
    pub keep: usize,
}

impl Checkpoints {
    /// The least time between two, unless it is set otherwise.
    pub const EVERY: Duration = Duration::from_secs(60);

    /// The last two, one a minute.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), every: Self::EVERY, keep: 2 }
    }

    /// Removes all checkpoints, and the folder if nothing else is in it: when the trained model is safe.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn forget(&self) -> Result<()> {
        for (_, path) in self.all()? {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            // What was being written when a process was killed.
            if entry.file_name().to_string_lossy().starts_with(files::TEMPORARY_PREFIX) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        // Not empty, or never made.
        let _ = std::fs::remove_dir(&self.folder);
        Ok(())
    }

    /// The checkpoints that there are, with their steps, oldest first.
    fn all(&self) -> Result<Vec<(usize, PathBuf)>> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let io = || Error::io("read the folder", &self.folder);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(io())? {
            let path = entry.map_err(io())?.path();
            let step = path.file_stem().and_then(|stem| stem.to_str()?.strip_prefix("step-")?.parse().ok());
            if let (Some(step), true) = (step, path.extension().is_some_and(|e| e == EXTENSION)) {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Where a run stands after a step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved {
    /// [`run_digest`] of the run.
    pub run: u128,
    pub step: usize,
    /// [`Trainable::training_state`].
    pub model: Vec<u8>,
    pub best: Option<Vec<u8>>,
    pub since_best: usize,
    pub counts: Counts,
    pub queue: Queue,
    pub steps: Vec<StepRecord>,
    pub validations: Vec<Validation>,
    pub untuned_ndcg: f64,
    pub best_ndcg: f64,
    pub best_step: usize,
    /// Wall-clock seconds by part.
    pub seconds: BTreeMap<String, f64>,
}

/// Writes checkpoints when it is time.
pub(super) struct Keeper {
    settings: Checkpoints,
    run: u128,
    last: Instant,
}

impl Keeper {
    /// And the newest checkpoint of this run that can be read. What is newer, damaged or of another run, is removed: by its step it would
    /// be the last to go, in place of this run's.
    pub fn open(settings: &Checkpoints, run: u128) -> Result<(Self, Option<Saved>)> {
        let mut saved = None;
        for (_, path) in settings.all()?.into_iter().rev() {
            saved = read(&path).filter(|saved| saved.run == run);
            if saved.is_some() {
                break;
            }
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok((Self { settings: settings.clone(), run, last: Instant::now() }, saved))
    }

    pub fn is_due(&self) -> bool {
        self.settings.keep > 0 && self.last.elapsed() >= self.settings.every
    }

    /// Writes a checkpoint, then removes those that are too many.
    pub fn write(&mut self, saved: Saved) -> Result<()> {
        let path = self.settings.folder.join(format!("step-{:09}.{EXTENSION}", saved.step));
        let mut bytes = to_bytes(&Saved { run: self.run, ..saved });
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        files::write(&path, bytes)?;
        let all = self.settings.all()?;
        for (_, old) in &all[..all.len().saturating_sub(self.settings.keep)] {
            std::fs::remove_file(old).map_err(Error::io("remove", old))?;
        }
        self.last = Instant::now();
        Ok(())
    }
}

/// None of what is damaged or of another kind: then an older one serves.
fn read(path: &Path) -> Option<Saved> {
    let bytes = std::fs::read(path).ok()?;
    let (saved, sum) = bytes.split_last_chunk::<8>()?;
    if xxh3_64(saved) != u64::from_le_bytes(*sum) {
        return None;
    }
    from_bytes(saved).ok()
}

/// A digest of all that the result of a run depends on, but for the number of threads.
pub(super) fn run_digest(settings: &serde_json::Value, train: &[Example], validation: &Collection, model: &dyn Trainable) -> u128 {
    let mut hash = Xxh3::new();
    let mut add = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(settings.to_string().as_bytes());
    for example in train {
        for (count, scores) in [(example.positives.len(), &example.positive_scores), (example.negatives.len(), &example.negative_scores)] {
            add(&(count as u64).to_le_bytes());
            add(bytemuck::cast_slice(scores));
        }
        example.texts().for_each(|text| add(text.as_bytes()));
    }
    for texts in [&validation.queries.texts, &validation.corpus.texts] {
        add(&(texts.len() as u64).to_le_bytes());
        texts.iter().for_each(|text| add(text.as_bytes()));
    }
    for query in 0..validation.qrels.len() {
        add(&[]);
        validation
            .qrels
            .of(query)
            .iter()
            .for_each(|(document, grade)| add(&[document.to_le_bytes().as_slice(), &grade.to_le_bytes()].concat()));
    }
    add(&model.fingerprint().to_le_bytes());
    // Of low-rank updates the digest of the weights knows nothing while they are 0.
    add(&model.snapshot());
    add(format!("{:?}", model.prompts()).as_bytes());
    hash.digest128()
}
