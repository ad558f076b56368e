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

#[cfg(target_arch = "x86_64")]
fn detected() -> Features {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    Features { avx2, avx512, vnni: avx512 && is_x86_feature_detected!("avx512vnni") }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Features {
    Features::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_only_takes_away() {
        let all = Features { avx2: true, avx512: true, vnni: true };
        assert_eq!(all.at_most("portable"), Features::default());
        assert_eq!(all.at_most("avx2"), Features { avx2: true, ..Features::default() });
        assert_eq!(all.at_most("avx512"), Features { vnni: false, ..all });
        assert_eq!(all.at_most(""), all);
        assert_eq!(Features::default().at_most("avx512"), Features::default());
    }
}
