//! Principal components: rows of many numbers in a few that are uncorrelated.

use crate::{Error, Result, check};
use burn::tensor::{DType, Device, Tensor, TensorData, linalg};
use foils_kernels::product_threaded;

/// The directions in which rows vary most, fitted once and applied to any rows. A component's sign is such that its largest entry
/// is positive.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    mean: Vec<f64>,
    /// `[components, dim]`.
    components: Vec<f64>,
    variances: Vec<f64>,
}

impl Pca {
    /// The first `components` of the rows `[n, dim]`, by the eigenvectors of their covariance (with n − 1).
    ///
    /// # Errors
    /// When rows are ragged or fewer than 2, a value is not finite, `components` is not in `1..=dim`, or the rows do not vary in so
    /// many directions.
    pub fn fit(rows: &[f32], dim: usize, components: usize) -> Result<Self> {
        let n = row_count(rows, dim)?;
        if n < 2 {
            return Err(Error::invalid(format!("{n} rows have no variance; at least 2 are needed")));
        }
        if components == 0 || components > dim {
            return Err(Error::invalid(format!("{components} components asked for, must be from 1 to the width {dim}")));
        }
        let mut mean = vec![0.0; dim];
        rows.chunks(dim).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / n as f64));
        let centred = centre(rows, &mean);
        let mut covariance = vec![0.0; dim * dim];
        product_threaded(&mut covariance, (dim, dim, n), &centred, (1, dim), &centred, (dim, 1), false, 1.0 / (n - 1) as f64);
        // The singular vectors of a covariance are its eigenvectors, in descending order of variance.
        let covariance = Tensor::<2>::from_data(TensorData::new(covariance, [dim, dim]), (&Device::flex(), DType::F64));
        let (_, variances, vectors) = linalg::svd::<2, 1>(covariance, 30);
        let variances: Vec<f64> = variances.into_data().iter::<f64>().take(components).collect();
        if let Some(at) = variances.iter().position(|v| *v <= 1e-12 * variances[0] || *v == 0.0) {
            return Err(Error::invalid(format!("{components} components asked for, but the rows vary in {at} directions only")));
        }
        let mut components: Vec<f64> = vectors.into_data().iter::<f64>().take(components * dim).collect();
        for component in components.chunks_mut(dim) {
            let largest = component.iter().fold(0.0, |l: f64, v| if v.abs() > l.abs() { *v } else { l });
            component.iter_mut().for_each(|v| *v *= largest.signum());
        }
        Ok(Self { mean, components, variances })
    }

    /// The variance along each component, descending.
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }

    /// The components of rows `[n, dim]`, each divided by its standard deviation: `[n, components]`. Of the rows that were fitted they
    /// have mean 0 and variance 1.
    ///
    /// # Errors
    /// When rows are ragged or a value is not finite.
    pub fn whiten(&self, rows: &[f32]) -> Result<Vec<f32>> {
        let (dim, width) = (self.mean.len(), self.variances.len());
        let n = row_count(rows, dim)?;
        let mut out = vec![0.0; n * width];
        product_threaded(&mut out, (n, width, dim), &centre(rows, &self.mean), (dim, 1), &self.components, (1, dim), false, 1.0);
        Ok(out.chunks(width).flat_map(|row| row.iter().zip(&self.variances).map(|(v, variance)| (v / variance.sqrt()) as f32)).collect())
    }
}

fn row_count(rows: &[f32], dim: usize) -> Result<usize> {
    if dim == 0 || !rows.len().is_multiple_of(dim) {
        return Err(Error::invalid(format!("{} values do not fill rows of {dim}", rows.len())));
    }
    check::slice("rows", rows, dim, false)?;
    Ok(rows.len() / dim)
}

fn centre(rows: &[f32], mean: &[f64]) -> Vec<f64> {
    rows.chunks(mean.len()).flat_map(|row| row.iter().zip(mean).map(|(v, m)| f64::from(*v) - m)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    /// Independent directions of known variance, turned by a rotation.
    fn turned(n: usize) -> Vec<f32> {
        let mut rng = seed::rng(2, 0);
        let (sin, cos) = 0.6f64.sin_cos();
        let row = |rng: &mut seed::Rng| {
            let (a, b) = (3.0 * seed::normal(rng), 0.5 * seed::normal(rng));
            [5.0 + cos * a - sin * b, -2.0 + sin * a + cos * b, 0.1 * seed::normal(rng)].map(|v| v as f32)
        };
        (0..n).flat_map(|_| row(&mut rng)).collect()
    }

    #[test]
    fn it_finds_the_directions_and_whitens_them() {
        let rows = turned(4_000);
        let pca = Pca::fit(&rows, 3, 2).unwrap();
        assert!((pca.variances()[0] - 9.0).abs() < 0.6 && (pca.variances()[1] - 0.25).abs() < 0.02, "{:?}", pca.variances());
        let (sin, cos) = 0.6f64.sin_cos();
        assert!((pca.components[0] - cos).abs() < 0.01 && (pca.components[1] - sin).abs() < 0.01, "{:?}", pca.components);
        let white = pca.whiten(&rows).unwrap();
        let moment = |f: fn(f64, f64) -> f64| white.chunks(2).map(|r| f(r[0].into(), r[1].into())).sum::<f64>() / 4_000.0;
        assert!(moment(|a, _| a).abs() < 1e-6 && moment(|_, b| b).abs() < 1e-6);
        assert!(
            (moment(|a, _| a * a) - 1.0).abs() < 1e-3 && (moment(|_, b| b * b) - 1.0).abs() < 1e-3 && moment(|a, b| a * b).abs() < 1e-4
        );
        assert!(pca.whiten(&[]).unwrap().is_empty());
    }

    #[test]
    fn refuses_bad_input() {
        let said = |rows: &[f32], dim, k| Pca::fit(rows, dim, k).unwrap_err().to_string();
        let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0];
        assert!(said(&rows, 4, 1).contains("6 values do not fill rows of 4"));
        assert!(said(&rows[..2], 2, 1).contains("1 rows"));
        assert!(said(&rows, 2, 0).contains("0 components"));
        assert!(said(&rows, 2, 3).contains("3 components"));
        assert!(said(&[1.0, f32::NAN, 0.0, 0.0], 2, 1).contains("NaN"));
        assert!(said(&[1.0, 1.0, 2.0, 2.0, 3.0, 3.0], 2, 2).contains("in 1 directions only"));
        assert!(said(&[1.0, 1.0, 1.0, 1.0], 2, 1).contains("in 0 directions only"));
        assert!(Pca::fit(&rows, 2, 1).unwrap().whiten(&[1.0]).is_err());
    }
}
