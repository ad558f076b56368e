//! Operands in the order in which the kernels read them.

use super::aligned::Aligned;
use super::split::{self, Order};
use super::{Kernel, Matrix, MatrixMut, Write};
use crate::Real;
use crate::simd::{Level, PackedTiles, Rows, Session, multiply_panel, transpose};
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
    /// A left-hand operand. It borrows the matrix where the kernel reads it as it lies, and packs it otherwise.
    pub fn left<'a>(&self, matrix: Matrix<'a, T>) -> Left<'a, T> {
        if self.level.is_amx() { self.left_packed(matrix) } else { Left { kernel: *self, matrix, tiles: None } }
    }

    /// A left-hand operand in the order in which it is read. That pays where a column or a row of the matrix reaches over many
    /// pages of memory, and the right-hand operand has hundreds of columns.
    pub fn left_packed<'a>(&self, matrix: Matrix<'a, T>) -> Left<'a, T> {
        let ((m, k), level) = (matrix.shape(), self.level);
        let most = level.rows::<T>(level.columns::<T>());
        let mut tiles = Aligned::EMPTY;
        let mut values = tiles.resize(level.packed_len(m, k));
        for block in pieces(m, TILES * most, most) {
            let mut first = block.start;
            for height in level.heights::<T>(block.len()) {
                let rows = matrix.part(first..first + height, 0..k);
                let (tile, rest) = values.split_at_mut(level.packed_len(height, k));
                if level.is_amx() {
                    split::pack(rows, tile, Order::Rows, level == Level::AmxHigh);
                } else {
                    transpose(rows.transposed(), tile, height);
                }
                (first, values) = (first + height, rest);
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
        let (level, width) = (self.level, self.level.columns::<T>());
        let (right, first_row, first_panel) = (right.right, right.rows.start, right.columns.start / width);
        let (panels, panel_len) = (n.div_ceil(width), level.packed_len(width, right.depth));
        let session = Session::new(level);
        for ks in pieces(k, DEPTH, STEP) {
            let write = Write { accumulate: write.accumulate || ks.start > 0, ..write };
            let within = level.packed_len(width, first_row + ks.start)..level.packed_len(width, first_row + ks.end);
            let panel = |j: usize| &right.values.get()[(first_panel + j) * panel_len..][..panel_len][within.clone()];
            let most = level.rows::<T>(width);
            for rows in pieces(m, TILES * most, most) {
                let block = left.rows(rows.clone(), ks.clone());
                for j in 0..panels {
                    let c = c.part(rows.clone(), j * width..((j + 1) * width).min(n));
                    multiply_panel(&session, block, (panel(j), panel((j + 1) % panels)), c, write);
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
                let level = self.kernel.level;
                let values = &tiles.get()[level.packed_len(rows.start, depth)..level.packed_len(rows.end, depth)];
                Rows::Tiles(PackedTiles { values, rows: rows.len(), depth, first: ks.start, columns: ks.len() })
            }
        }
    }
}

/// Cuts `0..len` into as few pieces of at most `most` as possible, but one, of nearly the same length, beginning at multiples
/// of `unit`, of which `most` is one.
pub(super) fn pieces(len: usize, most: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let piece = len.div_ceil(len.div_ceil(most).max(1)).next_multiple_of(unit).max(unit);
    (0..len.max(1)).step_by(piece).map(move |first| first..(first + piece).min(len))
}

impl<T: Real> Right<T> {
    /// Packs another matrix into the same memory.
    pub fn replace(&mut self, matrix: Matrix<T>) {
        let width = self.kernel.level.columns::<T>();
        (self.depth, self.columns) = matrix.shape();
        let level = self.kernel.level;
        let panel_len = level.packed_len(width, self.depth);
        let panels = self.values.resize(self.columns.div_ceil(width) * panel_len);
        if panel_len == 0 {
            return;
        }
        let columns = |j: usize| matrix.part(0..self.depth, j * width..((j + 1) * width).min(self.columns));
        if level.is_amx() {
            for (j, panel) in panels.chunks_mut(panel_len).enumerate() {
                split::pack(columns(j).transposed(), panel, Order::Pairs, level == Level::AmxHigh);
            }
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
                transpose(columns(j), panel, width);
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
