//! Convolution and batch norm of channels-last images, forward and backward. A convolution is a product of unfolded patches with
//! the weights; patches are made for a few images at a time, so that they stay in the cache. Sums over images run in an order
//! that the shape alone fixes: results do not depend on the number of threads.

use crate::simd::fill_pieces;
use crate::{Real, product};
use rayon::prelude::*;
use std::ops::{Add, AddAssign, Mul, Sub};

/// What the element-wise loops here need.
pub trait Number: Real + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + AddAssign {}
impl<T: Real + Add<Output = T> + Sub<Output = T> + Mul<Output = T> + AddAssign> Number for T {}

/// The shape of a convolution: input `[images, height, width, from]`, weights `[kernel · kernel · from, to]`, output
/// `[images, out_height, out_width, to]`, all row-major; zeros outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// How many images.
    pub images: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels of the input.
    pub from: usize,
    /// Channels of the output.
    pub to: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step between patches.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
}

impl Conv {
    /// Rows of the output.
    ///
    /// # Panics
    /// When the kernel is larger than the padded image, or the stride is 0.
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Columns of the output.
    ///
    /// # Panics
    /// As [`Conv::out_height`].
    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    fn patch(&self) -> usize {
        self.kernel * self.kernel * self.from
    }

    fn pixels_in(&self) -> usize {
        self.height * self.width * self.from
    }

