//! What the loops of a network need of a number, written so that a loop over it becomes vector instructions.

use crate::Real;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A number with the operations of network layers. `FMA` says whether the processor multiplies and adds in one instruction;
/// without it `mul_add` would be a slow function call.
pub trait Float:
    Real + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self> + AddAssign
{
    /// −∞.
    const NEG_INFINITY: Self;
    /// `self · by + plus`.
    fn fma<const FMA: bool>(self, by: Self, plus: Self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// e to the power of a number that is not positive: to 2 units in the last place; in f32, exactly 0 below −87.3.
    fn exp<const FMA: bool>(self) -> Self;
    /// Distribution function and density of the standard normal distribution. In f32 to a relative error of 1e-6 where
    /// `|self| ≤ 5` and an absolute one of 1e-10 beyond; in f64 as exact as `erfc`.
    fn normal<const FMA: bool>(self) -> (Self, Self);
}

/// 1/√(2π).
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;

impl Float for f32 {
    const NEG_INFINITY: Self = Self::NEG_INFINITY;

    #[inline(always)]
    fn fma<const FMA: bool>(self, by: Self, plus: Self) -> Self {
        if FMA { self.mul_add(by, plus) } else { self * by + plus }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        super::exp::<FMA>(self)
    }

    #[inline(always)]
    fn normal<const FMA: bool>(self) -> (Self, Self) {
        /// e^{z²} erfc(z) = t · Q(t) with t = 1/(1 + ⅜ z): the polynomial with the least largest relative error (1.2e-8) for
        /// z from 0 to 9.4, where e^{−z²} leaves f32; by Lawson's iteration.
        const Q: [f32; 9] =
            [0.061_696_6, -0.288_075_3, 0.433_893_63, -0.231_076_26, 0.274_844_01, 0.121_039_01, 0.205_430_4, 0.210_633_5, 0.211_614_42];
        let z = self.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let e = super::exp::<FMA>(-0.5 * self * self);
        let t = 1.0 / z.fma::<FMA>(0.375, 1.0);
        let mut q = Q[0];
        for c in &Q[1..] {
            q = q.fma::<FMA>(t, *c);
        }
        let tail = 0.5 * t * q * e;
        (if self < 0.0 { tail } else { 1.0 - tail }, e * DENSITY_AT_0 as f32)
    }
}

impl Float for f64 {
    const NEG_INFINITY: Self = Self::NEG_INFINITY;

    #[inline(always)]
    fn fma<const FMA: bool>(self, by: Self, plus: Self) -> Self {
        if FMA { self.mul_add(by, plus) } else { self * by + plus }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn normal<const FMA: bool>(self) -> (Self, Self) {
        (0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2), (-0.5 * self * self).exp() * DENSITY_AT_0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_in_f32_is_as_exact_as_said() {
        fn check<const FMA: bool>() {
            for i in -140_000..=140_000 {
                let x = i as f32 * 1e-4;
                let (cdf, density) = x.normal::<FMA>();
                let (exact_cdf, exact_density) = f64::from(x).normal::<FMA>();
                for (name, got, exact) in [("Φ", cdf, exact_cdf), ("φ", density, exact_density)] {
                    let allowed = if x.abs() <= 5.0 { 1e-6 * exact } else { 1e-10_f64.max(1e-7 * exact) };
                    assert!((f64::from(got) - exact).abs() <= allowed, "{name}({x}) = {got}, expected {exact}");
                }
            }
            assert!(f32::NAN.normal::<FMA>().0.is_nan());
            assert_eq!(f32::INFINITY.normal::<FMA>(), (1.0, 0.0));
            assert_eq!(f32::NEG_INFINITY.normal::<FMA>(), (0.0, 0.0));
        }
        check::<false>();
        check::<true>();
    }
}
