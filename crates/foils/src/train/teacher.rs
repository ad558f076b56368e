//! What a teacher says of anchors and candidates, to turn candidates away or to be learned from.

use super::relevance::{Drawn, Source};
use super::{TrainSettings, TrainingSet};
use crate::data::Example;
use crate::losses::RankingLoss;
use crate::models::{self, LoadOptions, Trainable};
use crate::weighting::NegativeFilter;
use crate::{Error, Result};

/// A teacher and what it is for: to turn candidates away (as GISTEmbed does), or to be learned from.
pub(super) struct Teacher<'a> {
    source: Source<'a>,
    /// Which candidates it turns away; none when its scores are what the loss learns.
    filter: Option<NegativeFilter>,
}

impl<'a> Teacher<'a> {
    /// The teacher of the settings, if there is one. An encoder is loaded, and embeds each text of `set` once for each role that it plays.
    ///
    /// # Errors
    /// When `loss` needs a teacher and none is named, the encoder cannot be loaded or gives a text no direction, or scores are missing.
    pub fn new(settings: &TrainSettings, loss: &dyn RankingLoss, examples: &'a [Example], set: &TrainingSet) -> Result<Option<Self>> {
        settings.check_teacher(loss)?;
        let source = if let Some(encoder) = load_teacher(settings)? {
            Source::encoder(&*encoder, set).map_err(the_teacher)?
        } else if settings.teacher.as_deref() == Some(TrainSettings::WORDS) {
            Source::bm25(set)?
        } else if settings.teacher.is_some() {
            let source = Source::file(examples)?;
            if loss.needs_teacher() && (settings.negatives_per_anchor == 0 || examples.iter().all(|e| e.negatives.is_empty())) {
                let why = "of each anchor only its own positive and negatives have scores, and no negatives are used";
                return Err(Error::invalid(format!("there is nothing to learn from the scores in the examples: {why}")));
            }
            source
        } else {
            return Ok(None);
        };
        let filter = (!loss.needs_teacher()).then(|| settings.teacher_filter());
        Ok(Some(Self { source, filter }))
    }

    /// Whether its scores are what the loss learns.
    pub fn is_learned(&self) -> bool {
        self.filter.is_none()
    }

    /// Its scores `[anchors, candidates]` of a batch; NaN where it has none.
    pub fn scores(&self, drawn: &Drawn) -> Vec<f64> {
        self.source.scores(drawn)
    }

    /// Whether a candidate is left out for an anchor, by its score and that of the positive.
    pub fn leaves_out(&self, score: f64, positive: f64) -> bool {
        match &self.filter {
            // Without a score there is no judgement: no comparison with NaN holds.
            Some(filter) => filter.rejects(score, positive).is_some(),
            None => score.is_nan(),
        }
    }
}

/// The encoder that the settings name as the teacher, if they name one.
pub(super) fn load_teacher(settings: &TrainSettings) -> Result<Option<Box<dyn Trainable>>> {
    let no_encoder = [TrainSettings::SCORES_OF_THE_FILE, TrainSettings::WORDS];
    let Some(name) = settings.teacher.as_deref().filter(|name| !no_encoder.contains(name)) else { return Ok(None) };
    load_judge(name, settings).map(Some).map_err(the_teacher)
}

/// An encoder that is asked, and not trained.
pub(super) fn load_judge(name: &str, settings: &TrainSettings) -> Result<Box<dyn Trainable>> {
    let precision = settings.precision;
    let options =
        LoadOptions { seed: settings.seed, precision, embedding_cache: settings.embedding_cache.clone(), ..LoadOptions::default() };
    let mut encoder = models::load_with(name, &options)?;
    encoder.to_device(&settings.device.open()?);
    Ok(encoder)
}

fn the_teacher(error: Error) -> Error {
    Error::invalid(format!("the teacher: {error}"))
}

#[cfg(test)]
mod tests;