    fn positions(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Images whose patches take about 256 KiB in f32.
    fn at_once(&self) -> usize {
        (65_536 / (self.positions() * self.patch()).max(1)).max(1)
    }

    fn check<T>(&self, x: &[T], weights: &[T], output: Option<&[T]>) {
        assert_eq!(x.len(), self.images * self.pixels_in(), "input of {self:?}");
        assert_eq!(weights.len(), self.patch() * self.to, "weights of {self:?}");
        if let Some(output) = output {
            assert_eq!(output.len(), self.images * self.positions() * self.to, "output of {self:?}");
        }
    }

    /// The output.
    ///
    /// # Panics
    /// When a slice does not have its shape.
    pub fn forward<T: Number>(&self, x: &[T], weights: &[T]) -> Vec<T> {
        self.check(x, weights, None);
        let (positions, patch, at_once) = (self.positions(), self.patch(), self.at_once());
        let mut y = vec![T::ZERO; self.images * positions * self.to];
        let outputs = y.par_chunks_mut(at_once * positions * self.to);
        outputs.zip(x.par_chunks(at_once * self.pixels_in())).for_each_init(Vec::new, |patches, (y, x)| {
            self.unfold(x, patches);
            let rows = y.len() / self.to;
            product(y, (rows, self.to, patch), patches, (patch, 1), weights, (self.to, 1), false, T::ONE);
        });
        y
    }

    /// The gradients of weights and, where asked for, of the input, from the gradient of the output.
    ///
    /// # Panics
    /// As [`Conv::forward`].
    pub fn backward<T: Number>(&self, x: &[T], weights: &[T], grad_y: &[T], want_x: bool) -> (Option<Vec<T>>, Vec<T>) {
        self.check(x, weights, Some(grad_y));
        let (positions, patch, to) = (self.positions(), self.patch(), self.to);
        // At most 16 partial sums of the weights' gradient, added up in order.
        let group = self.images.div_ceil(16).max(4);
        let mut grad_x = vec![T::ZERO; if want_x { x.len() } else { 0 }];
        let mut parts: Vec<&mut [T]> = grad_x.chunks_mut(group * self.pixels_in()).collect();
        parts.resize_with(self.images.div_ceil(group), Default::default);
        let one_group = |grad_x: &mut [T], x: &[T], grad_y: &[T], mut grad_w: Vec<T>| {
            let (mut patches, mut grad_patches) = (Vec::new(), Vec::new());
            let at_once = self.at_once();
            let pieces = x.chunks(at_once * self.pixels_in()).zip(grad_y.chunks(at_once * positions * to));
            for (piece, (x, grad_y)) in pieces.enumerate() {
                let rows = grad_y.len() / to;
                self.unfold(x, &mut patches);
                product(&mut grad_w, (patch, to, rows), &patches, (1, patch), grad_y, (to, 1), true, T::ONE);
                if want_x {
                    grad_patches.resize(rows * patch, T::ZERO);
                    product(&mut grad_patches, (rows, patch, to), grad_y, (to, 1), weights, (1, to), false, T::ONE);
                    let start = piece * at_once * self.pixels_in();
                    self.fold(&grad_patches[..rows * patch], &mut grad_x[start..start + x.len()]);
                }
            }
            grad_w
        };
        let sums: Vec<Vec<T>> = parts
            .into_par_iter()
            .zip(x.par_chunks(group * self.pixels_in()))
            .zip(grad_y.par_chunks(group * positions * to))
            .map(|((grad_x, x), grad_y)| one_group(grad_x, x, grad_y, vec![T::ZERO; patch * to]))
            .collect();
        let mut sums = sums.into_iter();
        let mut grad_w = sums.next().unwrap_or_else(|| vec![T::ZERO; patch * to]);
        for sum in sums {
            grad_w.iter_mut().zip(sum).for_each(|(a, b)| *a += b);
        }
        (want_x.then_some(grad_x), grad_w)
    }

    /// For output row and kernel row: the input row, or none when it lies outside.
    fn input_row(&self, y: usize, k: usize) -> Option<usize> {
        (y * self.stride + k).checked_sub(self.padding).filter(|&row| row < self.height)
    }

    /// For an output column: the first input column inside, how many are inside, and how many of the kernel come before them.
    fn input_columns(&self, x: usize) -> (usize, usize, usize) {
        let start = x * self.stride;
        let before = self.padding.saturating_sub(start).min(self.kernel);
        let first = (start + before).saturating_sub(self.padding).min(self.width);
        (first, (self.kernel - before).min(self.width - first), before)
    }

    /// `[images · positions, patch]`.
    fn unfold<T: Number>(&self, x: &[T], patches: &mut Vec<T>) {
        let (patch, line) = (self.patch(), self.kernel * self.from);
        let images = x.len() / self.pixels_in();
        patches.resize(images * self.positions() * patch, T::ZERO);
        let mut out = patches.chunks_exact_mut(line);
        for image in x.chunks_exact(self.pixels_in()) {
            for y in 0..self.out_height() {
                for column in 0..self.out_width() {
                    let (first, inside, before) = self.input_columns(column);
                    for k in 0..self.kernel {
                        let Some(line) = out.next() else { return };
                        let Some(row) = self.input_row(y, k) else {
                            line.fill(T::ZERO);
                            continue;
                        };
                        let (from, to) = (before * self.from, (before + inside) * self.from);
                        line[..from].fill(T::ZERO);
                        line[from..to].copy_from_slice(&image[(row * self.width + first) * self.from..][..inside * self.from]);
                        line[to..].fill(T::ZERO);
                    }
                }
            }
        }
    }

    /// Adds every entry of the patches to the pixel that it came from.
    fn fold<T: Number>(&self, patches: &[T], x: &mut [T]) {
        let mut lines = patches.chunks_exact(self.kernel * self.from);
        for image in x.chunks_exact_mut(self.pixels_in()) {
            for y in 0..self.out_height() {
                for column in 0..self.out_width() {
                    let (first, inside, before) = self.input_columns(column);
                    for k in 0..self.kernel {
                        let Some(line) = lines.next() else { return };
                        if let Some(row) = self.input_row(y, k) {
                            let pixels = &mut image[(row * self.width + first) * self.from..][..inside * self.from];
                            pixels.iter_mut().zip(&line[before * self.from..]).for_each(|(a, b)| *a += *b);
                        }
                    }
                }
            }
        }
    }
}

/// What [`norm_relu`] returns.
#[derive(Clone, Debug)]
pub struct Normalized<T> {
    /// `[rows, channels]`.
    pub y: Vec<T>,
    /// Mean of each channel over the rows.
    pub mean: Vec<T>,
    /// Biased variance of each channel over the rows.
    pub variance: Vec<T>,
}

/// Gradients of [`norm_relu`] with respect to its parameters.
#[derive(Clone, Debug)]
pub struct NormGradients<T> {
    /// With respect to the scale.
    pub gamma: Vec<T>,
    /// With respect to the offset.
    pub beta: Vec<T>,
}

/// Rows whose sums are made in one piece.
const BLOCK: usize = 256;

/// `max(0, γ (z − mean) / √(variance + ε) + β)` of `[rows, γ.len()]`, with the statistics of the rows themselves.
///
/// # Panics
/// When there are no rows or the slices do not fit.
pub fn norm_relu<T: Number>(z: &[T], gamma: &[T], beta: &[T], epsilon: f64) -> Normalized<T> {
    let channels = gamma.len();
    let rows = rows_of(z, channels, beta);
    let per_row = |sums: Vec<f64>| -> Vec<T> { sums.into_iter().map(|s| T::from_f64(s / rows as f64)).collect() };
    let mean = per_row(column_sums(z, channels, |row, sums| sums.iter_mut().zip(row).for_each(|(sum, &z)| *sum += z)));
    let squares = |row: &[T], sums: &mut [T]| {
        for ((sum, &z), &mean) in sums.iter_mut().zip(row).zip(&mean) {
            *sum += (z - mean) * (z - mean);
        }
    };
    let variance = per_row(column_sums(z, channels, squares));
    let (scale, offset) = affine(gamma, beta, &mean, &variance, epsilon);
    let y = fill_pieces(z.len(), BLOCK * channels, |i, y| {
        let z = &z[i * BLOCK * channels..][..y.len()];
        for (y, z) in y.chunks_exact_mut(channels).zip(z.chunks_exact(channels)) {
            for (((y, &z), &scale), &offset) in y.iter_mut().zip(z).zip(&scale).zip(&offset) {
                let value = z * scale + offset;
                *y = if value > T::ZERO { value } else { T::ZERO };
            }
        }
    });
    Normalized { y, mean, variance }
}

/// The gradients of [`norm_relu`], through the statistics too: that of `z` in place of the gradient `g` of the output. `mean` and
/// `variance` are those that it returned.
///
/// # Panics
/// As [`norm_relu`].
pub fn norm_relu_backward<T: Number>(
    z: &[T],
    (gamma, beta): (&[T], &[T]),
    (mean, variance): (&[T], &[T]),
    epsilon: f64,
    g: &mut [T],
) -> NormGradients<T> {
    let channels = gamma.len();
    let rows = rows_of(z, channels, beta);
    assert_eq!(g.len(), z.len(), "gradient of the output");
    let (scale, offset) = affine(gamma, beta, mean, variance, epsilon);
    let inverse: Vec<T> = variance.iter().map(|v| T::from_f64(1.0 / (v.to_f64() + epsilon).sqrt())).collect();
    // Slices of one known length: without bounds to check, the loops over channels become vector instructions.
    let (scale, offset, mean, inverse) = (&scale[..channels], &offset[..channels], &mean[..channels], &inverse[..channels]);
    // Of the gradient behind the ReLU: its sum and its sum times the normalised value, by channel.
    let blocks: Vec<(Vec<T>, Vec<T>)> = z
        .par_chunks(BLOCK * channels)
        .zip(g.par_chunks(BLOCK * channels))
        .map(|(z, g)| {
            let (mut plain, mut weighted) = (vec![T::ZERO; channels], vec![T::ZERO; channels]);
            let (plain_sums, weighted_sums) = (&mut plain[..channels], &mut weighted[..channels]);
            for (z, g) in z.chunks_exact(channels).zip(g.chunks_exact(channels)) {
                for c in 0..channels {
                    let (z, g) = (z[c], g[c]);
                    let g = if z * scale[c] + offset[c] > T::ZERO { g } else { T::ZERO };
                    plain_sums[c] += g;
                    weighted_sums[c] += g * ((z - mean[c]) * inverse[c]);
                }
            }
            (plain, weighted)
        })
        .collect();
    let (mut plain, mut weighted) = (vec![0.0; channels], vec![0.0; channels]);
    for (p, w) in &blocks {
        add(&mut plain, p);
        add(&mut weighted, w);
    }
    let share = |sums: &[f64]| -> Vec<T> { sums.iter().map(|s| T::from_f64(s / rows as f64)).collect() };
    let (mean_plain, mean_weighted) = (share(&plain), share(&weighted));
    let (mean_plain, mean_weighted) = (&mean_plain[..channels], &mean_weighted[..channels]);
    g.par_chunks_mut(BLOCK * channels).zip(z.par_chunks(BLOCK * channels)).for_each(|(g, z)| {
        for (g, z) in g.chunks_exact_mut(channels).zip(z.chunks_exact(channels)) {
            for c in 0..channels {
                let passed = if z[c] * scale[c] + offset[c] > T::ZERO { g[c] } else { T::ZERO };
                let normalized = (z[c] - mean[c]) * inverse[c];
                g[c] = scale[c] * (passed - mean_plain[c] - normalized * mean_weighted[c]);
            }
        }
    });
    let narrow = |sums: Vec<f64>| sums.into_iter().map(T::from_f64).collect();
    NormGradients { gamma: narrow(weighted), beta: narrow(plain) }
}

fn rows_of<T>(z: &[T], channels: usize, beta: &[T]) -> usize {
    assert_eq!(beta.len(), channels, "as many offsets as scales");
    assert!(channels > 0 && !z.is_empty() && z.len().is_multiple_of(channels), "{} values are not rows of {channels}", z.len());
    z.len() / channels
}

/// γ/√(variance + ε) and what is added, by channel.
fn affine<T: Number>(gamma: &[T], beta: &[T], mean: &[T], variance: &[T], epsilon: f64) -> (Vec<T>, Vec<T>) {
    let one = |c: usize| {
        let scale = gamma[c].to_f64() / (variance[c].to_f64() + epsilon).sqrt();
        (T::from_f64(scale), T::from_f64(beta[c].to_f64() - mean[c].to_f64() * scale))
    };
    (0..gamma.len()).map(one).unzip()
}

/// `add_row` adds a term of each entry of a row to the sums, one a channel.
fn column_sums<T: Number>(z: &[T], channels: usize, add_row: impl Fn(&[T], &mut [T]) + Sync) -> Vec<f64> {
    let blocks: Vec<Vec<T>> = z
        .par_chunks(BLOCK * channels)
        .map(|block| {
            let mut sums = vec![T::ZERO; channels];
            block.chunks_exact(channels).for_each(|row| add_row(row, &mut sums));
            sums
        })
        .collect();
    let mut total = vec![0.0; channels];
    blocks.iter().for_each(|block| add(&mut total, block));
    total
}

fn add<T: Real>(total: &mut [f64], part: &[T]) {
    total.iter_mut().zip(part).for_each(|(t, p)| *t += p.to_f64());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(n: usize, seed: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.0 - 1.0).collect()
    }

