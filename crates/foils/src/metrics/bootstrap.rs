//! How sure is a mean? Percentile intervals from resampled queries: of a mean, of a paired difference, of any statistic.

use super::Interval;
use crate::{Error, Result};
use rand::RngExt;
use rayon::prelude::*;

/// Separates these draws from all other uses of a seed.
const STREAM: u64 = 0xb007 << 40;

/// A seeded bootstrap over queries. Draw number d of a seed is the same resample for every statistic over equally many queries, so
/// intervals of differences are paired; and it is the same on any number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Bootstrap {
    draws: usize,
    seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: 1000, seed: 0 }
    }
}

impl Bootstrap {
    /// As `eci` asks for: 200 draws.
    pub const ECI: Self = Self { draws: 200, seed: 0 };

    /// With `draws` resamples.
    ///
    /// # Errors
    /// When `draws` is 0.
    pub fn new(draws: usize, seed: u64) -> Result<Self> {
        if draws == 0 {
            return Err(Error::invalid("a bootstrap needs at least 1 draw"));
        }
        Ok(Self { draws, seed })
    }

    /// The mean of `values` (one a query) and its interval.
    ///
    /// # Errors
    /// When there are no values or one is not finite.
    pub fn mean(&self, values: &[f64]) -> Result<Interval> {
        Ok(self.means(&[values])?[0])
    }

    /// The mean of `after − before`, paired by query, and its interval.
    ///
    /// # Errors
    /// When the lengths differ, there are no values or one is not finite.
    pub fn difference(&self, after: &[f64], before: &[f64]) -> Result<Interval> {
        if after.len() != before.len() {
            return Err(Error::invalid(format!("{} values cannot be paired with {}", after.len(), before.len())));
        }
        self.mean(&after.iter().zip(before).map(|(a, b)| a - b).collect::<Vec<_>>())
    }

    /// The means of several columns over the same queries, all from the same resamples.
    ///
    /// # Errors
    /// When a column is empty or of another length than the first, or a value is not finite.
    pub fn means<C: AsRef<[f64]> + Sync>(&self, columns: &[C]) -> Result<Vec<Interval>> {
        let queries = columns.first().map_or(0, |c| c.as_ref().len());
        for (i, column) in columns.iter().map(AsRef::as_ref).enumerate() {
            if column.len() != queries {
                return Err(Error::invalid(format!("column {i} has {} values, the first {queries}", column.len())));
            }
            if let Some(at) = column.iter().position(|v| !v.is_finite()) {
                return Err(Error::invalid(format!("value {at} of column {i} is {}, not a finite number", column[at])));
            }
        }
        // Row by row, so that a drawn query's values lie together.
        let rows: Vec<f64> = (0..queries).flat_map(|q| columns.iter().map(move |c| c.as_ref()[q])).collect();
        self.statistics(queries, |drawn| {
            let mut sums = vec![0.0; columns.len()];
            for &q in drawn {
                let row = &rows[q as usize * columns.len()..][..columns.len()];
                sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
            }
            sums.iter_mut().for_each(|sum| *sum /= drawn.len() as f64);
            sums
        })
    }

    /// Any statistics of the indices of the drawn queries (with repetition; the estimate is that of each query once). Always the
    /// same number of them; NaN says that a statistic is undefined for a draw, which is then left out.
    ///
    /// # Errors
    /// When there are no queries, or more than 2^32, or a statistic of the queries themselves is not finite.
    pub fn statistics(&self, queries: usize, of: impl Fn(&[u32]) -> Vec<f64> + Sync) -> Result<Vec<Interval>> {
        let Some(queries) = u32::try_from(queries).ok().filter(|q| *q > 0) else {
            return Err(Error::invalid(format!("{queries} queries cannot be resampled")));
        };
        let estimates = of(&(0..queries).collect::<Vec<_>>());
        if let Some(bad) = estimates.iter().find(|e| !e.is_finite()) {
            return Err(Error::invalid(format!("a statistic of the {queries} queries is {bad}, not a finite number")));
        }
        let draws: Vec<Vec<f64>> = (0..self.draws as u64)
            .into_par_iter()
            .map(|draw| {
                let mut rng = crate::seed::rng(self.seed, STREAM + draw);
                of(&(0..queries).map(|_| rng.random_range(0..queries)).collect::<Vec<_>>())
            })
            .collect();
        Ok(estimates
            .iter()
            .enumerate()
            .map(|(i, &mean)| {
                let mut values: Vec<f64> = draws.iter().map(|d| d[i]).filter(|v| !v.is_nan()).collect();
                values.sort_unstable_by(f64::total_cmp);
                Interval { mean, low: quantile(&values, 0.025).unwrap_or(mean), high: quantile(&values, 0.975).unwrap_or(mean) }
            })
            .collect())
    }
}

