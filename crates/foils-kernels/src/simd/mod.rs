//! The one place of `unsafe` and of instructions that only some processors have. Here: operations on rows of numbers with the
//! vector instructions that the processor has, chosen at run time. The exponential is what a contrastive loss spends its time
//! on beside products, and the standard library's is scalar.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod amx_emulation;
mod buffer;
mod features;
mod float;
mod gemm;
pub(crate) mod int8;
mod layers;
mod matrix_mut;
mod pairs;
mod peak;
pub(crate) mod sparse;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tile_x86;
mod transpose;

use crate::Real;
pub(crate) use buffer::fill_pieces;
pub use features::{Features, features};
pub use float::Float;
pub(crate) use gemm::gemm;
pub(crate) use layers::*;
pub use matrix_mut::MatrixMut;
pub(crate) use pairs::{pair_scores, pair_sums};
pub use peak::peak_flops;
pub use tile::Number;
pub(crate) use tile::{Level, PackedTiles, Rows, Session, multiply_panel};
pub(crate) use transpose::transpose;

/// What the kernels do with a row of numbers.
pub trait Row: Real {
    /// Replaces every `x ≤ shift` by `exp(x − shift)` and returns the sum. −∞, and in f32 what is more than 87 below the
    /// shift, becomes exactly 0.
    fn exp_sum(row: &mut [Self], shift: Self) -> f64;
    /// The largest value; −∞ of an empty row.
    fn largest(row: &[Self]) -> Self;
    /// Multiplies every value.
    fn scale(row: &mut [Self], by: Self);
    /// Adds a row of the same length, entry by entry.
    fn add(to: &mut [Self], from: &[Self]);
    /// Adds a row of f32 of the same length, entry by entry.
    fn add_f32(to: &mut [Self], from: &[f32]);
    /// Inner product, summed in f64 in a fixed order.
    fn dot(a: &[Self], b: &[Self]) -> f64;
}

