//! Do two rankings agree? Spearman, Kendall τ-b and Pearson of paired values (`eci`, "Ranks").

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Three correlations, each in \[−1, 1\].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankAgreement {
    /// Pearson of average ranks.
    pub spearman: f64,
    /// Kendall τ with the correction for ties.
    pub kendall_tau_b: f64,
    /// Of the values themselves.
    pub pearson: f64,
}

/// How far `predicted` orders things as `observed` does. Ties are numerical equality, so −0 ties with 0. O(n log n).
///
/// # Errors
/// When the lengths differ, there are fewer than 3 pairs, a value is not finite, or one side is constant (no correlation is defined).
pub fn rank_agreement(predicted: &[f64], observed: &[f64]) -> Result<RankAgreement> {
    if predicted.len() != observed.len() {
        return Err(Error::invalid(format!(
            "{} predicted values cannot be compared with {} observed ones",
            predicted.len(),
            observed.len()
        )));
    }
    if predicted.len() < 3 {
        return Err(Error::invalid(format!("agreement needs at least 3 pairs, there are {}", predicted.len())));
    }
    for (name, values) in [("predicted", predicted), ("observed", observed)] {
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::invalid(format!("{name} value {at} is {}, not a finite number", values[at])));
        }
        // Compared with ==: a mean of equal numbers may differ from them in its last bit, and then no variance is 0.
        if values.iter().all(|v| *v == values[0]) {
            return Err(Error::invalid(format!("all {name} values are {}: the correlation with a constant is undefined", values[0])));
        }
    }
    Ok(RankAgreement {
        spearman: pearson(&average_ranks(predicted), &average_ranks(observed)),
        kendall_tau_b: kendall_tau_b(predicted, observed),
        pearson: pearson(predicted, observed),
    })
}

/// Of two samples of which neither is constant.
fn pearson(x: &[f64], y: &[f64]) -> f64 {
    // Scaled before and after centring, so that neither the mean nor a square leaves the range of f64.
    let scale = |values: &mut [f64]| {
        let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        values.iter_mut().for_each(|v| *v /= largest);
    };
    let centred = |values: &[f64]| {
        let mut values = values.to_vec();
        scale(&mut values);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter_mut().for_each(|v| *v -= mean);
        scale(&mut values);
        values
    };
    let (x, y) = (centred(x), centred(y));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    (dot(&x, &y) / (dot(&x, &x).sqrt() * dot(&y, &y).sqrt())).clamp(-1.0, 1.0)
}

/// Indices in ascending order of value; `partial_cmp` lets −0 tie with 0.
fn ascending(values: &[f64], order: &mut [usize]) {
    order.sort_by(|&a, &b| values[a].partial_cmp(&values[b]).unwrap_or(std::cmp::Ordering::Equal));
}

/// Ranks from 1; equal values share the mean of theirs.
pub(super) fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    ascending(values, &mut order);
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        equal.iter().for_each(|&i| ranks[i] = before as f64 + (equal.len() as f64 + 1.0) / 2.0);
        before += equal.len();
    }
    ranks
}

/// τ-b = (concordant − discordant) / √((pairs − ties in x)(pairs − ties in y)), by Knight's merge sort (1966).
fn kendall_tau_b(x: &[f64], y: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..x.len()).collect();
    ascending(y, &mut order);
    ascending(x, &mut order); // stable: by x, then y
    let pairs = |n: usize| (n as f64) * (n as f64 - 1.0) / 2.0;
    let (mut tied_x, mut tied_both) = (0.0, 0.0);
    for equal in order.chunk_by(|&a, &b| x[a] == x[b]) {
        tied_x += pairs(equal.len());
        tied_both += equal.chunk_by(|&a, &b| y[a] == y[b]).map(|both| pairs(both.len())).sum::<f64>();
    }
    let mut sorted: Vec<f64> = order.iter().map(|&i| y[i]).collect();
    let discordant = inversions(&mut sorted) as f64;
    let tied_y: f64 = sorted.chunk_by(|a, b| a == b).map(|equal| pairs(equal.len())).sum();
    let all = pairs(x.len());
    let concordant = all - tied_x - tied_y + tied_both - discordant;
    // Two roots and not one of the product, which may leave the range in which f64 counts exactly.
    ((concordant - discordant) / ((all - tied_x).sqrt() * (all - tied_y).sqrt())).clamp(-1.0, 1.0)
}

