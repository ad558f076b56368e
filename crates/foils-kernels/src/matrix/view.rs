//! Matrices to read, with any strides.

use std::ops::Range;

/// A matrix `[rows, columns]` to read: element (i, j) is `values[i · row_stride + j · column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// A matrix of this shape and these strides.
    ///
    /// # Panics
    /// When `values` is too short for them.
    pub fn new(values: &'a [T], (rows, columns): (usize, usize), (row_stride, column_stride): (usize, usize)) -> Self {
        let needed = needed((rows, columns), (row_stride, column_stride));
        assert!(values.len() >= needed, "{} values are too few for {rows} × {columns}", values.len());
        Self { values, rows, columns, row_stride, column_stride }
    }

    /// Rows one after the other.
    ///
    /// # Panics
    /// When `values` is too short.
    pub fn row_major(values: &'a [T], rows: usize, columns: usize) -> Self {
        Self::new(values, (rows, columns), (columns, 1))
    }

    /// The same values with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    /// Some rows and some columns of it.
    ///
    /// # Panics
    /// When a range is not within the matrix.
    #[must_use]
    pub fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert!(columns.start <= columns.end && columns.end <= self.columns, "columns {columns:?} of {}", self.columns);
        let first = rows.start * self.row_stride + columns.start * self.column_stride;
        // An empty part may begin where the values end.
        Self { values: self.values.get(first..).unwrap_or_default(), rows: rows.len(), columns: columns.len(), ..self }
    }

    /// (rows, columns).
    pub fn shape(self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Element (i, j).
    ///
    /// # Panics
    /// When it is not within the values.
    #[inline]
    pub fn get(self, i: usize, j: usize) -> T {
        self.values[i * self.row_stride + j * self.column_stride]
    }
}

/// So many values a matrix of this shape and these strides reaches over.
///
/// # Panics
/// When that is more than a `usize` holds.
pub(crate) fn needed((rows, columns): (usize, usize), (row_stride, column_stride): (usize, usize)) -> usize {
    if rows == 0 || columns == 0 {
        return 0;
    }
    let last = (rows - 1).checked_mul(row_stride).zip((columns - 1).checked_mul(column_stride));
    last.and_then(|(r, c)| r.checked_add(c)?.checked_add(1)).expect("a matrix larger than memory")
}
