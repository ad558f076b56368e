//! The rank of one right answer among many.

use crate::{Error, Result};

/// Mean reciprocal rank (soft-infonce) of scores `[q, m]`, row-major, each row with one right column: the mean of 1/rank, rank = 1 + the
/// number of strictly larger scores; 0 where that is beyond `cutoff`.
///
/// # Errors
/// When there are no queries, the lengths do not fit, a target is no column, the cutoff is 0, or a score is NaN.
pub fn mean_reciprocal_rank(scores: &[f64], targets: &[usize], cutoff: usize) -> Result<f64> {
    let q = targets.len();
    if q == 0 || scores.is_empty() || !scores.len().is_multiple_of(q) {
        return Err(Error::invalid(format!("{} scores are no rows of one length for {q} queries", scores.len())));
    }
    if cutoff == 0 {
        return Err(Error::invalid("cutoff = 0: no rank counts"));
    }
    let m = scores.len() / q;
    let mut sum = 0.0;
    for (i, (row, &target)) in scores.chunks_exact(m).zip(targets).enumerate() {
        if let Some(j) = row.iter().position(|s| s.is_nan()) {
            return Err(Error::invalid(format!("the score of query {i} and candidate {j} is NaN")));
        }
        let right = *row.get(target).ok_or_else(|| Error::invalid(format!("the target of query {i} is candidate {target} of {m}")))?;
        let rank = 1 + row.iter().filter(|s| **s > right).count();
        sum += if rank > cutoff { 0.0 } else { 1.0 / rank as f64 };
    }
    Ok(sum / q as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_kind_and_the_cutoff_counts() {
        let scores = [3.0, 2.0, 2.0, 1.0, 0.5, 0.0];
        assert_eq!(mean_reciprocal_rank(&scores, &[2, 2], 1000).unwrap(), (0.5 + 1.0 / 3.0) / 2.0);
        assert_eq!(mean_reciprocal_rank(&scores, &[2, 2], 2).unwrap(), 0.25);
        for (scores, targets, cutoff, words) in [
            (&scores[..5], &[0, 0][..], 9, "5 scores"),
            (&scores[..], &[], 9, "0 queries"),
            (&scores[..], &[0, 3], 9, "query 1 is candidate 3 of 3"),
            (&[f64::NAN, 0.0][..], &[0], 9, "NaN"),
            (&scores[..], &[0, 0], 0, "cutoff = 0"),
        ] {
            let message = mean_reciprocal_rank(scores, targets, cutoff).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
