//! Products of 8-bit integers, a tile at a time, and the quantisation that makes such rows: exact in 32 bits on every path.
//!
//! One factor is signed and the other is stored with 128 added, because the instructions multiply an unsigned byte by a signed
//! one; what that adds, 128 · Σ of the signed factor, is what the sums start from, negated.

use super::features;
use crate::Real;

/// Left rows (queries) of a tile.
pub const ROWS: usize = 6;
/// Right rows (documents) of a tile.
pub const COLUMNS: usize = 64;
/// The widest row whose products are sure to fit 32 bits.
pub const WIDEST: usize = i32::MAX as usize / (127 * 127);
/// What is added to a right factor.
const OFFSET: i32 = 128;

/// Four consecutive bytes of each left row of a tile.
pub type LeftGroup = [i32; ROWS];
/// Four consecutive bytes of each right row of a tile, 128 added to each. Vectors that straddle cache lines are slow to load.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct RightGroup(pub [i32; COLUMNS]);
/// Inner products of a tile.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Tile(pub [[i32; COLUMNS]; ROWS]);

/// The instructions that a tile is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// AVX-512 VNNI: 64 multiply-adds an instruction.
    Vnni,
    /// AVX2: 32 multiply-adds in three instructions.
    Avx2,
    /// What the compiler makes of plain loops.
    Portable,
}

impl Engine {
    /// The fastest that this processor has.
    pub fn best() -> Self {
        let found = features();
        if found.vnni {
            Self::Vnni
        } else if found.avx2 {
            Self::Avx2
        } else {
            Self::Portable
        }
    }

    /// Every engine that this processor has.
    #[cfg(test)]
    pub fn all() -> Vec<Self> {
        let found = features();
        let has = |engine: &Self| match engine {
            Self::Vnni => found.vnni,
            Self::Avx2 => found.avx2,
            Self::Portable => true,
        };
        [Self::Vnni, Self::Avx2, Self::Portable].into_iter().filter(has).collect()
    }

    /// The largest magnitude of a left factor. AVX2 adds two products in 16 bits, which hold 2 · 255 · 63 but not 2 · 255 · 127.
    pub fn left_levels(self) -> i32 {
        if self == Self::Avx2 { 63 } else { 127 }
    }

    /// The inner products of 6 rows with 64, over as many groups of four dimensions as both have.
    ///
    /// # Panics
    /// When the processor lacks the engine's instructions.
    pub fn tile(self, left: &[LeftGroup], starts: &[i32; ROWS], right: &[RightGroup], out: &mut Tile) {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Vnni => {
                assert!(features().vnni, "this processor has no AVX-512 VNNI");
                // SAFETY: the processor has the instructions, as just asserted.
                return unsafe { x86::tile_vnni(left, starts, right, out) };
            }
            Self::Avx2 => {
                assert!(features().avx2, "this processor has no AVX2");
                // SAFETY: as above.
                return unsafe { x86::tile_avx2(left, starts, right, out) };
            }
            Self::Portable => {}
        }
        tile_portable(left, starts, right, out);
    }
}

/// What the sum of each left row starts from.
pub fn start(left: &[i8]) -> i32 {
    -OFFSET * left.iter().map(|&c| i32::from(c)).sum::<i32>()
}

/// Four left factors in one number.
pub fn left_group(four: [i8; 4]) -> i32 {
    i32::from_le_bytes(four.map(|c| c as u8))
}

/// Four right factors in one number, 128 added to each.
pub fn right_group(four: [i8; 4]) -> i32 {
    i32::from_le_bytes(four.map(|c| (c as u8) ^ 0x80))
}

