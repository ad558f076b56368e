//! Held-out queries before and after training: `eval.json`.

use super::Histogram;
use serde::{Deserialize, Serialize};

/// A mean with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One metric at one cut, before and after.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// `recall`, `precision`, `mrr`, `ndcg`, `map`.
    pub metric: String,
    /// The cut.
    pub k: usize,
    /// With the encoder that one started from; absent when only one model was evaluated.
    pub before: Option<Interval>,
    /// With the trained encoder.
    pub after: Interval,
    /// After minus before, paired over queries.
    pub difference: Option<Interval>,
}

/// A query whose positive moved in the ranking.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Mover {
    /// The query's text.
    pub query: String,
    /// Its best positive's text.
    pub positive: String,
    /// The positive's rank before, from 1.
    pub rank_before: usize,
    /// The positive's rank after, from 1.
    pub rank_after: usize,
    /// The text of the document ranked first before.
    pub top_before: String,
    /// The text of the document ranked first after.
    pub top_after: String,
}

/// The evaluation of one or two encoders on the same held-out queries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Evaluation {
    /// Queries with at least one relevant document.
    pub queries: usize,
    /// Queries without one, left out.
    pub queries_without_relevant: usize,
    /// Documents searched.
    pub documents: usize,
    /// Every metric at every cut.
    pub metrics: Vec<Comparison>,
    /// Similarities of queries to their positives, before and after.
    pub positive_similarity: Vec<Histogram>,
    /// Similarities of queries to their hardest non-relevant documents (top 10), before and after.
    pub negative_similarity: Vec<Histogram>,
    /// The queries whose positive rose most (first) and fell most (last).
    pub movers: Vec<Mover>,
    /// Wall-clock seconds.
    pub seconds: f64,
}
