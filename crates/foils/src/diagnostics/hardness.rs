//! How hard InfoNCE pushes each negative.

use crate::search::Similarity;
use crate::{Error, Result, check};

/// What InfoNCE does to each pair of n queries and their n candidates (contrastive-behaviour); matrices are `[n, n]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HardnessProfile {
    /// P_ij = softmax_j(s_ij/τ).
    pub probability: Vec<f64>,
    /// ∂L_i/∂s_ii = −(1/τ) Σ_{k≠i} P_ik.
    pub positive_gradient: Vec<f64>,
    /// ∂L_i/∂s_ij = P_ij/τ; 0 on the diagonal.
    pub negative_gradient: Vec<f64>,
    /// r_ij = |∂L_i/∂s_ij| / |∂L_i/∂s_ii| = softmax over the negatives alone; 0 on the diagonal, and each row sums to 1.
    pub relative_penalty: Vec<f64>,
    /// −Σ_j r_ij ln r_ij: 0 when one negative takes all, ln(n − 1) when all are pushed alike. Rises with τ.
    pub penalty_entropy: Vec<f64>,
}

/// The profile of similarities `[n, n]` whose diagonal holds the positives. With [`Similarity::Cosine`] they are held to be cosines.
///
/// # Errors
/// When there are fewer than two rows, the matrix is not square, a value is not finite or a cosine beyond ±1 (by more than 1e-6), or the
/// temperature is not above 0.
pub fn hardness_profile(similarity: &[f64], n: usize, temperature: f64, kind: Similarity) -> Result<HardnessProfile> {
    let temperature = check::positive("temperature", temperature)?;
    if n < 2 {
        return Err(Error::invalid(format!("{n} rows: there are no negatives")));
    }
    if similarity.len() != n * n {
        return Err(Error::invalid(format!("{} similarities are not a square of {n} rows", similarity.len())));
    }
    let wrong = |s: &f64| !s.is_finite() || (kind == Similarity::Cosine && s.abs() > 1.0 + 1e-6);
    if let Some(at) = similarity.iter().position(wrong) {
        let what = if similarity[at].is_finite() { ", which is no cosine" } else { "" };
        return Err(Error::invalid(format!("the similarity of row {}, column {} is {}{what}", at / n, at % n, similarity[at])));
    }
    let zeros = || vec![0.0; n * n];
    let mut out = HardnessProfile {
        probability: zeros(),
        positive_gradient: Vec::with_capacity(n),
        negative_gradient: zeros(),
        relative_penalty: zeros(),
        penalty_entropy: Vec::with_capacity(n),
    };
    for i in 0..n {
        let row: Vec<f64> = similarity[i * n..][..n].iter().map(|s| s / temperature).collect();
        let others = || (0..n).filter(|&j| j != i);
        let shift = others().map(|j| row[j]).fold(f64::NEG_INFINITY, f64::max);
        let of_negatives = shift + others().map(|j| (row[j] - shift).exp()).sum::<f64>().ln();
        // ln(e^a + e^b), from the larger.
        let (most, least) = (of_negatives.max(row[i]), of_negatives.min(row[i]));
        let of_all = most + (least - most).exp().ln_1p();
        let mut entropy = 0.0;
        for (j, logit) in row.iter().enumerate() {
            out.probability[i * n + j] = (logit - of_all).exp();
            if j != i {
                let logarithm = logit - of_negatives;
                let penalty = logarithm.exp();
                out.relative_penalty[i * n + j] = penalty;
                out.negative_gradient[i * n + j] = out.probability[i * n + j] / temperature;
                entropy -= if penalty > 0.0 { penalty * logarithm } else { 0.0 };
            }
        }
        out.positive_gradient.push(-(of_negatives - of_all).exp() / temperature);
        out.penalty_entropy.push(entropy.max(0.0));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn similarities(n: usize, seed: f64) -> Vec<f64> {
        (0..n * n).map(|k| ((k as f64 * 12.9898 + seed) * 43.7).sin()).collect()
    }

    proptest! {
        #[test]
        fn totals_are_equal_penalties_sum_to_one_and_entropy_rises_with_temperature(n in 3usize..12, seed in 0.0f64..99.0, t in 0.02f64..2.0) {
            let s = similarities(n, seed);
            let at = |t| hardness_profile(&s, n, t, Similarity::Cosine).unwrap();
            let (now, warmer) = (at(t), at(1.3 * t));
            for i in 0..n {
                let row = |m: &[f64]| m[i * n..][..n].iter().sum::<f64>();
                prop_assert!((row(&now.negative_gradient) + now.positive_gradient[i]).abs() < 1e-9 / t);
                prop_assert!((row(&now.relative_penalty) - 1.0).abs() < 1e-9 && (row(&now.probability) - 1.0).abs() < 1e-9);
                prop_assert!(now.penalty_entropy[i] < warmer.penalty_entropy[i] && warmer.penalty_entropy[i] <= ((n - 1) as f64).ln() + 1e-9);
            }
        }
    }

    #[test]
    fn the_limits_are_the_hardest_triplet_and_the_simple_loss() {
        let n = 6;
        let s = similarities(n, 3.0);
        // L_i = −ln P_ii, by temperature.
        let losses = |t: f64| {
            let p = hardness_profile(&s, n, t, Similarity::Cosine).unwrap().probability;
            (0..n).map(|i| -p[i * n + i].ln()).collect::<Vec<_>>()
        };
        let (cold, warm) = (losses(5e-3), losses(1e6));
        for i in 0..n {
            let row = &s[i * n..][..n];
            let hardest = (0..n).filter(|&j| j != i).map(|j| row[j]).fold(f64::NEG_INFINITY, f64::max);
            // As near as τ ln n.
            assert!((5e-3 * cold[i] - (hardest - row[i]).max(0.0)).abs() < 1e-2);
            let simple = row.iter().sum::<f64>() / n as f64 - row[i];
            assert!((1e6 * (warm[i] - (n as f64).ln()) - simple).abs() < 1e-4, "{} {simple}", 1e6 * (warm[i] - (n as f64).ln()));
        }
    }

    #[test]
    fn one_negative_takes_all_and_unusable_input_is_named() {
        let two = hardness_profile(&[0.5, -0.5, 0.25, 1.0], 2, 0.1, Similarity::Cosine).unwrap();
        assert_eq!((two.relative_penalty, two.penalty_entropy), (vec![0.0, 1.0, 1.0, 0.0], vec![0.0, 0.0]));
        for (values, n, t, words) in [
            (vec![1.0], 1, 1.0, "1 rows"),
            (vec![1.0; 6], 2, 1.0, "6 similarities"),
            (vec![0.0, f64::NAN, 0.0, 0.0], 2, 1.0, "row 0, column 1 is NaN"),
            (vec![0.0, 0.0, 1.1, 0.0], 2, 1.0, "1.1, which is no cosine"),
            (vec![0.0; 4], 2, 0.0, "temperature = 0"),
        ] {
            let message = hardness_profile(&values, n, t, Similarity::Cosine).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        assert!(hardness_profile(&[0.0, 0.0, 7.0, 0.0], 2, 1.0, Similarity::Dot).is_ok());
    }
}
