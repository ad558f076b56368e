//! What moves and mixes the pixels of one plane: crops, shifts, blur.

use crate::seed;
use rand::RngExt;

/// A rectangle in an image, in pixels.
pub(super) struct Window {
    pub top: f32,
    pub left: f32,
    pub height: f32,
    pub width: f32,
}

impl Window {
    /// Area uniform in `share` of the image, aspect ratio log-uniform in 1/`aspect` to `aspect`, anywhere inside.
    pub fn draw(share: (f32, f32), aspect: f32, height: usize, width: usize, rng: &mut seed::Rng) -> Self {
        let (h, w) = (height as f32, width as f32);
        let area = rng.random_range(share.0..=share.1) * h * w;
        let limit = aspect.ln();
        let aspect = rng.random_range(-limit..=limit).exp();
        let (tall, wide) = ((area / aspect).sqrt().min(h), (area * aspect).sqrt().min(w));
        Self { top: rng.random::<f32>() * (h - tall), left: rng.random::<f32>() * (w - wide), height: tall, width: wide }
    }

    /// The window stretched over the whole of `to`, bilinear between pixel centres.
    pub fn resize(&self, from: &[f32], to: &mut [f32], height: usize, width: usize) {
        let at = |i: usize, start: f32, length: f32, n: usize| {
            let x = (start + (i as f32 + 0.5) * length / n as f32 - 0.5).clamp(0.0, (n - 1) as f32);
            let low = x as usize;
            (low, (low + 1).min(n - 1), x - low as f32)
        };
        let columns: Vec<_> = (0..width).map(|x| at(x, self.left, self.width, width)).collect();
        for (y, row) in to.chunks_exact_mut(width).enumerate() {
            let (y0, y1, fy) = at(y, self.top, self.height, height);
            let (upper, lower) = (&from[y0 * width..][..width], &from[y1 * width..][..width]);
            for (pixel, &(x0, x1, fx)) in row.iter_mut().zip(&columns) {
                let blend = |row: &[f32]| row[x0] + fx * (row[x1] - row[x0]);
                let (a, b) = (blend(upper), blend(lower));
                *pixel = a + fy * (b - a);
            }
        }
    }

    /// The whole pixels of it, at least one: rows and columns.
    pub fn pixels(&self, height: usize, width: usize) -> [std::ops::Range<usize>; 2] {
        let range = |start: f32, length: f32, n: usize| {
            let start = (start as usize).min(n - 1);
            start..(start + (length as usize).max(1)).min(n)
        };
        [range(self.top, self.height, height), range(self.left, self.width, width)]
    }
}

/// `to` is `from` moved down by `dy` and right by `dx`, zeros outside.
pub(super) fn shift(from: &[f32], to: &mut [f32], width: usize, dy: isize, dx: isize) {
    to.fill(0.0);
    let height = from.len() / width;
    let (right, left) = (dx.max(0) as usize, (-dx).max(0) as usize);
    let wide = width - right - left;
    for y in 0..height {
        let source = y as isize - dy;
        if (0..height as isize).contains(&source) {
            to[y * width + right..][..wide].copy_from_slice(&from[source as usize * width + left..][..wide]);
        }
    }
}

/// Separable Gaussian of standard deviation `sigma`, cut off at `radius` pixels and brought to sum 1; outside, the image goes on as
/// in a mirror that stands on the middle of its border pixels.
pub(super) fn blur(plane: &mut [f32], scratch: &mut [f32], width: usize, sigma: f32, radius: usize) {
    let mut taps: Vec<f32> = (0..=2 * radius).map(|i| (-0.5 * ((i as f32 - radius as f32) / sigma).powi(2)).exp()).collect();
    let sum: f32 = taps.iter().sum();
    taps.iter_mut().for_each(|t| *t /= sum);
    let height = plane.len() / width;
    let mut line = vec![0.0; width + 2 * radius];
    for (row, out) in plane.chunks_exact(width).zip(scratch.chunks_exact_mut(width)) {
        line.iter_mut().enumerate().for_each(|(i, v)| *v = row[mirror(i, radius, width)]);
        out.fill(0.0);
        for (tap, from) in taps.iter().zip(line.windows(width)) {
            out.iter_mut().zip(from).for_each(|(o, v)| *o += tap * v);
        }
    }
    for (y, out) in plane.chunks_exact_mut(width).enumerate() {
        out.fill(0.0);
        for (t, tap) in taps.iter().enumerate() {
            let from = &scratch[mirror(y + t, radius, height) * width..][..width];
            out.iter_mut().zip(from).for_each(|(o, v)| *o += tap * v);
        }
    }
}

