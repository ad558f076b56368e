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

    /// So many rows at once, at most.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Portable => PORTABLE_ROWS,
            Self::Avx2 | Self::Avx512 => 6,
        }
    }

    /// So many columns of `T` a panel has.
    pub(crate) fn columns<T: Number>(self) -> usize {
        match self {
            Self::Portable => PORTABLE_COLUMNS,
            Self::Avx2 => 2 * 32 / size_of::<T>(),
            Self::Avx512 => 4 * 64 / size_of::<T>(),
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

/// `c (+)= alpha · a · b` for at most [`Level::rows`] rows of `a` and a packed panel of at most [`Level::columns`] columns:
/// `panel` holds, for each of the rows of `b`, that many values, of which the first `c.columns` count.
///
/// # Panics
/// When shapes disagree or the panel is too short.
pub(crate) fn tile<T: Real>(level: Level, a: Matrix<T>, panel: &[T], mut c: MatrixMut<T>, write: Write<T>) {
    let (rows, columns) = c.shape();
    assert!(a.rows == rows && (1..=level.rows()).contains(&rows), "{} rows for {rows}", a.rows);
    assert!((1..=level.columns::<T>()).contains(&columns), "a tile of {columns} columns");
    assert!(panel.len() >= a.columns * level.columns::<T>(), "a panel of {} values", panel.len());
    match level {
        Level::Portable => portable(a, panel, &mut c, write),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => super::tile_x86::tile(level, a, panel, &mut c, write),
        #[cfg(not(target_arch = "x86_64"))]
        Level::Avx2 | Level::Avx512 => unreachable!("levels of another processor"),
    }
}

const PORTABLE_ROWS: usize = 4;
const PORTABLE_COLUMNS: usize = 8;

fn portable<T: Real>(a: Matrix<T>, panel: &[T], c: &mut MatrixMut<T>, Write { accumulate, alpha }: Write<T>) {
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
