//! Rank metrics at a cut, query by query (`baselines-mining`, "Metrics"): recall, precision, hit, reciprocal rank, nDCG, average precision.
//!
//! A ranking is ordered by score, highest first; equal scores go to the lower document index. Equal means numerically equal:
//! −0 ties with 0. A query without a relevant document has no metrics: it is left out of every mean and counted.

use crate::data::Qrels;
use crate::search::Ranking;
use crate::{Error, Result};
use foils_kernels::Real;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// How a grade counts in nDCG.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gain {
    /// The grade itself (trec_eval).
    #[default]
    Linear,
    /// 2^grade − 1.
    Exponential,
}

/// What the precisions at the relevant ranks are divided by in average precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapDenominator {
    /// All relevant documents (trec_eval's `map_cut`).
    #[default]
    AllRelevant,
    /// The smaller of the relevant documents and k (sentence-transformers).
    MinK,
}

/// The cut and the two conventions that differ between tools; the default is trec_eval's at 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrievalSettings {
    /// The cut, at least 1; may be above the number of documents.
    pub k: usize,
    /// For nDCG.
    pub gain: Gain,
    /// For average precision.
    pub map_denominator: MapDenominator,
}

impl Default for RetrievalSettings {
    fn default() -> Self {
        Self { k: 10, gain: Gain::default(), map_denominator: MapDenominator::default() }
    }
}

/// The metrics of one query (or their means), each in \[0, 1\].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankMetrics {
    /// Relevant documents within the cut / relevant documents.
    pub recall: f64,
    /// Relevant documents within the cut / k, also where fewer than k documents exist.
    pub precision: f64,
    /// 1 when any relevant document is within the cut.
    pub hit: f64,
    /// 1 / rank of the first relevant document within the cut, else 0.
    pub mrr: f64,
    /// Discounted cumulative gain / that of the ideal order of all documents, both cut at k.
    pub ndcg: f64,
    /// Average precision within the cut.
    pub map: f64,
}

impl RankMetrics {
    /// The names of the metrics that an evaluation lists, in its order.
    pub const NAMES: [&'static str; 5] = ["recall", "precision", "mrr", "ndcg", "map"];

    /// The values in the order of [`RankMetrics::NAMES`].
    pub fn values(&self) -> [f64; 5] {
        [self.recall, self.precision, self.mrr, self.ndcg, self.map]
    }
}

/// The metrics of every query at one cut.
#[derive(Clone, Debug, PartialEq)]
pub struct PerQuery {
    /// The cut.
    pub k: usize,
    /// One entry a query; `None` where no document is relevant.
    pub rows: Vec<Option<RankMetrics>>,
}

impl PerQuery {
    /// Queries without a relevant document, left out of the mean.
    pub fn without_relevant(&self) -> usize {
        self.rows.iter().filter(|r| r.is_none()).count()
    }

