//! Counts in equal bins.

use serde::{Deserialize, Serialize};

/// Counts of values in equal bins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Lower end of the first bin.
    pub low: f64,
    /// Upper end of the last bin.
    pub high: f64,
    /// Counts, one a bin.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// Empty, with `bins` bins.
    ///
    /// # Panics
    /// When there is no bin, or `low` is not below `high`.
    pub fn new(low: f64, high: f64, bins: usize) -> Self {
        assert!(bins > 0 && low < high, "{bins} bins from {low} to {high}");
        Self { low, high, counts: vec![0; bins] }
    }

    /// Counts `value`; what is outside goes to the nearer end (rounding carries cosines just beyond 1), as NaN does to the first.
    pub fn add(&mut self, value: f64) {
        let bins = self.counts.len();
        // The cast takes what is below the range to 0.
        let bin = (value - self.low) / (self.high - self.low) * bins as f64;
        self.counts[(bin as usize).min(bins - 1)] += 1;
    }

    /// Adds the counts of a histogram with the same bins.
    ///
    /// # Panics
    /// When it has others.
    pub fn merge(&mut self, other: &Self) {
        assert!(self.same_bins(other), "histograms of different bins");
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }

    /// All counts.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, &n| sum.saturating_add(n))
    }

    /// The ends of a bin.
    pub fn bin(&self, index: usize) -> (f64, f64) {
        let width = (self.high - self.low) / self.counts.len().max(1) as f64;
        (self.low + width * index as f64, self.low + width * (index + 1) as f64)
    }

    /// The mean, as well as bins know it; 0 when nothing was counted.
    pub fn mean(&self) -> f64 {
        let middle = |(low, high): (f64, f64)| (low + high) / 2.0;
        let sum: f64 = self.counts.iter().enumerate().map(|(i, &n)| n as f64 * middle(self.bin(i))).sum();
        sum / self.total().max(1) as f64
    }

    /// Whether `other` has the same bins.
    pub fn same_bins(&self, other: &Self) -> bool {
        self.low == other.low && self.high == other.high && self.counts.len() == other.counts.len()
    }

    /// The overlap coefficient: the area that both share when each has area 1; from 0 (apart) to 1 (alike). None when the bins
    /// differ or one is empty.
    pub fn overlap(&self, other: &Self) -> Option<f64> {
        let (all, all_other) = (self.total() as f64, other.total() as f64);
        let shared = || self.counts.iter().zip(&other.counts).map(|(&a, &b)| (a as f64 / all).min(b as f64 / all_other)).sum();
        (self.same_bins(other) && all > 0.0 && all_other > 0.0).then(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_their_bins() {
        let mut h = Histogram::new(-1.0, 1.0, 4);
        for v in [-1.0, -0.6, -0.5, 0.0, 0.49, 1.0, 1.000_001, -7.0] {
            h.add(v);
        }
        assert_eq!(h.counts, [3, 1, 2, 2]);
        assert_eq!((h.total(), h.bin(1)), (8, (-0.5, 0.0)));
        let mut twice = h.clone();
        twice.merge(&h);
        assert_eq!(twice.counts, [6, 2, 4, 4]);
    }

    #[test]
    fn overlap_and_mean_come_from_the_bins() {
        let histogram = |counts: &[u64]| Histogram { low: 0.0, high: 1.0, counts: counts.to_vec() };
        let (a, b) = (histogram(&[0, 10, 10, 0]), histogram(&[3, 1, 0, 0]));
        assert_eq!(a.overlap(&a), Some(1.0));
        assert_eq!((a.overlap(&b), b.overlap(&a)), (Some(0.25), Some(0.25)));
        assert_eq!(a.overlap(&histogram(&[1])), None);
        assert_eq!(a.overlap(&histogram(&[0; 4])), None);
        assert_eq!((a.mean(), b.mean()), (0.5, 0.1875));
    }
}
