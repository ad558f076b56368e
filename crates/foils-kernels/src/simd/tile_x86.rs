//! Tiles with AVX2 (6 × 16 of f32) and AVX-512 (6 × 64 of f32): 12 and 24 sums in registers, enough to hide the latency of
//! the multiply-add. Elements of `a` are broadcast from wherever they lie, so that `a` need not be packed.

use super::MatrixMut;
use super::tile::{Level, Number};
use crate::matrix::{Matrix, Write};
use std::arch::x86_64::*;

/// The arguments of a kernel: those of [`super::tile::tile`], checked there, as pointers.
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
}

type Kernel<T> = unsafe fn(&Tile<T>);

/// Kernels by [rows − 1][vectors of columns − 1].
pub struct Kernels<T> {
    avx2: [[Kernel<T>; 2]; 6],
    avx512: [[Kernel<T>; 4]; 6],
}

pub(super) fn tile<T: Number>(level: Level, a: Matrix<T>, panel: &[T], c: &mut MatrixMut<T>, write: Write<T>) {
    let (rows, columns) = c.shape();
    let Write { accumulate, alpha } = write;
    let (c_row, c) = (c.row_stride(), c.as_mut_ptr());
    let (a, panel) = ((a.values.as_ptr(), a.columns, a.row_stride, a.column_stride), panel.as_ptr());
    let tile = Tile { depth: a.1, a: a.0, a_row: a.2, a_column: a.3, panel, c, c_row, columns, accumulate, alpha };
    let kernel = match level {
        Level::Avx512 => T::KERNELS.avx512[rows - 1][(columns - 1) * size_of::<T>() / 64],
        _ => T::KERNELS.avx2[rows - 1][(columns - 1) * size_of::<T>() / 32],
    };
    // SAFETY: a level is only chosen where the processor has its features; the caller checked the shapes, `Matrix` and
    // `MatrixMut` that their elements lie within what they borrow, and the kernel for `rows` rows and the vectors that hold
    // `columns` columns touches no others, but for the padding of the panel, whose length the caller checked.
    unsafe { kernel(&tile) }
}

macro_rules! kernels {
    ($avx2:ident, $avx512:ident) => {
        Kernels {
            avx2: kernels!(@rows [1 2 3 4 5 6] $avx2 [1 2]),
            avx512: kernels!(@rows [1 2 3 4 5 6] $avx512 [1 2 3 4]),
        }
    };
    (@rows [$($rows:literal)*] $kernel:ident $vectors:tt) => { [$(kernels!(@row $rows $kernel $vectors)),*] };
    (@row $rows:literal $kernel:ident [$($vectors:literal)*]) => { [$($kernel::<$rows, $vectors>),*] };
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
            // Two pointers and one stride reach six rows: more would not fit into the registers for addresses.
            let (mut a, mut b) = ([t.a, t.a.wrapping_add(3 * t.a_row)], t.panel);
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
