//! Vectors of texts: a dense row-major matrix of f32.

use crate::{Error, Result};

/// `[rows, dim]` vectors, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    dim: usize,
    data: Vec<f32>,
}

impl Embeddings {
    /// From row-major data.
    ///
    /// # Errors
    /// When the length is no multiple of `dim`, `dim` is 0, or a value is NaN or infinite (names row and column).
    pub fn new(dim: usize, data: Vec<f32>) -> Result<Self> {
        if dim == 0 || !data.len().is_multiple_of(dim) {
            return Err(Error::invalid(format!("{} values do not fill rows of {dim}", data.len())));
        }
        if let Some(at) = data.iter().position(|v| !v.is_finite()) {
            return Err(Error::invalid(format!("embedding row {}, column {}: {} is not a finite number", at / dim, at % dim, data[at])));
        }
        Ok(Self { dim, data })
    }

    /// How many vectors.
    pub fn rows(&self) -> usize {
        self.data.len() / self.dim.max(1)
    }

    /// How wide.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// One vector.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// All values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All values, row-major, taken out.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// The rows at `indices`, in that order.
    pub fn select(&self, indices: &[u32]) -> Self {
        Self { dim: self.dim, data: indices.iter().flat_map(|&i| self.row(i as usize)).copied().collect() }
    }

    /// Every row divided by max(‖row‖₂, 1e-12).
    pub fn normalized(mut self) -> Self {
        for row in self.data.chunks_exact_mut(self.dim.max(1)) {
            let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
        self
    }

    /// The index of the first all-zero row, if any: a zero vector has no direction and no cosine.
    pub fn first_zero_row(&self) -> Option<usize> {
        (0..self.rows()).find(|&i| self.row(i).iter().all(|v| *v == 0.0))
    }
}