/// Asks the processor to bring a row into its cache while it does something else.
#[inline(always)]
pub(crate) fn prefetch<T: Real>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(64 / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing; every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// Inner product, summed in f64 in a fixed order: the same bits with whatever instructions, which never fuse the two roundings.
pub(crate) fn ordered_dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        if features().avx512 {
            // SAFETY: the processor has the features that the function is compiled for, as just asked.
            return unsafe { ordered_dot_avx512(a, b) };
        }
        if features().avx2 {
            // SAFETY: as above.
            return unsafe { ordered_dot_avx2(a, b) };
        }
    }
    ordered_dot_lanes(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
fn ordered_dot_avx512<T: Real>(a: &[T], b: &[T]) -> f64 {
    ordered_dot_lanes(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn ordered_dot_avx2<T: Real>(a: &[T], b: &[T]) -> f64 {
    ordered_dot_lanes(a, b)
}

#[inline(always)]
fn ordered_dot_lanes<T: Real>(a: &[T], b: &[T]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0f64; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (x, y) in a.iter().zip(b) {
        for (s, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *s += x.to_f64() * y.to_f64();
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x.to_f64() * y.to_f64()).sum();
    sums.iter().sum::<f64>() + rest
}

/// So many values from the first one on are below the bar for certain: all, or a multiple of 32. What is NaN is not below it.
pub(crate) fn below<T: Real>(row: &[T], bar: T) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if features().avx512 {
            // SAFETY: the processor has the features that the function is compiled for, as just asked.
            return unsafe { below_avx512(row, bar) };
        }
        if features().avx2 {
            // SAFETY: as above.
            return unsafe { below_avx2(row, bar) };
        }
    }
    below_lanes(row, bar)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
fn below_avx512<T: Real>(row: &[T], bar: T) -> usize {
    below_lanes(row, bar)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn below_avx2<T: Real>(row: &[T], bar: T) -> usize {
    below_lanes(row, bar)
}

#[inline(always)]
fn below_lanes<T: Real>(row: &[T], bar: T) -> usize {
    const LANES: usize = 32;
    let (chunks, rest) = row.as_chunks::<LANES>();
    let are_below = |values: &[T]| values.iter().fold(true, |all, &x| all & (x < bar));
    match chunks.iter().position(|chunk| !are_below(chunk)) {
        Some(chunk) => chunk * LANES,
        None if are_below(rest) => row.len(),
        None => row.len() - rest.len(),
    }
}

macro_rules! plain_row_operations {
    ($t:ty) => {
        fn largest(row: &[$t]) -> $t {
            layers::row_largest(row)
        }

        fn scale(row: &mut [$t], by: $t) {
            layers::row_scale(row, by);
        }

        fn add(to: &mut [$t], from: &[$t]) {
            layers::row_add(to, from);
        }

        fn add_f32(to: &mut [$t], from: &[f32]) {
            layers::row_add_f32(to, from);
        }

        fn dot(a: &[$t], b: &[$t]) -> f64 {
            ordered_dot(a, b)
        }
    };
}

impl Row for f64 {
    fn exp_sum(row: &mut [f64], shift: f64) -> f64 {
        let mut sum = 0.0;
        for x in row {
            *x = (*x - shift).exp();
            sum += *x;
        }
        sum
    }

    plain_row_operations!(f64);
}

impl Row for f32 {
    fn exp_sum(row: &mut [f32], shift: f32) -> f64 {
        #[cfg(target_arch = "x86_64")]
        {
            if features().avx512 {
                // SAFETY: the processor has the features that the function is compiled for, as just asked.
                return unsafe { exp_sum_avx512(row, shift) };
            }
            if features().avx2 {
                // SAFETY: as above.
                return unsafe { exp_sum_avx2(row, shift) };
            }
        }
        exp_sum_f32::<{ cfg!(target_arch = "aarch64") }>(row, shift)
    }

    plain_row_operations!(f32);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
fn exp_sum_avx512(row: &mut [f32], shift: f32) -> f64 {
    exp_sum_f32::<true>(row, shift)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn exp_sum_avx2(row: &mut [f32], shift: f32) -> f64 {
    exp_sum_f32::<true>(row, shift)
}

/// The loop that the compiler vectorises for whatever the caller is compiled for. `FMA`: the processor multiplies and adds in
/// one instruction; without it `mul_add` would be a slow function call.
#[inline(always)]
fn exp_sum_f32<const FMA: bool>(row: &mut [f32], shift: f32) -> f64 {
    const LANES: usize = 64;
    /// So many f32 are summed before the sum moves on to f64.
    const GROUP: usize = 16 * LANES;
    let mut sum = 0.0;
    for group in row.chunks_mut(GROUP) {
        let mut sums = [0f32; LANES];
        let (chunks, rest) = group.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for (s, x) in sums.iter_mut().zip(chunk) {
                *x = exp::<FMA>(*x - shift);
                *s += *x;
            }
        }
        sum += sums.iter().map(|&s| f64::from(s)).sum::<f64>();
        for x in rest {
            *x = exp::<FMA>(*x - shift);
            sum += f64::from(*x);
        }
    }
    sum
}

/// exp of `x ≤ 0` to about 1e-7 relative: x = n ln 2 + r, a polynomial of degree 5 in r (Cephes), and n into the exponent bits.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Below this the result would not be a normal number.
    const SMALLEST: f32 = -87.336_54;
    /// 1.5 · 2²³: adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let fma = |a: f32, b: f32, c: f32| if FMA { a.mul_add(b, c) } else { a * b + c };
    // NaN compares false, and so stays NaN.
    let clamped = if x < SMALLEST { SMALLEST } else { x };
    let t = fma(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = t - ROUND;
    // ln 2 in two parts, so that n ln 2 is subtracted without rounding.
    let r = fma(n, 2.121_944_4e-4, fma(n, -0.693_359_4, clamped));
    let mut p = fma(1.987_569_1e-4, r, 1.398_199_9e-3);
    for c in [8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = fma(p, r, c);
    }
    let y = fma(p, r * r, r) + 1.0;
    let power = f32::from_bits((t.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < SMALLEST { 0.0 } else { y * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_right_to_two_units_in_the_last_place() {
        let mut row: Vec<f32> = (0..200_000).map(|i| -(i as f32) * 87.3 / 200_000.0).collect();
        let inputs = row.clone();
        for portable in [false, true] {
            row.copy_from_slice(&inputs);
            let sum = if portable { exp_sum_f32::<false>(&mut row, 0.0) } else { f32::exp_sum(&mut row, 0.0) };
            let mut expected = 0.0;
            for (&x, &y) in inputs.iter().zip(&row) {
                let exact = f64::from(x).exp();
                expected += exact;
                assert!((f64::from(y) - exact).abs() <= 2.4e-7 * exact, "exp({x}) = {y}, expected {exact}");
            }
            assert!((sum - expected).abs() < 1e-7 * expected);
        }
    }

    #[test]
    fn exp_of_what_is_masked_is_exactly_zero() {
        let mut row = [f32::NEG_INFINITY, -1000.0, -88.0, 0.0];
        assert_eq!(f32::exp_sum(&mut row, 0.0), 1.0);
        assert_eq!(row, [0.0, 0.0, 0.0, 1.0]);
        let mut row = [f64::NEG_INFINITY, 3.0];
        assert_eq!(f64::exp_sum(&mut row, 3.0), 1.0);
        assert_eq!(row, [0.0, 1.0]);
        assert!(f32::exp_sum(&mut [f32::NAN; 3], 0.0).is_nan());
    }

    #[test]
    fn values_below_a_bar_are_passed_over() {
        for n in [0, 1, 31, 32, 33, 100, 129] {
            let mut row = vec![1f32; n];
            assert_eq!((below(&row, 2.0), below(&row, f32::NAN)), (n, 0));
            for at in 0..n {
                for not_below in [2.0, f32::NAN] {
                    row[at] = not_below;
                    assert_eq!(below(&row, 2.0), at / 32 * 32, "{at} of {n}");
                    row[at] = 1.0;
                }
            }
        }
    }

    #[test]
    fn max_and_dot_of_every_short_length() {
        for n in 0..100 {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            assert_eq!(f32::largest(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            assert_eq!(f32::dot(&x, &x), x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>());
        }
    }
}
