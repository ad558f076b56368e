//! ECI, effective contrastive information: how good is a set of hard negatives, before any training (`eci`)?
//!
//! For query i with positive similarity s⁺ and the similarities s₁ … s_K of its negatives: hardness h = mean max(s, 0); safety
//! m = max(s⁺ − max s, 0) ([`Margin::Hardest`]) or mean max(s⁺ − s, 0) ([`Margin::Mean`]). With their means H and S over the queries that
//! have negatives, efficiency E = 2HS/(H+S), and ECI = capacity · E. Designed from the paper's abstract: absolute values are not the
//! paper's. What a set looks like to a weak encoder says little about the set: see [`super::score_sets`].
//!
//! All sums are correctly rounded, so to the last bit: the order of queries and of negatives changes nothing, adding an unsafe negative to
//! a query that has negatives never raises safety, and making a negative no longer similar never raises hardness.

use super::exact_sum::exact_sum;
use crate::metrics::{Bootstrap, Interval};
use crate::{Error, Result};
use foils_kernels::Real;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How far the negatives must stay below the positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Margin {
    /// The hardest negative decides: one unsafe negative makes the query's safety 0.
    #[default]
    Hardest,
    /// The mean over the negatives; less brittle where there are many.
    Mean,
}

/// How the size of the set counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capacity {
    /// log(1 + mean number of negatives of the queries that have any).
    #[default]
    PerQuery,
    /// log(1 + number of negatives of all queries).
    Total,
}

/// How ECI is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EciSettings {
    /// The margin of safety.
    pub margin: Margin,
    /// The size term.
    pub capacity: Capacity,
    /// Refuse scores beyond ±1.0001, which no cosine has.
    pub strict: bool,
}

/// ECI and its components.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eci {
    /// capacity · efficiency.
    pub eci: f64,
    /// Natural log of 1 + set size.
    pub capacity: f64,
    /// H, the mean positive part of the negatives' similarity.
    pub hardness: f64,
    /// S, the mean margin.
    pub safety: f64,
    /// 2HS/(H+S); 0 when both are 0.
    pub efficiency: f64,
    /// Share of the pairs whose negative scores at or above the positive.
    pub unsafe_rate: f64,
    /// Queries without negatives, left out of the means.
    pub queries_without_negatives: usize,
}

/// What ECI needs to know of one query; means over any of its queries are an ECI again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueryParts {
    /// Its negatives.
    pub negatives: usize,
    /// Of these, at or above the positive.
    pub at_or_above: usize,
    /// h: mean max(s, 0); 0 without negatives.
    pub hardness: f64,
    /// m with [`Margin::Hardest`]; 0 without negatives.
    pub safety_hardest: f64,
    /// m with [`Margin::Mean`]; 0 without negatives.
    pub safety_mean: f64,
}

impl QueryParts {
    /// From the positive's similarity and those of the negatives, all finite.
    pub fn new(positive: f64, negatives: &[f64]) -> Self {
        if negatives.is_empty() {
            return Self::default();
        }
        let mean = |of: &dyn Fn(f64) -> f64| exact_sum(negatives.iter().map(|s| of(*s))) / negatives.len() as f64;
        let hardest = negatives.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            negatives: negatives.len(),
            at_or_above: negatives.iter().filter(|s| **s >= positive).count(),
            hardness: mean(&|s| s.max(0.0)),
            safety_hardest: (positive - hardest).max(0.0),
            safety_mean: mean(&|s| (positive - s).max(0.0)),
        }
    }
}

impl Eci {
    /// ECI of the given queries, which may repeat (a resample); `None` when none of them has negatives.
    pub fn of<'a>(queries: impl IntoIterator<Item = &'a QueryParts>, margin: Margin, capacity: Capacity) -> Option<Self> {
        let (mut all, mut with): (usize, Vec<&QueryParts>) = (0, Vec::new());
        for query in queries {
            all += 1;
            if query.negatives > 0 {
                with.push(query);
            }
        }
        if with.is_empty() {
            return None;
        }
        let count = with.len() as f64;
        let mean = |of: fn(&QueryParts) -> f64| exact_sum(with.iter().map(|q| of(q))) / count;
        let pairs: usize = with.iter().map(|q| q.negatives).sum();
        let at_or_above: usize = with.iter().map(|q| q.at_or_above).sum();
        let capacity = match capacity {
            Capacity::PerQuery => pairs as f64 / count,
            Capacity::Total => pairs as f64,
        }
        .ln_1p();
        let hardness = mean(|q| q.hardness);
        let safety = match margin {
            Margin::Hardest => mean(|q| q.safety_hardest),
            Margin::Mean => mean(|q| q.safety_mean),
        };
        let efficiency = if hardness + safety == 0.0 { 0.0 } else { 2.0 * hardness * (safety / (hardness + safety)) };
        Some(Self {
            eci: capacity * efficiency,
            capacity,
            hardness,
            safety,
            efficiency,
            unsafe_rate: at_or_above as f64 / pairs as f64,
            queries_without_negatives: all - with.len(),
        })
    }

    /// The components in the order eci, capacity, hardness, safety, efficiency, unsafe_rate.
    pub fn values(&self) -> [f64; 6] {
        [self.eci, self.capacity, self.hardness, self.safety, self.efficiency, self.unsafe_rate]
    }
}

