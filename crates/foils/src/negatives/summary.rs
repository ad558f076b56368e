//! What mining did, in numbers: `mine.json`.

use super::mining::ScoredBy;
use serde::{Deserialize, Serialize};

/// The account of one mining run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MineSummary {
    /// The settings, by name, as they were used.
    pub settings: serde_json::Value,
    /// Queries mined for.
    pub queries: usize,
    /// Documents searched.
    pub documents: usize,
    /// Candidates that were looked at before any filter.
    pub candidates: u64,
    /// What each filter removed, in the order in which they were applied.
    pub removed: Vec<Removed>,
    /// Candidates that were a positive of their query.
    pub equal_to_positive: EqualToPositive,
    /// Candidates that passed every filter and were not needed.
    pub unused: u64,
    /// Negatives kept.
    pub kept: u64,
    /// What the scores are; none in files of earlier versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scored_by: Option<ScoredBy>,
    /// Candidates that score above their query's lowest positive, before filters: how many false negatives to expect.
    pub candidates_above_positive: u64,
    /// The same among the negatives kept.
    pub kept_above_positive: u64,
    /// Queries for which fewer negatives were left than asked for.
    pub too_few: usize,
    /// The first hundred of them.
    pub too_few_examples: Vec<TooFew>,
    /// Scores of the positives.
    pub positive_scores: Quantiles,
    /// Scores of the kept negatives.
    pub negative_scores: Quantiles,
    /// Lowest positive of the query minus negative, over the negatives kept.
    pub differences: Quantiles,
    /// What the reader should know (a filter that loosened for negative positive scores, …).
    pub warnings: Vec<String>,
    /// Wall-clock seconds by part: embed, bm25, dense, filter.
    pub seconds: std::collections::BTreeMap<String, f64>,
}

/// What one filter took away.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Removed {
    /// The filter's name, as its setting is called.
    pub filter: String,
    /// Candidates removed.
    pub count: u64,
    /// The same as a share of all candidates.
    pub share: f64,
}

/// Candidates that equalled a positive of their own query and were therefore never negatives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EqualToPositive {
    /// The same document.
    pub by_id: u64,
    /// Another document with the same text in normal form.
    pub by_text: u64,
    /// A near-copy of a positive.
    pub nearly: u64,
}

/// A query for which too few negatives were left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TooFew {
    /// The query's id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// How many were found.
    pub found: usize,
}

/// Five numbers and the mean of a sample; all 0 when it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Smallest.
    pub min: f64,
    /// First quartile.
    pub q25: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub q75: f64,
    /// Largest.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
}

impl Quantiles {
    /// Of `values`, interpolated linearly between neighbours. Values that are not finite must not be among them.
    pub fn of(mut values: Vec<f64>) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len() - 1;
        let at = |share: f64| {
            let place = share * last as f64;
            let (low, part) = (place as usize, place.fract());
            values[low] + part * (values[(low + 1).min(last)] - values[low])
        };
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Self { min: values[0], q25: at(0.25), median: at(0.5), q75: at(0.75), max: values[last], mean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let q = Quantiles::of(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(q, Quantiles { min: 1.0, q25: 1.75, median: 2.5, q75: 3.25, max: 4.0, mean: 2.5 });
        assert_eq!(Quantiles::of(vec![7.0]), Quantiles { min: 7.0, q25: 7.0, median: 7.0, q75: 7.0, max: 7.0, mean: 7.0 });
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
    }
}
