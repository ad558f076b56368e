//! Loops of network layers over a few rows, each compiled for the vector instructions that the processor may have.
//!
//! Sums run in [`LANES`] partial sums, which are added up in a fixed order: the width of the vectors does not show in a result,
//! only whether the processor multiplies and adds in one instruction (AVX2, AVX-512 and NEON do) or in two.

use super::Float;

/// Partial sums of a row.
pub(super) const LANES: usize = 16;
/// So many terms of a row are added up in its own type before the sum moves on to f64.
const GROUP: usize = 64 * LANES;

/// A public function for each loop, which calls the version for this processor.
macro_rules! compiled_for_each_processor {
    ($($(#[$doc:meta])* fn $name:ident / $avx512:ident / $avx2:ident = $body:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "plain slices")]
        pub(crate) fn $name<T: Float>($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                if super::features().avx512 {
                    // SAFETY: the processor has the features that the function is compiled for, as just asked.
                    return unsafe { $avx512($($argument),*) };
                }
                if super::features().avx2 {
                    // SAFETY: as above.
                    return unsafe { $avx2($($argument),*) };
                }
            }
            $body::<T, { cfg!(target_arch = "aarch64") }>($($argument),*)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn $avx512<T: Float>($($argument: $type),*) $(-> $result)? {
            $body::<T, true>($($argument),*)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn $avx2<T: Float>($($argument: $type),*) $(-> $result)? {
            $body::<T, true>($($argument),*)
        }
    )*};
}
pub(super) use compiled_for_each_processor;

compiled_for_each_processor! {
    /// Rows of `width`: `x ← softmax(scale · x + mask)`, the mask being added to each row. A row of −∞ becomes zeros.
    fn softmax / softmax_avx512 / softmax_avx2 = softmax_body(x: &mut [T], width: usize, scale: T, mask: Option<&[T]>);
    /// Gradient of [`softmax`] from its result `y`, in place of the gradient `g` of that result.
    fn softmax_backward / softmax_backward_avx512 / softmax_backward_avx2 =
        softmax_backward_body(y: &[T], g: &mut [T], width: usize, scale: T);
    /// `−log softmax(x)[target]` of each row, summed; `x` becomes the gradient of that sum times `factor`.
    fn cross_entropy / cross_entropy_avx512 / cross_entropy_avx2 =
        cross_entropy_body(x: &mut [T], width: usize, targets: &[u32], factor: T) -> f64;
    /// `y ← γ (x − mean) / √(variance + ε) + β` of rows as wide as γ.
    fn layer_norm / layer_norm_avx512 / layer_norm_avx2 =
        layer_norm_body(x: &[T], gamma: &[T], beta: &[T], epsilon: f64, y: &mut [T]);
    /// Gradient of [`layer_norm`] with respect to `x` in place of `g`; those of γ and β are added to what is there.
    fn layer_norm_backward / layer_norm_backward_avx512 / layer_norm_backward_avx2 =
        layer_norm_backward_body(x: &[T], gamma: &[T], epsilon: f64, g: &mut [T], grad_gamma: &mut [T], grad_beta: &mut [T]);
    /// `y ← x Φ(x)`.
    fn gelu / gelu_avx512 / gelu_avx2 = gelu_body(x: &[T], y: &mut [T]);
    /// `g ← g (Φ(x) + x φ(x))`.
    fn gelu_backward / gelu_backward_avx512 / gelu_backward_avx2 = gelu_backward_body(x: &[T], g: &mut [T]);
    /// [`gelu`] in place of `x`, and [`gelu_backward`].
    fn gelu_and_backward / gelu_and_backward_avx512 / gelu_and_backward_avx2 = gelu_and_backward_body(x: &mut [T], g: &mut [T]);
    /// The largest value; −∞ of an empty row and of one that holds nothing but NaN and −∞.
    fn row_largest / row_largest_avx512 / row_largest_avx2 = row_largest_body(x: &[T]) -> T;
    /// The largest |x| but that of −∞; 0 of an empty row. NaN is no larger than anything.
    fn row_largest_size / row_largest_size_avx512 / row_largest_size_avx2 = row_largest_size_body(x: &[T]) -> T;
    /// `x ← by · x`.
    fn row_scale / row_scale_avx512 / row_scale_avx2 = row_scale_body(x: &mut [T], by: T);
    /// `to ← to + from`.
    fn row_add / row_add_avx512 / row_add_avx2 = row_add_body(to: &mut [T], from: &[T]);
    /// `to ← to + from`.
    fn row_add_f32 / row_add_f32_avx512 / row_add_f32_avx2 = row_add_f32_body(to: &mut [T], from: &[f32]);
    /// One step of AdamW on a stretch of parameters; see [`crate::adamw::AdamW`].
    fn adamw / adamw_avx512 / adamw_avx2 = adamw_body(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], c: &AdamWConstants<T>);
}

/// The constants of a step of AdamW.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamWConstants<T> {
    /// 1 − learning rate · weight decay.
    pub keep: T,
    /// 1 − β₁.
    pub move_first: T,
    /// β₂.
    pub beta_2: T,
    /// 1 − β₂.
    pub move_second: T,
    /// Learning rate / (1 − β₁ᵗ).
    pub rate: T,
    /// 1 / √(1 − β₂ᵗ).
    pub root: T,
    /// ε.
    pub epsilon: T,
}

