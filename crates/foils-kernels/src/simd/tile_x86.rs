//! Tiles with AVX2 (6 × 16 of f32) and AVX-512 (6 × 64 of f32): 12 and 24 sums in registers, enough to hide the latency of
//! the multiply-add. Elements of `a` are broadcast from wherever they lie, so that `a` need not be packed.

use super::MatrixMut;
use super::tile::{Level, Number, PackedTiles, Rows, heights};
use crate::matrix::Write;
use std::arch::x86_64::*;

/// The arguments of a kernel: those of [`super::tile::multiply_panel`], checked there, as pointers.
struct Tile<T> {
    depth: usize,
    a: *const T,
    a_row: usize,
    a_column: usize,
    panel: *const T,
    c: *mut T,
    c_row: usize,
    columns: usize,
    accumulate: bool,
    alpha: T,
    /// What will be needed next: a cache line of it is fetched for each step in depth.
    next: *const T,
}

/// Bytes of a cache line.
const LINE: usize = 64;
/// With less depth than this, the time of a tile is too short to fetch its part of `c` ahead.
const FETCH_DEPTH: usize = 64;

type Kernel<T> = unsafe fn(&Tile<T>);

/// Kernels by [vectors of columns − 1][rows − 1].
pub struct Kernels<T: 'static> {
    avx2: [&'static [Kernel<T>]; 2],
    avx512: [&'static [Kernel<T>]; 4],
}

pub(super) fn multiply_panel<T: Number>(
    level: Level,
    a: Rows<T>,
    most: usize,
    (panel, next): (&[T], &[T]),
    c: &mut MatrixMut<T>,
    write: Write<T>,
) {
    let ((rows, columns), c_row, Write { accumulate, alpha }) = (c.shape(), c.row_stride(), write);
    let (a, a_row, a_column, depth, packed_depth) = match a {
        Rows::Lying(m) => (m.values, m.row_stride, m.column_stride, m.columns, None),
        Rows::Tiles(PackedTiles { values, depth, first, columns, .. }) => (values, 1, first, columns, Some(depth)),
    };
    let (a_start, first_column) = (a.as_ptr(), a_column);
    let (panel, c) = (panel.as_ptr(), c.as_mut_ptr());
    let mut tile = Tile { depth, a: a_start, a_row, a_column, panel, c, c_row, columns, accumulate, alpha, next: panel };
    let vectors = (columns * size_of::<T>()).div_ceil(level.vector());
    let kernels = match level {
        Level::Avx512 => T::KERNELS.avx512[vectors - 1],
        _ => T::KERNELS.avx2[vectors - 1],
    };
    let mut row = 0;
    for (i, height) in heights(rows, most).enumerate() {
        // When all of it has been asked for, asking again for its beginning costs next to nothing.
        tile.next = next.get(i * depth * (LINE / size_of::<T>())..).unwrap_or(next).as_ptr();
        if let Some(depth) = packed_depth {
            tile.a_column = height;
            tile.a = a_start.wrapping_add(row * depth + first_column * height);
        } else {
            tile.a = a_start.wrapping_add(row * a_row);
        }
        tile.c = c.wrapping_add(row * c_row);
        // SAFETY: a level is only chosen where the processor has its features; the caller checked the shapes, `Matrix` and
        // `MatrixMut` that their elements lie within what they borrow, and the kernel for `height` rows and the vectors that
        // hold `columns` columns touches no others, but for the padding of the panel, whose length the caller checked.
        unsafe { kernels[height - 1](&tile) };
        row += height;
    }
}

macro_rules! kernels {
    ($avx2:ident, $avx512:ident) => {
        Kernels {
            avx2: [
                kernels!($avx2, 1, 1 2 3 4 5 6 7 8 9 10 11 12),
                kernels!($avx2, 2, 1 2 3 4 5 6),
            ],
            avx512: [
                kernels!($avx512, 1, 1 2 3 4 5 6 7 8 9 10 11 12),
                kernels!($avx512, 2, 1 2 3 4 5 6 7 8 9 10 11 12),
                kernels!($avx512, 3, 1 2 3 4 5 6 7 8),
                kernels!($avx512, 4, 1 2 3 4 5 6),
            ],
        }
    };
    ($kernel:ident, $vectors:literal, $($rows:literal)*) => { &[$($kernel::<$rows, $vectors>),*] };
}

macro_rules! kernel {
    (
        $name:ident, $features:literal, $t:ty, panel of $most:literal vectors of $lanes:literal,
        $zero:ident, $set:ident, $load:ident, $fma:ident, $mul:ident,
        mask |$n:ident| $mask:expr, masked |$at:ident, $m:ident| load $masked_load:expr, store |$x:ident| $masked_store:expr
    ) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const ROWS: usize, const VECTORS: usize>(t: &Tile<$t>) {
            let mut sums = [[$zero(); VECTORS]; ROWS];
            // A pointer for three rows: one for each would not fit into the registers for addresses.
            let mut a: [*const $t; 4] = std::array::from_fn(|i| t.a.wrapping_add(3 * i * t.a_row));
            let (mut b, mut next) = (t.panel, t.next);
            if t.depth >= FETCH_DEPTH {
                for i in 0..ROWS {
                    for v in 0..VECTORS {
                        _mm_prefetch::<_MM_HINT_T0>(t.c.wrapping_add(i * t.c_row + v * $lanes).cast());
                    }
                }
            }
            for _ in 0..t.depth {
                let mut y = [$zero(); VECTORS];
                for (v, y) in y.iter_mut().enumerate() {
                    // SAFETY: the panel holds `depth` times all vectors.
                    *y = unsafe { $load(b.add(v * $lanes)) };
                }
                for i in 0..ROWS {
                    // SAFETY: element (i, p) of `a`.
                    let x = $set(unsafe { *a[i / 3].wrapping_add(i % 3 * t.a_row) });
                    for v in 0..VECTORS {
                        sums[i][v] = $fma(x, y[v], sums[i][v]);
                    }
                }
                a = a.map(|a| a.wrapping_add(t.a_column));
                b = b.wrapping_add($most * $lanes);
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
                next = next.wrapping_add(LINE / size_of::<$t>());
            }
            let alpha = $set(t.alpha);
            for (i, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    let $n = (t.columns - v * $lanes).min($lanes);
                    let mask = $mask;
                    // SAFETY: row i of `c`, and column v · lanes is one of its columns; the mask leaves out those beyond.
                    unsafe {
                        let c = t.c.add(i * t.c_row + v * $lanes);
                        let ($at, $m) = (c, mask);
                        let $x = if t.accumulate { $fma(alpha, sum, $masked_load) } else { $mul(alpha, sum) };
                        $masked_store;
                    }
                }
            }
        }
    };
}

