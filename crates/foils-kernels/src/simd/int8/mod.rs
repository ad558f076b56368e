//! Products of 8-bit integers, a tile at a time, and the quantisation that makes such rows: exact in 32 bits on every path.
//!
//! One factor is signed and the other is stored with 128 added, because the instructions multiply an unsigned byte by a signed
//! one; what that adds, 128 · Σ of the signed factor, is what the sums start from, negated.

mod tile;

use super::features;
use crate::Real;
pub use tile::{Engine, RightGroup, Tile, left_group, right_group, start};

/// Left rows (queries) of a tile.
pub const ROWS: usize = 6;
/// Right rows (documents) of a tile.
pub const COLUMNS: usize = 64;
/// The widest row whose products are sure to fit 32 bits.
pub const WIDEST: usize = i32::MAX as usize / (127 * 127);

/// A row in 8 bits: `scale · codes` is near it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coded {
    /// The value of one step; 0 when the row is too small or not finite (as f32), and then every code is 0.
    pub scale: f32,
    /// ‖row − scale · codes‖, infinite when the row is not finite as f32.
    pub residual: f64,
    /// ‖scale · codes‖
    pub norm: f64,
}

/// Rounds a row to whole multiples, at most `levels`, of one step, and measures in f64 what that leaves out.
///
/// # Panics
/// When the lengths differ.
pub fn quantise<T: Real>(row: &[T], levels: i32, codes: &mut [i8]) -> Coded {
    assert_eq!(row.len(), codes.len(), "a code for each value");
    #[cfg(target_arch = "x86_64")]
    {
        if features().avx512 {
            // SAFETY: the processor has the features that the function is compiled for, as just asked.
            return unsafe { x86::quantise_avx512(row, levels, codes) };
        }
        if features().avx2 {
            // SAFETY: as above.
            return unsafe { x86::quantise_avx2(row, levels, codes) };
        }
    }
    quantise_lanes(row, levels, codes)
}

/// The loop that the compiler vectorises for whatever the caller is compiled for.
#[inline(always)]
fn quantise_lanes<T: Real>(row: &[T], levels: i32, codes: &mut [i8]) -> Coded {
    const LANES: usize = 16;
    /// 1.5 · 2²³: adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let single = |x: T| x.to_f64() as f32;
    let magnitude = |x: &T| single(*x).to_bits() & 0x7fff_ffff;
    let (chunks, rest) = row.as_chunks::<LANES>();
    // As bits, magnitudes compare like integers, with ∞ and NaN above every number.
    let mut largest = [0u32; LANES];
    for chunk in chunks {
        for (l, x) in largest.iter_mut().zip(chunk) {
            *l = (*l).max(magnitude(x));
        }
    }
    let largest = f32::from_bits(largest.into_iter().chain(rest.iter().map(magnitude)).max().unwrap_or(0));
    let inverse = levels as f32 / largest;
    if !largest.is_finite() || !inverse.is_finite() {
        codes.fill(0);
        let residual = if largest.is_finite() { row.iter().map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt() } else { f64::INFINITY };
        return Coded { scale: 0.0, residual, norm: 0.0 };
    }
    let scale = largest / levels as f32;
    let mut squares = [0f64; LANES];
    let mut lengths = [0i32; LANES];
    let mut code = |at: usize, x: T, code: &mut i8| {
        let shifted = single(x) * inverse + ROUND;
        let nearest = shifted - ROUND;
        let step = shifted.to_bits() as i8;
        *code = step;
        squares[at] += (x.to_f64() - f64::from(scale) * f64::from(nearest)).powi(2);
        lengths[at] += i32::from(step) * i32::from(step);
    };
    let (code_chunks, code_rest) = codes.as_chunks_mut::<LANES>();
    for (chunk, codes) in chunks.iter().zip(code_chunks) {
        for at in 0..LANES {
            code(at, chunk[at], &mut codes[at]);
        }
    }
    for (at, (&x, c)) in rest.iter().zip(code_rest).enumerate() {
        code(at, x, c);
    }
    let length: i64 = lengths.iter().map(|&l| i64::from(l)).sum();
    Coded { scale, residual: squares.iter().sum::<f64>().sqrt(), norm: f64::from(scale) * (length as f64).sqrt() }
}

/// For 64 right rows: the step, and what bounds the error (see [`may_reach`]).
#[derive(Clone, Debug, PartialEq)]
#[repr(align(64))]
pub struct Columns {
    /// The step of each row.
    pub scale: [f32; COLUMNS],
    /// At least ‖row − coded row‖.
    pub residual: [f32; COLUMNS],
    /// At least ‖coded row‖.
    pub norm: [f32; COLUMNS],
}

/// For a left row: what bounds its error, in units of its step, and what its score must reach in the same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limit {
    /// Times the right row's residual.
    pub a: f32,
    /// Times the right row's norm.
    pub b: f32,
    /// What must be reached.
    pub bar: f32,
}

/// Bit j of a left row: whether `product[j] · scale[j] + a · residual[j] + b · norm[j]` is at least `bar`, or NaN; in f32, each
/// multiplication rounded by itself or fused with the addition that follows.
pub fn may_reach(products: &Tile, columns: &Columns, limits: &[Limit; ROWS]) -> [u64; ROWS] {
    #[cfg(target_arch = "x86_64")]
    {
        if features().avx512 {
            // SAFETY: the processor has the features that the function is compiled for, as just asked.
            return unsafe { x86::may_reach_avx512(products, columns, limits) };
        }
        if features().avx2 {
            // SAFETY: as above.
            return unsafe { x86::may_reach_avx2(products, columns, limits) };
        }
    }
    std::array::from_fn(|row| may_reach_lanes::<false>(&products.0[row], columns, &limits[row]))
}