    /// Straight from the definition.
    fn naive(c: &Conv, x: &[f64], w: &[f64]) -> Vec<f64> {
        let mut y = Vec::new();
        for n in 0..c.images {
            for oy in 0..c.out_height() {
                for ox in 0..c.out_width() {
                    for to in 0..c.to {
                        let mut sum = 0.0;
                        for ky in 0..c.kernel {
                            for kx in 0..c.kernel {
                                let (iy, ix) = ((oy * c.stride + ky) as isize, (ox * c.stride + kx) as isize);
                                let (iy, ix) = (iy - c.padding as isize, ix - c.padding as isize);
                                if iy < 0 || ix < 0 || iy >= c.height as isize || ix >= c.width as isize {
                                    continue;
                                }
                                for from in 0..c.from {
                                    let pixel = ((n * c.height + iy as usize) * c.width + ix as usize) * c.from + from;
                                    sum += x[pixel] * w[((ky * c.kernel + kx) * c.from + from) * c.to + to];
                                }
                            }
                        }
                        y.push(sum);
                    }
                }
            }
        }
        y
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    proptest! {
        /// Forward against the definition; backward through ⟨g, conv(x, w)⟩, which is linear in x and in w.
        #[test]
        fn convolution_is_its_definition_and_backward_its_transpose(
            images in 1usize..9, height in 1usize..9, width in 1usize..9, from in 1usize..4, to in 1usize..5,
            kernel in 1usize..5, stride in 1usize..4, padding in 0usize..3, seed in 0usize..1000,
        ) {
            prop_assume!(height + 2 * padding >= kernel && width + 2 * padding >= kernel);
            let c = Conv { images, height, width, from, to, kernel, stride, padding };
            let (x, w) = (numbers(images * c.pixels_in(), seed), numbers(c.patch() * to, seed + 1));
            let y = c.forward(&x, &w);
            let expected = naive(&c, &x, &w);
            prop_assert_eq!(y.len(), expected.len());
            prop_assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12));
            let g = numbers(y.len(), seed + 2);
            let (dx, dw) = c.backward(&x, &w, &g, true);
            let (dx, value) = (dx.unwrap(), dot(&g, &y));
            // Linear: the derivative in direction v is the value at v.
            let (vx, vw) = (numbers(x.len(), seed + 3), numbers(w.len(), seed + 4));
            prop_assert!((dot(&dx, &vx) - dot(&g, &naive(&c, &vx, &w))).abs() < 1e-10);
            prop_assert!((dot(&dw, &vw) - dot(&g, &naive(&c, &x, &vw))).abs() < 1e-10);
            prop_assert!((dot(&dx, &x) - value).abs() < 1e-10);
            prop_assert_eq!(c.backward(&x, &w, &g, false), (None, dw));
        }

