//! Operands in the order in which the kernels read them.

use super::aligned::Aligned;
use super::{Kernel, Matrix, MatrixMut, Write};
use crate::Real;
use crate::simd::{Rows, heights, multiply_panel, transpose};
use std::ops::Range;

/// Parts of a [`Right`] begin at multiples of this, in rows and in columns.
pub const STEP: usize = 64;
/// So many rows of `b` at once: a panel of them stays in the first cache.
const DEPTH: usize = 384;
/// So many rows of `a` at once, in tiles: `DEPTH` of their columns stay in the second cache.
const TILES: usize = 24;

/// A left-hand operand `[m, k]`.
#[derive(Debug)]
pub struct Left<'a, T> {
    kernel: Kernel<T>,
    matrix: Matrix<'a, T>,
    /// Row by row of tiles, each column by column; empty where the matrix is read as it lies.
    tiles: Option<Aligned<T>>,
}

/// A right-hand operand `[k, n]`, packed.
#[derive(Debug)]
pub struct Right<T> {
    kernel: Kernel<T>,
    depth: usize,
    columns: usize,
    /// Panel by panel of columns, each with `depth` rows; the last is padded with 0.
    values: Aligned<T>,
}

/// Some rows and columns of a [`Right`].
#[derive(Clone, Debug)]
pub struct Part<'a, T> {
    right: &'a Right<T>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<T: Real> Kernel<T> {
    /// A left-hand operand. It borrows the matrix where the kernel reads it as it lies.
    pub fn left<'a>(&self, matrix: Matrix<'a, T>) -> Left<'a, T> {
        Left { kernel: *self, matrix, tiles: None }
    }

    /// A left-hand operand in the order in which it is read. That pays where a column or a row of the matrix reaches over many
    /// pages of memory, and the right-hand operand has hundreds of columns.
    pub fn left_packed<'a>(&self, matrix: Matrix<'a, T>) -> Left<'a, T> {
        let (m, k) = matrix.shape();
        let mut tiles = Aligned::EMPTY;
        let values = tiles.resize(m * k);
        let most = self.level.rows::<T>(self.level.columns::<T>());
        for block in spread(0..m, TILES * most) {
            let mut first = block.start;
            for height in heights(block.len(), most) {
                let tile = matrix.part(first..first + height, 0..k).transposed();
                transpose(tile, &mut values[first * k..][..height * k], height);
                first += height;
            }
        }
        Left { kernel: *self, matrix, tiles: Some(tiles) }
    }

    /// Packs a right-hand operand.
    pub fn right(&self, matrix: Matrix<T>) -> Right<T> {
        let mut right = Right { kernel: *self, depth: 0, columns: 0, values: Aligned::EMPTY };
        right.replace(matrix);
        right
    }

    /// Multiplies `left` `[m, k]` by a part of a right-hand operand `[k, n]` into `c` `[m, n]`.
    ///
    /// # Panics
    /// When shapes disagree, or an operand was made by another kernel.
    pub fn multiply(&self, left: &Left<T>, right: Part<T>, mut c: MatrixMut<T>, write: Write<T>) {
        let (m, n) = c.shape();
        let (a, k) = (left.matrix, right.rows.len());
        assert!(left.kernel == *self && right.right.kernel == *self, "operands of another kernel");
        assert_eq!((a.shape(), right.shape()), ((m, k), (k, n)), "shapes of a product into {m} × {n}");
        if m == 0 || n == 0 {
            return;
        }
        let width = self.level.columns::<T>();
        let (right, first_row, first_panel) = (right.right, right.rows.start, right.columns.start / width);
        let panel_len = right.depth * width;
        for (block, ks) in spread(0..k, DEPTH).enumerate() {
            let write = Write { accumulate: write.accumulate || block > 0, ..write };
            let within = (first_row + ks.start) * width..(first_row + ks.end) * width;
            for rows in spread(0..m, TILES * self.level.rows::<T>(width)) {
                let block = left.rows(rows.clone(), ks.clone());
                let panel = |j: usize| &right.values.get()[(first_panel + j) * panel_len..][..panel_len][within.clone()];
                let panels = n.div_ceil(width);
                for j in 0..panels {
                    let (first, next) = (j * width, panel((j + 1) % panels));
                    let c = c.part(rows.clone(), first..(first + width).min(n));
                    multiply_panel(self.level, block, (panel(j), next), c, write);
                }
            }
        }
    }
}

