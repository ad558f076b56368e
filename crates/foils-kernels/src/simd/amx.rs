//! AMX, the tiles of x86-64: setting them up, and products of 32 × 32 in bf16 with sums in f32 (8-bit integers are in
//! [`super::int8`]). By inline assembly, since the intrinsics are not stable. Linux only, where a process asks once for leave to
//! use tiles.
//!
//! Numbers that are denormal in bf16, and sums that are denormal in f32, count as 0 here.

use super::Level;
use super::tile::PackedTiles;
use crate::Real;
use crate::matrix::Write;
use crate::simd::MatrixMut;
use std::arch::asm;
use std::marker::PhantomData;

/// Rows and columns of a product, and depth of a step.
const SIDE: usize = 32;

/// Leave of the operating system to use tiles; asked for once, it holds for the process and its later threads.
pub(super) fn permitted() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    let result: isize;
    // SAFETY: a system call that touches no memory of the program; it clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack, nomem),
        );
    }
    result == 0
}

/// The tiles of this thread, set up as eight of so many rows of 64 bytes, until it is dropped.
pub(crate) struct Tiles(PhantomData<*const ()>);

#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// # Safety
    /// The processor has AMX, the operating system permits it, this thread has no other `Tiles`, and each has 1 to 16 rows.
    pub(super) unsafe fn new(rows: [u8; 8]) -> Self {
        let configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: std::array::from_fn(|i| if i < 8 { 64 } else { 0 }),
            rows: std::array::from_fn(|i| rows.get(i).copied().unwrap_or(0)),
        };
        // SAFETY: AMX is there, as the caller has seen to, and reads 64 bytes of a valid configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly)) };
        Self(PhantomData)
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: AMX is there, or `self` would not be.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// `c (+)= alpha · a · b` for packed rows and a packed panel of 32 columns: see [`super::tile::multiply_panel`], which checks.
pub(super) fn multiply_panel<T: Real>(_: &Tiles, level: Level, a: PackedTiles<T>, panel: &[T], c: &mut MatrixMut<T>, write: Write<T>) {
    let ((rows, columns), steps) = (c.shape(), a.columns.div_ceil(SIDE));
    let block = level.packed_len(SIDE, a.depth);
    let within = level.packed_len(SIDE, a.first)..level.packed_len(SIDE, a.first + a.columns);
    let panel: &[u16] = bytemuck::cast_slice(panel);
    let mut sums = Sums([[0.0; SIDE]; SIDE]);
    for first in (0..rows).step_by(SIDE) {
        let a: &[u16] = bytemuck::cast_slice(&a.values[first / SIDE * block..][..block][within.clone()]);
        match level {
            Level::AmxHigh => {
                assert!(a.len() >= 4 * TILE * steps && panel.len() >= 4 * TILE * steps, "{steps} steps");
                // SAFETY: the tiles are configured; both operands hold four tiles for each step, as just asserted.
                unsafe { high(a.as_ptr(), panel.as_ptr(), steps, &mut sums) };
            }
            _ => {
                assert!(a.len() >= 2 * TILE * steps && panel.len() >= 2 * TILE * steps, "{steps} steps");
                // SAFETY: as above, with two tiles for each step.
                unsafe { medium(a.as_ptr(), panel.as_ptr(), steps, &mut sums) };
            }
        }
        let c = c.part(first..(first + SIDE).min(rows), 0..columns);
        // SAFETY: every processor with AMX has AVX-512, and `Features` says so.
        unsafe { add(&sums, c, write) };
    }
}

/// So many bf16 a tile holds.
const TILE: usize = 512;

#[repr(C, align(64))]
struct Sums([[f32; SIDE]; SIDE]);

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn add<T: Real>(sums: &Sums, mut c: MatrixMut<T>, Write { accumulate, alpha }: Write<T>) {
    let alpha = alpha.to_f64() as f32;
    let (rows, _) = c.shape();
    for (i, sums) in sums.0.iter().enumerate().take(rows) {
        let row: &mut [f32] = bytemuck::cast_slice_mut(c.row(i));
        for (c, &sum) in row.iter_mut().zip(sums) {
            *c = if accumulate { alpha.mul_add(sum, *c) } else { alpha * sum };
        }
    }
}

/// The sums of 2 × 2 tiles go to four quarters of `sums`.
macro_rules! store {
    () => {
        concat!(
            "tilestored [{c} + {row}], tmm0\n",
            "tilestored [{c} + {row} + 64], tmm1\n",
            "tilestored [{c} + {row} + 2048], tmm2\n",
            "tilestored [{c} + {row} + 2112], tmm3",
        )
    };
}

/// Each number in two parts, and three of the four products: of each step the operands hold the high parts of both tiles, then
/// their low parts. Each sum takes high · high, low · high, high · low in this order, so that its bits do not depend on where in
/// a block it lies. Nine loads for twelve products: one low part of `a` is loaded twice, since a fifth register is wanting.
///
/// # Safety
/// Tiles are configured; `a` and `b` point at 4 · `steps` tiles.
unsafe fn high(a: *const u16, b: *const u16, steps: usize, c: &mut Sums) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {steps}, {steps}",
            "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {line}]",
            "tileloadd tmm6, [{b} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a} + {line} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm7, [{a} + {line} + 2048]",
            "tdpbf16ps tmm0, tmm7, tmm6",
            "tileloadd tmm7, [{a} + {line} + 3072]",
            "tdpbf16ps tmm2, tmm7, tmm6",
            "tileloadd tmm6, [{b} + {line} + 1024]",
            "tdpbf16ps tmm3, tmm5, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm6",
            "tdpbf16ps tmm3, tmm7, tmm6",
            "tileloadd tmm7, [{a} + {line} + 2048]",
            "tdpbf16ps tmm1, tmm7, tmm6",
            "tileloadd tmm6, [{b} + {line} + 2048]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm7, [{b} + {line} + 3072]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 4096",
            "add {b}, 4096",
            "dec {steps}",
            "jnz 2b",
            "3:",
            store!(),
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            steps = inout(reg) steps => _,
            line = in(reg) 64usize,
            row = in(reg) size_of::<[f32; SIDE]>(),
            c = in(reg) c,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Rounded to bf16: of each step the operands hold two tiles.
///
/// # Safety
/// Tiles are configured; `a` and `b` point at 2 · `steps` tiles.
unsafe fn medium(a: *const u16, b: *const u16, steps: usize, c: &mut Sums) {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {steps}, {steps}",
            "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {line}]",
            "tileloadd tmm6, [{b} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {line} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a} + {line} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            "3:",
            store!(),
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            steps = inout(reg) steps => _,
            line = in(reg) 64usize,
            row = in(reg) size_of::<[f32; SIDE]>(),
            c = in(reg) c,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
