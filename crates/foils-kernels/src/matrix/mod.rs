//! Products of matrices: operands packed once and used for many blocks, in a [`Precision`] chosen for each call.
//!
//! A [`Kernel`] is a way of multiplying that suits the processor. It makes a [`Left`] `[m, k]` and a [`Right`] `[k, n]` operand
//! of matrices with any strides, and multiplies all or a part of them into a block of the caller's, which can be so small that
//! it never leaves the cache. The same operands give the same bits, also when they are multiplied in parts of their columns or
//! rows, or by more threads; other levels (AVX-512, AVX2, portable) and parts in depth round differently:
//!
//! ```
//! use foils_kernels::matrix::{Kernel, Matrix, MatrixMut, Precision, Write};
//! let (anchors, candidates) = (vec![0.5f32; 8 * 16], vec![2.0f32; 300 * 16]);
//! let kernel = Kernel::new(Precision::default());
//! let right = kernel.right(Matrix::row_major(&candidates, 300, 16).transposed());
//! let left = kernel.left(Matrix::row_major(&anchors, 8, 16));
//! let mut block = vec![0.0; 8 * 128];
//! for first in (0..300).step_by(128) {
//!     let last = (first + 128).min(300);
//!     let logits = MatrixMut::row_major(&mut block, 8, last - first);
//!     kernel.multiply(&left, right.columns(first..last), logits, Write::set(10.0));
//!     assert_eq!(block[0], 160.0);
//! }
//! ```

mod aligned;
mod packed;
mod single;
mod split;
#[cfg(test)]
mod tests;
mod view;

use crate::Real;
pub use crate::simd::MatrixMut;
use crate::simd::{Features, Level, features};
pub use packed::{Left, Part, Right, STEP};
use serde::{Deserialize, Serialize};
pub use single::{product, product_threaded};
use std::marker::PhantomData;
pub use view::Matrix;
pub(crate) use view::needed;

/// How exactly f32 are multiplied, as PyTorch's `set_float32_matmul_precision`. f64 are always multiplied as f64.
///
/// The errors are the largest relative to Σ|a·b| over sums of 384 products of numbers in [−1, 1]. Without AMX (x86-64 with
/// Linux) nothing is faster than f32, and all three compute as [`Precision::Highest`]. No error is larger than 3 · 2⁻¹⁶ in
/// [`Precision::High`] and 2⁻⁷ + 2⁻¹⁶ in [`Precision::Medium`], beside the rounding of f32 sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f32 throughout: AVX-512, AVX2, or what the compiler makes of plain code (SSE2 on x86-64, NEON on aarch64). Error 2.5e-7.
    Highest,
    /// Each f32 as the sum of two bf16, of whose four products the three larger ones are summed in f32. Error 1.3e-6. An
    /// infinite number, or one beyond 3.38e38, makes NaN; parts below 1.2e-38 count as 0.
    High,
    /// Rounded to bf16, products summed in f32. Error 5.9e-4. Numbers below 1.2e-38 count as 0.
    Medium,
}

impl Default for Precision {
    /// [`Precision::High`] where the processor has AMX, else [`Precision::Highest`].
    fn default() -> Self {
        Self::High.here()
    }
}

impl Precision {
    /// What this processor computes f32 with when asked for this: [`Precision::Highest`] where there is no AMX.
    pub fn here(self) -> Self {
        if features().amx_bf16 { self } else { Self::Highest }
    }
}

/// What becomes of the products.
#[derive(Clone, Copy, Debug)]
pub struct Write<T> {
    /// Adds to what is there, instead of replacing it.
    pub accumulate: bool,
    /// Every product is multiplied by this.
    pub alpha: T,
}

impl<T> Write<T> {
    /// `c = alpha · a · b`.
    pub fn set(alpha: T) -> Self {
        Self { accumulate: false, alpha }
    }

    /// `c += alpha · a · b`.
    pub fn add(alpha: T) -> Self {
        Self { accumulate: true, alpha }
    }
}

/// A way of multiplying matrices of `T`. Operands are of use to the kernel that made them, and to its equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel<T> {
    level: Level,
    number: PhantomData<T>,
}

impl<T: Real> Kernel<T> {
    /// The fastest way of this precision on this processor.
    pub fn new(precision: Precision) -> Self {
        Self::among(features(), precision)
    }

    /// The same among some of what the processor has, for tests.
    pub(crate) fn among(features: Features, precision: Precision) -> Self {
        let level = match precision {
            Precision::High if features.amx_bf16 && T::IS_F32 => Level::AmxHigh,
            Precision::Medium if features.amx_bf16 && T::IS_F32 => Level::AmxMedium,
            _ => Level::best(features),
        };
        Self { level, number: PhantomData }
    }
}