kernel!(
    f32_avx512, "avx512f", f32, panel of 4 vectors of 16,
    _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_fmadd_ps, _mm512_mul_ps,
    mask |n| ((1u32 << n) - 1) as __mmask16, masked |at, m| load _mm512_maskz_loadu_ps(m, at),
    store |x| _mm512_mask_storeu_ps(at, m, x)
);
kernel!(
    f64_avx512, "avx512f", f64, panel of 4 vectors of 8,
    _mm512_setzero_pd, _mm512_set1_pd, _mm512_loadu_pd, _mm512_fmadd_pd, _mm512_mul_pd,
    mask |n| ((1u32 << n) - 1) as __mmask8, masked |at, m| load _mm512_maskz_loadu_pd(m, at),
    store |x| _mm512_mask_storeu_pd(at, m, x)
);
kernel!(
    f32_avx2, "avx2,fma", f32, panel of 2 vectors of 8,
    _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_fmadd_ps, _mm256_mul_ps,
    mask |n| _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
    masked |at, m| load _mm256_maskload_ps(at, m), store |x| _mm256_maskstore_ps(at, m, x)
);
kernel!(
    f64_avx2, "avx2,fma", f64, panel of 2 vectors of 4,
    _mm256_setzero_pd, _mm256_set1_pd, _mm256_loadu_pd, _mm256_fmadd_pd, _mm256_mul_pd,
    mask |n| _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3)),
    masked |at, m| load _mm256_maskload_pd(at, m), store |x| _mm256_maskstore_pd(at, m, x)
);

pub(super) const F32: Kernels<f32> = kernels!(f32_avx2, f32_avx512);
pub(super) const F64: Kernels<f64> = kernels!(f64_avx2, f64_avx512);
