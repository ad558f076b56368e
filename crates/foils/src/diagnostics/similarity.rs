//! How far apart do positives and negatives lie? Histograms of their cosines.

use super::pairs::above_diagonal;
use crate::metrics::{Histogram, unit_rows};
use crate::{Error, Result};
use foils_kernels::simd::Row;
use serde::{Deserialize, Serialize};

/// Cosines of positive and of negative pairs, counted in the same bins from −1 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimilarityHistograms {
    /// Of positive pairs.
    pub positive: Histogram,
    /// Of negative pairs.
    pub negative: Histogram,
}

impl SimilarityHistograms {
    /// Of two views `[n, dim]` each, row-major: positive are the two views of one sample; negative are all other pairs, within and
    /// across views. A zero row has cosine 0 to everything.
    ///
    /// # Errors
    /// When the views differ in length, n < 2, rows are ragged, a value is not finite, or there are no bins.
    pub fn of_views<T: Row>(z1: &[T], z2: &[T], dim: usize, bins: usize) -> Result<Self> {
        if z1.len() != z2.len() {
            return Err(Error::invalid(format!("{} values of the first view, {} of the second", z1.len(), z2.len())));
        }
        let n = z1.len() / dim.max(1);
        if n < 2 {
            return Err(Error::invalid(format!("{n} samples have no negatives, at least 2 are needed")));
        }
        let rows = [unit_rows("z1", z1, dim)?, unit_rows("z2", z2, dim)?].concat();
        Self::count(&rows, dim, bins, |i, j| j == i + n)
    }

    /// Of rows `[n, dim]`, row-major, with a class each: positive are pairs of one class, negative all others.
    ///
    /// # Errors
    /// When labels are not one a row, rows are ragged, a value is not finite, or there are no bins.
    pub fn of_classes<T: Row>(rows: &[T], dim: usize, labels: &[i64], bins: usize) -> Result<Self> {
        let rows = unit_rows("rows", rows, dim)?;
        if rows.len() != labels.len() * dim {
            return Err(Error::invalid(format!("{} labels for {} rows", labels.len(), rows.len() / dim)));
        }
        Self::count(&rows, dim, bins, |i, j| labels[i] == labels[j])
    }

    fn count<T: Row>(rows: &[T], dim: usize, bins: usize, positive: impl Fn(usize, usize) -> bool + Sync) -> Result<Self> {
        if bins == 0 {
            return Err(Error::invalid("0 bins count nothing"));
        }
        let empty = || Histogram::new(-1.0, 1.0, bins);
        let counted = above_diagonal(
            rows,
            dim,
            T::ONE,
            || [empty(), empty()],
            |[positives, negatives], i, j, values| {
                for (j, v) in (j..).zip(values) {
                    (if positive(i, j) { &mut *positives } else { &mut *negatives }).add(v.to_f64());
                }
            },
        );
        let mut all = Self { positive: empty(), negative: empty() };
        for [positive, negative] in &counted {
            all.positive.merge(positive);
            all.negative.merge(negative);
        }
        Ok(all)
    }

    /// The overlap coefficient: the area that the two share when each has area 1. 0: a threshold tells positives from negatives.
    /// None when there is no pair of one kind.
    pub fn overlap(&self) -> Option<f64> {
        self.positive.overlap(&self.negative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    #[test]
    fn every_pair_is_counted_once_where_it_belongs() {
        let (n, dim) = (90, 6);
        let mut rng = seed::rng(1, 0);
        let mut draw = || (0..n * dim).map(|_| seed::normal(&mut rng)).collect::<Vec<f64>>();
        let (z1, z2) = (draw(), draw());
        let found = SimilarityHistograms::of_views(&z1, &z2, dim, 50).unwrap();
        let rows = unit_rows("rows", &[z1.clone(), z2].concat(), dim).unwrap();
        let cosine = |i: usize, j: usize| (0..dim).map(|c| rows[i * dim + c] * rows[j * dim + c]).sum::<f64>();
        let mut expected = [Histogram::new(-1.0, 1.0, 50), Histogram::new(-1.0, 1.0, 50)];
        for i in 0..2 * n {
            for j in i + 1..2 * n {
                expected[usize::from(j != i + n)].add(cosine(i, j));
            }
        }
        assert_eq!(found.positive.total(), n as u64);
        assert_eq!([found.positive.clone(), found.negative.clone()], expected);
        // Unrelated views: positives look like negatives.
        assert!(found.overlap().unwrap() > 0.5);
        let alike = SimilarityHistograms::of_views(&z1, &z1, dim, 50).unwrap();
        assert!(alike.overlap().unwrap() < 0.1 && alike.positive.counts[49] == n as u64);

        let labels: Vec<i64> = (0..n as i64).map(|i| i % 3).collect();
        let classes = SimilarityHistograms::of_classes(&z1, dim, &labels, 20).unwrap();
        assert_eq!((classes.positive.total(), classes.negative.total()), (3 * 30 * 29 / 2, 3 * 30 * 30));
    }

    #[test]
    fn wrong_input_is_refused() {
        let says = |result: Result<SimilarityHistograms>, word: &str| assert!(result.unwrap_err().to_string().contains(word));
        let z = [1.0, 0.0, 0.0, 1.0];
        says(SimilarityHistograms::of_views(&z, &z[..2], 2, 10), "4 values of the first view, 2");
        says(SimilarityHistograms::of_views(&z[..2], &z[..2], 2, 10), "1 samples");
        says(SimilarityHistograms::of_views(&z, &z, 2, 0), "0 bins");
        says(SimilarityHistograms::of_views(&z, &[f64::NAN; 4], 2, 10), "z2: row 0");
        says(SimilarityHistograms::of_classes(&z, 2, &[1], 10), "1 labels for 2");
        assert_eq!(SimilarityHistograms::of_classes(&z, 2, &[1, 2], 10).unwrap().overlap(), None);
    }
}
