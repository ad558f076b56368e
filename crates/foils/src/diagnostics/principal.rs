//! Principal axes, to draw embeddings on paper, and to put rows of many numbers into a few that are uncorrelated.

use crate::{Error, Result, check};
use foils_kernels::{Real, product_threaded};

/// The directions in which rows vary most.
#[derive(Clone, Debug, PartialEq)]
pub struct PrincipalAxes {
    mean: Vec<f64>,
    /// `[axes, dim]`, orthonormal.
    axes: Vec<f64>,
    variances: Vec<f64>,
    shares: Vec<f64>,
}

impl PrincipalAxes {
    /// The first `axes` principal axes of `rows` `[n, dim]`, row-major; the largest entry of each is positive. In f64, by power iteration:
    /// where two axes carry almost the same variance, what comes out lies in the plane of both.
    ///
    /// # Errors
    /// When n < 2, rows are ragged, a value is not finite, or `axes` is not in `1..=dim`.
    pub fn of<T: Real>(rows: &[T], dim: usize, axes: usize) -> Result<Self> {
        if dim == 0 || !rows.len().is_multiple_of(dim) || rows.len() < 2 * dim {
            return Err(Error::invalid(format!("{} values are not two or more rows of {dim}", rows.len())));
        }
        if axes == 0 || axes > dim {
            return Err(Error::invalid(format!("{axes} axes asked for, must be from 1 to {dim}")));
        }
        check::slice("rows", rows, dim, false)?;
        let n = rows.len() / dim;
        let mut mean = vec![0.0; dim];
        rows.chunks_exact(dim).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += v.to_f64() / n as f64));
        let centred: Vec<f64> = rows.iter().enumerate().map(|(i, v)| v.to_f64() - mean[i % dim]).collect();
        let mut covariance = vec![0.0; dim * dim];
        product_threaded(&mut covariance, (dim, dim, n), &centred, (1, dim), &centred, (dim, 1), false, 1.0 / n as f64);
        let total: f64 = (0..dim).map(|i| covariance[i * dim + i]).sum();
        let mut found =
            Self { mean, axes: Vec::with_capacity(axes * dim), variances: Vec::with_capacity(axes), shares: Vec::with_capacity(axes) };
        for _ in 0..axes {
            let (axis, variance) = found.next(&covariance);
            found.axes.extend(axis);
            found.variances.push(variance);
            found.shares.push(if total > 0.0 { variance / total } else { 0.0 });
        }
        Ok(found)
    }

    /// The share of all variance that each axis carries, largest first.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// The variance along each axis (with n), largest first.
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }

    /// Coordinates of `rows` `[m, dim]` along the axes: `[m, axes]`.
    ///
    /// # Errors
    /// When rows are ragged or a value is not finite.
    pub fn project<T: Real>(&self, rows: &[T]) -> Result<Vec<f64>> {
        let dim = self.mean.len();
        if !rows.len().is_multiple_of(dim) {
            return Err(Error::invalid(format!("{} values are not rows of {dim}", rows.len())));
        }
        check::slice("rows", rows, dim, false)?;
        let along = |row: &[T], axis: &[f64]| row.iter().zip(&self.mean).zip(axis).map(|((v, m), a)| (v.to_f64() - m) * a).sum();
        Ok(rows.chunks_exact(dim).flat_map(|row| self.axes.chunks_exact(dim).map(move |axis| along(row, axis))).collect())
    }

    /// [`PrincipalAxes::project`], each coordinate divided by its standard deviation: of the rows that the axes were made of they have mean 0
    /// and variance 1.
    ///
    /// # Errors
    /// As [`PrincipalAxes::project`], and when the rows varied in fewer directions than there are axes.
    pub fn whiten<T: Real>(&self, rows: &[T]) -> Result<Vec<f64>> {
        let most = self.variances[0];
        if let Some(at) = self.variances.iter().position(|v| *v <= 1e-12 * most || *v == 0.0) {
            let asked = self.variances.len();
            return Err(Error::invalid(format!("{asked} axes asked for, but the rows vary in {at} directions only")));
        }
        let mut points = self.project(rows)?;
        for point in points.chunks_exact_mut(self.variances.len()) {
            point.iter_mut().zip(&self.variances).for_each(|(p, v)| *p /= v.sqrt());
        }
        Ok(points)
    }

    /// The axis of most variance at a right angle to those there are, and its variance.
    fn next(&self, covariance: &[f64]) -> (Vec<f64>, f64) {
        let dim = self.mean.len();
        let reduce = |v: &mut [f64]| -> f64 {
            // Twice, so that rounding leaves no part along an earlier axis.
            for axis in self.axes.chunks_exact(dim).chain(self.axes.chunks_exact(dim)) {
                let part = dot(v, axis);
                v.iter_mut().zip(axis).for_each(|(v, a)| *v -= part * a);
            }
            dot(v, v).sqrt()
        };
        // What is left of nothing lies in any direction, also along an earlier axis.
        let rounding = 1e-14 * (0..dim).map(|i| covariance[i * dim + i]).sum::<f64>();
        // Of the columns the longest lies nowhere near a right angle to the first axis.
        let mut axis = vec![0.0; dim];
        let mut longest = 0.0;
        for start in 0..dim {
            let mut unit = vec![0.0; dim];
            unit[start] = 1.0;
            let mut column = covariance[start * dim..(start + 1) * dim].to_vec();
            let length = reduce(&mut column);
            // Where nothing varies any more, any direction will do that is at a right angle.
            let candidate = if length > rounding { (length, column) } else { (1e-300 * reduce(&mut unit), unit) };
            if candidate.0 > longest {
                (longest, axis) = candidate;
            }
        }
        let (mut length, mut variance) = (reduce(&mut axis), 0.0);
        for _ in 0..1000 {
            axis.iter_mut().for_each(|v| *v /= length);
            let mut next: Vec<f64> = covariance.chunks_exact(dim).map(|row| dot(row, &axis)).collect();
            variance = dot(&next, &axis).max(0.0);
            length = reduce(&mut next);
            let turned: f64 = next.iter().zip(&axis).map(|(a, b)| (a / length - b).powi(2)).sum();
            if !(length > rounding && turned > 1e-20) {
                break;
            }
            axis = next;
        }
        let largest = axis.iter().copied().fold(0.0f64, |l, v| if v.abs() > l.abs() { v } else { l });
        let scale = largest.signum() / dot(&axis, &axis).sqrt();
        axis.iter_mut().for_each(|v| *v *= scale);
        (axis, variance)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use proptest::prelude::*;

    #[test]
    fn planted_axes_are_found() {
        let (n, dim) = (2000, 5);
        let planted = [[0.6, 0.0, 0.8, 0.0, 0.0], [-0.8, 0.0, 0.6, 0.0, 0.0]];
        let mut rng = seed::rng(1, 0);
        let mut rows = Vec::new();
        for _ in 0..n {
            let (a, b) = (5.0 * seed::normal(&mut rng), 2.0 * seed::normal(&mut rng));
            rows.extend((0..dim).map(|c| (7.0 + a * planted[0][c] + b * planted[1][c] + 0.1 * seed::normal(&mut rng)) as f32));
        }
        let found = PrincipalAxes::of(&rows, dim, 2).unwrap();
        for (axis, planted) in found.axes.chunks(dim).zip(&planted) {
            assert!(dot(axis, planted).abs() > 0.999, "{axis:?}");
        }
        assert!((found.shares[0] - 25.0 / 29.05).abs() < 0.02 && (found.shares[1] - 4.0 / 29.05).abs() < 0.02, "{:?}", found.shares);
        let white = found.whiten(&rows).unwrap();
        let moment = |f: fn(f64, f64) -> f64| white.chunks(2).map(|r| f(r[0], r[1])).sum::<f64>() / n as f64;
        assert!(moment(|a, _| a).abs() < 1e-9 && moment(|_, b| b).abs() < 1e-9);
        assert!(
            (moment(|a, _| a * a) - 1.0).abs() < 1e-9 && (moment(|_, b| b * b) - 1.0).abs() < 1e-9 && moment(|a, b| a * b).abs() < 1e-6
        );
        let points = found.project(&rows).unwrap();
        let variance = points.chunks(2).map(|p| p[0] * p[0]).sum::<f64>() / n as f64;
        assert!((variance - 25.0).abs() < 2.0 && points.iter().sum::<f64>().abs() < 1e-6 * n as f64);
    }

    proptest! {
        #[test]
        fn axes_are_orthonormal_and_shares_fall_to_sum_one(rows in prop::collection::vec(-3.0..3.0f64, 4 * 9), copies in 0usize..9) {
            // Some rows alike, so that there are fewer directions than axes.
            let rows: Vec<f64> = rows.chunks(4).enumerate().flat_map(|(i, r)| if i < copies { &rows[..4] } else { r }.to_vec()).collect();
            let found = PrincipalAxes::of(&rows, 4, 4).unwrap();
            for i in 0..4 {
                for j in 0..4 {
                    let product = dot(&found.axes[4 * i..4 * i + 4], &found.axes[4 * j..4 * j + 4]);
                    prop_assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9, "{} {}: {}", i, j, product);
                }
            }
            prop_assert!(found.shares.windows(2).all(|s| s[0] >= s[1] - 1e-3), "{:?}", found.shares);
            prop_assert!((found.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn rows_that_coincide_have_axes_and_bad_input_is_refused() {
        let same = PrincipalAxes::of(&[1.0, 2.0, 1.0, 2.0], 2, 2).unwrap();
        assert_eq!((same.shares(), same.project(&[1.0, 2.0]).unwrap()), ([0.0, 0.0].as_slice(), vec![0.0, 0.0]));
        assert!(same.whiten(&[1.0, 2.0]).unwrap_err().to_string().contains("in 0 directions only"));
        let line = PrincipalAxes::of(&[1.0, 1.0, 2.0, 2.0, 4.0, 4.0], 2, 2).unwrap();
        assert!(line.whiten(&[1.0, 2.0]).unwrap_err().to_string().contains("in 1 directions only") && line.project(&[1.0]).is_err());
        let says = |result: Result<PrincipalAxes>, word: &str| assert!(result.unwrap_err().to_string().contains(word));
        says(PrincipalAxes::of(&[1.0, 2.0, 3.0], 2, 1), "3 values are not two or more rows of 2");
        says(PrincipalAxes::of(&[1.0, 2.0, 3.0, 4.0], 2, 3), "3 axes asked for");
        says(PrincipalAxes::of(&[1.0, f64::NAN, 3.0, 4.0], 2, 1), "row 0, column 1");
    }
}
