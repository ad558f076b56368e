//! How good is a set of negatives, before any training: `score.json`.

use crate::metrics::Interval;
use serde::{Deserialize, Serialize};

/// Scores of one or more negative sets for the same queries and positives.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ScoreReport {
    /// One entry a set, best ECI first.
    pub sets: Vec<SetScore>,
    /// How well the frozen encoder ranks the positives among all documents: nDCG@10.
    pub encoder_ndcg: f64,
    /// The share of queries whose positive scores above the mean of its negatives.
    pub encoder_positive_above: f64,
    /// The share of the five nearest other documents of a query that score at or above its positive.
    #[serde(default)]
    pub encoder_hardest_unsafe: f64,
    /// Whether the frozen encoder is good enough for ECI to mean something here (`eci`, "Pilot").
    pub trusted: bool,
    /// Why, in a sentence.
    pub trust_reason: String,
    /// Pairs of set names whose ECI differs, the better first: the 95 % interval of the difference excludes 0.
    pub different: Vec<(String, String)>,
}

/// One negative set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SetScore {
    /// The set's name.
    pub name: String,
    /// ECI with margin "hardest" and its bootstrap interval.
    pub eci: Interval,
    /// ECI with margin "mean".
    pub eci_mean_margin: Interval,
    /// log(1 + mean number of negatives).
    pub capacity: f64,
    /// Mean positive part of the negatives' similarity.
    pub hardness: f64,
    /// Mean margin between positive and hardest negative.
    pub safety: f64,
    /// Harmonic mean of hardness and safety.
    pub efficiency: f64,
    /// Share of pairs with the negative at or above the positive.
    pub unsafe_rate: f64,
    /// The intervals of the five components above.
    #[serde(default)]
    pub intervals: ComponentIntervals,
    /// Queries without negatives, left out of the means.
    pub queries_without_negatives: usize,
    /// What one would look at without ECI.
    pub baselines: Baselines,
    /// The hardest unsafe pairs, as text.
    pub unsafe_pairs: Vec<UnsafePair>,
}

/// The components of ECI with their bootstrap intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ComponentIntervals {
    /// See [`SetScore::capacity`].
    pub capacity: Interval,
    /// See [`SetScore::hardness`].
    pub hardness: Interval,
    /// See [`SetScore::safety`].
    pub safety: Interval,
    /// See [`SetScore::efficiency`].
    pub efficiency: Interval,
    /// See [`SetScore::unsafe_rate`].
    pub unsafe_rate: Interval,
}

/// The plain scores that ECI is compared with (`eci`, "Baseline scores to print beside it").
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Baselines {
    /// Mean similarity of the negatives.
    pub mean_similarity: f64,
    /// Mean of positive minus negative.
    pub mean_margin: f64,
    /// Number of negatives in the set.
    pub size: usize,
    /// Share of negatives above 95 % of the positive's score.
    pub near_positive: f64,
    /// InfoNCE over positive and own negatives at temperature 0.05, before training.
    pub info_nce: f64,
}

/// A negative that scores at or above its positive.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UnsafePair {
    /// The query's text.
    pub query: String,
    /// The positive's text.
    pub positive: String,
    /// The negative's text.
    pub negative: String,
    /// Similarity of the positive.
    pub positive_score: f64,
    /// Similarity of the negative.
    pub negative_score: f64,
}
