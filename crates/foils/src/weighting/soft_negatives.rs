//! How much a negative counts that may be related to the anchor.

use crate::{Error, Result, check};

/// The weights of Soft-InfoNCE (soft-infonce): with sim_ij the softmax of relevance_ij/t over an anchor's M negatives,
/// w_ij = max( least, (β − α sim_ij) / (β − α/M) ). The mean over an anchor's negatives, before the floor, is 1: related negatives
/// weigh less, unrelated ones a little more. α = 0 gives 1 to all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftNegatives {
    weight_temperature: f64,
    alpha: f64,
    beta: f64,
    min_weight: f64,
}

/// What [`SoftNegatives::weights`] returns, both `[anchors, candidates]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftWeights {
    /// w; 1 for what is no negative.
    pub weights: Vec<f64>,
    /// sim; 0 for what is no negative.
    pub similarity: Vec<f64>,
}

impl Default for SoftNegatives {
    /// Those of the public code: t = α = β = 1, and 0.1 at least.
    fn default() -> Self {
        Self { weight_temperature: 1.0, alpha: 1.0, beta: 1.0, min_weight: 0.1 }
    }
}

impl SoftNegatives {
    /// t, α, β and the least weight.
    ///
    /// # Errors
    /// When t or the least weight is not a finite number above 0, or α or β is not finite.
    pub fn new(weight_temperature: f64, alpha: f64, beta: f64, min_weight: f64) -> Result<Self> {
        if let Some((name, value)) = [("alpha", alpha), ("beta", beta)].into_iter().find(|(_, v)| !v.is_finite()) {
            return Err(Error::invalid(format!("{name} = {value}, must be a finite number")));
        }
        let weight_temperature = check::positive("weight_temperature", weight_temperature)?;
        Ok(Self { weight_temperature, alpha, beta, min_weight: check::positive("min_weight", min_weight)? })
    }

    /// The weights of `candidates` candidates for each anchor from their relevance, row-major, with each anchor's positive and, if there
    /// are any, the candidates that are excluded for it.
    ///
    /// # Errors
    /// When lengths do not fit, a relevance of a negative or a positive is not finite, or β − α/M is not above 0, which α, β and M together decide.
    pub fn weights(&self, relevance: &[f64], candidates: usize, positive: &[u32], excluded: &[Vec<u32>]) -> Result<SoftWeights> {
        let (n, m) = (positive.len(), candidates);
        if relevance.len() != n * m {
            return Err(Error::invalid(format!("the relevance has {} values for {n} anchors and {m} candidates", relevance.len())));
        }
        let mut out = SoftWeights { weights: vec![1.0; n * m], similarity: vec![0.0; n * m] };
        for i in 0..n {
            let row = &relevance[i * m..][..m];
            let negatives = negatives(m, positive[i], excluded.get(i).map_or(&[], Vec::as_slice))?;
            let own = positive[i] as usize;
            if let Some(j) = negatives.iter().copied().chain([own]).find(|&j| !row[j].is_finite()) {
                return Err(Error::invalid(format!("the relevance of candidate {j} for anchor {i} is {}", row[j])));
            }
            if negatives.is_empty() {
                continue;
            }
            let divisor = self.beta - self.alpha / negatives.len() as f64;
            if divisor <= 0.0 || !divisor.is_finite() {
                let (alpha, beta, count) = (self.alpha, self.beta, negatives.len());
                return Err(Error::invalid(format!(
                    "alpha = {alpha} and beta = {beta} leave no weights for N = {} candidates: beta − alpha/{count} = {divisor}, and must be above 0",
                    count + 1
                )));
            }
            let shift = negatives.iter().map(|&j| row[j]).fold(f64::NEG_INFINITY, f64::max);
            let exp = |j: usize| ((row[j] - shift) / self.weight_temperature).exp();
            let sum: f64 = negatives.iter().map(|&j| exp(j)).sum();
            for &j in &negatives {
                let similarity = exp(j) / sum;
                out.similarity[i * m + j] = similarity;
                out.weights[i * m + j] = ((self.beta - self.alpha * similarity) / divisor).max(self.min_weight);
            }
        }
        Ok(out)
    }
}