impl<T: Real> Left<'_, T> {
    fn rows(&self, rows: Range<usize>, ks: Range<usize>) -> Rows<'_, T> {
        let depth = self.matrix.columns;
        match &self.tiles {
            None => Rows::Lying(self.matrix.part(rows, ks)),
            Some(tiles) => {
                let values = &tiles.get()[rows.start * depth..rows.end * depth];
                Rows::Tiles { values, rows: rows.len(), depth, first: ks.start, columns: ks.len() }
            }
        }
    }
}

/// Cuts a range into as few pieces of at most `most` as possible, but one, and all of nearly the same length.
pub(super) fn spread(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (len, pieces) = (range.len(), range.len().div_ceil(most).max(1));
    (0..pieces).map(move |i| range.start + i * len / pieces..range.start + (i + 1) * len / pieces)
}

impl<T: Real> Right<T> {
    /// Packs another matrix into the same memory.
    pub fn replace(&mut self, matrix: Matrix<T>) {
        let width = self.kernel.level.columns::<T>();
        (self.depth, self.columns) = matrix.shape();
        let panel_len = self.depth * width;
        let panels = self.values.resize(self.columns.div_ceil(width) * panel_len);
        if panel_len == 0 {
            return;
        }
        if !self.columns.is_multiple_of(width) {
            let last = panels.len() - panel_len;
            panels[last..].fill(T::ZERO);
        }
        if matrix.column_stride == 1 {
            // Row by row, since each row may be another page of memory.
            for p in 0..self.depth {
                let row = &matrix.values[p * matrix.row_stride..][..self.columns];
                for (j, values) in row.chunks(width).enumerate() {
                    panels[j * panel_len + p * width..][..values.len()].copy_from_slice(values);
                }
            }
        } else {
            for (j, panel) in panels.chunks_mut(panel_len).enumerate() {
                let columns = j * width..((j + 1) * width).min(self.columns);
                transpose(matrix.part(0..self.depth, columns), panel, width);
            }
        }
    }

    /// (rows k, columns n).
    pub fn shape(&self) -> (usize, usize) {
        (self.depth, self.columns)
    }

    /// All of it.
    pub fn all(&self) -> Part<'_, T> {
        self.part(0..self.depth, 0..self.columns)
    }

    /// These columns: see [`Right::part`].
    ///
    /// # Panics
    /// As [`Right::part`].
    pub fn columns(&self, columns: Range<usize>) -> Part<'_, T> {
        self.part(0..self.depth, columns)
    }

    /// These rows: see [`Right::part`].
    ///
    /// # Panics
    /// As [`Right::part`].
    pub fn rows(&self, rows: Range<usize>) -> Part<'_, T> {
        self.part(rows, 0..self.columns)
    }

    /// Some rows and columns. Each range begins at a multiple of [`STEP`]; that of the rows also ends at one or at the last row.
    ///
    /// # Panics
    /// When a range is otherwise or not within the matrix.
    pub fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Part<'_, T> {
        assert!(rows.start <= rows.end && rows.end <= self.depth, "rows {rows:?} of {}", self.depth);
        assert!(columns.start <= columns.end && columns.end <= self.columns, "columns {columns:?} of {}", self.columns);
        assert!(rows.start.is_multiple_of(STEP) && columns.start.is_multiple_of(STEP), "{rows:?}, {columns:?}: begin at {STEP}");
        assert!(rows.end.is_multiple_of(STEP) || rows.end == self.depth, "rows {rows:?} end at no multiple of {STEP}");
        Part { right: self, rows, columns }
    }
}

impl<T> Part<'_, T> {
    /// (rows k, columns n).
    pub fn shape(&self) -> (usize, usize) {
        (self.rows.len(), self.columns.len())
    }
}
