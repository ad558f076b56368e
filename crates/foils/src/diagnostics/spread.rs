//! How are embeddings spread over the sphere: evenly (uniformity), and with classes together (tolerance)?

use super::pairs::above_diagonal;
use crate::metrics::unit_rows;
use crate::{Error, Result, check};
use foils_kernels::Real;
use foils_kernels::simd::Row;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Uniformity log mean_{i<j} exp(−t ‖x_i − x_j‖²) of `rows` `[n, dim]`, f32 or f64, row-major (baselines-contrastive, 6;
/// contrastive-behaviour): 0 when all coincide, the lower the more even. t = 2 is usual. The number that
/// [`losses::Uniformity`](crate::losses::Uniformity) gives, without its gradient and without memory for all pairs; a zero row is
/// taken as it is.
///
/// # Errors
/// When n < 2, rows are ragged, a value is not finite, or `t` is not a finite number above 0.
pub fn uniformity<T: Row>(rows: &[T], dim: usize, t: f64, normalize: bool) -> Result<f64> {
    let t = check::positive("t", t)?;
    let n = at_least_two("rows", rows, dim)?;
    let rows = if normalize { unit_rows("rows", rows, dim)? } else { centred("rows", rows, dim)? };
    // −t ‖x − y‖² = 2t⟨x, y⟩ − t‖x‖² − t‖y‖²
    let squares: Vec<f64> = rows.chunks_exact(dim).map(|r| -t * r.iter().map(|v| v.to_f64().powi(2)).sum::<f64>()).collect();
    let columns: Vec<T> = squares.iter().map(|&s| T::from_f64(s)).collect();
    let sums = above_diagonal(&rows, dim, T::from_f64(2.0 * t), LogSum::default, |sum, i, j, values| {
        T::add(values, &columns[j..j + values.len()]);
        let largest = T::largest(values);
        sum.add(largest.to_f64() + squares[i], T::exp_sum(values, largest));
    });
    let mut all = LogSum::default();
    sums.iter().for_each(|s| all.add(s.shift, s.sum));
    let value = all.shift + all.sum.ln() - (n as f64 * (n as f64 - 1.0) / 2.0).ln();
    if value.is_nan() {
        return Err(Error::invalid("the distances are too large; normalise the rows"));
    }
    // Rounding may give rows that coincide a distance below 0.
    Ok(value.min(0.0))
}

/// Σ exp, as `sum` · exp(`shift`).
struct LogSum {
    shift: f64,
    sum: f64,
}

impl Default for LogSum {
    fn default() -> Self {
        Self { shift: f64::NEG_INFINITY, sum: 0.0 }
    }
}

impl LogSum {
    fn add(&mut self, shift: f64, sum: f64) {
        if shift > self.shift {
            // exp(−∞) of the empty sum is 0.
            self.sum *= (self.shift - shift).exp();
            self.shift = shift;
        }
        self.sum += sum * (shift - self.shift).exp();
    }
}

/// Which pairs [`Tolerance`] is the mean over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TolerancePairs {
    /// Pairs of one class.
    #[default]
    SameClass,
    /// All pairs, those of different classes counting 0.
    AllPairs,
}

/// Tolerance (contrastive-behaviour): the mean of ⟨f_i, f_j⟩ over pairs i ≠ j of one class. 1 when every class is a point; a
/// model that tears classes apart to spread evenly has a low one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    pairs: TolerancePairs,
    normalize: bool,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { pairs: TolerancePairs::SameClass, normalize: true }
    }
}

impl Tolerance {
    /// Over these pairs, of normalised rows.
    pub fn new(pairs: TolerancePairs) -> Self {
        Self { pairs, ..Self::default() }
    }