/// ECI and its components, each with its bootstrap interval over queries (order of [`Eci::values`]).
///
/// # Errors
/// When no query has negatives.
pub fn eci_intervals(queries: &[QueryParts], settings: EciSettings, bootstrap: &Bootstrap) -> Result<[Interval; 6]> {
    let values = |drawn: &[u32]| {
        let drawn = drawn.iter().map(|&q| &queries[q as usize]);
        Eci::of(drawn, settings.margin, settings.capacity).map_or([f64::NAN; 6], |e| e.values()).to_vec()
    };
    if queries.iter().all(|q| q.negatives == 0) {
        return Err(no_negatives());
    }
    let intervals = bootstrap.statistics(queries.len(), values)?;
    intervals.try_into().map_err(|_| Error::invalid("six statistics were asked for"))
}

/// ECI from similarities: `positive[Q]`, `negatives[Q, K]` and `mask[Q, K]`, row-major; false is padding, whose score is never read.
///
/// # Errors
/// When Q is 0, the shapes differ, nothing is left by the mask, a score is NaN or infinite, or (`strict`) beyond ±1.0001.
pub fn eci_from_scores<T: Real>(positive: &[T], negatives: &[T], mask: &[bool], settings: EciSettings) -> Result<Eci> {
    whole(&parts_from_scores(positive, negatives, mask, settings.strict)?, settings)
}

/// ECI from vectors by cosine: `query[Q, D]`, `positive[Q, D]`, `negatives[Q, K, D]`, `mask[Q, K]`, row-major; false is padding, whose
/// vector is never read. The cosine with a zero vector is 0.
///
/// # Errors
/// When Q or D is 0, the shapes differ, nothing is left by the mask, or a value is NaN or infinite.
pub fn eci_from_embeddings<T: Real>(
    query: &[T],
    positive: &[T],
    negatives: &[T],
    mask: &[bool],
    dim: usize,
    settings: EciSettings,
) -> Result<Eci> {
    if dim == 0 || query.is_empty() || !query.len().is_multiple_of(dim) || positive.len() != query.len() {
        return Err(Error::invalid(format!("{} query and {} positive values do not both fill rows of {dim}", query.len(), positive.len())));
    }
    let queries = query.len() / dim;
    if !mask.len().is_multiple_of(queries) || negatives.len() != mask.len() * dim {
        return Err(Error::invalid(format!(
            "{} negative values and a mask of {} do not fit {queries} queries of width {dim}",
            negatives.len(),
            mask.len()
        )));
    }
    let per_query = mask.len() / queries;
    let direction = |name: &str, values: &[T], row: usize| -> Result<Vec<f64>> {
        unit(&values[row * dim..(row + 1) * dim])
            .map_err(|(column, v)| Error::invalid(format!("{name} vector {row}, column {column}: {v} is not a finite number")))
    };
    let scores = (0..queries)
        .into_par_iter()
        .map(|q| {
            let anchor = direction("query", query, q)?;
            let own = dot(&anchor, &direction("positive", positive, q)?);
            let negatives = (q * per_query..(q + 1) * per_query)
                .map(|n| if mask[n] { Ok(dot(&anchor, &direction("negative", negatives, n)?)) } else { Ok(0.0) })
                .collect::<Result<Vec<f64>>>()?;
            Ok((own, negatives))
        })
        .collect::<Result<Vec<_>>>()?;
    let (positive, negatives): (Vec<f64>, Vec<Vec<f64>>) = scores.into_iter().unzip();
    eci_from_scores(&positive, &negatives.concat(), mask, settings)
}