        #[test]
        fn norm_relu_has_the_gradient_of_finite_differences(rows in 2usize..600, channels in 1usize..4, seed in 0usize..1000) {
            let (z, gamma, beta) = (numbers(rows * channels, seed), numbers(channels, seed + 1), numbers(channels, seed + 2));
            let g = numbers(z.len(), seed + 3);
            let value = |z: &[f64], gamma: &[f64], beta: &[f64]| dot(&g, &norm_relu(z, gamma, beta, 1e-3).y);
            let n = norm_relu(&z, &gamma, &beta, 1e-3);
            let mut grad_z = g.clone();
            let grad = norm_relu_backward(&z, (&gamma, &beta), (&n.mean, &n.variance), 1e-3, &mut grad_z);
            // Where the ReLU's corner lies within the step, differences are not derivatives.
            let h = 1e-7;
            prop_assume!((0..z.len()).all(|i| {
                let c = i % channels;
                (gamma[c] * (z[i] - n.mean[c]) / (n.variance[c] + 1e-3).sqrt() + beta[c]).abs() > 1e-4
            }));
            let moved = |v: &[f64], i: usize, by: f64| { let mut v = v.to_vec(); v[i] += by; v };
            for i in (0..z.len()).step_by(z.len().div_ceil(7)) {
                let d = (value(&moved(&z, i, h), &gamma, &beta) - value(&moved(&z, i, -h), &gamma, &beta)) / (2.0 * h);
                prop_assert!((d - grad_z[i]).abs() < 1e-5 * (1.0 + d.abs()), "z {}: {} {}", i, d, grad_z[i]);
            }
            for c in 0..channels {
                let d = (value(&z, &moved(&gamma, c, h), &beta) - value(&z, &moved(&gamma, c, -h), &beta)) / (2.0 * h);
                prop_assert!((d - grad.gamma[c]).abs() < 1e-5 * (1.0 + d.abs()));
                let d = (value(&z, &gamma, &moved(&beta, c, h)) - value(&z, &gamma, &moved(&beta, c, -h))) / (2.0 * h);
                prop_assert!((d - grad.beta[c]).abs() < 1e-5 * (1.0 + d.abs()));
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let c = Conv { images: 70, height: 14, width: 14, from: 8, to: 16, kernel: 3, stride: 2, padding: 1 };
        let single = |n| -> Vec<f32> { numbers(n, n).into_iter().map(|v| v as f32).collect() };
        let (x, w) = (single(70 * 14 * 14 * 8), single(72 * 16));
        let (gamma, beta) = (single(16), vec![0.1f32; 16]);
        let all = || {
            let z = c.forward(&x, &w);
            let n = norm_relu(&z, &gamma, &beta, 1e-5);
            let mut grad_z = n.y.clone();
            let g = norm_relu_backward(&z, (&gamma, &beta), (&n.mean, &n.variance), 1e-5, &mut grad_z);
            let (dx, dw) = c.backward(&x, &w, &grad_z, true);
            (z, n.y, grad_z, g.gamma, dx, dw)
        };
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        assert!(pool(1).install(all) == pool(3).install(all));
    }
}