/// The quantile `at` of sorted values, linear between neighbours; `None` of nothing.
pub(crate) fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let place = at * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = crate::seed::rng(seed, 7);
        (0..n).map(|_| (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0).collect()
    }

    #[test]
    fn quantiles_lie_linearly_between_neighbours() {
        let values = [1.0, 2.0, 4.0];
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 0.75), Some(3.0));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn the_interval_of_a_mean_has_the_width_and_the_coverage_of_theory() {
        // 95 % of a mean of n standard normal values lies within 1.96/√n.
        let n = 400;
        let mut covered = 0;
        for seed in 0..200 {
            let i = Bootstrap::new(400, seed).unwrap().mean(&sample(n, seed)).unwrap();
            let half = (i.high - i.low) / 2.0;
            assert!((half - 1.96 / (n as f64).sqrt()).abs() < 0.025, "seed {seed}: {half}");
            covered += usize::from(i.low <= 0.0 && 0.0 <= i.high);
        }
        // Binomial(200, .95) is outside of this about once in ten thousand.
        assert!((176..=200).contains(&covered), "{covered} of 200 intervals hold the true mean");
    }

    #[test]
    fn paired_differences_are_narrower_than_the_two_means() {
        let before = sample(200, 1);
        let after: Vec<f64> = before.iter().map(|v| v + 0.1).collect();
        let bootstrap = Bootstrap::default();
        let i = bootstrap.difference(&after, &before).unwrap();
        assert!((i.low - 0.1).abs() < 1e-9 && (i.high - 0.1).abs() < 1e-9, "{i:?}");
        let wide = bootstrap.mean(&before).unwrap();
        assert!(wide.high - wide.low > 0.1);
        assert!(bootstrap.difference(&after, &before[1..]).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
        let values = sample(97, 3);
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Bootstrap::new(300, 5).unwrap().mean(&values).unwrap())
        };
        assert_eq!(of(1), of(3));
        assert_ne!(Bootstrap::new(300, 6).unwrap().mean(&values).unwrap(), of(1));
        // Columns do not change each other.
        assert_eq!(Bootstrap::new(300, 5).unwrap().means(&[sample(97, 4), values.clone()]).unwrap()[1], of(1));
    }

    #[test]
    fn undefined_draws_are_left_out_and_bad_input_is_named() {
        let bootstrap = Bootstrap::new(500, 0).unwrap();
        // The mean of the drawn odd ones among 0, 1: undefined when none is drawn, else 1.
        let odd = |drawn: &[u32]| {
            let odd: Vec<f64> = drawn.iter().filter(|&&q| q == 1).map(|&q| f64::from(q)).collect();
            vec![odd.iter().sum::<f64>() / odd.len() as f64]
        };
        assert_eq!(bootstrap.statistics(2, odd).unwrap()[0], Interval { mean: 1.0, low: 1.0, high: 1.0 });
        assert!(bootstrap.mean(&[]).unwrap_err().to_string().contains("0 queries"));
        assert!(bootstrap.mean(&[1.0, f64::NAN]).unwrap_err().to_string().contains("value 1 of column 0 is NaN"));
        assert!(bootstrap.means(&[vec![1.0], vec![]]).unwrap_err().to_string().contains("column 1 has 0 values"));
        assert!(Bootstrap::new(0, 0).is_err());
    }
}