/// In halves, so that the additions do not wait for each other.
#[inline(always)]
pub(super) fn sum_lanes<T: Float>(mut lanes: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest value; −∞ of an empty row and of one that holds nothing but NaN and −∞.
#[inline(always)]
fn largest<T: Float>(row: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [T::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(l, &x)| *l = larger(*l, x));
    }
    lanes.iter_mut().zip(rest).for_each(|(l, &x)| *l = larger(*l, x));
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = larger(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Replaces every value of a row and sums what it becomes.
#[inline(always)]
fn replace_and_sum<T: Float>(row: &mut [T], new: impl Fn(T) -> T) -> f64 {
    let mut total = 0.0;
    for group in row.chunks_mut(GROUP) {
        let mut lanes = [T::ZERO; LANES];
        let (chunks, rest) = group.as_chunks_mut::<LANES>();
        let mut one = |(lane, x): (&mut T, &mut T)| {
            *x = new(*x);
            *lane += *x;
        };
        for chunk in chunks {
            lanes.iter_mut().zip(chunk).for_each(&mut one);
        }
        lanes.iter_mut().zip(rest).for_each(one);
        total += sum_lanes(lanes).to_f64();
    }
    total
}

/// The sum of a term of each value of a row.
#[inline(always)]
fn sum<T: Float>(row: &[T], term: impl Fn(T) -> T) -> f64 {
    let mut total = 0.0;
    for group in row.chunks(GROUP) {
        let mut lanes = [T::ZERO; LANES];
        let (chunks, rest) = group.as_chunks::<LANES>();
        for chunk in chunks {
            lanes.iter_mut().zip(chunk).for_each(|(l, &x)| *l += term(x));
        }
        lanes.iter_mut().zip(rest).for_each(|(l, &x)| *l += term(x));
        total += sum_lanes(lanes).to_f64();
    }
    total
}

/// Inner product of two rows.
#[inline(always)]
fn dot<T: Float, const FMA: bool>(a: &[T], b: &[T]) -> f64 {
    let mut total = 0.0;
    for (a, b) in a.chunks(GROUP).zip(b.chunks(GROUP)) {
        let mut lanes = [T::ZERO; LANES];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(l, (&a, &b))| *l = a.fma::<FMA>(b, *l));
        }
        lanes.iter_mut().zip(a_rest.iter().zip(b_rest)).for_each(|(l, (&a, &b))| *l = a.fma::<FMA>(b, *l));
        total += sum_lanes(lanes).to_f64();
    }
    total
}

