//! How much each candidate counts against an anchor, by its relevance.

use super::TrainSettings;
use super::relevance::{Drawn, Source};
use super::teacher::load_judge;
use super::training_set::TrainingSet;
use crate::losses::{RankingLoss, Targets};
use crate::weighting::{Cancellation, SoftNegatives};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};

/// Hyper-parameters of the weightings that can be picked by name ([`TrainSettings::weights`]); each takes what it has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightSettings {
    /// `soft-infonce`: the relevance is divided by it.
    pub temperature: f64,
    /// `soft-infonce`: α, how much relevance takes from a weight.
    pub alpha: f64,
    /// `soft-infonce`: β.
    pub beta: f64,
    /// `soft-infonce`: the least weight.
    pub min_weight: f64,
    /// `cancel-top-k`: how many of an anchor's most relevant negatives are dropped.
    pub top_k: usize,
    /// `cancel-ratio`: negatives of at least this share of the positive's relevance are dropped.
    pub ratio: f64,
}

impl Default for WeightSettings {
    fn default() -> Self {
        Self { temperature: 1.0, alpha: 1.0, beta: 1.0, min_weight: 0.1, top_k: 1, ratio: 0.9 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Soft(SoftNegatives),
    Cancel(Cancellation),
}

/// What a setting `HOW:RELEVANCE` names.
#[derive(Clone, Debug, PartialEq)]
struct Named<'a> {
    how: How,
    relevance: &'a str,
    queries: bool,
}

const KINDS: &str = "soft-infonce, cancel-top-k and cancel-ratio";

impl<'a> Named<'a> {
    fn parse(text: &'a str, settings: &WeightSettings) -> Result<Self> {
        let example = "weights are named as soft-infonce:bm25, a weighting and where the relevance is from";
        let Some((kind, relevance)) = text.split_once(':').filter(|(_, relevance)| !relevance.is_empty()) else {
            return Err(Error::invalid(format!("weights {text:?}: {example}")));
        };
        let how = match kind {
            "soft-infonce" => How::Soft(SoftNegatives::new(settings.temperature, settings.alpha, settings.beta, settings.min_weight)?),
            "cancel-top-k" => How::Cancel(Cancellation::TopK(settings.top_k)),
            "cancel-ratio" => How::Cancel(Cancellation::Ratio(settings.ratio)),
            other => return Err(Error::invalid(format!("weights {text:?}: there is no weighting `{other}`; there are {KINDS}"))),
        };
        let queries = relevance.strip_prefix("queries:");
        if relevance == TrainSettings::SCORES_OF_THE_FILE {
            let why = "the scores in the examples are those of an anchor's own candidates, and others count too";
            return Err(Error::invalid(format!("weights {text:?} have no meaning: {why}; name bm25 or an encoder")));
        }
        Ok(Self { how, relevance: queries.unwrap_or(relevance), queries: queries.is_some() })
    }
}

/// Checks the setting, and that the loss has a use for it.
pub(super) fn check_weights(settings: &TrainSettings, loss: &dyn RankingLoss) -> Result<()> {
    let Some(text) = &settings.weights else { return Ok(()) };
    let named = Named::parse(text, &settings.weight_settings)?;
    let why = match named.how {
        How::Soft(_) if !loss.takes_weights() => "it has no denominator in which negatives could have weights",
        How::Cancel(_) if !loss.takes_exclusions() => "it compares no anchor with candidates that could be left out",
        _ => return Ok(()),
    };
    Err(Error::invalid(format!("weights {text:?} have no meaning for {}: {why}", loss.describe())))
}

/// A weighting and its relevance.
pub(super) struct Weigher {
    how: How,
    source: Source<'static>,
    /// Whether it was said that a ratio of what is not above 0 drops nearly all.
    warned: AtomicBool,
}

impl Weigher {
    /// That of the settings, if there is one. An encoder is loaded, and embeds each text of `set` once for each role that it plays.
    ///
    /// # Errors
    /// As [`check_weights`]; when an encoder cannot be loaded or gives a text no direction.
    pub fn new(settings: &TrainSettings, loss: &dyn RankingLoss, set: &TrainingSet) -> Result<Option<Self>> {
        check_weights(settings, loss)?;
        let Some(text) = &settings.weights else { return Ok(None) };
        let Named { how, relevance, queries } = Named::parse(text, &settings.weight_settings)?;
        let embedded = |by: fn(&dyn crate::models::Encoder, &TrainingSet) -> Result<Source<'static>>| {
            load_judge(relevance, settings)
                .and_then(|encoder| by(&*encoder, set))
                .map_err(|e| Error::invalid(format!("weights {text:?}: {e}")))
        };
        let source = match (relevance, queries) {
            (TrainSettings::WORDS, false) => Source::bm25(set)?,
            (_, false) => embedded(Source::encoder)?,
            (_, true) => embedded(Source::queries)?,
        };
        Ok(Some(Self { how, source, warned: AtomicBool::new(false) }))
    }

