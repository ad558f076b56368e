//! Which vector instructions the processor has, asked once.

use std::sync::OnceLock;

/// What the kernels may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// AVX2 and FMA.
    pub avx2: bool,
    /// AVX-512 F, BW, DQ and VL (with AVX2 and FMA).
    pub avx512: bool,
    /// AVX-512 VNNI: products of 8-bit integers.
    pub vnni: bool,
    /// AMX with tiles of bf16 (with AVX-512), where the operating system is Linux and permits it.
    pub amx_bf16: bool,
    /// AMX with tiles of 8-bit integers, likewise.
    pub amx_int8: bool,
}

/// What this processor has, or what the environment variable `FOILS_SIMD` leaves of it (`portable`, `avx2`, `avx512`: nothing
/// beyond), which is for comparing the paths with each other.
pub fn features() -> Features {
    static FOUND: OnceLock<Features> = OnceLock::new();
    *FOUND.get_or_init(|| detected().at_most(&std::env::var("FOILS_SIMD").unwrap_or_default()))
}

impl Features {
    fn at_most(self, limit: &str) -> Self {
        match limit {
            "portable" => Self::default(),
            "avx2" => Self { avx2: self.avx2, ..Self::default() },
            "avx512" => Self { avx2: self.avx2, avx512: self.avx512, ..Self::default() },
            _ => self,
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn detected() -> Features {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let (amx_bf16, amx_int8) = if avx512 { amx() } else { (false, false) };
    Features { avx2, avx512, vnni: avx512 && is_x86_feature_detected!("avx512vnni"), amx_bf16, amx_int8 }
}

/// Whether there are tiles of bf16 and of 8-bit integers.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn amx() -> (bool, bool) {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: the caller asked whether the instruction exists.
        unsafe { _xgetbv(0) }
    }
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 || !is_x86_feature_detected!("xsave") {
        return (false, false);
    }
    // SAFETY: the processor has XSAVE and the operating system uses it, as just asked.
    let found = amx_bits(__cpuid_count(7, 0).edx, unsafe { xcr0() });
    if (found.0 || found.1) && super::amx::permitted() { found } else { (false, false) }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux"), not(miri)))]
fn amx() -> (bool, bool) {
    (false, false)
}

/// AMX-BF16 and AMX-INT8 of CPUID leaf 7's EDX, both with AMX-TILE, where the operating system saves tiles (XCR0).
#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux", not(miri))))]
fn amx_bits(edx: u32, xcr0: u64) -> (bool, bool) {
    const SAVED: u64 = 1 << 17 | 1 << 18;
    let bit = |bit: u32| edx & 1 << bit != 0;
    let tiles = bit(24) && xcr0 & SAVED == SAVED;
    (tiles && bit(22), tiles && bit(25))
}

/// Miri knows few vector instructions, and what it checks are the portable paths.
#[cfg(any(not(target_arch = "x86_64"), miri))]
fn detected() -> Features {
    Features::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_only_takes_away() {
        let all = Features { avx2: true, avx512: true, vnni: true, amx_bf16: true, amx_int8: true };
        assert_eq!(all.at_most("portable"), Features::default());
        assert_eq!(all.at_most("avx2"), Features { avx2: true, ..Features::default() });
        assert_eq!(all.at_most("avx512"), Features { avx2: true, avx512: true, ..Features::default() });
        assert_eq!(all.at_most(""), all);
        assert_eq!(Features::default().at_most("avx512"), Features::default());
    }
    #[test]
    fn tiles_need_the_processor_and_the_operating_system() {
        let (saved, tile, bf16, int8) = (0x6_00e7, 1 << 24, 1 << 22, 1 << 25);
        assert_eq!(amx_bits(tile | bf16 | int8, saved), (true, true));
        assert_eq!(amx_bits(tile | bf16, saved), (true, false));
        assert_eq!(amx_bits(tile | int8, saved), (false, true));
        assert_eq!(amx_bits(bf16 | int8, saved), (false, false));
        for xcr0 in [0xe7, 0x2_00e7, 0x4_00e7] {
            assert_eq!(amx_bits(tile | bf16 | int8, xcr0), (false, false));
        }
    }
}
