//! What becomes of each candidate, and the account of all.

use super::candidates::Source;
use super::hard::negative_positive_warning;
use super::mining::{MineSettings, ScoredBy};
use super::near_copy::Looks;
use super::select::{Sampling, Selector, Tally};
use super::summary::{EqualToPositive, MineSummary, Quantiles, Removed, TooFew};
use crate::data::Collection;
use crate::data::text::{self, Digests};
use crate::search::Ranking;
use crate::weighting::Rejection;
use crate::{Error, Result, seed};
use serde::{Deserialize, Serialize};

/// Streams of the seed, one a query, apart from those of other uses.
const SAMPLING_STREAM: u64 = 11 << 40;
/// How many of the queries with too few negatives are named.
const TOO_FEW_NAMED: usize = 100;

/// How many candidates met which fate.
#[derive(Default, Serialize, Deserialize)]
struct Fates {
    candidates: u64,
    equal: EqualToPositive,
    equals_query: u64,
    repeated: u64,
    above_positive: u64,
    tally: Tally,
}

impl Fates {
    fn add(&mut self, other: &Self) {
        self.candidates += other.candidates;
        self.equal.by_id += other.equal.by_id;
        self.equal.by_text += other.equal.by_text;
        self.equal.nearly += other.equal.nearly;
        self.equals_query += other.equals_query;
        self.repeated += other.repeated;
        self.above_positive += other.above_positive;
        self.tally.add(&other.tally);
    }
}

/// What became of one query's candidates.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Judged {
    pub negatives: Ranking,
    /// The scores of the positives.
    pub positives: Vec<f32>,
    fates: Fates,
}

pub(super) struct Judge<'a> {
    pub collection: &'a Collection,
    pub settings: &'a MineSettings,
    pub selector: Selector<'a>,
}

impl Judge<'_> {
    /// `looks` has those of the candidates and positives.
    pub fn judge(&self, query: usize, candidates: Ranking, source: &Source, looks: &Looks) -> Judged {
        let positives = self.collection.qrels.of(query);
        let mut out = Judged { fates: Fates { candidates: candidates.len() as u64, ..Fates::default() }, ..Judged::default() };
        out.positives = source.positive_scores(query);
        let lowest = out.positives.iter().copied().fold(f32::INFINITY, f32::min);

        let positive_texts: Digests = positives.iter().map(|&(p, _)| looks.digest(p)).collect();
        let query_text = text::digest(&self.collection.queries.texts[query]);
        let mut seen = Digests::default();
        let mut left = candidates;
        left.retain(|&(document, _)| {
            let digest = looks.digest(document);
            let counter = if positives.binary_search_by_key(&document, |p| p.0).is_ok() {
                &mut out.fates.equal.by_id
            } else if positive_texts.contains(&digest) {
                &mut out.fates.equal.by_text
            } else if self.settings.near_copy > 0.0 && positives.iter().any(|&(p, _)| looks.near(document, p, self.settings.near_copy)) {
                &mut out.fates.equal.nearly
            } else if digest == query_text {
                &mut out.fates.equals_query
            } else if !seen.insert(digest) {
                &mut out.fates.repeated
            } else {
                return true;
            };
            *counter += 1;
            false
        });
        out.fates.above_positive = left.iter().filter(|c| c.1 > lowest).count() as u64;
        let mut rng = match self.settings.sampling {
            Sampling::Top => None,
            Sampling::Random => Some(seed::rng(self.settings.seed, SAMPLING_STREAM + query as u64)),
        };
        let (picked, tally) = self.selector.select(left.iter().map(|c| f64::from(c.1)), f64::from(lowest), rng.as_mut());
        out.negatives = picked.into_iter().map(|at| left[at]).collect();
        out.fates.tally = tally;
        out
    }
}

/// Sums over queries.
#[derive(Default)]
pub(super) struct Account {
    fates: Fates,
    too_few: usize,
    too_few_examples: Vec<TooFew>,
}

impl Account {
    pub fn add(&mut self, collection: &Collection, query: usize, judged: &Judged, asked: usize) {
        self.fates.add(&judged.fates);
        if judged.negatives.len() < asked {
            self.too_few += 1;
            if self.too_few_examples.len() < TOO_FEW_NAMED {
                let (id, text) = (collection.queries.ids[query].to_owned(), collection.queries.texts[query].to_owned());
                self.too_few_examples.push(TooFew { id, text, found: judged.negatives.len() });
            }
        }
    }

    pub fn summary(
        self,
        collection: &Collection,
        settings: &MineSettings,
        scored_by: ScoredBy,
        negatives: &[Ranking],
        positives: &[Vec<f32>],
    ) -> Result<MineSummary> {
        let removed = |filter: &str, count: u64| {
            let share = if self.fates.candidates == 0 { 0.0 } else { count as f64 / self.fates.candidates as f64 };
            Removed { filter: filter.to_owned(), count, share }
        };
        let mut filters = vec![removed("equals_query", self.fates.equals_query), removed("repeated_text", self.fates.repeated)];
        filters.extend(Rejection::ALL.iter().map(|&why| removed(why.name(), self.fates.tally.removed[why as usize])));
        let lowest: Vec<f64> = positives.iter().map(|p| f64::from(p.iter().copied().fold(f32::INFINITY, f32::min))).collect();
        let pairs = || negatives.iter().zip(&lowest).flat_map(|(list, &positive)| list.iter().map(move |n| (f64::from(n.1), positive)));
        let mut summary = MineSummary {
            settings: serde_json::to_value(settings).map_err(|e| Error::invalid(format!("settings have no JSON form: {e}")))?,
            queries: collection.queries.len(),
            documents: collection.corpus.len(),
            candidates: self.fates.candidates,
            removed: filters,
            equal_to_positive: self.fates.equal,
            unused: self.fates.tally.unused,
            kept: self.fates.tally.kept,
            scored_by: Some(scored_by),
            too_few: self.too_few,
            too_few_examples: self.too_few_examples,
            ..MineSummary::default()
        };
        if scored_by != ScoredBy::Nothing {
            summary.candidates_above_positive = self.fates.above_positive;
            summary.kept_above_positive = pairs().filter(|(negative, positive)| negative > positive).count() as u64;
            summary.positive_scores = Quantiles::of(positives.iter().flatten().map(|&s| f64::from(s)).collect());
            summary.negative_scores = Quantiles::of(pairs().map(|p| p.0).collect());
            summary.differences = Quantiles::of(pairs().map(|(negative, positive)| positive - negative).collect());
        }
        let below_zero = lowest.iter().filter(|s| **s < 0.0).count();
        summary.warnings.extend(negative_positive_warning(&settings.filter, below_zero, lowest.len()));
        if !matches!(scored_by, ScoredBy::Encoder | ScoredBy::Teacher) {
            summary.warnings.push("no encoder was given: only copies of positives were removed, unlabelled positives were not".into());
        } else if !settings.filter.needs_positive_scores() && settings.filter.max_score.is_none() {
            summary.warnings.push("no margin and no max_score is set: unlabelled positives among the candidates are kept".into());
        }
        if summary.kept == 0 {
            summary.warnings.push("no negative was left for any query".into());
        }
        Ok(summary)
    }
}