    /// Whether rows are divided by their norms; a zero row stays as it is.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// The tolerance of `features` `[n, dim]`, row-major, with a class each. In f64 and from the sums of the classes, so that the
    /// time is that of reading the features.
    ///
    /// # Errors
    /// When n < 2, rows are ragged, labels are not one a row, a value is not finite, or two rows of one class are asked for and
    /// there are none.
    pub fn of<T: Real>(&self, features: &[T], dim: usize, labels: &[i64]) -> Result<f64> {
        let n = at_least_two("features", features, dim)?;
        if labels.len() != n {
            return Err(Error::invalid(format!("{} labels for {n} rows of features", labels.len())));
        }
        check::slice("features", features, dim, false)?;
        let rows: Vec<f64> = features.iter().map(|v| v.to_f64()).collect();
        let rows = if self.normalize { unit_rows("features", &rows, dim)? } else { rows };
        let mut classes: BTreeMap<i64, (usize, Vec<f64>, f64)> = BTreeMap::new();
        for (row, &label) in rows.chunks_exact(dim).zip(labels) {
            let (count, sum, squares) = classes.entry(label).or_insert_with(|| (0, vec![0.0; dim], 0.0));
            *count += 1;
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
            *squares += row.iter().map(|v| v * v).sum::<f64>();
        }
        // Σ_{i≠j} ⟨f_i, f_j⟩ = ‖Σ f‖² − Σ ‖f‖²; a class of one would leave rounding only.
        let shared = classes.values().filter(|(count, ..)| *count > 1);
        let total: f64 = shared.map(|(_, sum, squares)| sum.iter().map(|v| v * v).sum::<f64>() - squares).sum();
        let pairs = match self.pairs {
            TolerancePairs::SameClass => classes.values().map(|(count, ..)| (count * (count - 1)) as f64).sum(),
            TolerancePairs::AllPairs => n as f64 * (n as f64 - 1.0),
        };
        if pairs == 0.0 {
            return Err(Error::invalid(format!("no two of the {n} rows are of one class, so there is no tolerance")));
        }
        let tolerance = total / pairs;
        if tolerance.is_finite() { Ok(tolerance) } else { Err(Error::invalid("the features are too large; normalise them")) }
    }
}

/// How many rows; an error where they are ragged or there is no pair.
fn at_least_two<T>(name: &str, rows: &[T], dim: usize) -> Result<usize> {
    if dim == 0 || !rows.len().is_multiple_of(dim) {
        return Err(Error::invalid(format!("{name}: {} values do not fill rows of {dim}", rows.len())));
    }
    match rows.len() / dim {
        n @ 0..2 => Err(Error::invalid(format!("{name}: {n} rows have no pairs, at least 2 are needed"))),
        n => Ok(n),
    }
}