    /// The means over the queries that have a relevant document; `None` when there is no such query.
    pub fn mean(&self) -> Option<RankMetrics> {
        let count = self.rows.len() - self.without_relevant();
        let mean = |of: fn(&RankMetrics) -> f64| self.rows.iter().flatten().map(of).sum::<f64>() / count as f64;
        (count > 0).then(|| RankMetrics {
            recall: mean(|m| m.recall),
            precision: mean(|m| m.precision),
            hit: mean(|m| m.hit),
            mrr: mean(|m| m.mrr),
            ndcg: mean(|m| m.ndcg),
            map: mean(|m| m.map),
        })
    }
}

/// Metrics at `settings.k` from score and relevance matrices, both `[queries, documents]`, row-major.
///
/// # Errors
/// When k is 0, there are no documents, the matrices are ragged or differ in size, a score is NaN, a relevance is negative, or a grade
/// is too large for the exponential gain. Infinite scores are ordered as numbers are: −∞ puts a document last.
pub fn retrieval_metrics<T: Real>(scores: &[T], relevance: &[i64], documents: usize, settings: &RetrievalSettings) -> Result<PerQuery> {
    check_cuts(&[settings.k])?;
    if documents == 0 {
        return Err(Error::invalid("the score matrix has no documents"));
    }
    if scores.len() != relevance.len() || !scores.len().is_multiple_of(documents) {
        return Err(Error::invalid(format!(
            "{} scores and {} relevance grades do not both fill rows of {documents} documents",
            scores.len(),
            relevance.len()
        )));
    }
    let rows = scores
        .par_chunks_exact(documents)
        .zip(relevance.par_chunks_exact(documents))
        .enumerate()
        .map(|(query, (scores, grades))| {
            if let Some(doc) = scores.iter().position(|s| s.to_f64().is_nan()) {
                return Err(Error::invalid(format!("query {query}, document {doc}: the score is NaN")));
            }
            if let Some(doc) = grades.iter().position(|g| *g < 0) {
                return Err(Error::invalid(format!("query {query}: document {doc} has the negative relevance {}", grades[doc])));
            }
            let ranked: Vec<i64> = top(scores, settings.k).into_iter().map(|doc| grades[doc as usize]).collect();
            let relevant = grades.iter().copied().filter(|g| *g > 0).collect();
            at_cut(&ranked, &ideal(relevant), settings).map_err(|e| Error::invalid(format!("query {query}: {e}")))
        })
        .collect::<Result<_>>()?;
    Ok(PerQuery { k: settings.k, rows })
}

/// Metrics of ranked lists at each of `ks`, with trec_eval's conventions (linear gain, all relevant documents in the denominator of
/// average precision). A list may be shorter than the corpus or the cut: what it does not name is not retrieved, and the ideal order is over all of
/// the query's relevant documents.
///
/// # Errors
/// When `ks` is empty or holds 0, there is not one list a query, a score is NaN, or a list names a document twice.
pub fn of_run(rankings: &[Ranking], qrels: &Qrels, ks: &[usize]) -> Result<Vec<PerQuery>> {
    check_cuts(ks)?;
    if rankings.len() != qrels.len() {
        return Err(Error::invalid(format!("{} rankings for {} judged queries", rankings.len(), qrels.len())));
    }
    let rows = rankings
        .par_iter()
        .enumerate()
        .map(|(query, ranking)| {
            let grades: Vec<i64> = ordered(query, ranking)?.into_iter().map(|(doc, _)| qrels.grade(query, doc)).collect();
            let ideal = ideal(qrels.of(query).iter().map(|(_, grade)| *grade).collect());
            ks.iter().map(|&k| at_cut(&grades, &ideal, &RetrievalSettings { k, ..RetrievalSettings::default() })).collect()
        })
        .collect::<Result<Vec<Vec<_>>>>()?;
    Ok(ks.iter().enumerate().map(|(i, &k)| PerQuery { k, rows: rows.iter().map(|row| row[i]).collect() }).collect())
}

/// The indices of the `k` highest values, best first, ties to the lower index; all of them when there are fewer. NaN must have been refused.
pub(crate) fn top<T: PartialOrd>(row: &[T], k: usize) -> Vec<u32> {
    let best = |a: &u32, b: &u32| best_first((&row[*a as usize], *a), (&row[*b as usize], *b));
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    if k == 0 {
        return Vec::new();
    }
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, best);
        order.truncate(k);
    }
    order.sort_unstable_by(best);
    order
}

/// Higher score first, then lower index; `partial_cmp` makes −0 equal to 0, which a comparison of bit patterns would not.
fn best_first<T: PartialOrd>(a: (&T, u32), b: (&T, u32)) -> Ordering {
    b.0.partial_cmp(a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1))
}

fn ordered(query: usize, ranking: &Ranking) -> Result<Ranking> {
    if let Some((doc, _)) = ranking.iter().find(|(_, score)| score.is_nan()) {
        return Err(Error::invalid(format!("query {query}, document {doc}: the score is NaN")));
    }
    let mut ranking = ranking.clone();
    ranking.sort_unstable_by_key(|(doc, _)| *doc);
    if let Some(twice) = ranking.windows(2).find(|w| w[0].0 == w[1].0) {
        return Err(Error::invalid(format!("query {query}: document {} is ranked twice", twice[0].0)));
    }
    ranking.sort_unstable_by(|a, b| best_first((&a.1, a.0), (&b.1, b.0)));
    Ok(ranking)
}

pub(super) fn check_cuts(ks: &[usize]) -> Result<()> {
    if ks.is_empty() || ks.contains(&0) {
        return Err(Error::invalid(format!("the cuts k are {ks:?}; at least one is needed, and each must be at least 1")));
    }
    Ok(())
}

fn ideal(mut grades: Vec<i64>) -> Vec<i64> {
    grades.sort_unstable_by(|a, b| b.cmp(a));
    grades
}