/// Replaces a row by `exp(row − shift)`, where `shift` is its largest value, or 0 when that is −∞; the shift and the sum.
#[inline(always)]
fn exp_sum<T: Float, const FMA: bool>(row: &mut [T]) -> (T, f64) {
    let largest = largest(row);
    let shift = if largest == T::NEG_INFINITY { T::ZERO } else { largest };
    (shift, replace_and_sum(row, |x| (x - shift).exp::<FMA>()))
}

#[inline(always)]
fn softmax_body<T: Float, const FMA: bool>(x: &mut [T], width: usize, scale: T, mask: Option<&[T]>) {
    for row in x.chunks_exact_mut(width) {
        match mask {
            Some(mask) => row.iter_mut().zip(mask).for_each(|(x, &m)| *x = x.fma::<FMA>(scale, m)),
            None if scale != T::ONE => row.iter_mut().for_each(|x| *x = *x * scale),
            None => {}
        }
        let (_, total) = exp_sum::<T, FMA>(row);
        let by = if total == 0.0 { T::ZERO } else { T::from_f64(1.0 / total) };
        row.iter_mut().for_each(|x| *x = *x * by);
    }
}

#[inline(always)]
fn softmax_backward_body<T: Float, const FMA: bool>(y: &[T], g: &mut [T], width: usize, scale: T) {
    for (y, g) in y.chunks_exact(width).zip(g.chunks_exact_mut(width)) {
        let mean = T::from_f64(dot::<T, FMA>(y, g));
        g.iter_mut().zip(y).for_each(|(g, &y)| *g = scale * y * (*g - mean));
    }
}

#[inline(always)]
fn cross_entropy_body<T: Float, const FMA: bool>(x: &mut [T], width: usize, targets: &[u32], factor: T) -> f64 {
    let mut loss = 0.0;
    for (row, &target) in x.chunks_exact_mut(width).zip(targets) {
        let target = target as usize;
        let own = row[target].to_f64();
        let (shift, total) = exp_sum::<T, FMA>(row);
        // From the logits and not from the rounded exponential, so that an improbable target has a finite loss.
        loss += total.ln() + (shift.to_f64() - own);
        let by = T::from_f64(factor.to_f64() / total);
        row.iter_mut().for_each(|x| *x = *x * by);
        row[target] = row[target] - factor;
    }
    loss
}

/// Mean and 1/√(variance + ε).
#[inline(always)]
fn statistics<T: Float>(row: &[T], epsilon: f64) -> (T, T) {
    let n = row.len() as f64;
    let mean = T::from_f64(sum(row, |x| x) / n);
    let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
    (mean, T::from_f64(1.0 / (variance + epsilon).sqrt()))
}

#[inline(always)]
fn layer_norm_body<T: Float, const FMA: bool>(x: &[T], gamma: &[T], beta: &[T], epsilon: f64, y: &mut [T]) {
    let width = gamma.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let (mean, inverse) = statistics(x, epsilon);
        for ((y, &x), (&gamma, &beta)) in y.iter_mut().zip(x).zip(gamma.iter().zip(beta)) {
            *y = ((x - mean) * inverse).fma::<FMA>(gamma, beta);
        }
    }
}

