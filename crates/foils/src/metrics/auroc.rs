//! How well a score tells two kinds apart.

use super::agreement::average_ranks;
use crate::{Error, Result};

/// The area under the ROC curve: the probability that a random one of `positives` scores above a random one of `negatives`, a tie
/// counting half. 0.5 is no better than chance. Infinite scores are ordered like others. O(n log n).
///
/// # Errors
/// When either is empty or a score is NaN.
///
/// ```
/// assert_eq!(foils::metrics::auroc(&[3.0, 1.0], &[0.0, 1.0, 2.0])?, 4.5 / 6.0);
/// # Ok::<(), foils::Error>(())
/// ```
pub fn auroc(positives: &[f64], negatives: &[f64]) -> Result<f64> {
    for (name, scores) in [("positives", positives), ("negatives", negatives)] {
        if scores.is_empty() {
            return Err(Error::invalid(format!("there are no {name}: the area under the curve needs both kinds")));
        }
        if let Some(at) = scores.iter().position(|s| s.is_nan()) {
            return Err(Error::invalid(format!("{name}: score {at} is NaN")));
        }
    }
    // Mann and Whitney: the rank sum of the positives, less what it is among themselves.
    let ranks = average_ranks(&[positives, negatives].concat());
    let (p, n) = (positives.len() as f64, negatives.len() as f64);
    Ok((ranks[..positives.len()].iter().sum::<f64>() - p * (p + 1.0) / 2.0) / (p * n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_share_of_pairs_in_the_right_order(p in prop::collection::vec(-4i8..5, 1..30), n in prop::collection::vec(-4i8..5, 1..30)) {
            let [p, n] = [p, n].map(|v| v.into_iter().map(|x| if x == 4 { f64::INFINITY } else { f64::from(x) }).collect::<Vec<_>>());
            let pair = |(a, b): (f64, f64)| if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
            let pairs: f64 = p.iter().flat_map(|&a| n.iter().map(move |&b| (a, b))).map(pair).sum();
            let ours = auroc(&p, &n).unwrap();
            prop_assert!((ours - pairs / (p.len() * n.len()) as f64).abs() < 1e-12);
            prop_assert!((ours + auroc(&n, &p).unwrap() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn bad_input_is_named() {
        let said = |p: &[f64], n: &[f64]| auroc(p, n).unwrap_err().to_string();
        assert!(said(&[], &[1.0]).contains("no positives"));
        assert!(said(&[1.0], &[]).contains("no negatives"));
        assert!(said(&[1.0], &[0.0, f64::NAN]).contains("negatives: score 1 is NaN"));
    }
}