fn tile_portable(left: &[LeftGroup], starts: &[i32; ROWS], right: &[RightGroup], out: &mut Tile) {
    for (row, &start) in out.0.iter_mut().zip(starts) {
        row.fill(start);
    }
    for (left, right) in left.iter().zip(right) {
        for (sums, left) in out.0.iter_mut().zip(left) {
            let left = left.to_le_bytes().map(|c| i32::from(c as i8));
            for (sum, right) in sums.iter_mut().zip(&right.0) {
                let right = right.to_le_bytes().map(i32::from);
                *sum += left[0] * right[0] + left[1] * right[1] + left[2] * right[2] + left[3] * right[3];
            }
        }
    }
}

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

    /// 4 × 6 sums of 16 documents in registers: a step loads 4 vectors and 6 broadcasts for 24 instructions of 64 multiply-adds.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn tile_vnni(left: &[LeftGroup], starts: &[i32; ROWS], right: &[RightGroup], out: &mut Tile) {
        const VECTORS: usize = COLUMNS / 16;
        let mut sums: [[__m512i; VECTORS]; ROWS] = std::array::from_fn(|row| [_mm512_set1_epi32(starts[row]); VECTORS]);
        for (left, right) in left.iter().zip(right) {
            let right: [__m512i; VECTORS] = std::array::from_fn(|v| {
                // SAFETY: 16 of the 64 values of a group.
                unsafe { _mm512_loadu_si512(right.0.as_ptr().add(16 * v).cast()) }
            });
            for row in 0..ROWS {
                let left = _mm512_set1_epi32(left[row]);
                for v in 0..VECTORS {
                    sums[row][v] = _mm512_dpbusd_epi32(sums[row][v], right[v], left);
                }
            }
        }
        for (row, sums) in out.0.iter_mut().zip(sums) {
            for (v, sum) in sums.into_iter().enumerate() {
                // SAFETY: 16 of the 64 values of a row.
                unsafe { _mm512_storeu_si512(row.as_mut_ptr().add(16 * v).cast(), sum) };
            }
        }
    }

    /// 2 × 3 sums of 8 documents at a time, which with their operands are what 16 registers hold.
    #[target_feature(enable = "avx2")]
    pub(super) fn tile_avx2(left: &[LeftGroup], starts: &[i32; ROWS], right: &[RightGroup], out: &mut Tile) {
        const VECTORS: usize = 2;
        const QUERIES: usize = 3;
        let ones = _mm256_set1_epi16(1);
        for column in (0..COLUMNS).step_by(8 * VECTORS) {
            for first in (0..ROWS).step_by(QUERIES) {
                let mut sums: [[__m256i; VECTORS]; QUERIES] = std::array::from_fn(|row| [_mm256_set1_epi32(starts[first + row]); VECTORS]);
                for (left, right) in left.iter().zip(right) {
                    let right: [__m256i; VECTORS] = std::array::from_fn(|v| {
                        // SAFETY: 8 of the 64 values of a group: column + 8 · 2 is at most 64.
                        unsafe { _mm256_loadu_si256(right.0.as_ptr().add(column + 8 * v).cast()) }
                    });
                    for row in 0..QUERIES {
                        let left = _mm256_set1_epi32(left[first + row]);
                        for v in 0..VECTORS {
                            let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(right[v], left), ones);
                            sums[row][v] = _mm256_add_epi32(sums[row][v], pairs);
                        }
                    }
                }
                for (row, sums) in sums.into_iter().enumerate() {
                    for (v, sum) in sums.into_iter().enumerate() {
                        // SAFETY: 8 of the 64 values of a row, as above.
                        unsafe { _mm256_storeu_si256(out.0[first + row].as_mut_ptr().add(column + 8 * v).cast(), sum) };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed<const N: usize>(rows: &[Vec<i8>], group: fn([i8; 4]) -> i32) -> Vec<[i32; N]> {
        let groups = rows[0].len() / 4;
        (0..groups).map(|g| std::array::from_fn(|r| group(std::array::from_fn(|i| rows[r][4 * g + i])))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]
        #[test]
        fn every_engine_is_exact(groups in 1usize..70, seed in any::<u64>(), extreme in any::<bool>()) {
            for engine in Engine::all() {
                let mut state = seed | 1;
                let mut next = |levels: i32| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let at = (state >> 33) as i32 % (2 * levels + 1) - levels;
                    // The ends of the range are where a product could overflow.
                    (if extreme { levels * at.signum() } else { at }) as i8
                };
                let mut rows = |count: usize, levels: i32| -> Vec<Vec<i8>> {
                    (0..count).map(|_| (0..4 * groups).map(|_| next(levels)).collect()).collect()
                };
                let (left, right) = (rows(ROWS, engine.left_levels()), rows(COLUMNS, 127));
                let starts = std::array::from_fn(|r| start(&left[r]));
                let mut out = Tile([[7; COLUMNS]; ROWS]);
                engine.tile(&packed::<ROWS>(&left, left_group), &starts, &packed::<COLUMNS>(&right, right_group).into_iter().map(RightGroup).collect::<Vec<_>>(), &mut out);
                for (l, sums) in left.iter().zip(&out.0) {
                    for (r, &sum) in right.iter().zip(sums) {
                        let expected: i32 = l.iter().zip(r).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum();
                        prop_assert_eq!(sum, expected, "{:?}", engine);
                    }
                }
            }
        }

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
