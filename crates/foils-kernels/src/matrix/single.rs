//! Products whose operands are used once.

use super::packed::pieces;
use super::{Kernel, Matrix, MatrixMut, Precision, STEP, Write, needed};
use crate::Real;
use crate::simd::gemm;

/// `c[m, n] = (accumulate ? c : 0) + alpha · a[m, k] · b[k, n]`; `a` and `b` with (row, column) strides, `c` row-major.
/// Computed on one thread in the numbers' own precision.
///
/// # Panics
/// When a slice is too short for its shape.
#[allow(clippy::too_many_arguments, reason = "the standard arguments of a matrix product")]
pub fn product<T: Real>(
    c: &mut [T],
    (m, n, k): (usize, usize, usize),
    a: &[T],
    a_strides: (usize, usize),
    b: &[T],
    b_strides: (usize, usize),
    accumulate: bool,
    alpha: T,
) {
    let (a, b, c) = operands(c, (m, n, k), a, a_strides, b, b_strides);
    Kernel::<T>::new(Precision::Highest).product(a, b, c, Write { accumulate, alpha });
}

/// [`product`] on all threads of the current pool. The bits are the same, whatever the number of threads.
///
/// # Panics
/// When a slice is too short for its shape.
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
    let (a, b, c) = operands(c, (m, n, k), a, a_strides, b, b_strides);
    Kernel::<T>::new(Precision::Highest).product_threaded(a, b, c, Write { accumulate, alpha });
}

fn operands<'a, T: Real>(
    c: &'a mut [T],
    (m, n, k): (usize, usize, usize),
    a: &'a [T],
    a_strides: (usize, usize),
    b: &'a [T],
    b_strides: (usize, usize),
) -> (Matrix<'a, T>, Matrix<'a, T>, MatrixMut<'a, T>) {
    assert!(c.len() >= needed((m, n), (n, 1)), "c holds {} values, needs {m} × {n}", c.len());
    (Matrix::new(a, (m, k), a_strides), Matrix::new(b, (k, n), b_strides), MatrixMut::row_major(c, m, n))
}

/// So many rows and columns of `b` are packed at a time: they stay in the second cache.
const BLOCK: (usize, usize) = (384, 512);
/// Fewer rows than this are left to the gemm crate, when the rows of `b` lie together, and when its columns do: packing would
/// take as long as multiplying.
const FEW_ROWS: (usize, usize) = (48, 3);
/// With so many columns it pays to pack the left-hand operand.
const PACK_COLUMNS: usize = 512;

impl<T: Real> Kernel<T> {
    /// `c[m, n] = (write.accumulate ? c : 0) + write.alpha · a[m, k] · b[k, n]` on one thread, where neither operand is used again.
    ///
    /// # Panics
    /// When shapes disagree.
    pub fn product(&self, a: Matrix<T>, b: Matrix<T>, c: MatrixMut<T>, write: Write<T>) {
        check(a, b, &c);
        self.whole(a, b, c, write, self.is_few(a, b));
    }

    /// [`Kernel::product`] on all threads of the current pool. The bits are the same, whatever the number of threads.
    ///
    /// # Panics
    /// When shapes disagree.
    pub fn product_threaded(&self, a: Matrix<T>, b: Matrix<T>, c: MatrixMut<T>, write: Write<T>) {
        check(a, b, &c);
        if self.is_few(a, b) {
            // Such a product waits for memory, not for the processor.
            return self.whole(a, b, c, write, true);
        }
        self.split(a, b, c, write, rayon::current_num_threads());
    }

    /// Whether the gemm crate does it: not in bf16, since a precision does not depend on the shape, nor under Miri, which does
    /// not know its instructions.
    fn is_few(&self, a: Matrix<T>, b: Matrix<T>) -> bool {
        !self.level.is_amx() && !cfg!(miri) && a.rows < if b.column_stride == 1 { FEW_ROWS.0 } else { FEW_ROWS.1 }
    }

    fn whole(&self, a: Matrix<T>, b: Matrix<T>, mut c: MatrixMut<T>, write: Write<T>, few: bool) {
        let ((m, n), k) = (c.shape(), b.rows);
        if m == 0 || n == 0 {
            return;
        }
        if few {
            return gemm(a, b, c, write);
        }
        let mut right = self.right(b.part(0..0, 0..0));
        for ks in pieces(k, BLOCK.0, STEP) {
            let write = Write { accumulate: write.accumulate || ks.start > 0, ..write };
            let rows = a.part(0..m, ks.clone());
            let left = if n >= PACK_COLUMNS { self.left_packed(rows) } else { self.left(rows) };
            for first in (0..n).step_by(BLOCK.1) {
                let columns = first..(first + BLOCK.1).min(n);
                right.replace(b.part(ks.clone(), columns.clone()));
                self.multiply(&left, right.all(), c.part(0..m, columns), write);
            }
        }
    }

    /// Halves the longer side of `c` until there is a piece for each thread.
    fn split(&self, a: Matrix<T>, b: Matrix<T>, c: MatrixMut<T>, write: Write<T>, threads: usize) {
        /// With fewer multiplications than this for each, threads cost more than they save.
        const FEWEST: usize = 1 << 18;
        let ((m, n), k) = (c.shape(), b.rows);
        if threads < 2 || m.saturating_mul(n).saturating_mul(k) < 2 * FEWEST {
            return self.whole(a, b, c, write, false);
        }
        let (here, there) = (threads / 2, threads - threads / 2);
        if m >= n {
            let middle = m * here / threads;
            let (top, bottom) = c.split_at_row(middle);
            rayon::join(
                || self.split(a.part(0..middle, 0..k), b, top, write, here),
                || self.split(a.part(middle..m, 0..k), b, bottom, write, there),
            );
        } else {
            let middle = n * here / threads;
            let (left, right) = c.split_at_column(middle);
            rayon::join(
                || self.split(a, b.part(0..k, 0..middle), left, write, here),
                || self.split(a, b.part(0..k, middle..n), right, write, there),
            );
        }
    }
}

fn check<T: Real>(a: Matrix<T>, b: Matrix<T>, c: &MatrixMut<T>) {
    let ((m, n), k) = (c.shape(), b.rows);
    assert_eq!((a.shape(), b.shape()), ((m, k), (k, n)), "shapes of a product into {m} × {n}");
}