#[inline(always)]
fn layer_norm_backward_body<T: Float, const FMA: bool>(
    x: &[T],
    gamma: &[T],
    epsilon: f64,
    g: &mut [T],
    grad_gamma: &mut [T],
    grad_beta: &mut [T],
) {
    let width = gamma.len();
    for (x, g) in x.chunks_exact(width).zip(g.chunks_exact_mut(width)) {
        let (mean, inverse) = statistics(x, epsilon);
        // Of the gradient of the normalised values: its mean, and its mean product with them.
        let (mut plain, mut weighted) = (0.0, 0.0);
        let pieces = x.chunks(GROUP).zip(g.chunks(GROUP)).zip(gamma.chunks(GROUP));
        for ((x, g), (gamma, (grad_gamma, grad_beta))) in pieces
            .zip(grad_gamma.chunks_mut(GROUP).zip(grad_beta.chunks_mut(GROUP)))
            .map(|(((x, g), gamma), grads)| ((x, g), (gamma, grads)))
        {
            let (mut p, mut w) = ([T::ZERO; LANES], [T::ZERO; LANES]);
            let one = |p: &mut T, w: &mut T, x: T, g: T, gamma: T, grad_gamma: &mut T, grad_beta: &mut T| {
                let normalized = (x - mean) * inverse;
                *grad_gamma = g.fma::<FMA>(normalized, *grad_gamma);
                *grad_beta += g;
                let g = g * gamma;
                *p += g;
                *w = g.fma::<FMA>(normalized, *w);
            };
            let ((x, x_rest), (g, g_rest)) = (x.as_chunks::<LANES>(), g.as_chunks::<LANES>());
            let (gamma, gamma_rest) = gamma.as_chunks::<LANES>();
            let (grad_gamma, grad_gamma_rest) = grad_gamma.as_chunks_mut::<LANES>();
            let (grad_beta, grad_beta_rest) = grad_beta.as_chunks_mut::<LANES>();
            for (((x, g), gamma), (grad_gamma, grad_beta)) in x.iter().zip(g).zip(gamma).zip(grad_gamma.iter_mut().zip(grad_beta)) {
                for i in 0..LANES {
                    one(&mut p[i], &mut w[i], x[i], g[i], gamma[i], &mut grad_gamma[i], &mut grad_beta[i]);
                }
            }
            for i in 0..x_rest.len() {
                let (grad_gamma, grad_beta) = (&mut grad_gamma_rest[i], &mut grad_beta_rest[i]);
                one(&mut p[i], &mut w[i], x_rest[i], g_rest[i], gamma_rest[i], grad_gamma, grad_beta);
            }
            plain += sum_lanes(p).to_f64();
            weighted += sum_lanes(w).to_f64();
        }
        let (plain, weighted) = (T::from_f64(plain / width as f64), T::from_f64(weighted / width as f64));
        for ((g, &x), &gamma) in g.iter_mut().zip(x).zip(gamma) {
            *g = inverse * (*g * gamma - plain - (x - mean) * inverse * weighted);
        }
    }
}

#[inline(always)]
fn gelu_body<T: Float, const FMA: bool>(x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x * x.normal::<FMA>().0;
    }
}

#[inline(always)]
fn gelu_backward_body<T: Float, const FMA: bool>(x: &[T], g: &mut [T]) {
    for (g, &x) in g.iter_mut().zip(x) {
        let (distribution, density) = x.normal::<FMA>();
        *g = *g * x.fma::<FMA>(density, distribution);
    }
}

#[inline(always)]
fn gelu_and_backward_body<T: Float, const FMA: bool>(x: &mut [T], g: &mut [T]) {
    for (x, g) in x.iter_mut().zip(g) {
        let (distribution, density) = x.normal::<FMA>();
        *g = *g * x.fma::<FMA>(density, distribution);
        *x = *x * distribution;
    }
}

#[inline(always)]
fn row_largest_body<T: Float, const FMA: bool>(x: &[T]) -> T {
    largest(x)
}

#[inline(always)]
fn row_largest_size_body<T: Float, const FMA: bool>(x: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let larger = |l: &mut T, x: T| {
        let size = if x < T::ZERO { -x } else { x };
        *l = if size > *l && x != T::NEG_INFINITY { size } else { *l };
    };
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(l, &x)| larger(l, x));
    }
    lanes.iter_mut().zip(rest).for_each(|(l, &x)| larger(l, x));
    largest(&lanes)
}

#[inline(always)]
fn row_scale_body<T: Float, const FMA: bool>(x: &mut [T], by: T) {
    x.iter_mut().for_each(|x| *x = *x * by);
}

#[inline(always)]
fn row_add_body<T: Float, const FMA: bool>(to: &mut [T], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(x, &y)| *x += y);
}

#[inline(always)]
fn row_add_f32_body<T: Float, const FMA: bool>(to: &mut [T], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(x, &y)| *x += T::from_f64(y.into()));
}

