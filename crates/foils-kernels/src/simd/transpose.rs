//! Packing what lies column by column: a transposition.

use crate::Real;
use crate::matrix::Matrix;

/// Writes `matrix` `[rows, columns]`, whose rows' elements lie anywhere, row by row into `to`, `width` values apart.
///
/// # Panics
/// When `to` is too short.
pub(crate) fn transpose<T: Real>(matrix: Matrix<T>, to: &mut [T], width: usize) {
    let (rows, columns) = matrix.shape();
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(columns <= width && to.len() >= (rows - 1) * width + columns, "{} values for {rows} × {width}", to.len());
    // A cache line of each column at a time.
    let step = 64 / size_of::<T>();
    for first in (0..rows).step_by(step) {
        let block = matrix.part(first..(first + step).min(rows), 0..columns);
        let to = &mut to[first * width..];
        let (done_rows, done_columns) = fast(block, to, width);
        for j in 0..columns {
            let rows = if j < done_columns { done_rows..block.rows } else { 0..block.rows };
            for p in rows {
                to[p * width + j] = block.get(p, j);
            }
        }
    }
}

/// Transposes 4 × 4 of f32 at a time; returns the rows and columns that are done.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn fast<T: Real>(matrix: Matrix<T>, to: &mut [T], width: usize) -> (usize, usize) {
    use std::arch::x86_64::*;
    let ((rows, columns), stride) = ((matrix.rows / 4 * 4, matrix.columns / 4 * 4), matrix.column_stride);
    if matrix.row_stride != 1 || rows == 0 || columns == 0 {
        return (0, 0);
    }
    let (Ok(from), Ok(to)) = (bytemuck::try_cast_slice::<T, f32>(matrix.values), bytemuck::try_cast_slice_mut::<T, f32>(to)) else {
        return (0, 0);
    };
    if size_of::<T>() != size_of::<f32>() {
        return (0, 0);
    }
    assert!(from.len() >= (columns - 1) * stride + rows && to.len() >= (rows - 1) * width + columns);
    for j in (0..columns).step_by(4) {
        for p in (0..rows).step_by(4) {
            // SAFETY: SSE is part of x86-64; the assertion bounds columns j to j + 3 of `from` and rows p to p + 3 of `to`.
            unsafe {
                let x: [__m128; 4] = std::array::from_fn(|i| _mm_loadu_ps(from.as_ptr().add((j + i) * stride + p)));
                let [mut a, mut b, mut c, mut d] = x;
                _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
                for (i, row) in [a, b, c, d].into_iter().enumerate() {
                    _mm_storeu_ps(to.as_mut_ptr().add((p + i) * width + j), row);
                }
            }
        }
    }
    (rows, columns)
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn fast<T: Real>(_: Matrix<T>, _: &mut [T], _: usize) -> (usize, usize) {
    (0, 0)
}
