//! How fast one thread can multiply and add at most: what the speed of products is measured against.

use super::{Level, features};
use std::hint::black_box;
use std::time::Instant;

/// f32 operations a second (a multiply-add is two) of one thread that does nothing else and keeps everything in registers.
/// 0 where there is neither AVX2 nor AVX-512.
pub fn peak_flops() -> f64 {
    const STEPS: usize = 100_000;
    let start = Instant::now();
    let lanes = match Level::best(features()) {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => {
            // SAFETY: the processor has AVX2 and FMA.
            black_box(unsafe { avx2(STEPS) });
            8
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => {
            // SAFETY: the processor has AVX-512.
            black_box(unsafe { avx512(STEPS) });
            16
        }
        _ => 0,
    };
    (2 * CHAINS * lanes * STEPS) as f64 / start.elapsed().as_secs_f64()
}

/// Enough independent sums to hide the latency, and few enough for the registers.
const CHAINS: usize = 12;

macro_rules! chains {
    ($name:ident, $features:literal, $set:ident, $fma:ident, $add:ident, $first:ident) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        fn $name(steps: usize) -> f32 {
            use std::arch::x86_64::*;
            // Opaque numbers: the compiler would do the sums itself.
            let (x, y) = ($set(black_box(0.999)), $set(black_box(0.001)));
            let mut sums = [$set(1.0); CHAINS];
            for _ in 0..steps {
                for sum in &mut sums {
                    *sum = $fma(*sum, x, y);
                }
            }
            $first(sums.into_iter().fold($set(0.0), |a, b| $add(a, b)))
        }
    };
}

chains!(avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps, _mm256_cvtss_f32);
chains!(avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps, _mm512_cvtss_f32);
