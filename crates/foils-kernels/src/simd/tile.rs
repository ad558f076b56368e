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
    /// AMX, each f32 in two bf16.
    AmxHigh,
    /// AMX, each f32 rounded to bf16.
    AmxMedium,
}

impl Level {
    /// The best of what the processor has for numbers in their own precision.
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
            (Self::AmxHigh | Self::AmxMedium, _) => AMX_SIDE,
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
            Self::Avx512 | Self::AmxHigh | Self::AmxMedium => 64,
        }
    }

    /// So many numbers `side` packed rows of `a`, or columns of `b`, of this depth take.
    pub(crate) fn packed_len(self, side: usize, depth: usize) -> usize {
        match self {
            Self::Portable | Self::Avx2 | Self::Avx512 => side * depth,
            Self::AmxHigh => side.next_multiple_of(AMX_SIDE) * depth.next_multiple_of(AMX_SIDE),
            Self::AmxMedium => side.next_multiple_of(AMX_SIDE) * depth.next_multiple_of(AMX_SIDE) / 2,
        }
    }

    /// The heights of the tiles that so many rows are packed in.
    pub(crate) fn heights<T: Number>(self, rows: usize) -> impl Iterator<Item = usize> {
        let most = self.rows::<T>(self.columns::<T>());
        // AMX tiles are all but the last full, so that parts begin at whole tiles.
        let (full, even) = if self.is_amx() { (rows / most, rows % most) } else { (0, rows) };
        std::iter::repeat_n(most, full).chain(heights(even, most))
    }

    /// Whether operands are bf16 in tiles.
    pub(crate) fn is_amx(self) -> bool {
        matches!(self, Self::AmxHigh | Self::AmxMedium)
    }

    /// So many columns of `T` a panel has.
    pub(crate) fn columns<T: Number>(self) -> usize {
        match self {
            Self::Portable => PORTABLE_COLUMNS,
            Self::Avx2 => 2 * self.vector() / size_of::<T>(),
            Self::Avx512 => 4 * self.vector() / size_of::<T>(),
            Self::AmxHigh | Self::AmxMedium => AMX_SIDE,
        }
    }
}

/// A type of numbers that there are tiles for.
pub trait Number: Copy + 'static {
    /// Whether it is f32, which has lower precisions.
    const IS_F32: bool;
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
            const IS_F32: bool = size_of::<$t>() == 4;
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
    /// Packed.
    Tiles(PackedTiles<'a, T>),
}

/// Packed rows: [`heights`] of [`Level::rows`] tiles, each column by column, or what AMX reads.
#[derive(Clone, Copy)]
pub(crate) struct PackedTiles<'a, T> {
    /// All columns of these rows.
    pub values: &'a [T],
    /// So many rows.
    pub rows: usize,
    /// So many columns there are.
    pub depth: usize,
    /// The first column that is meant,
    pub first: usize,
    /// and how many.
    pub columns: usize,
}

/// What has to be set up on a thread before it multiplies.
pub(crate) struct Session {
    level: Level,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    tiles: Option<super::amx::Tiles>,
}

impl Session {
    /// Sets up a level that the processor has.
    pub(crate) fn new(level: Level) -> Self {
        Self {
            level,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            // SAFETY: a level is only chosen where the processor has its features, and nothing but a session, of which a
            // product makes one, sets up tiles.
            tiles: level.is_amx().then(|| unsafe { super::amx::Tiles::new([16; 8]) }),
        }
    }
}

/// The heights of as few tiles as possible for so many rows, all nearly the same.
pub(super) fn heights(rows: usize, most: usize) -> impl Iterator<Item = usize> {
    let tiles = rows.div_ceil(most);
    let (height, higher) = (rows.checked_div(tiles).unwrap_or(0), rows.checked_rem(tiles).unwrap_or(0));
    (0..tiles).map(move |tile| height + usize::from(tile < higher))
}