/// Distances do not change when all rows move; near the origin their squares lose less to rounding.
fn centred<T: Real>(name: &str, rows: &[T], dim: usize) -> Result<Vec<T>> {
    check::slice(name, rows, dim, false)?;
    let n = (rows.len() / dim) as f64;
    let mut mean = vec![0.0; dim];
    rows.chunks_exact(dim).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += v.to_f64() / n));
    Ok(rows.iter().enumerate().map(|(i, v)| T::from_f64(v.to_f64() - mean[i % dim])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::{Options, Uniformity, ZeroRows};
    use crate::seed;
    use burn::tensor::{DType, Device, Tensor, TensorData};
    use proptest::prelude::*;

    fn random(n: usize, dim: usize, seed: u64) -> Vec<f64> {
        let mut rng = seed::rng(seed, 0);
        (0..n * dim).map(|_| seed::normal(&mut rng)).collect()
    }

    fn by_loss(rows: &[f64], dim: usize, t: f64, normalize: bool) -> f64 {
        let x = Tensor::<2>::from_data(TensorData::new(rows.to_vec(), [rows.len() / dim, dim]), (&Device::flex(), DType::F64));
        let options = Options { zero_rows: ZeroRows::Allow, ..Options::default() };
        Uniformity::new(t).unwrap().normalize(normalize).options(options).forward(x).unwrap().into_scalar::<f64>()
    }

    #[test]
    fn uniformity_is_the_loss_in_blocks_of_any_size() {
        for n in [2, 3, 127, 128, 129, 300, 1025, 1200] {
            let mut rows = random(n, 5, n as u64);
            rows[..5].fill(0.0);
            for (t, normalize) in [(2.0, true), (0.3, false), (500.0, true), (40.0, false)] {
                let (ours, theirs) = (uniformity(&rows, 5, t, normalize).unwrap(), by_loss(&rows, 5, t, normalize));
                assert!((ours - theirs).abs() < 1e-9 * (1.0 + theirs.abs()), "n {n}, t {t}: {ours} {theirs}");
            }
            let single: Vec<f32> = rows.iter().map(|&v| v as f32).collect();
            assert!((uniformity(&single, 5, 2.0, true).unwrap() - by_loss(&rows, 5, 2.0, true)).abs() < 1e-5);
        }
        let same = [3.0, -1.0, 2.0].repeat(40);
        assert!(uniformity(&same, 3, 2.0, true).unwrap().abs() < 1e-14);
        let far: Vec<f64> = random(20, 3, 1).iter().map(|v| v * 1e3 + 1e6).collect();
        assert!((uniformity(&far, 3, 2.0, false).unwrap() / by_loss(&far, 3, 2.0, false) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn threads_change_no_bit() {
        let rows = random(700, 16, 1);
        let run = || uniformity(&rows, 16, 2.0, true).unwrap();
        assert_eq!(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(run), run());
    }

    proptest! {
        #[test]
        fn tolerance_is_the_mean_over_pairs(
            rows in prop::collection::vec(-2.0..2.0f64, 3 * 9), labels in prop::collection::vec(0..4i64, 9), normalize: bool,
        ) {
            let unit = if normalize { unit_rows("rows", &rows, 3).unwrap() } else { rows.clone() };
            let (mut sum, mut same) = (0.0, 0.0);
            for i in 0..9 {
                for j in (0..9).filter(|&j| j != i && labels[j] == labels[i]) {
                    sum += (0..3).map(|c| unit[3 * i + c] * unit[3 * j + c]).sum::<f64>();
                    same += 1.0;
                }
            }
            // Nine rows of four classes share one.
            let of = |pairs| Tolerance::new(pairs).normalize(normalize).of(&rows, 3, &labels).unwrap();
            prop_assert!((of(TolerancePairs::SameClass) - sum / same).abs() < 1e-12);
            prop_assert!((of(TolerancePairs::AllPairs) - sum / 72.0).abs() < 1e-12);
        }
    }

    #[test]
    fn what_the_definition_says_of_ends_and_bad_input() {
        let tolerance = Tolerance::default();
        let collapsed = [0.3, -0.4].repeat(50);
        assert!((tolerance.of(&collapsed, 2, &[7; 50]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(tolerance.of(&[1.0, 0.0, 0.0, 0.0], 2, &[0, 0]).unwrap(), 0.0);
        assert_eq!(Tolerance::new(TolerancePairs::AllPairs).of(&[1.0, 0.0, 0.0, 1.0], 2, &[0, 1]).unwrap(), 0.0);

        let says = |result: Result<f64>, word: &str| {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        };
        says(tolerance.of(&[1.0, 0.0, 0.0, 1.0], 2, &[0, 1]), "no two of the 2 rows");
        says(tolerance.of(&[1.0, 0.0], 2, &[0]), "1 rows have no pairs");
        says(tolerance.of(&[1.0, 0.0, 1.0], 2, &[0]), "3 values do not fill rows of 2");
        says(tolerance.of(&[1.0, 0.0, f64::NAN, 1.0], 2, &[0, 0]), "row 1, column 0 is NaN");
        says(tolerance.of(&[1.0, 0.0, 0.0, 1.0], 2, &[0]), "1 labels for 2");
        says(tolerance.normalize(false).of(&[1e200, 1e200, 1e200, 1e200], 2, &[0, 0]), "too large");
        assert!(serde_json::from_str::<TolerancePairs>("\"both\"").unwrap_err().to_string().contains("both"));
        says(uniformity(&[1.0, 0.0, 0.0, 1.0], 2, 0.0, true), "t = 0");
        says(uniformity(&[1.0f32], 1, 2.0, true), "1 rows have no pairs");
        says(uniformity(&[1.0, f64::INFINITY], 1, 2.0, false), "inf");
    }
}
