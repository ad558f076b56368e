//! Similarities of pairs in a batch, and which of the negative ones are not outliers.

use crate::metrics::unit_rows;
use crate::{Error, Result, check};
use foils_kernels::simd::Row;

/// The box-and-whisker filter (unpg): of the ascending values s_0 … s_{M−1}, with Q1 = s_⌊M/4⌋, Q3 = s_⌊3M/4⌋ and R = Q3 − Q1, those from
/// Q1 − r R to Q3 + r R are kept, ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxWhisker {
    whisker: f64,
}

/// What [`BoxWhisker::filter`] keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The values that are kept, ascending.
    pub kept: Vec<f64>,
    /// No kept value is below this.
    pub lower: f64,
    /// No kept value is above this.
    pub upper: f64,
}

impl Default for BoxWhisker {
    /// r = 1.5.
    fn default() -> Self {
        Self { whisker: 1.5 }
    }
}

impl BoxWhisker {
    /// `whisker` is r.
    ///
    /// # Errors
    /// When `whisker` is negative or not finite.
    pub fn new(whisker: f64) -> Result<Self> {
        Ok(Self { whisker: check::not_negative("whisker", whisker)? })
    }

    /// r.
    pub fn whisker(&self) -> f64 {
        self.whisker
    }

    /// The values that are no outliers.
    ///
    /// # Errors
    /// When there are none at all, or one is not finite.
    pub fn filter(&self, similarities: &[f64]) -> Result<Kept> {
        let mut kept = similarities.to_vec();
        if let Some((i, s)) = kept.iter().enumerate().find(|(_, s)| !s.is_finite()) {
            return Err(Error::invalid(format!("similarity {i} is {s}")));
        }
        if kept.is_empty() {
            return Err(Error::invalid("no similarities: there are no quartiles to filter by"));
        }
        kept.sort_unstable_by(f64::total_cmp);
        let quartile = |quarters: usize| kept[quarters * kept.len() / 4];
        let (first, third) = (quartile(1), quartile(3));
        let reach = self.whisker * (third - first);
        let (lower, upper) = (first - reach, third + reach);
        kept.retain(|s| (lower..=upper).contains(s));
        Ok(Kept { kept, lower, upper })
    }
}

/// Cosines of all pairs of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairSimilarities {
    /// Of pairs of one class.
    pub positive: Vec<f64>,
    /// Of pairs of two classes.
    pub negative: Vec<f64>,
}

impl PairSimilarities {
    /// Of rows `[n, dim]`, row-major, with a class each: pairs i < j, by i and then by j (unpg).
    ///
    /// # Errors
    /// When there are no rows, labels are not one a row, rows are ragged or zero, or a value is not finite.
    pub fn of<T: Row>(features: &[T], dim: usize, labels: &[i64]) -> Result<Self> {
        let rows = unit_rows("features", features, dim)?;
        let n = rows.len() / dim;
        if n == 0 {
            return Err(Error::invalid("features has 0 rows: there are no pairs"));
        }
        if labels.len() != n {
            return Err(Error::invalid(format!("{} labels for {n} rows", labels.len())));
        }
        check::slice("features", features, dim, true)?;
        let mut found = Self::default();
        for (i, x) in rows.chunks_exact(dim).enumerate() {
            for (j, y) in rows.chunks_exact(dim).enumerate().skip(i + 1) {
                let cosine: f64 = x.iter().zip(y).map(|(x, y)| x.to_f64() * y.to_f64()).sum();
                if labels[i] == labels[j] { &mut found.positive } else { &mut found.negative }.push(cosine);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_lies_between_the_bounds_and_nothing_else_does(
            values in prop::collection::vec(-1.0..1.0f64, 1..60),
            whisker in 0.0..3.0f64,
        ) {
            let found = BoxWhisker::new(whisker).unwrap().filter(&values).unwrap();
            let inside = values.iter().filter(|v| **v >= found.lower && **v <= found.upper).count();
            prop_assert!(found.kept.len() == inside && inside > 0 && found.kept.is_sorted());
            let wider = BoxWhisker::new(whisker + 1.0).unwrap().filter(&values).unwrap();
            prop_assert!(wider.kept.len() >= inside);
            let all = BoxWhisker::new(1e9).unwrap().filter(&values).unwrap();
            // Half of the values are between the quartiles; with an extent above 0 a long whisker reaches all.
            prop_assert!(all.kept.len() == values.len() || found.upper == found.lower);
        }
    }

    #[test]
    fn one_value_and_equal_ones_are_kept_and_bad_ones_are_refused() {
        let filter = BoxWhisker::default();
        assert_eq!(filter.filter(&[0.3]).unwrap().kept, [0.3]);
        assert_eq!(filter.filter(&[0.3; 7]).unwrap().kept.len(), 7);
        assert!(filter.filter(&[]).unwrap_err().to_string().contains("no similarities"));
        assert!(filter.filter(&[0.1, f64::NAN]).unwrap_err().to_string().contains("similarity 1 is NaN"));
        assert!(BoxWhisker::new(-0.1).unwrap_err().to_string().contains("whisker"));
        let of = |features: &[f64], labels: &[i64]| PairSimilarities::of(features, 2, labels);
        let found = of(&[1.0, 0.0, 0.0, 2.0, 3.0, 3.0], &[4, 4, 1]).unwrap();
        assert!(found.positive == [0.0] && found.negative.iter().all(|s| (s - 0.5f64.sqrt()).abs() < 1e-12));
        assert!(of(&[1.0, 0.0, 0.0, 0.0], &[0, 1]).unwrap_err().to_string().contains("row 1"));
        assert!(of(&[1.0, 0.0], &[0, 1]).unwrap_err().to_string().contains("2 labels for 1 row"));
        assert!(of(&[1.0, f64::NAN], &[0]).is_err());
        assert!(of(&[], &[]).unwrap_err().to_string().contains("0 rows"));
    }
}