/// `c (+)= alpha · a · b` for one packed panel of at most [`Level::columns`] columns: `panel` holds, for each row of `b`, that
/// many values, of which the first `c.columns` count. `next` will be needed next, and is fetched from memory meanwhile.
///
/// # Panics
/// When shapes disagree or the panel is too short.
pub(crate) fn multiply_panel<T: Real>(session: &Session, a: Rows<T>, (panel, next): (&[T], &[T]), mut c: MatrixMut<T>, write: Write<T>) {
    let ((rows, columns), level) = (c.shape(), session.level);
    if rows == 0 || columns == 0 {
        return;
    }
    let width = level.columns::<T>();
    let (a_rows, depth) = match a {
        Rows::Lying(matrix) => matrix.shape(),
        Rows::Tiles(PackedTiles { values, rows, depth, first, columns }) => {
            assert!(values.len() >= level.packed_len(rows, depth), "{} values for {rows} × {depth}", values.len());
            assert!(first + columns <= depth, "columns {first} + {columns} of {depth}");
            (rows, columns)
        }
    };
    assert!(a_rows == rows && columns <= width, "a panel of {a_rows} × {width} for {rows} × {columns}");
    assert!(panel.len() >= level.packed_len(width, depth), "a panel of {} values for {depth} × {width}", panel.len());
    // Packed rows come in the tiles of a whole panel; otherwise a narrower one leaves registers for higher tiles.
    let most = level.rows::<T>(if matches!(a, Rows::Tiles(_)) { width } else { columns });
    match level {
        Level::Portable => portable(a, most, panel, &mut c, write),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => super::tile_x86::multiply_panel(level, a, most, (panel, next), &mut c, write),
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Level::AmxHigh | Level::AmxMedium => match (a, &session.tiles) {
            (Rows::Tiles(a), Some(tiles)) => super::amx::multiply_panel(tiles, level, a, panel, &mut c, write),
            _ => unreachable!("left-hand operands of AMX are packed"),
        },
        #[allow(unreachable_patterns, reason = "not on x86-64 with Linux")]
        _ => unreachable!("{level:?} on another processor: {} values to fetch", next.len()),
    }
}

const AMX_SIDE: usize = 32;
/// Where every processor multiplies and adds in one instruction.
const PORTABLE_FMA: bool = cfg!(target_arch = "aarch64");
const PORTABLE_ROWS: usize = 4;
const PORTABLE_COLUMNS: usize = 8;

fn portable<T: Real>(a: Rows<T>, most: usize, panel: &[T], c: &mut MatrixMut<T>, write: Write<T>) {
    let ((rows, columns), mut first) = (c.shape(), 0);
    for height in heights(rows, most) {
        let tile = match a {
            Rows::Lying(matrix) => matrix.part(first..first + height, 0..matrix.columns),
            Rows::Tiles(PackedTiles { values, depth, first: column, columns, .. }) => {
                let tile = Matrix::new(&values[first * depth..], (height, depth), (1, height));
                tile.part(0..height, column..column + columns)
            }
        };
        portable_tile(tile, panel, c.part(first..first + height, 0..columns), write);
        first += height;
    }
}

fn portable_tile<T: Real>(a: Matrix<T>, panel: &[T], mut c: MatrixMut<T>, Write { accumulate, alpha }: Write<T>) {
    let (rows, columns) = c.shape();
    for (i, sums) in portable_sums(a, panel).iter().enumerate().take(rows) {
        for (c, &sum) in c.row(i).iter_mut().zip(&sums[..columns]) {
            *c = if accumulate { alpha.multiply_add::<PORTABLE_FMA>(sum, *c) } else { alpha * sum };
        }
    }
}

/// A function of its own, and elements of `a` read before they are multiplied, so that the sums stay in vector registers.
#[inline(never)]
fn portable_sums<T: Real>(a: Matrix<T>, panel: &[T]) -> [[T; PORTABLE_COLUMNS]; PORTABLE_ROWS] {
    let mut sums = [[T::ZERO; PORTABLE_COLUMNS]; PORTABLE_ROWS];
    // With fewer rows the last one is computed again, and not used.
    let offsets: [usize; PORTABLE_ROWS] = std::array::from_fn(|i| i.min(a.rows - 1) * a.row_stride);
    for (p, b) in panel.as_chunks::<PORTABLE_COLUMNS>().0[..a.columns].iter().enumerate() {
        let x = offsets.map(|offset| a.values[offset + p * a.column_stride]);
        for (sums, x) in sums.iter_mut().zip(x) {
            for (sum, &y) in sums.iter_mut().zip(b) {
                *sum = x.multiply_add::<PORTABLE_FMA>(y, *sum);
            }
        }
    }
    sums
}
