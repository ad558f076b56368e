//! f32 or f64, and the few things that kernels need of them.

use std::ops::{AddAssign, Mul};

/// A floating-point number that kernels work on.
pub trait Real: bytemuck::Pod + Copy + PartialOrd + Mul<Output = Self> + AddAssign + Send + Sync + std::fmt::Debug + 'static {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The distance from 1 to the next larger number.
    const EPSILON: Self;
    /// Rounds to this type.
    fn from_f64(value: f64) -> Self;
    /// Widens.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const EPSILON: Self = Self::EPSILON;
    fn from_f64(value: f64) -> Self {
        value as Self
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const EPSILON: Self = Self::EPSILON;
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// `c[m, n] = (accumulate ? c : 0) + alpha · a[m, k] · b[k, n]`; `a` and `b` with (row, column) strides, `c` row-major. On the
/// thread that calls.
///
/// # Panics
/// When a slice is too short for its shape.
#[allow(clippy::too_many_arguments, reason = "the standard arguments of a matrix product")]
pub fn product<T: Real>(
    c: &mut [T],
    shape: (usize, usize, usize),
    a: &[T],
    a_strides: (usize, usize),
    b: &[T],
    b_strides: (usize, usize),
    accumulate: bool,
    alpha: T,
) {
    product_with(c, shape, a, a_strides, b, b_strides, accumulate, alpha, gemm::Parallelism::None);
}

/// [`product`] on all threads, where it is large enough for that.
///
/// # Panics
/// As [`product`].
#[allow(clippy::too_many_arguments, reason = "the standard arguments of a matrix product")]
pub fn product_threaded<T: Real>(
    c: &mut [T],
    (m, n, k): (usize, usize, usize),
    a: &[T],
    a_strides: (usize, usize),
    b: &[T],
    b_strides: (usize, usize),
    accumulate: bool,
    alpha: T,
) {
    // About 10 µs of work, which is what it takes to wake another thread.
    let large = m.saturating_mul(n).saturating_mul(k) > 1 << 20;
    let parallelism = if large { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    product_with(c, (m, n, k), a, a_strides, b, b_strides, accumulate, alpha, parallelism);
}

#[allow(clippy::too_many_arguments, reason = "the standard arguments of a matrix product")]
fn product_with<T: Real>(
    c: &mut [T],
    (m, n, k): (usize, usize, usize),
    a: &[T],
    (a_row, a_column): (usize, usize),
    b: &[T],
    (b_row, b_column): (usize, usize),
    accumulate: bool,
    alpha: T,
    parallelism: gemm::Parallelism,
) {
    let last = |rows: usize, columns: usize, r: usize, c: usize| {
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * r + (columns - 1) * c + 1 }
    };
    assert!(c.len() >= m * n, "c holds {} values, needs {m} × {n}", c.len());
    assert!(a.len() >= last(m, k, a_row, a_column), "a is too short for {m} × {k}");
    assert!(b.len() >= last(k, n, b_row, b_column), "b is too short for {k} × {n}");
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: the assertions above bound every element that the strides reach; c is borrowed mutably and cannot overlap a or b.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.as_ptr(),
            a_column as isize,
            a_row as isize,
            b.as_ptr(),
            b_column as isize,
            b_row as isize,
            T::ONE,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}