    /// Sets the weights of `targets`, or excludes more; returns how many more for each anchor.
    pub fn apply(&self, drawn: &Drawn, targets: &mut Targets) -> Result<Vec<usize>> {
        let (m, n) = (drawn.candidates.len(), drawn.anchors.len());
        let relevance = self.source.scores(drawn);
        match &self.how {
            How::Soft(soft) => {
                targets.weights = soft.weights(&relevance, m, &targets.positive, &targets.excluded)?.weights;
                Ok(vec![0; n])
            }
            How::Cancel(cancellation) => {
                if matches!(cancellation, Cancellation::Ratio(_)) {
                    self.warn_of_positives(&relevance, m, &targets.positive);
                }
                let excluded = cancellation.excluded(&relevance, m, &targets.positive, &targets.excluded)?;
                let more = excluded.iter().zip(&targets.excluded).map(|(now, before)| now.len() - before.len()).collect();
                targets.excluded = excluded;
                Ok(more)
            }
        }
    }

    /// Once in a training.
    fn warn_of_positives(&self, relevance: &[f64], candidates: usize, positive: &[u32]) {
        let below = positive.iter().enumerate().filter(|&(i, &p)| relevance[i * candidates + p as usize] <= 0.0).count();
        if below > 0 && !self.warned.swap(true, Ordering::Relaxed) {
            let n = positive.len();
            eprintln!(
                "warning: the positive of {below} of {n} anchors in a batch has a relevance of 0 or less: cancel-ratio drops nearly all of their negatives"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::{BarlowTwins, InfoNce, MarginMse};

    #[test]
    fn combinations_without_meaning_are_refused() {
        let with = |weights: &str| TrainSettings { weights: Some(weights.into()), ..TrainSettings::default() };
        let infonce = InfoNce::new(0.1).unwrap();
        let says = |settings: &TrainSettings, loss: &dyn RankingLoss, words: &str| {
            let message = check_weights(settings, loss).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        says(&with("bm25"), &infonce, "as soft-infonce:bm25");
        says(&with("soft-infonce:"), &infonce, "as soft-infonce:bm25");
        says(&with("soft:bm25"), &infonce, "there is no weighting `soft`; there are soft-infonce, cancel-top-k and cancel-ratio");
        says(&with("soft-infonce:file"), &infonce, "own candidates");
        says(&with("soft-infonce:bm25"), &MarginMse::new(1.0).unwrap(), "MarginMSE");
        says(&with("soft-infonce:bm25"), &infonce.symmetric(true), "no meaning for InfoNCE");
        let mut bad = with("soft-infonce:bm25");
        bad.weight_settings.min_weight = 0.0;
        says(&bad, &infonce, "min_weight = 0");
        for good in ["soft-infonce:bm25", "soft-infonce:minilm", "soft-infonce:queries:minilm", "cancel-top-k:bm25"] {
            check_weights(&with(good), &infonce).unwrap();
        }
        says(&with("cancel-top-k:bm25"), &BarlowTwins::new(0.1).unwrap(), "no meaning for BarlowTwins");
        check_weights(&with("cancel-ratio:bm25"), &MarginMse::new(1.0).unwrap()).unwrap();
        let named = Named::parse("soft-infonce:queries:some/folder", &WeightSettings::default()).unwrap();
        assert_eq!((named.relevance, named.queries), ("some/folder", true));
    }
}
