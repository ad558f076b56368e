//! f32 as one or two bf16, in the order in which AMX tiles read them.

use super::Matrix;
use crate::Real;

/// Rows and depth of a tile, in numbers.
const ROWS: usize = 16;
const DEPTH: usize = 32;

/// How a tile of 16 rows and 32 columns of `a`, or of `bᵀ`, is laid out.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Order {
    /// Row by row: left-hand operands.
    Rows,
    /// Pair of columns by pair of columns, all rows of each: right-hand operands.
    Pairs,
}

/// Packs at most 32 rows: for each 32 columns two tiles, and when `split` two more with what is left of the numbers of the
/// first two. Padded with 0. `to` holds exactly that.
pub(super) fn pack<T: Real>(matrix: Matrix<T>, to: &mut [T], order: Order, split: bool) {
    let (rows, columns) = matrix.shape();
    let tiles = bytemuck::cast_slice_mut::<T, u16>(to).as_chunks_mut::<{ ROWS * DEPTH }>().0;
    for (step, tiles) in tiles.chunks_exact_mut(if split { 4 } else { 2 }).enumerate() {
        let (high, low) = tiles.split_at_mut(2);
        let ks = step * DEPTH..((step + 1) * DEPTH).min(columns);
        for (t, high) in high.iter_mut().enumerate() {
            let part = matrix.part((t * ROWS).min(rows)..((t + 1) * ROWS).min(rows), ks.clone());
            let mut numbers = gather(part, order);
            for (high, x) in high.iter_mut().zip(&mut numbers) {
                *high = bf16(*x);
                *x -= widened(*high);
            }
            if let Some(low) = low.get_mut(t) {
                for (low, &x) in low.iter_mut().zip(&numbers) {
                    *low = bf16(x);
                }
            }
        }
    }
}

fn gather<T: Real>(matrix: Matrix<T>, order: Order) -> [f32; ROWS * DEPTH] {
    let mut numbers = [0.0; ROWS * DEPTH];
    let (rows, columns) = matrix.shape();
    let place = |i: usize, k: usize| match order {
        Order::Rows => i * DEPTH + k,
        Order::Pairs => k / 2 * (2 * ROWS) + 2 * i + k % 2,
    };
    let mut copy = |i: usize, k: usize| numbers[place(i, k)] = matrix.get(i, k).to_f64() as f32;
    // The inner loop runs over what lies together.
    if matrix.column_stride <= matrix.row_stride {
        (0..rows).for_each(|i| (0..columns).for_each(|k| copy(i, k)));
    } else {
        (0..columns).for_each(|k| (0..rows).for_each(|i| copy(i, k)));
    }
    numbers
}

/// The nearest bf16, of two the even one.
fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // Rounding could carry a NaN's bits into another number's.
    (if x.is_nan() { 0x7fc0 } else { rounded }) as u16
}

fn widened(bf16: u16) -> f32 {
    f32::from_bits(u32::from(bf16) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_parts_hold_sixteen_bits() {
        for i in 0..10_000 {
            let x = (i as f32 * 0.731).sin() * 10f32.powi(i % 30 - 15);
            let high = widened(bf16(x));
            assert!((x - high).abs() <= x.abs() / 256.0);
            assert!((x - high - widened(bf16(x - high))).abs() <= x.abs() / 65536.0);
        }
        assert_eq!([0.0, 1.0, -2.5, f32::INFINITY].map(|x| widened(bf16(x))), [0.0, 1.0, -2.5, f32::INFINITY]);
        assert!(widened(bf16(f32::NAN)).is_nan());
        assert_eq!(widened(bf16(1.0 + 1.0 / 256.0)), 1.0, "half way goes to the even one");
        assert_eq!(widened(bf16(1.0 + 3.0 / 256.0)), 1.0 + 4.0 / 256.0, "half way goes to the even one");
    }
}
