//! The gemm crate, for products of so few rows that packing would take longer than multiplying.

use super::MatrixMut;
use crate::Real;
use crate::matrix::{Matrix, Write};

/// `c (+)= alpha · a · b` on one thread.
///
/// # Panics
/// When shapes disagree.
pub(crate) fn gemm<T: Real>(a: Matrix<T>, b: Matrix<T>, mut c: MatrixMut<T>, write: Write<T>) {
    let ((m, n), k) = (c.shape(), a.columns);
    assert_eq!((a.shape(), b.shape()), ((m, k), (k, n)), "shapes of a product into {m} × {n}");
    let stride = |stride: usize| isize::try_from(stride).expect("a stride larger than memory");
    // SAFETY: `Matrix` and `MatrixMut` checked that all elements of these shapes and strides lie within what they borrow, and c
    // is borrowed mutably, so that it cannot overlap a or b.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            stride(c.row_stride()),
            write.accumulate,
            a.values.as_ptr(),
            stride(a.column_stride),
            stride(a.row_stride),
            b.values.as_ptr(),
            stride(b.column_stride),
            stride(b.row_stride),
            T::ONE,
            write.alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
