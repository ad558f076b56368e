//! What mining is asked for and what it gives.

use super::candidates::Candidates;
use super::miner::Miner;
use super::select::Sampling;
use super::summary::MineSummary;
use crate::data::{Collection, Embeddings};
use crate::search::{Bm25Settings, Ranking};
use crate::weighting::NegativeFilter;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What to mine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MineSettings {
    /// Where candidates come from.
    pub candidates: Candidates,
    /// Negatives for each query.
    pub num_negatives: usize,
    /// Which of the survivors become negatives.
    pub sampling: Sampling,
    /// For random candidates and random sampling.
    pub seed: u64,
    /// A candidate is a near-copy of a positive when the Jaccard similarity of their word sets is at least this; 0 turns the
    /// test off.
    pub near_copy: f64,
    /// Limits on the cosine similarity of a negative, and the window of ranks. Where `range_max` is not set it is
    /// `range_min` + 10 · `num_negatives` + the largest number of positives of a query.
    pub filter: NegativeFilter,
    /// For BM25 candidates.
    pub bm25: Bm25Settings,
}

impl Default for MineSettings {
    fn default() -> Self {
        Self {
            candidates: Candidates::Hybrid,
            num_negatives: 5,
            sampling: Sampling::Top,
            seed: 0,
            near_copy: 0.9,
            filter: NegativeFilter { relative_margin: Some(0.05), ..NegativeFilter::default() },
            bm25: Bm25Settings::default(),
        }
    }
}

impl MineSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// Says which setting is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.num_negatives == 0 {
            return Err(Error::invalid("num_negatives is 0; at least one negative must be asked for"));
        }
        if !(0.0..=1.0).contains(&self.near_copy) {
            return Err(Error::invalid(format!("near_copy is {}, it must be from 0 (off) to 1", self.near_copy)));
        }
        if let (Some(max), Some(min)) = (self.filter.max_score, self.filter.min_score)
            && min > max
        {
            return Err(Error::invalid(format!("min_score {min} is above max_score {max}, so that nothing could pass")));
        }
        self.filter.validate()?;
        if let Some(window) = self.filter.range_max.map(|max| max - self.filter.range_min).filter(|w| *w < self.num_negatives) {
            let asked = self.num_negatives;
            return Err(Error::invalid(format!(
                "{asked} negatives are asked for and only {window} ranks lie in the window of range_min and range_max"
            )));
        }
        self.bm25.validate()
    }
}

/// What the scores of negatives and positives are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoredBy {
    /// Cosine similarities of the encoder's vectors.
    Encoder,
    /// Cosine similarities of a teacher's vectors.
    Teacher,
    /// BM25 scores.
    Bm25,
    /// Nothing scored them: random candidates without an encoder. The numbers are 0.
    Nothing,
}

/// Negatives for each query of a collection.
#[derive(Clone, Debug)]
pub struct Mined {
    /// For each query its negatives (document, score), in rank order.
    pub negatives: Vec<Ranking>,
    /// For each query the scores of its positives, in the order of the relevance judgements.
    pub positive_scores: Vec<Vec<f32>>,
    /// What the scores are.
    pub scored_by: ScoredBy,
    /// The account.
    pub summary: MineSummary,
}

/// Mines negatives for every query of `collection`: [`Miner`] with everything in memory.
///
/// `vectors` are those of the queries and of the documents, from one encoder. With them, every candidate (those of BM25 too)
/// is scored by cosine similarity, and limits on the score can be set; without, candidates are those of BM25 or random ones.
///
/// # Errors
/// As [`Miner::run`].
pub fn mine(collection: &Collection, vectors: Option<(&Embeddings, &Embeddings)>, settings: &MineSettings) -> Result<Mined> {
    let miner = Miner::new(collection, settings);
    match vectors {
        Some((queries, documents)) => miner.with_vectors(queries, documents),
        None => miner,
    }
    .run()
}

pub(super) fn check_collection(collection: &Collection, settings: &MineSettings) -> Result<()> {
    let (queries, documents) = (collection.queries.len(), collection.corpus.len());
    if queries == 0 {
        return Err(Error::invalid("there are no queries to mine for"));
    }
    if documents == 0 {
        return Err(Error::invalid("the corpus is empty"));
    }
    if collection.qrels.len() != queries {
        return Err(Error::invalid(format!("relevance is given for {} queries and there are {queries}", collection.qrels.len())));
    }
    for (query, id) in collection.queries.ids.iter().enumerate() {
        match collection.qrels.of(query).last() {
            None => return Err(Error::invalid(format!("query {id} has no positive"))),
            Some(&(last, _)) if last as usize >= documents => {
                return Err(Error::invalid(format!("query {id}: its positive {last} is not among the {documents} documents")));
            }
            Some(_) => {}
        }
    }
    if documents <= settings.num_negatives {
        let asked = settings.num_negatives;
        return Err(Error::invalid(format!(
            "{asked} negatives are asked for and there are only {documents} documents, positives included"
        )));
    }
    Ok(())
}

pub(super) fn check_encoder(present: bool, teacher: bool, settings: &MineSettings) -> Result<()> {
    if present {
        return Ok(());
    }
    if settings.candidates.needs_encoder() {
        let name = settings.candidates.name();
        return Err(Error::invalid(format!("`{name}` candidates need an encoder's vectors; give an encoder, or ask for bm25 or random")));
    }
    if settings.filter.needs_scores() && !teacher {
        let message = "a margin, max_score or min_score compares cosine similarities, which need an encoder's vectors; give an encoder or \
                       leave the limits out (BM25 scores have no common scale)";
        return Err(Error::invalid(message));
    }
    Ok(())
}
