//! The tiles: inner products of a few rows with many, by whatever instructions the processor has.

use super::{COLUMNS, ROWS};
use crate::simd::features;

/// What is added to a right factor.
const OFFSET: i32 = 128;
/// Groups that AMX multiplies at once.
const AMX_GROUPS: usize = 16;

/// Four consecutive bytes of each left row of a tile.
type LeftGroup = [i32; ROWS];
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
    /// AMX: 16 × 16 × 64 multiply-adds an instruction, of which the rows of a tile use 6/16.
    Amx,
    /// AVX-512 VNNI: 64 multiply-adds an instruction.
    Vnni,
    /// AVX2: 32 multiply-adds in three instructions.
    Avx2,
    /// What the compiler makes of plain loops.
    Portable,
}

impl Engine {
    const ALL: [Self; 4] = [Self::Amx, Self::Vnni, Self::Avx2, Self::Portable];

    /// The fastest that this processor has.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|engine| engine.exists()).expect("what the compiler makes is always there")
    }

    /// Every engine that this processor has, and AMX where it can be emulated.
    #[cfg(test)]
    pub fn all() -> Vec<Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
        crate::simd::amx_emulation::install();
        Self::ALL.into_iter().filter(|engine| engine.exists() || (*engine == Self::Amx && emulated())).collect()
    }

    /// Whether the processor has it.
    fn exists(self) -> bool {
        let found = features();
        match self {
            Self::Amx => found.amx_int8,
            Self::Vnni => found.vnni,
            Self::Avx2 => found.avx2,
            Self::Portable => true,
        }
    }

    /// Whether its tiles take less time than products in f32.
    pub fn is_fast(self) -> bool {
        matches!(self, Self::Amx | Self::Vnni)
    }

    /// So many groups of four dimensions rows of this width have, the last ones padded with 0.
    pub fn groups(self, dim: usize) -> usize {
        let groups = dim.div_ceil(4);
        if self == Self::Amx { groups.next_multiple_of(AMX_GROUPS) } else { groups }
    }

    /// Where, in the left part of a tile of so many groups, a row's group is: beside the same group of the other rows, or for AMX
    /// beside the other groups of the same row.
    pub fn left_place(self, groups: usize, row: usize, group: usize) -> usize {
        if self == Self::Amx { row * groups + group } else { group * ROWS + row }
    }

    /// The largest magnitude of a left factor. AVX2 adds two products in 16 bits, which hold 2 · 255 · 63 but not 2 · 255 · 127.
    pub fn left_levels(self) -> i32 {
        if self == Self::Avx2 { 63 } else { 127 }
    }

    /// The inner products of 6 rows with 64, over as many groups of four dimensions as both have. The left rows' groups are at
    /// [`Engine::left_place`].
    ///
    /// # Panics
    /// When the processor lacks the engine's instructions, or the two sides have different numbers of groups, or for AMX not
    /// [`Engine::groups`] of them.
    pub fn tile(self, left: &[i32], starts: &[i32; ROWS], right: &[RightGroup], out: &mut Tile) {
        assert_eq!(left.len(), ROWS * right.len(), "as many groups on both sides");
        let groups: &[LeftGroup] = left.as_chunks().0;
        #[cfg(target_arch = "x86_64")]
        match self {
            #[cfg(target_os = "linux")]
            Self::Amx => {
                assert!(self.exists() || emulated(), "this processor has no AMX");
                assert!(right.len().is_multiple_of(AMX_GROUPS), "{} groups do not fill tiles", right.len());
                // SAFETY: the processor has the instructions, as just asserted, and no tiles are set up: who sets them up, here
                // and for products of matrices, calls nothing else before they are released.
                return unsafe { amx::tile(left, starts, right, out) };
            }
            Self::Vnni => {
                assert!(self.exists(), "this processor has no AVX-512 VNNI");
                // SAFETY: the processor has the instructions, as just asserted.
                return unsafe { x86::tile_vnni(groups, starts, right, out) };
            }
            Self::Avx2 => {
                assert!(self.exists(), "this processor has no AVX2");
                // SAFETY: as above.
                return unsafe { x86::tile_avx2(groups, starts, right, out) };
            }
            _ => {}
        }
        assert!(self == Self::Portable, "{self:?} is of another processor");
        tile_portable(groups, starts, right, out);
    }
}