/// The place among `n` of place `i` − `before`.
fn mirror(i: usize, before: usize, n: usize) -> usize {
    let period = (2 * (n - 1)).max(1) as isize;
    let i = (i as isize - before as isize).rem_euclid(period) as usize;
    i.min(period as usize - i).min(n - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_repeats_no_border() {
        let places = |n: usize| (0..9).map(|i| mirror(i, 3, n)).collect::<Vec<_>>();
        assert_eq!(places(4), [3, 2, 1, 0, 1, 2, 3, 2, 1]);
        assert_eq!(places(2), [1, 0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(places(1), [0; 9]);
    }

    #[test]
    fn shifts_and_crops_fall_where_they_should() {
        let plain: Vec<f32> = (0..16).map(|v| v as f32).collect();
        let mut moved = vec![9.0; 16];
        shift(&plain, &mut moved, 4, 1, -2);
        assert_eq!(moved[..4], [0.0; 4]);
        assert_eq!(moved[4..8], [plain[2], plain[3], 0.0, 0.0]);

        let whole = Window { top: 0.0, left: 0.0, height: 4.0, width: 4.0 };
        let mut same = vec![0.0; 16];
        whole.resize(&plain, &mut same, 4, 4);
        assert_eq!(same, plain);
        assert_eq!(whole.pixels(4, 4), [0..4, 0..4]);
        let quarter = Window { top: 0.0, left: 2.0, height: 2.0, width: 2.0 };
        let mut grown = vec![0.0; 16];
        quarter.resize(&[0., 1., 2., 3., 0., 1., 2., 3., 4., 5., 6., 7., 4., 5., 6., 7.], &mut grown, 4, 4);
        // Destination centres fall at 1.75, 2.25, 2.75 and 3.25 (clamped to 3) of the source columns.
        assert_eq!(grown[..4], [1.75, 2.25, 2.75, 3.0]);
        assert_eq!(Window { top: 3.9, left: 0.2, height: 0.1, width: 3.5 }.pixels(4, 4), [3..4, 0..3]);
    }

    /// `torch.nn.functional.interpolate(crop, size, mode="bilinear", align_corners=False)` of whole windows, written out: destination i
    /// looks at (i + ½)·scale − ½. Ours sees the pixels around the window where PyTorch repeats its border.
    #[test]
    fn a_resized_window_is_bilinear_as_in_pytorch() {
        let (height, width, top, left, tall, wide) = (9, 11, 2, 3, 5, 7);
        let image: Vec<f32> = (0..height * width).map(|i| ((i * 37 + 5) % 101) as f32 / 100.0).collect();
        let window = Window { top: top as f32, left: left as f32, height: tall as f32, width: wide as f32 };
        let mut ours = vec![0.0; height * width];
        window.resize(&image, &mut ours, height, width);
        let pixel = |y: f64, x: f64| f64::from(image[(y as usize).min(height - 1) * width + (x as usize).min(width - 1)]);
        for i in 0..height {
            for j in 0..width {
                let y = top as f64 + (i as f64 + 0.5) * tall as f64 / height as f64 - 0.5;
                let x = left as f64 + (j as f64 + 0.5) * wide as f64 / width as f64 - 0.5;
                let (y0, x0) = (y.floor(), x.floor());
                let (b, a) = (y - y0, x - x0);
                let row = |y: f64| (1.0 - a) * pixel(y, x0) + a * pixel(y, x0 + 1.0);
                let theirs = (1.0 - b) * row(y0) + b * row(y0 + 1.0);
                assert!((f64::from(ours[i * width + j]) - theirs).abs() < 1e-5, "{i} {j}");
            }
        }
    }

    /// torchvision's `gaussian_blur`: a kernel exp(−½(x/σ)²) over −r … r, normalised, as a product of two, after padding by reflection.
    #[test]
    fn blur_is_torchvisions() {
        let (height, width, sigma, radius) = (6, 8, 1.3f32, 3usize);
        let image: Vec<f32> = (0..height * width).map(|i| ((i * 29 + 3) % 97) as f32 / 96.0).collect();
        let mut ours = image.clone();
        blur(&mut ours, &mut vec![0.0; height * width], width, sigma, radius);
        let r = radius as isize;
        let g = |d: isize| (-0.5 * (d as f64 / f64::from(sigma)).powi(2)).exp();
        let sum: f64 = (-r..=r).map(g).sum();
        let reflect = |i: isize, n: usize| {
            let last = n as isize - 1;
            (if i < 0 {
                -i
            } else if i > last {
                2 * last - i
            } else {
                i
            }) as usize
        };
        for y in 0..height {
            for x in 0..width {
                let mut theirs = 0.0;
                for dy in -r..=r {
                    for dx in -r..=r {
                        let (sy, sx) = (reflect(y as isize + dy, height), reflect(x as isize + dx, width));
                        theirs += g(dy) / sum * g(dx) / sum * f64::from(image[sy * width + sx]);
                    }
                }
                assert!((f64::from(ours[y * width + x]) - theirs).abs() < 1e-6);
            }
        }
        let mut flat = vec![0.25; 3];
        blur(&mut flat, &mut [0.0; 3], 3, 0.7, 4);
        assert!(flat.iter().all(|v| (v - 0.25).abs() < 1e-6), "a kernel wider than the image");
    }
}
