//! Loops over all pairs of two sets of rows, compiled as in [`super::layers`].

use super::Float;
use super::layers::{LANES, compiled_for_each_processor, sum_lanes};

compiled_for_each_processor! {
    /// `y[j] ← Σ_k w[k] max(left[k] + right[j][k], 0)` for one row on the left and rows as wide on the right.
    fn pair_scores / pair_scores_avx512 / pair_scores_avx2 = pair_scores_body(left: &[T], right: &[T], w: &[T], y: &mut [T]);
    /// `sums[k] ← Σ_j g[j] [left[k] + right[j][k] > 0]`.
    fn pair_sums / pair_sums_avx512 / pair_sums_avx2 = pair_sums_body(left: &[T], right: &[T], g: &[T], sums: &mut [T]);
}

#[inline(always)]
fn pair_scores_body<T: Float, const FMA: bool>(left: &[T], right: &[T], w: &[T], y: &mut [T]) {
    let (l_chunks, l_rest) = left.as_chunks::<LANES>();
    let (w_chunks, w_rest) = w.as_chunks::<LANES>();
    // NaN is not below 0 and stays.
    let above = |x: T| if x < T::ZERO { T::ZERO } else { x };
    for (y, right) in y.iter_mut().zip(right.chunks_exact(left.len())) {
        let (r_chunks, r_rest) = right.as_chunks::<LANES>();
        let mut lanes = [T::ZERO; LANES];
        for ((l, r), w) in l_chunks.iter().zip(r_chunks).zip(w_chunks) {
            for i in 0..LANES {
                lanes[i] = above(l[i] + r[i]).fma::<FMA>(w[i], lanes[i]);
            }
        }
        for (lane, ((&l, &r), &w)) in lanes.iter_mut().zip(l_rest.iter().zip(r_rest).zip(w_rest)) {
            *lane = above(l + r).fma::<FMA>(w, *lane);
        }
        *y = sum_lanes(lanes);
    }
}

#[inline(always)]
fn pair_sums_body<T: Float, const FMA: bool>(left: &[T], right: &[T], g: &[T], sums: &mut [T]) {
    sums.fill(T::ZERO);
    for (&g, right) in g.iter().zip(right.chunks_exact(left.len())) {
        for ((sum, &l), &r) in sums.iter_mut().zip(left).zip(right) {
            *sum += if l + r > T::ZERO { g } else { T::ZERO };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loop for this processor and the one for any other, on rows of every short width.
    #[test]
    fn the_paths_agree_to_rounding() {
        let numbers = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step + step).sin()).collect::<Vec<f32>>();
        let close = |a: &[f32], b: &[f32]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} and {b:?}");
        for width in (1..40).chain([128, 300]) {
            let (left, right, w, g) = (numbers(width, 0.7), numbers(5 * width, 0.3), numbers(width, 0.9), numbers(5, 0.4));
            let (mut a, mut b) = (vec![0.0; 5], vec![0.0; 5]);
            pair_scores(&left, &right, &w, &mut a);
            pair_scores_body::<f32, false>(&left, &right, &w, &mut b);
            close(&a, &b);
            let (mut a, mut b) = (vec![0.0; width], vec![0.0; width]);
            pair_sums(&left, &right, &g, &mut a);
            pair_sums_body::<f32, false>(&left, &right, &g, &mut b);
            close(&a, &b);
        }
    }
}