/// Whether a test's handler of signals carries AMX instructions out.
fn emulated() -> bool {
    #[cfg(all(test, target_arch = "x86_64", target_os = "linux", not(miri)))]
    return crate::simd::amx_emulation::is_installed();
    #[allow(unreachable_code, reason = "elsewhere, and outside of tests, nothing is emulated")]
    false
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

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use super::*;
    use crate::simd::amx::Tiles;
    use std::arch::asm;

    /// Four tiles of sums (0 to 3) of 16 documents each, one of the left rows (4), and three in turn of right rows, each row the
    /// same group of 16 documents.
    ///
    /// # Safety
    /// The processor has AMX with 8-bit integers, or it is emulated, the operating system permits it, and no tiles are set up
    /// on this thread.
    pub(super) unsafe fn tile(left: &[i32], starts: &[i32; ROWS], right: &[RightGroup], out: &mut Tile) {
        const FEW: u8 = ROWS as u8;
        for (row, &start) in out.0.iter_mut().zip(starts) {
            row.fill(start);
        }
        let steps = right.len() / AMX_GROUPS;
        if steps == 0 {
            return;
        }
        // SAFETY: the caller's.
        let _tiles = unsafe { Tiles::new([FEW, FEW, FEW, FEW, FEW, 16, 16, 16]) };
        // SAFETY: the tiles are set up; `left` holds 6 rows of 16 · `steps` groups, `right` 16 · `steps` groups of 64 rows, and
        // `out` 6 rows of 64 sums, all of 4 bytes.
        unsafe {
            asm!(
                "tileloadd tmm0, [{c} + {line}]",
                "tileloadd tmm1, [{c} + {line} + 64]",
                "tileloadd tmm2, [{c} + {line} + 128]",
                "tileloadd tmm3, [{c} + {line} + 192]",
                "2:",
                "tileloadd tmm4, [{a} + {row}]",
                "tileloadd tmm5, [{b} + {line}]",
                "tdpbsud tmm0, tmm4, tmm5",
                "tileloadd tmm6, [{b} + {line} + 64]",
                "tdpbsud tmm1, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {line} + 128]",
                "tdpbsud tmm2, tmm4, tmm7",
                "tileloadd tmm5, [{b} + {line} + 192]",
                "tdpbsud tmm3, tmm4, tmm5",
                "add {a}, 64",
                "add {b}, 4096",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {line}], tmm0",
                "tilestored [{c} + {line} + 64], tmm1",
                "tilestored [{c} + {line} + 128], tmm2",
                "tilestored [{c} + {line} + 192], tmm3",
                a = inout(reg) left.as_ptr() => _,
                b = inout(reg) right.as_ptr() => _,
                c = in(reg) out,
                steps = inout(reg) steps => _,
                row = in(reg) 4 * right.len(),
                line = in(reg) size_of::<RightGroup>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::*;

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]
        #[test]
        fn every_engine_is_exact(dim in 1usize..280, seed in any::<u64>(), extreme in any::<bool>()) {
            for engine in Engine::all() {
                let groups = engine.groups(dim);
                let mut state = seed | 1;
                let mut next = |levels: i32| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let at = (state >> 33) as i32 % (2 * levels + 1) - levels;
                    // The ends of the range are where a product could overflow.
                    (if extreme { levels * at.signum() } else { at }) as i8
                };
                let mut rows = |count: usize, levels: i32| -> Vec<Vec<i8>> {
                    let padded = |at: usize, code: i8| if at < dim { code } else { 0 };
                    (0..count).map(|_| (0..4 * groups).map(|at| padded(at, next(levels))).collect()).collect()
                };
                let (left, right) = (rows(ROWS, engine.left_levels()), rows(COLUMNS, 127));
                let mut packed_left = vec![0; ROWS * groups];
                let mut packed_right = vec![RightGroup([0; COLUMNS]); groups];
                for group in 0..groups {
                    let four = |row: &Vec<i8>| std::array::from_fn(|i| row[4 * group + i]);
                    for (row, left) in left.iter().enumerate() {
                        packed_left[engine.left_place(groups, row, group)] = left_group(four(left));
                    }
                    packed_right[group].0 = std::array::from_fn(|j| right_group(four(&right[j])));
                }
                let starts = std::array::from_fn(|row| start(&left[row]));
                let mut out = Tile([[7; COLUMNS]; ROWS]);
                engine.tile(&packed_left, &starts, &packed_right, &mut out);
                for (l, sums) in left.iter().zip(&out.0) {
                    for (r, &sum) in right.iter().zip(sums) {
                        let expected: i32 = l.iter().zip(r).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum();
                        prop_assert_eq!(sum, expected, "{:?}", engine);
                    }
                }
            }
        }
    }
}