/// ECI of the `k` hardest negatives of each query, for each of `ks`: where the curve turns down, more negatives do harm. A query
/// with fewer uses what it has. Arguments as in [`eci_from_scores`].
///
/// # Errors
/// As [`eci_from_scores`], and when a k is 0.
pub fn eci_curve<T: Real>(
    positive: &[T],
    negatives: &[T],
    mask: &[bool],
    ks: &[usize],
    settings: EciSettings,
) -> Result<Vec<(usize, Eci)>> {
    if ks.contains(&0) {
        return Err(Error::invalid("a curve over the k hardest negatives begins at k = 1"));
    }
    let mut rows = valid_scores(positive, negatives, mask, settings.strict)?;
    rows.iter_mut().for_each(|(_, scores)| scores.sort_unstable_by(|a, b| b.total_cmp(a)));
    let prefix = |k: usize| rows.iter().map(|(p, s)| QueryParts::new(*p, &s[..k.min(s.len())])).collect::<Vec<_>>();
    ks.iter().map(|&k| Ok((k, whole(&prefix(k), settings)?))).collect()
}

/// The parts of every query, for [`Eci::of`] and [`eci_intervals`]; arguments and errors as in [`eci_from_scores`], but queries may all be without negatives.
///
/// # Errors
/// See [`eci_from_scores`].
pub fn parts_from_scores<T: Real>(positive: &[T], negatives: &[T], mask: &[bool], strict: bool) -> Result<Vec<QueryParts>> {
    Ok(valid_scores(positive, negatives, mask, strict)?.iter().map(|(p, s)| QueryParts::new(*p, s)).collect())
}

fn whole(queries: &[QueryParts], settings: EciSettings) -> Result<Eci> {
    let eci = Eci::of(queries, settings.margin, settings.capacity).ok_or_else(no_negatives)?;
    if !eci.eci.is_finite() {
        return Err(Error::invalid("the scores are too large: they should be cosines, or lie in [0, 1]"));
    }
    Ok(eci)
}

fn no_negatives() -> Error {
    Error::invalid("no query has a negative: there is no set to score")
}

/// The positive's score and the unmasked negatives' of every query, checked.
fn valid_scores<T: Real>(positive: &[T], negatives: &[T], mask: &[bool], strict: bool) -> Result<Vec<(f64, Vec<f64>)>> {
    let queries = positive.len();
    if queries == 0 {
        return Err(Error::invalid("there are no queries"));
    }
    if negatives.len() != mask.len() || !mask.len().is_multiple_of(queries) {
        return Err(Error::invalid(format!(
            "{} negative scores and a mask of {} do not both fill a row for each of {queries} queries",
            negatives.len(),
            mask.len()
        )));
    }
    let per_query = mask.len() / queries;
    let checked = |name: &str, value: T, query: usize| {
        let value = value.to_f64();
        if !value.is_finite() {
            return Err(Error::invalid(format!("query {query}: a {name} score is {value}, not a finite number")));
        }
        if strict && value.abs() > 1.0001 {
            return Err(Error::invalid(format!("query {query}: a {name} score is {value}, beyond ±1.0001")));
        }
        Ok(value)
    };
    (0..queries)
        .map(|q| {
            let row = q * per_query..(q + 1) * per_query;
            let scores = row.filter(|&i| mask[i]).map(|i| checked("negative", negatives[i], q)).collect::<Result<_>>()?;
            Ok((checked("positive", positive[q], q)?, scores))
        })
        .collect()
}

/// The row divided by its length, or zeros for a zero row; a value that is not finite comes back with its column.
pub(super) fn unit<T: Real>(row: &[T]) -> Result<Vec<f64>, (usize, f64)> {
    let mut row: Vec<f64> = row.iter().map(|v| v.to_f64()).collect();
    if let Some(at) = row.iter().position(|v| !v.is_finite()) {
        return Err((at, row[at]));
    }
    // By the largest value first, so that no square over- or underflows.
    for norm in [|row: &[f64]| row.iter().fold(0.0f64, |m, v| m.max(v.abs())), |row: &[f64]| dot(row, row).sqrt()] {
        let norm = norm(&row);
        if norm > 0.0 {
            row.iter_mut().for_each(|v| *v /= norm);
        }
    }
    Ok(row)
}

/// Always summed in the same order: equal vectors have equal similarities to the last bit.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
#[path = "eci_tests.rs"]
mod tests;