/// Which negatives are not negatives at all, by their relevance (soft-infonce, "false-negative cancellation").
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cancellation {
    /// Each anchor's so many most relevant negatives, of equal ones the first.
    TopK(usize),
    /// Those with relevance_ij ≥ ratio · relevance_i,positive. Where the positive's relevance is not above 0 that is nearly all of them.
    Ratio(f64),
}

impl Cancellation {
    /// The candidates to exclude for each anchor, ascending: what is excluded already, and what is cancelled.
    ///
    /// # Errors
    /// As [`SoftNegatives::weights`]; when the ratio is not finite, or as many would be dropped as there are negatives.
    pub fn excluded(&self, relevance: &[f64], candidates: usize, positive: &[u32], excluded: &[Vec<u32>]) -> Result<Vec<Vec<u32>>> {
        let (n, m) = (positive.len(), candidates);
        if relevance.len() != n * m {
            return Err(Error::invalid(format!("the relevance has {} values for {n} anchors and {m} candidates", relevance.len())));
        }
        let mut all = Vec::with_capacity(n);
        for i in 0..n {
            let (row, already) = (&relevance[i * m..][..m], excluded.get(i).map_or(&[][..], Vec::as_slice));
            let mut negatives = negatives(m, positive[i], already)?;
            let own = positive[i] as usize;
            if let Some(j) = negatives.iter().copied().chain([own]).find(|&j| !row[j].is_finite()) {
                return Err(Error::invalid(format!("the relevance of candidate {j} for anchor {i} is {}", row[j])));
            }
            let dropped: Vec<u32> = match *self {
                Self::TopK(k) => {
                    if k >= negatives.len() {
                        let count = negatives.len();
                        return Err(Error::invalid(format!("top_k = {k} would drop all of the {count} negatives of anchor {i}")));
                    }
                    // + 0: both zeros tie.
                    negatives.sort_by(|&a, &b| (row[b] + 0.0).total_cmp(&(row[a] + 0.0)));
                    negatives[..k].iter().map(|&j| j as u32).collect()
                }
                Self::Ratio(ratio) if !ratio.is_finite() => {
                    return Err(Error::invalid(format!("ratio = {ratio}, must be a finite number")));
                }
                Self::Ratio(ratio) => negatives.into_iter().filter(|&j| row[j] >= ratio * row[own]).map(|j| j as u32).collect(),
            };
            let mut list: Vec<u32> = already.iter().copied().chain(dropped).collect();
            list.sort_unstable();
            list.dedup();
            all.push(list);
        }
        Ok(all)
    }
}