#[inline(always)]
fn may_reach_lanes<const FMA: bool>(products: &[i32; COLUMNS], columns: &Columns, &Limit { a, b, bar }: &Limit) -> u64 {
    let fma = |x: f32, y: f32, z: f32| if FMA { x.mul_add(y, z) } else { x * y + z };
    let mut below = [false; COLUMNS];
    for j in 0..COLUMNS {
        below[j] = fma(products[j] as f32, columns.scale[j], fma(a, columns.residual[j], b * columns.norm[j])) < bar;
    }
    // Most rows hold nothing: that is asked first, without bits.
    if below.iter().fold(true, |all, &b| all & b) {
        return 0;
    }
    below.iter().enumerate().fold(0, |mask, (j, &below)| mask | (u64::from(!below) << j))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn quantise_avx512<T: Real>(row: &[T], levels: i32, codes: &mut [i8]) -> Coded {
        quantise_lanes(row, levels, codes)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn quantise_avx2<T: Real>(row: &[T], levels: i32, codes: &mut [i8]) -> Coded {
        quantise_lanes(row, levels, codes)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn may_reach_avx2(products: &Tile, columns: &Columns, limits: &[Limit; ROWS]) -> [u64; ROWS] {
        let mut masks = [0; ROWS];
        for row in 0..ROWS {
            masks[row] = may_reach_lanes::<true>(&products.0[row], columns, &limits[row]);
        }
        masks
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn may_reach_avx512(products: &Tile, columns: &Columns, limits: &[Limit; ROWS]) -> [u64; ROWS] {
        let mut masks = [0; ROWS];
        for part in 0..COLUMNS / 16 {
            let floats = |of: &[f32; COLUMNS]| {
                // SAFETY: 16 values beginning at 16 · part, below 64.
                unsafe { _mm512_loadu_ps(of.as_ptr().add(16 * part)) }
            };
            let (scale, residual, norm) = (floats(&columns.scale), floats(&columns.residual), floats(&columns.norm));
            for row in 0..ROWS {
                // SAFETY: as above.
                let product = unsafe { _mm512_loadu_si512(products.0[row].as_ptr().add(16 * part).cast()) };
                let Limit { a, b, bar } = limits[row];
                let slack = _mm512_fmadd_ps(_mm512_set1_ps(a), residual, _mm512_mul_ps(_mm512_set1_ps(b), norm));
                let upper = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product), scale, slack);
                // Not less than: true for NaN as well.
                let reach = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(upper, _mm512_set1_ps(bar));
                masks[row] |= u64::from(reach) << (16 * part);
            }
        }
        masks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]
        #[test]
        fn a_coded_row_is_measured_rightly(mut row in prop::collection::vec(-4f32..4.0, 0..100), huge in any::<bool>(), levels in prop::sample::select(vec![63, 127])) {
            if huge && !row.is_empty() {
                row[0] = f32::MAX;
            }
            let mut codes = vec![0; row.len()];
            let coded = quantise(&row, levels, &mut codes);
            let near: Vec<f64> = codes.iter().map(|&c| f64::from(c) * f64::from(coded.scale)).collect();
            let norm = near.iter().map(|x| x * x).sum::<f64>().sqrt();
            let residual = near.iter().zip(&row).map(|(x, &y)| (x - f64::from(y)).powi(2)).sum::<f64>().sqrt();
            prop_assert!((coded.norm - norm).abs() <= 1e-12 * norm);
            prop_assert!((coded.residual - residual).abs() <= 1e-12 * residual);
            prop_assert!(codes.iter().all(|c| i32::from(*c).abs() <= levels));
            // No value is further off than half a step (and its rounding).
            let half = 0.5001 * f64::from(coded.scale) + f64::from(f32::MIN_POSITIVE);
            prop_assert!(near.iter().zip(&row).all(|(x, &y)| (x - f64::from(y)).abs() <= half));
        }
    }

    #[test]
    fn rows_without_a_step_are_zero_and_all_residual() {
        let mut codes = [1; 3];
        for (row, residual) in [
            ([0.0; 3], 0.0),
            ([3e-40, 0.0, -4e-40], 5e-40),
            ([f32::NAN, 1.0, 2.0], f64::INFINITY),
            ([1.0, f32::NEG_INFINITY, 2.0], f64::INFINITY),
        ] {
            let coded = quantise(&row, 127, &mut codes);
            assert_eq!((coded.scale, coded.norm, codes), (0.0, 0.0, [0; 3]));
            assert!(coded.residual == residual || (coded.residual - residual).abs() < 1e-44, "{coded:?}");
        }
    }

    #[test]
    fn bits_say_what_may_reach_the_bar() {
        let products = Tile(std::array::from_fn(|row| std::array::from_fn(|j| (1 + row as i32) * (j as i32 - 32))));
        let mut columns = Columns { scale: [0.5; COLUMNS], residual: [0.25; COLUMNS], norm: [1.0; COLUMNS] };
        columns.residual[3] = f32::INFINITY;
        columns.scale[4] = f32::NAN;
        let limits = std::array::from_fn(|row| Limit { a: 2.0, b: 0.125, bar: 10.0 - row as f32 });
        let masks = may_reach(&products, &columns, &limits);
        for (row, limit) in limits.iter().enumerate() {
            for j in 0..COLUMNS {
                let upper = 0.5 * products.0[row][j] as f32 + 0.5 + 0.125;
                assert_eq!(masks[row] >> j & 1 == 1, j == 3 || j == 4 || upper >= limit.bar, "{row}, {j}");
            }
            assert_eq!(masks[row], may_reach_lanes::<false>(&products.0[row], &columns, limit));
        }
    }
}
