//! The innermost part of a matrix product: a few rows against one panel of columns, in registers.

use super::{Features, MatrixMut};
use crate::Real;
use crate::matrix::{Matrix, Write};

/// The instructions that a product is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What the compiler makes of plain code for the target (SSE2 on x86-64, NEON on aarch64).
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512.
    Avx512,
}

impl Level {
    /// The best of what the processor has.
    pub(crate) fn best(features: Features) -> Self {
        match features {
            Features { avx512: true, .. } => Self::Avx512,
            Features { avx2: true, .. } => Self::Avx2,
            _ => Self::Portable,
        }
    }

    /// So many rows at once, at most, with so many columns: fewer columns leave registers for more rows.
    pub(crate) fn rows<T: Number>(self, columns: usize) -> usize {
        match (self, (columns * size_of::<T>()).div_ceil(self.vector())) {
            (Self::Portable, _) => PORTABLE_ROWS,
            (_, ..=1) | (Self::Avx512, 2) => 12,
            (Self::Avx512, 3) => 8,
            _ => 6,
        }
    }

    /// Bytes of a vector.
    pub(super) fn vector(self) -> usize {
        match self {
            Self::Portable => 16,
            Self::Avx2 => 32,
            Self::Avx512 => 64,
        }
    }

    /// So many columns of `T` a panel has.
    pub(crate) fn columns<T: Number>(self) -> usize {
        match self {
            Self::Portable => PORTABLE_COLUMNS,
            Self::Avx2 => 2 * self.vector() / size_of::<T>(),
            Self::Avx512 => 4 * self.vector() / size_of::<T>(),
        }
    }
}

/// A type of numbers that there are tiles for.
pub trait Number: Copy + 'static {
    /// a · b + c, rounded once where the processor can do that (`FMA`), else twice.
    fn multiply_add<const FMA: bool>(self, b: Self, c: Self) -> Self;
    /// The vector kernels of this type.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    const KERNELS: super::tile_x86::Kernels<Self>;
}

macro_rules! number {
    ($t:ty, $kernels:ident) => {
        impl Number for $t {
            #[inline(always)]
            fn multiply_add<const FMA: bool>(self, b: Self, c: Self) -> Self {
                if FMA { self.mul_add(b, c) } else { self * b + c }
            }
            #[cfg(target_arch = "x86_64")]
            const KERNELS: super::tile_x86::Kernels<Self> = super::tile_x86::$kernels;
        }
    };
}
number!(f32, F32);
number!(f64, F64);

/// Rows of a left-hand operand.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a, T> {
    /// As they lie in a matrix.
    Lying(Matrix<'a, T>),
    /// Packed: [`heights`] of [`Level::rows`] tiles, each column by column.
    Tiles {
        /// All columns of these rows.
        values: &'a [T],
        /// So many rows.
        rows: usize,
        /// So many columns there are.
        depth: usize,
        /// The first column that is meant,
        first: usize,
        /// and how many.
        columns: usize,
    },
}

/// The heights of as few tiles as possible for so many rows, all nearly the same.
pub(crate) fn heights(rows: usize, most: usize) -> impl Iterator<Item = usize> {
    let tiles = rows.div_ceil(most);
    let (height, higher) = (rows.checked_div(tiles).unwrap_or(0), rows.checked_rem(tiles).unwrap_or(0));
    (0..tiles).map(move |tile| height + usize::from(tile < higher))
}

/// `c (+)= alpha · a · b` for one packed panel of at most [`Level::columns`] columns: `panel` holds, for each row of `b`, that
/// many values, of which the first `c.columns` count. `next` will be needed next, and is fetched from memory meanwhile.
///
/// # Panics
/// When shapes disagree or the panel is too short.
pub(crate) fn multiply_panel<T: Real>(level: Level, a: Rows<T>, (panel, next): (&[T], &[T]), mut c: MatrixMut<T>, write: Write<T>) {
    let (rows, columns) = c.shape();
    if rows == 0 || columns == 0 {
        return;
    }
    let width = level.columns::<T>();
    let (a_rows, depth) = match a {
        Rows::Lying(matrix) => matrix.shape(),
        Rows::Tiles { values, rows, depth, first, columns } => {
            assert!(values.len() >= rows * depth && first + columns <= depth, "columns {first} + {columns} of {depth}");
            (rows, columns)
        }
    };
    assert!(a_rows == rows && columns <= width, "a panel of {a_rows} × {width} for {rows} × {columns}");
    assert!(panel.len() >= depth * width, "a panel of {} values for {depth} × {width}", panel.len());
    // Packed rows come in the tiles of a whole panel; otherwise a narrower one leaves registers for higher tiles.
    let most = level.rows::<T>(if matches!(a, Rows::Tiles { .. }) { width } else { columns });
    match level {
        Level::Portable => portable(a, most, panel, &mut c, write),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => super::tile_x86::multiply_panel(level, a, most, (panel, next), &mut c, write),
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::Avx512 => unreachable!("levels of another processor"),
    }
}

const PORTABLE_ROWS: usize = 4;
const PORTABLE_COLUMNS: usize = 8;

fn portable<T: Real>(a: Rows<T>, most: usize, panel: &[T], c: &mut MatrixMut<T>, write: Write<T>) {
    let ((rows, columns), mut first) = (c.shape(), 0);
    for height in heights(rows, most) {
        let tile = match a {
            Rows::Lying(matrix) => matrix.part(first..first + height, 0..matrix.columns),
            Rows::Tiles { values, depth, first: column, columns, .. } => {
                let tile = Matrix::new(&values[first * depth..], (height, depth), (1, height));
                tile.part(0..height, column..column + columns)
            }
        };
        portable_tile(tile, panel, c.part(first..first + height, 0..columns), write);
        first += height;
    }
}

fn portable_tile<T: Real>(a: Matrix<T>, panel: &[T], mut c: MatrixMut<T>, Write { accumulate, alpha }: Write<T>) {
    const FMA: bool = cfg!(target_arch = "aarch64");
    let (rows, columns) = c.shape();
    let mut sums = [[T::ZERO; PORTABLE_COLUMNS]; PORTABLE_ROWS];
    // With fewer rows the last one is computed again, and not written.
    let offsets: [usize; PORTABLE_ROWS] = std::array::from_fn(|i| i.min(rows - 1) * a.row_stride);
    for (p, b) in panel.as_chunks::<PORTABLE_COLUMNS>().0[..a.columns].iter().enumerate() {
        for (sums, offset) in sums.iter_mut().zip(offsets) {
            let x = a.values[offset + p * a.column_stride];
            for (sum, &y) in sums.iter_mut().zip(b) {
                *sum = x.multiply_add::<FMA>(y, *sum);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate().take(rows) {
        for (c, &sum) in c.row(i).iter_mut().zip(&sums[..columns]) {
            *c = if accumulate { alpha.multiply_add::<FMA>(sum, *c) } else { alpha * sum };
        }
    }
}