/// The candidates that are neither the positive nor excluded, ascending.
pub(crate) fn negatives(candidates: usize, positive: u32, excluded: &[u32]) -> Result<Vec<usize>> {
    let mut is = vec![true; candidates];
    for &j in excluded.iter().chain([&positive]) {
        *is.get_mut(j as usize).ok_or_else(|| Error::invalid(format!("candidate {j} of {candidates}")))? = false;
    }
    Ok((0..candidates).filter(|&j| is[j]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn weights_have_mean_one_and_fall_with_relevance(n in 3usize..9, seed in 0u64..1000, t in 0.1f64..3.0, alpha in 0.0f64..1.0) {
            let relevance: Vec<f64> = (0..n * n).map(|k| ((k as f64 + seed as f64) * 1.7).sin() * 3.0).collect();
            let positive: Vec<u32> = (0..n as u32).collect();
            let soft = SoftNegatives::new(t, alpha, 1.0, 1e-9).unwrap();
            let out = soft.weights(&relevance, n, &positive, &[]).unwrap();
            for i in 0..n {
                let others = || (0..n).filter(|&j| j != i);
                let of = |j: usize| (relevance[i * n + j], out.weights[i * n + j]);
                let mean = others().map(|j| of(j).1).sum::<f64>() / (n - 1) as f64;
                prop_assert!((mean - 1.0).abs() < 1e-9);
                prop_assert!(out.weights[i * n + i] == 1.0 && out.similarity[i * n + i] == 0.0);
                for (j, k) in others().flat_map(|j| others().map(move |k| (j, k))) {
                    prop_assert!(of(j).0 < of(k).0 || of(j).1 <= of(k).1 + 1e-12);
                }
            }
        }
    }

    #[test]
    fn what_is_excluded_has_no_part() {
        let relevance = [9.0, 1.0, f64::NAN, 0.0, 0.0, 9.0, 1.0, 1.0];
        let (positive, excluded) = ([0, 1], vec![vec![2], vec![]]);
        let out = SoftNegatives::default().weights(&relevance, 4, &positive, &excluded).unwrap();
        let e = 1.0f64.exp();
        assert!((out.similarity[1] - e / (e + 1.0)).abs() < 1e-12 && out.weights[2] == 1.0);
        assert!((out.weights[1] - 2.0 / (e + 1.0)).abs() < 1e-12);
        let dropped = Cancellation::TopK(1).excluded(&relevance, 4, &positive, &excluded).unwrap();
        assert_eq!(dropped, [vec![1, 2], vec![2]], "of equal ones the first");
        let dropped = Cancellation::Ratio(0.1).excluded(&relevance, 4, &positive, &excluded).unwrap();
        assert_eq!(dropped, [vec![1, 2], vec![2, 3]]);
    }

    #[test]
    fn unusable_input_is_named() {
        let says = |result: Result<SoftWeights>, words: &[&str]| {
            let message = result.unwrap_err().to_string();
            assert!(words.iter().all(|w| message.contains(w)), "{message}");
        };
        let soft = |alpha, beta| SoftNegatives::new(1.0, alpha, beta, 0.1).unwrap();
        says(soft(1.0, 1.0).weights(&[0.0; 4], 2, &[0, 1], &[]), &["alpha = 1", "beta = 1", "N = 2"]);
        says(soft(3.0, 1.0).weights(&[0.0; 9], 3, &[0, 1, 2], &[]), &["alpha = 3", "beta = 1", "N = 3"]);
        says(soft(1.0, 1.0).weights(&[0.0; 8], 3, &[0, 1, 2], &[]), &["8 values", "3 anchors"]);
        says(soft(1.0, 1.0).weights(&[0.0, f64::NAN, 0.0], 3, &[0], &[]), &["candidate 1", "anchor 0", "NaN"]);
        for bad in
            [SoftNegatives::new(0.0, 1.0, 1.0, 0.1), SoftNegatives::new(1.0, f64::NAN, 1.0, 0.1), SoftNegatives::new(1.0, 1.0, 1.0, 0.0)]
        {
            bad.unwrap_err();
        }
        let all = Cancellation::TopK(2).excluded(&[0.0; 9], 3, &[0, 1, 2], &[]).unwrap_err().to_string();
        assert!(all.contains("top_k = 2") && all.contains("2 negatives"), "{all}");
        says(soft(1.0, 1.0).weights(&[f64::NAN, 0.0, 0.0], 3, &[0], &[]), &["candidate 0", "anchor 0", "NaN"]);
        for ratio in [f64::NAN, f64::INFINITY] {
            let message = Cancellation::Ratio(ratio).excluded(&[0.0; 4], 2, &[0, 1], &[]).unwrap_err().to_string();
            assert!(message.contains(&format!("ratio = {ratio}")), "{message}");
        }
    }

    #[test]
    fn a_positive_without_relevance_cancels_what_is_not_below_it_and_both_zeros_tie() {
        let of = |cancellation: Cancellation, row: [f64; 4]| cancellation.excluded(&row, 4, &[0], &[]).unwrap().remove(0);
        assert_eq!(of(Cancellation::Ratio(0.9), [0.0, 0.0, -1.0, 2.0]), [1, 3]);
        assert_eq!(of(Cancellation::Ratio(0.9), [-1.0, -0.95, -0.9, 0.0]), [2, 3]);
        assert_eq!(of(Cancellation::TopK(1), [9.0, -0.0, 0.0, -1.0]), [1]);
    }
}