#[inline(always)]
fn adamw_body<T: Float, const FMA: bool>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], c: &AdamWConstants<T>) {
    for ((p, &g), (m, v)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(v)) {
        *m = (g - *m).fma::<FMA>(c.move_first, *m);
        *v = (*v * c.beta_2) + g * g * c.move_second;
        *p = *p * c.keep - c.rate * *m / v.sqrt().fma::<FMA>(c.root, c.epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, step: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * step).sin() * 3.0).collect()
    }

    /// The loop for this processor and the one for any other, on rows of every short width.
    #[test]
    fn the_paths_agree_to_rounding() {
        let close = |name: &str, a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len());
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 2e-6 * (1.0 + b.abs())), "{name}: {a:?} and {b:?}");
        };
        for width in (1..70).chain([1023, 1024, 1025, 2100]) {
            let (x, g, gamma, beta) = (numbers(3 * width, 0.7), numbers(3 * width, 0.3), numbers(width, 0.9), numbers(width, 0.2));
            let (mut a, mut b) = (x.clone(), x.clone());
            softmax(&mut a, width, 0.5, Some(&beta));
            softmax_body::<f32, false>(&mut b, width, 0.5, Some(&beta));
            close("softmax", &a, &b);
            let (mut c, mut d) = (g.clone(), g.clone());
            softmax_backward(&a, &mut c, width, 0.5);
            softmax_backward_body::<f32, false>(&a, &mut d, width, 0.5);
            close("softmax_backward", &c, &d);
            let (mut c, mut d) = (x.clone(), x.clone());
            let targets = [0, width as u32 - 1, width as u32 / 2];
            let losses = (cross_entropy(&mut c, width, &targets, 0.3), cross_entropy_body::<f32, false>(&mut d, width, &targets, 0.3));
            close("cross_entropy", &c, &d);
            close("loss", &[losses.0 as f32], &[losses.1 as f32]);
            let (mut c, mut d) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            layer_norm(&x, &gamma, &beta, 0.1, &mut c);
            layer_norm_body::<f32, false>(&x, &gamma, &beta, 0.1, &mut d);
            close("layer_norm", &c, &d);
            let (mut c, mut d) = (g.clone(), g.clone());
            let (mut more, mut less) = ([beta.clone(), beta.clone()], [beta.clone(), beta.clone()]);
            let [m0, m1] = &mut more;
            layer_norm_backward(&x, &gamma, 0.1, &mut c, m0, m1);
            let [l0, l1] = &mut less;
            layer_norm_backward_body::<f32, false>(&x, &gamma, 0.1, &mut d, l0, l1);
            close("layer_norm_backward", &c, &d);
            close("γ", &more[0], &less[0]);
            close("β", &more[1], &less[1]);
            gelu(&x, &mut c);
            gelu_body::<f32, false>(&x, &mut d);
            close("gelu", &c, &d);
            gelu_backward(&x, &mut c);
            gelu_backward_body::<f32, false>(&x, &mut d);
            close("gelu_backward", &c, &d);
            let (mut y, mut grad, mut both, mut both_grad) = (vec![0.0; x.len()], g.clone(), x.clone(), g.clone());
            gelu(&x, &mut y);
            gelu_backward(&x, &mut grad);
            gelu_and_backward(&mut both, &mut both_grad);
            assert_eq!((y, grad), (both, both_grad));
            let constants =
                AdamWConstants { keep: 0.9, move_first: 0.1, beta_2: 0.99, move_second: 0.01, rate: 0.1, root: 2.0, epsilon: 1e-8 };
            let second: Vec<f32> = g.iter().map(|g| g * g).collect();
            let (mut p, mut q) = ([x.clone(), g.clone(), second.clone()], [x, g.clone(), second]);
            let [p0, p1, p2] = &mut p;
            adamw(p0, &g, p1, p2, &constants);
            let [q0, q1, q2] = &mut q;
            adamw_body::<f32, false>(q0, &g, q1, q2, &constants);
            p.iter().zip(&q).for_each(|(p, q)| close("adamw", p, q));
        }
    }
}
