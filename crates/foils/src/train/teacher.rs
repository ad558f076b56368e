//! What a teacher says of anchors and candidates: a second encoder, or the scores that came with the examples. Scores once made,
//! nothing is embedded here within a step.

use super::{TrainSettings, TrainingSet};
use crate::data::{Embeddings, Example};
use crate::losses::RankingLoss;
use crate::models::{self, Encoder, LoadOptions, Role, Trainable};
use crate::search::check_directions;
use crate::weighting::NegativeFilter;
use crate::{Error, Result};

/// Not a place among the vectors.
const NOWHERE: u32 = u32::MAX;

/// A teacher and what it is for: to turn candidates away (as GISTEmbed does), or to be learned from.
pub(super) struct Teacher<'a> {
    source: Source<'a>,
    /// Which candidates it turns away; none when its scores are what the loss learns.
    filter: Option<NegativeFilter>,
}

enum Source<'a> {
    /// Unit vectors of the anchors and of the other texts.
    Encoder { anchors: Vectors, others: Vectors },
    /// The scores of the examples.
    File(&'a [Example]),
}

/// One of the drawn candidates: whose it is, and which of its positives or negatives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The anchor's place in the batch.
    pub anchor: usize,
    /// Among the positives of its example for the first candidates, one an anchor; then among its negatives.
    pub at: usize,
}

impl<'a> Teacher<'a> {
    /// The teacher of the settings, if there is one. An encoder is loaded, and embeds each text of `set` once for each role that it plays.
    ///
    /// # Errors
    /// When `loss` needs a teacher and none is named, the encoder cannot be loaded or gives a text no direction, or scores are missing.
    pub fn new(settings: &TrainSettings, loss: &dyn RankingLoss, examples: &'a [Example], set: &TrainingSet) -> Result<Option<Self>> {
        settings.check_teacher(loss)?;
        let source = if let Some(encoder) = load_teacher(settings)? {
            embedded(&*encoder, set).map_err(the_teacher)?
        } else if settings.teacher.is_some() {
            check_scores(examples)?;
            if loss.needs_teacher() && (settings.negatives_per_anchor == 0 || examples.iter().all(|e| e.negatives.is_empty())) {
                let why = "of each anchor only its own positive and negatives have scores, and no negatives are used";
                return Err(Error::invalid(format!("there is nothing to learn from the scores in the examples: {why}")));
            }
            Source::File(examples)
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

    /// Its scores `[anchors, candidates]` of a batch; NaN where it has none. `examples` are those of the anchors.
    pub fn scores(&self, examples: &[u32], anchors: &[u32], candidates: &[u32], places: &[Place]) -> Vec<f32> {
        let (n, m) = (anchors.len(), candidates.len());
        match &self.source {
            Source::Encoder { anchors: a, others } => {
                let mut scores = vec![0.0; n * m];
                let (a, c) = (a.of(anchors), others.of(candidates));
                let dim = a.dim();
                foils_kernels::product_threaded(&mut scores, (n, m, dim), a.data(), (dim, 1), c.data(), (1, dim), false, 1.0);
                scores
            }
            Source::File(all) => {
                let mut scores = vec![f32::NAN; n * m];
                for (column, place) in places.iter().enumerate() {
                    let example = &all[examples[place.anchor] as usize];
                    let own = if column < n { &example.positive_scores } else { &example.negative_scores };
                    scores[place.anchor * m + column] = own[place.at];
                }
                scores
            }
        }
    }

    /// Whether a candidate is left out for an anchor, by its score and that of the positive.
    pub fn leaves_out(&self, score: f32, positive: f32) -> bool {
        match &self.filter {
            // Without a score there is no judgement: no comparison with NaN holds.
            Some(filter) => filter.rejects(f64::from(score), f64::from(positive)).is_some(),
            None => score.is_nan(),
        }
    }
}

/// Vectors of some texts.
struct Vectors {
    /// The row of a text.
    rows: Vec<u32>,
    vectors: Embeddings,
}

impl Vectors {
    fn new(encoder: &dyn Encoder, role: Role, set: &TrainingSet, wanted: impl Iterator<Item = u32>) -> Result<Self> {
        let (mut rows, mut texts) = (vec![NOWHERE; set.texts().len()], Vec::new());
        for text in wanted {
            let row = &mut rows[text as usize];
            if *row == NOWHERE {
                *row = texts.len() as u32;
                texts.push(set.texts()[text as usize]);
            }
        }
        let vectors = encoder.embed_as(role, &texts)?;
        check_directions("training text", &vectors)?;
        Ok(Self { rows, vectors: vectors.normalized() })
    }

    fn of(&self, texts: &[u32]) -> Embeddings {
        self.vectors.select(&texts.iter().map(|&text| self.rows[text as usize]).collect::<Vec<_>>())
    }
}

/// The encoder that the settings name as the teacher, if they name one.
pub(super) fn load_teacher(settings: &TrainSettings) -> Result<Option<Box<dyn Trainable>>> {
    let Some(name) = settings.teacher.as_deref().filter(|name| *name != TrainSettings::SCORES_OF_THE_FILE) else { return Ok(None) };
    let precision = settings.precision;
    let options =
        LoadOptions { seed: settings.seed, precision, embedding_cache: settings.embedding_cache.clone(), ..LoadOptions::default() };
    let mut encoder = models::load_with(name, &options).map_err(the_teacher)?;
    encoder.to_device(&settings.device.open()?);
    Ok(Some(encoder))
}

fn the_teacher(error: Error) -> Error {
    Error::invalid(format!("the teacher: {error}"))
}

fn embedded<'a>(encoder: &dyn Encoder, set: &TrainingSet) -> Result<Source<'a>> {
    let examples = || 0..set.len() as u32;
    let others = examples().flat_map(|e| set.positives(e).iter().chain(set.negatives(e))).copied();
    Ok(Source::Encoder {
        anchors: Vectors::new(encoder, Role::Query, set, examples().map(|e| set.anchor(e)))?,
        others: Vectors::new(encoder, Role::Document, set, others)?,
    })
}

fn check_scores(examples: &[Example]) -> Result<()> {
    for (i, example) in examples.iter().enumerate() {
        let parts = [
            ("positive", &example.positive_scores, example.positives.len()),
            ("negative", &example.negative_scores, example.negatives.len()),
        ];
        for (part, scores, texts) in parts {
            let wrong = if scores.len() != texts {
                format!("has {} {part}_scores for {texts} {part}s", scores.len())
            } else if let Some(score) = scores.iter().find(|s| !s.is_finite()) {
                format!("has the {part} score {score}")
            } else {
                continue;
            };
            let advice = "the teacher `file` reads a score of every positive and negative (`foils mine --shape lists` writes them so)";
            return Err(Error::invalid(format!("training example {} {wrong}; {advice}", i + 1)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
