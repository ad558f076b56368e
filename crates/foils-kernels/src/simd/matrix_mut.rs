//! Matrices to write, which can be split by columns so that threads share the rows of one slice.

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

/// A matrix `[rows, columns]` to write: row i begins at `values[i · row_stride]`, its columns lie beside each other.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    first: NonNull<T>,
    rows: usize,
    columns: usize,
    row_stride: usize,
    values: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a mutable borrow of the elements that its shape and stride reach, and of nothing else.
unsafe impl<T: Send> Send for MatrixMut<'_, T> {}

impl<'a, T> MatrixMut<'a, T> {
    /// A matrix of this shape.
    ///
    /// # Panics
    /// When `values` is too short or rows would overlap.
    pub fn new(values: &'a mut [T], (rows, columns): (usize, usize), row_stride: usize) -> Self {
        let needed = crate::matrix::needed((rows, columns), (row_stride, 1));
        assert!(values.len() >= needed, "{} values are too few for {rows} × {columns}", values.len());
        assert!(rows < 2 || columns <= row_stride, "rows of {columns} overlap at a stride of {row_stride}");
        Self { first: NonNull::from(values).cast(), rows, columns, row_stride, values: PhantomData }
    }

    /// Rows one after the other.
    ///
    /// # Panics
    /// When `values` is too short.
    pub fn row_major(values: &'a mut [T], rows: usize, columns: usize) -> Self {
        Self::new(values, (rows, columns), columns)
    }

    /// (rows, columns).
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// From one row to the next.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Row `i`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        // SAFETY: `new` checked that every row lies within the borrowed slice; self is borrowed mutably meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(i * self.row_stride).as_ptr(), self.columns) }
    }

    /// Some rows and columns of it, for as long as it is borrowed.
    ///
    /// # Panics
    /// When a range is not within the matrix.
    pub fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> MatrixMut<'_, T> {
        self.cut(rows, columns)
    }

    /// The first `row` rows and the others.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn split_at_row(self, row: usize) -> (Self, Self) {
        let (rows, columns) = self.shape();
        (self.cut(0..row, 0..columns), self.cut(row..rows, 0..columns))
    }

    /// The first `column` columns and the others.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn split_at_column(self, column: usize) -> (Self, Self) {
        let (rows, columns) = self.shape();
        (self.cut(0..rows, 0..column), self.cut(0..rows, column..columns))
    }

    /// A part for as long as the whole. Whoever calls it gives out no two that overlap, nor one beside the whole.
    fn cut(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert!(columns.start <= columns.end && columns.end <= self.columns, "columns {columns:?} of {}", self.columns);
        // The pointer moves only where there is something to point at: an empty matrix may have any stride.
        let offset = if rows.is_empty() || columns.is_empty() { 0 } else { rows.start * self.row_stride + columns.start };
        // SAFETY: the offset is that of an element within the matrix, or 0.
        let first = unsafe { self.first.add(offset) };
        Self { first, rows: rows.len(), columns: columns.len(), row_stride: self.row_stride, values: PhantomData }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut T {
        self.first.as_ptr()
    }
}
