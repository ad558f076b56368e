//! A sparse matrix times a dense one, and its gradients: how vectors travel along the edges of a graph.
//!
//! Products are only ever formed by rows of the result, which one thread sums in the order of the entries: the gradient of the
//! dense matrix is the product with the transpose, made once. So results have the same bits for every thread count.

#[cfg(test)]
mod tests;

use crate::Real;
use crate::simd::sparse::{Entries, dots, gather};
use rayon::prelude::*;
use std::ops::Range;

/// A sparse matrix `[rows, columns]` in compressed rows. An entry may occur twice; then both count.
#[derive(Clone, Debug, PartialEq)]
pub struct Csr<T> {
    columns: usize,
    offsets: Vec<usize>,
    indices: Vec<u32>,
    values: Option<Vec<T>>,
}

impl<T: Real> Csr<T> {
    /// Row `i` has the columns `indices[offsets[i]..offsets[i + 1]]`, with their `values`, or all 1 without.
    ///
    /// # Panics
    /// When the offsets do not ascend from 0 to the number of indices, an index is not below `columns`, or there are not as
    /// many values as indices.
    pub fn new(columns: usize, offsets: Vec<usize>, indices: Vec<u32>, values: Option<Vec<T>>) -> Self {
        assert!(offsets.first() == Some(&0) && offsets.last() == Some(&indices.len()), "offsets must run from 0 to {}", indices.len());
        assert!(offsets.is_sorted(), "offsets must not descend");
        assert!(indices.iter().all(|&j| (j as usize) < columns), "an index is not below {columns}");
        assert!(values.as_ref().is_none_or(|v| v.len() == indices.len()), "as many values as indices");
        Self { columns, offsets, indices, values }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// How many columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Where each row's entries begin; one more at the end.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The column of every entry.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The value of every entry; none when all are 1.
    pub fn values(&self) -> Option<&[T]> {
        self.values.as_deref()
    }

    /// The transpose, and for each of its entries which entry of this matrix it is (for new values without a new transpose).
    /// Within a row of it, entries are in the order of this matrix's rows.
    ///
    /// # Panics
    /// When there are 2³² rows or entries.
    pub fn transpose(&self) -> (Self, Vec<u32>) {
        assert!(u32::try_from(self.rows().max(self.indices.len())).is_ok(), "fewer than 2^32 rows and entries");
        let mut offsets = vec![0; self.columns + 1];
        self.indices.iter().for_each(|&column| offsets[column as usize + 1] += 1);
        (0..self.columns).for_each(|column| offsets[column + 1] += offsets[column]);
        let mut next = offsets.clone();
        let (mut indices, mut order) = (vec![0; self.indices.len()], vec![0; self.indices.len()]);
        for (row, range) in self.offsets.windows(2).enumerate() {
            for entry in range[0]..range[1] {
                let at = &mut next[self.indices[entry] as usize];
                (indices[*at], order[*at]) = (row as u32, entry as u32);
                *at += 1;
            }
        }
        let values = self.values.as_ref().map(|values| order.iter().map(|&entry| values[entry as usize]).collect());
        (Self { columns: self.rows(), offsets, indices, values }, order)
    }

    /// D_r^-½ A D_c^-½ with the degrees (sums of values) of rows and columns, as LightGCN propagates with (He et al., 2020,
    /// equation 3). Entries of a row or column whose degree is not above 0 become 0.
    pub fn normalized(self) -> Self {
        let values = self.values.unwrap_or_else(|| vec![T::ONE; self.indices.len()]);
        let (mut rows, mut columns) = (vec![0f64; self.offsets.len() - 1], vec![0f64; self.columns]);
        let row_of = |row: usize| self.offsets[row]..self.offsets[row + 1];
        for (row, degree) in rows.iter_mut().enumerate() {
            for entry in row_of(row) {
                *degree += values[entry].to_f64();
                columns[self.indices[entry] as usize] += values[entry].to_f64();
            }
        }
        let root = |degree: f64| if degree > 0.0 { degree.sqrt().recip() } else { 0.0 };
        let scaled =
            |row: usize, entry: usize| T::from_f64(values[entry].to_f64() * root(rows[row]) * root(columns[self.indices[entry] as usize]));
        let values = (0..rows.len()).flat_map(|row| row_of(row).map(move |entry| (row, entry))).map(|(r, e)| scaled(r, e)).collect();
        Self { values: Some(values), ..self }
    }

    /// `out[rows, dim] = A · x`, with `x` `[columns, dim]`; row-major. Sums are in the type of the values, in the order of the
    /// entries. Threaded; the same bits for every thread count and processor. Quickest where the rows of `x` begin on lines of the cache.
    ///
    /// # Panics
    /// When a length is not that of its shape.
    pub fn multiply(&self, x: &[T], dim: usize, out: &mut [T]) {
        assert_eq!(x.len(), self.columns * dim, "x is [{}, {dim}]", self.columns);
        assert_eq!(out.len(), self.rows() * dim, "the result is [{}, {dim}]", self.rows());
        if dim == 0 {
            return;
        }
        let mut rest = out;
        let tasks: Vec<(Range<usize>, &mut [T])> = self
            .shares()
            .map(|rows| {
                let own = rest.split_off_mut(..rows.len() * dim).expect("in range");
                (rows, own)
            })
            .collect();
        tasks.into_par_iter().for_each(|(rows, out)| {
            gather(out, self.entries(&rows), x, dim);
        });
    }

    /// The gradient of the values, `out[entry] = ⟨gradient[row], x[column]⟩`, for the `gradient` `[rows, dim]` of the product with
    /// `x` `[columns, dim]`. Threaded; the same bits for every thread count and processor.
    ///
    /// # Panics
    /// When a length is not that of its shape.
    pub fn value_gradient(&self, gradient: &[T], x: &[T], dim: usize, out: &mut [T]) {
        assert_eq!(gradient.len(), self.rows() * dim, "the gradient is [{}, {dim}]", self.rows());
        assert_eq!(x.len(), self.columns * dim, "x is [{}, {dim}]", self.columns);
        assert_eq!(out.len(), self.indices.len(), "one value an entry");
        if dim == 0 {
            out.fill(T::ZERO);
            return;
        }
        let mut rest = out;
        let tasks: Vec<(Range<usize>, &mut [T])> = self
            .shares()
            .map(|rows| {
                let own = rest.split_off_mut(..self.offsets[rows.end] - self.offsets[rows.start]).expect("in range");
                (rows, own)
            })
            .collect();
        tasks.into_par_iter().for_each(|(rows, out)| {
            let gradient = &gradient[rows.start * dim..rows.end * dim];
            dots(out, self.entries(&rows), gradient, x, dim);
        });
    }

    fn entries(&self, rows: &Range<usize>) -> Entries<'_, T> {
        Entries { offsets: &self.offsets[rows.start..=rows.end], columns: &self.indices, values: self.values.as_deref() }
    }

    /// Ranges of rows with about as many entries, some for each thread; a row counts as an entry too, since it is written.
    fn shares(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let (rows, parts) = (self.rows(), 4 * rayon::current_num_threads());
        let cost = self.indices.len() + rows;
        let cut = move |part: usize| {
            let (mut low, mut high) = (0, rows);
            while low < high {
                let middle = low.midpoint(high);
                if (self.offsets[middle] + middle) * parts < cost * part { low = middle + 1 } else { high = middle }
            }
            low
        };
        (0..parts).map(move |part| cut(part)..cut(part + 1))
    }
}