/// `ranked`: the grades in rank order, as far as they go; `ideal`: the grades above 0 of all documents, highest first.
fn at_cut(ranked: &[i64], ideal: &[i64], settings: &RetrievalSettings) -> Result<Option<RankMetrics>> {
    let RetrievalSettings { k, gain, map_denominator } = *settings;
    let Some(&highest) = ideal.first() else { return Ok(None) };
    let dcg = |grades: &[i64]| -> f64 {
        let gain = |grade: i64| match gain {
            Gain::Linear => grade as f64,
            Gain::Exponential => (grade as f64).exp2() - 1.0,
        };
        grades.iter().take(k).enumerate().map(|(i, &grade)| gain(grade) / (i as f64 + 2.0).log2()).sum()
    };
    let ideal_dcg = dcg(ideal);
    if !ideal_dcg.is_finite() {
        return Err(Error::invalid(format!("the relevance {highest} is too large for the exponential gain")));
    }
    let (mut hits, mut precisions, mut first) = (0usize, 0.0, None);
    for (i, _) in ranked.iter().take(k).enumerate().filter(|(_, grade)| **grade > 0) {
        hits += 1;
        precisions += hits as f64 / (i + 1) as f64;
        first.get_or_insert(i + 1);
    }
    let denominator = match map_denominator {
        MapDenominator::AllRelevant => ideal.len(),
        MapDenominator::MinK => ideal.len().min(k),
    };
    Ok(Some(RankMetrics {
        recall: hits as f64 / ideal.len() as f64,
        precision: hits as f64 / k as f64,
        hit: if hits > 0 { 1.0 } else { 0.0 },
        mrr: first.map_or(0.0, |rank| 1.0 / rank as f64),
        ndcg: dcg(ranked) / ideal_dcg,
        map: precisions / denominator as f64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definitions, written down again without a shortcut: the rank of a document is one plus the number of documents before it.
    fn naive(scores: &[f64], grades: &[i64], s: &RetrievalSettings) -> Option<RankMetrics> {
        let n = scores.len();
        let before = |a: usize, b: usize| scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
        let rank: Vec<usize> = (0..n).map(|d| 1 + (0..n).filter(|&other| before(other, d)).count()).collect();
        let relevant: Vec<usize> = (0..n).filter(|&d| grades[d] > 0).collect();
        let within: Vec<usize> = relevant.iter().copied().filter(|&d| rank[d] <= s.k).collect();
        let gain = |g: i64| if s.gain == Gain::Linear { g as f64 } else { 2f64.powi(g as i32) - 1.0 };
        let dcg: f64 = within.iter().map(|&d| gain(grades[d]) / (rank[d] as f64 + 1.0).log2()).sum();
        let mut sorted: Vec<i64> = relevant.iter().map(|&d| grades[d]).collect();
        sorted.sort_by_key(|g| -g);
        let ideal: f64 = sorted.iter().take(s.k).enumerate().map(|(i, &g)| gain(g) / (i as f64 + 2.0).log2()).sum();
        let precision_at = |r: usize| relevant.iter().filter(|&&d| rank[d] <= r).count() as f64 / r as f64;
        let denominator = if s.map_denominator == MapDenominator::MinK { relevant.len().min(s.k) } else { relevant.len() };
        (!relevant.is_empty()).then(|| RankMetrics {
            recall: within.len() as f64 / relevant.len() as f64,
            precision: within.len() as f64 / s.k as f64,
            hit: f64::from(u8::from(!within.is_empty())),
            mrr: within.iter().map(|&d| 1.0 / rank[d] as f64).fold(0.0, f64::max),
            ndcg: dcg / ideal,
            map: within.iter().map(|&d| precision_at(rank[d])).sum::<f64>() / denominator as f64,
        })
    }

    fn close(a: &RankMetrics, b: &RankMetrics) -> bool {
        let all = |m: &RankMetrics| [m.recall, m.precision, m.hit, m.mrr, m.ndcg, m.map];
        all(a).iter().zip(all(b)).all(|(x, y)| (x - y).abs() < 1e-12)
    }

    proptest! {
        #[test]
        fn metrics_are_those_of_the_definitions(
            rows in prop::collection::vec(prop::collection::vec((-3i8..4, prop::bool::ANY, 0i64..4), 7), 1..5),
            k in 1usize..12, exponential: bool, min_k: bool,
        ) {
            // Few distinct scores, with both zeros, so that ties are the rule.
            let score = |s: i8, negative_zero: bool| if s == 0 && negative_zero { -0.0 } else { f64::from(s) };
            let scores: Vec<f64> = rows.iter().flatten().map(|&(s, z, _)| score(s, z)).collect();
            let grades: Vec<i64> = rows.iter().flatten().map(|&(.., g)| (g - 1).max(0)).collect();
            let settings = RetrievalSettings {
                k,
                gain: if exponential { Gain::Exponential } else { Gain::Linear },
                map_denominator: if min_k { MapDenominator::MinK } else { MapDenominator::AllRelevant },
            };
            let ours = retrieval_metrics(&scores, &grades, 7, &settings).unwrap();
            let expected: Vec<_> = scores.chunks(7).zip(grades.chunks(7)).map(|(s, g)| naive(s, g, &settings)).collect();
            prop_assert_eq!(ours.without_relevant(), expected.iter().filter(|e| e.is_none()).count());
            for (a, b) in ours.rows.iter().zip(&expected) {
                match (a, b) {
                    (None, None) => {}
                    (Some(a), Some(b)) => prop_assert!(close(a, b), "{:?} is not {:?}", a, b),
                    _ => prop_assert!(false, "{:?} is not {:?}", a, b),
                }
            }
            // The same as lists, given in the worst order, with the defaults' conventions.
            let lists: Vec<Ranking> = scores.chunks(7).map(|r| (0..7).rev().map(|d| (d as u32, r[d] as f32)).collect()).collect();
            let qrels = Qrels::new(grades.chunks(7).map(|g| (0..7).map(|d| (d as u32, g[d])).collect()).collect()).unwrap();
            let listed = of_run(&lists, &qrels, &[k, 3]).unwrap();
            let defaults = RetrievalSettings { k, ..RetrievalSettings::default() };
            prop_assert_eq!(&listed[0], &retrieval_metrics(&scores, &grades, 7, &defaults).unwrap());
            prop_assert_eq!(listed[1].k, 3);
        }
    }

    #[test]
    fn both_zeros_tie_and_go_to_the_lower_index() {
        let settings = RetrievalSettings { k: 1, ..RetrievalSettings::default() };
        for scores in [[-0.0, 0.0], [0.0, -0.0]] {
            assert_eq!(retrieval_metrics(&scores, &[1, 0], 2, &settings).unwrap().rows[0].unwrap().mrr, 1.0);
            assert_eq!(retrieval_metrics(&scores, &[0, 1], 2, &settings).unwrap().rows[0].unwrap().mrr, 0.0);
        }
    }

    #[test]
    fn a_list_that_misses_relevant_documents_is_measured_against_all_of_them() {
        let qrels = Qrels::new(vec![vec![(7, 1), (9, 1)]]).unwrap();
        let m = of_run(&[vec![(7, 0.5)]], &qrels, &[10]).unwrap()[0].rows[0].unwrap();
        let ideal = 1.0 + 1.0 / 3f64.log2();
        assert_eq!((m.recall, m.precision, m.mrr, m.map), (0.5, 0.1, 1.0, 0.5));
        assert!((m.ndcg - 1.0 / ideal).abs() < 1e-15);
    }

    #[test]
    fn queries_without_relevant_documents_are_counted_and_left_out() {
        let m = retrieval_metrics(&[1.0, 0.0, 1.0, 0.0], &[1, 0, 0, 0], 2, &RetrievalSettings::default()).unwrap();
        assert_eq!((m.without_relevant(), m.mean().unwrap().recall), (1, 1.0));
        let none = retrieval_metrics(&[1.0, 0.0], &[0, 0], 2, &RetrievalSettings::default()).unwrap();
        assert_eq!((none.without_relevant(), none.mean()), (1, None));
    }

    #[test]
    fn bad_input_is_named() {
        let at = |k| RetrievalSettings { k, ..RetrievalSettings::default() };
        let said =
            |scores: &[f64], grades: &[i64], n, s: &RetrievalSettings| retrieval_metrics(scores, grades, n, s).unwrap_err().to_string();
        assert!(said(&[1.0], &[1], 1, &at(0)).contains("at least 1"));
        assert!(said(&[], &[], 0, &at(1)).contains("no documents"));
        assert!(said(&[1.0, 2.0, 3.0], &[1, 0, 0], 2, &at(1)).contains("rows of 2"));
        assert!(said(&[1.0, 2.0], &[1], 2, &at(1)).contains("1 relevance grades"));
        assert!(said(&[1.0, f64::NAN], &[1, 0], 2, &at(1)).contains("query 0, document 1: the score is NaN"));
        assert!(said(&[1.0, 2.0], &[1, -2], 2, &at(1)).contains("negative relevance -2"));
        let exponential = RetrievalSettings { gain: Gain::Exponential, ..at(1) };
        assert!(said(&[1.0], &[5000], 1, &exponential).contains("5000 is too large"));
        let qrels = Qrels::new(vec![vec![(0, 1)]]).unwrap();
        assert!(of_run(&[vec![(3, 0.1), (3, 0.2)]], &qrels, &[1]).unwrap_err().to_string().contains("document 3 is ranked twice"));
        assert!(of_run(&[vec![(3, f32::NAN)]], &qrels, &[1]).unwrap_err().to_string().contains("NaN"));
        assert!(of_run(&[], &qrels, &[1]).unwrap_err().to_string().contains("0 rankings for 1"));
    }
}