/// Sorts ascending and counts the pairs that stood in strictly descending order.
fn inversions(values: &mut [f64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let middle = values.len() / 2;
    let mut count = inversions(&mut values[..middle]) + inversions(&mut values[middle..]);
    let merged = {
        let (mut left, mut right) = values.split_at(middle);
        let mut merged = Vec::with_capacity(left.len() + right.len());
        while let ([l, left_rest @ ..], [r, right_rest @ ..]) = (left, right) {
            if r < l {
                count += left.len() as u64;
                merged.push(*r);
                right = right_rest;
            } else {
                merged.push(*l);
                left = left_rest;
            }
        }
        merged.extend_from_slice(left);
        merged.extend_from_slice(right);
        merged
    };
    values.copy_from_slice(&merged);
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Over all pairs, as Kendall defines it.
    fn naive_tau(x: &[f64], y: &[f64]) -> f64 {
        let (mut difference, mut untied_x, mut untied_y) = (0.0, 0.0, 0.0);
        let sign = |a: f64, b: f64| f64::from(i8::from(a > b) - i8::from(a < b));
        for i in 0..x.len() {
            for j in 0..i {
                let (sx, sy) = (sign(x[i], x[j]), sign(y[i], y[j]));
                difference += sx * sy;
                untied_x += sx.abs();
                untied_y += sy.abs();
            }
        }
        difference / f64::sqrt(untied_x * untied_y)
    }

    /// The rank is 1 + how many are below + half of how many others are equal.
    fn naive_ranks(v: &[f64]) -> Vec<f64> {
        let count = |of: &dyn Fn(f64) -> bool| v.iter().filter(|x| of(**x)).count() as f64;
        v.iter().map(|&x| 1.0 + count(&|o| o < x) + (count(&|o| o == x) - 1.0) / 2.0).collect()
    }

    fn naive_pearson(x: &[f64], y: &[f64]) -> f64 {
        let n = x.len() as f64;
        let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
        let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(a, b)| f(a - mx, b - my)).sum::<f64>();
        sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
    }

    proptest! {
        #[test]
        fn correlations_are_those_of_the_definitions(pairs in prop::collection::vec((-4i8..5, -4i8..5, any::<bool>()), 3..40)) {
            let zero = |v: i8, negative: bool| if v == 0 && negative { -0.0 } else { f64::from(v) };
            let x: Vec<f64> = pairs.iter().map(|p| zero(p.0, p.2)).collect();
            let y: Vec<f64> = pairs.iter().map(|p| zero(p.1, !p.2)).collect();
            let constant = |v: &[f64]| v.iter().all(|a| *a == v[0]);
            match rank_agreement(&x, &y) {
                Err(_) => prop_assert!(constant(&x) || constant(&y)),
                Ok(a) => {
                    prop_assert!((a.kendall_tau_b - naive_tau(&x, &y)).abs() < 1e-12);
                    prop_assert!((a.pearson - naive_pearson(&x, &y)).abs() < 1e-12);
                    prop_assert!((a.spearman - naive_pearson(&naive_ranks(&x), &naive_ranks(&y))).abs() < 1e-12);
                    let back = rank_agreement(&y, &x).unwrap();
                    prop_assert!((a.kendall_tau_b - back.kendall_tau_b).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn extreme_values_keep_their_correlation() {
        let a = rank_agreement(&[1e308, -1e308, 0.0], &[1e-308, -1e-308, 0.0]).unwrap();
        assert!((a.pearson - 1.0).abs() < 1e-12 && a.spearman == 1.0 && a.kendall_tau_b == 1.0, "{a:?}");
    }

    #[test]
    fn bad_input_is_named() {
        let said = |x: &[f64], y: &[f64]| rank_agreement(x, y).unwrap_err().to_string();
        assert!(said(&[1.0, 2.0], &[1.0, 2.0]).contains("at least 3"));
        assert!(said(&[1.0, 2.0, 3.0], &[1.0, 2.0]).contains("2 observed"));
        assert!(said(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]).contains("all predicted values are 0.1"));
        assert!(said(&[1.0, 2.0, 3.0], &[0.0, -0.0, 0.0]).contains("all observed values"));
        assert!(said(&[1.0, f64::INFINITY, 3.0], &[1.0, 2.0, 3.0]).contains("predicted value 1 is inf"));
    }
}
