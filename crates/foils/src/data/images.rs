//! Small images and their random views. Pixels stay bytes until a batch is made; a batch is f32 in [0, 1], `[n, channels,
//! height, width]`, which a model takes as it is. Views are plain loops over slices, a thread an image.

use crate::{Error, Result, seed};
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Images of one size, with a class each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    shape: [usize; 3],
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Images {
    /// From bytes, image after image, each `shape` = `[channels, height, width]` row-major.
    ///
    /// # Errors
    /// When a side is 0 or the bytes are not `labels.len()` images.
    pub fn new(shape: [usize; 3], pixels: Vec<u8>, labels: Vec<u8>) -> Result<Self> {
        let size: usize = shape.iter().product();
        if size == 0 {
            return Err(Error::invalid(format!("images of shape {shape:?} have no pixels")));
        }
        if pixels.len() != labels.len() * size {
            let (have, n) = (pixels.len(), labels.len());
            return Err(Error::invalid(format!("{have} bytes are not {n} images of shape {shape:?} ({} bytes)", n * size)));
        }
        Ok(Self { shape, pixels, labels })
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// `[channels, height, width]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The class of each image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// All bytes, image after image.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// One image's bytes.
    ///
    /// # Panics
    /// When `i` is not below [`Images::len`].
    pub fn image(&self, i: usize) -> &[u8] {
        let size: usize = self.shape.iter().product();
        &self.pixels[i * size..(i + 1) * size]
    }

    /// The images at `rows`, in that order.
    ///
    /// # Errors
    /// On a row beyond the last image.
    pub fn select(&self, rows: &[u32]) -> Result<Self> {
        self.check(rows)?;
        let pixels = rows.iter().flat_map(|&i| self.image(i as usize)).copied().collect();
        Ok(Self { shape: self.shape, pixels, labels: rows.iter().map(|&i| self.labels[i as usize]).collect() })
    }

    /// `n` images drawn without replacement, the same number of each class (one more of the first classes when `n` does not
    /// divide), in random order.
    ///
    /// # Errors
    /// When a class has too few images.
    pub fn balanced_sample(&self, n: usize, seed: u64) -> Result<Self> {
        let mut rng = seed::rng(seed, 0);
        let classes = self.labels.iter().max().map_or(0, |c| *c as usize + 1);
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        shuffle(&mut order, &mut rng);
        let mut room: Vec<usize> = (0..classes).map(|c| n / classes + usize::from(c < n % classes)).collect();
        order.retain(|&i| {
            let left = &mut room[self.labels[i as usize] as usize];
            let keep = *left > 0;
            *left -= usize::from(keep);
            keep
        });
        if order.len() < n {
            let class = room.iter().position(|left| *left > 0).unwrap_or(0);
            return Err(Error::invalid(format!("{n} balanced images asked for; class {class} has too few among {}", self.len())));
        }
        self.select(&order)
    }

    /// The images at `rows` without any change: `[rows.len(), channels, height, width]`, f32 in [0, 1].
    ///
    /// # Errors
    /// On a row beyond the last image.
    pub fn batch(&self, rows: &[u32]) -> Result<Vec<f32>> {
        self.check(rows)?;
        Ok(rows.iter().flat_map(|&i| self.image(i as usize)).map(|&b| f32::from(b) / 255.0).collect())
    }

    fn check(&self, rows: &[u32]) -> Result<()> {
        match rows.iter().find(|&&i| i as usize >= self.len()) {
            Some(row) => Err(Error::invalid(format!("image {row} asked for, there are {}", self.len()))),
            None => Ok(()),
        }
    }
}

/// Fisher–Yates.
pub fn shuffle<T>(items: &mut [T], rng: &mut seed::Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}

/// A random view of an image. Every part is off by default; they are applied in the order of the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Area of a random crop as a share of the image, (smallest, largest), aspect ratio 3/4 to 4/3, resized back bilinearly;
    /// (1, 1) is off.
    pub crop: (f32, f32),
    /// Largest shift in pixels in each direction; what comes in is 0.
    pub shift: usize,
    /// Probability of a horizontal flip.
    pub flip: f32,
    /// Probability of a Gaussian blur with standard deviation uniform in 0.1 to 1 pixel.
    pub blur: f32,
    /// Contrast: pixels are multiplied by a factor uniform in 1 ± `gain`.
    pub gain: f32,
    /// Brightness: an offset uniform in ± `brightness` is added.
    pub brightness: f32,
    /// Standard deviation of Gaussian noise.
    pub noise: f32,
    /// Probability that a random rectangle of 5 to 25 % of the area is set to 0.
    pub erase: f32,
}

impl Default for Augment {
    fn default() -> Self {
        Self { crop: (1.0, 1.0), shift: 0, flip: 0.0, blur: 0.0, gain: 0.0, brightness: 0.0, noise: 0.0, erase: 0.0 }
    }
}

impl Augment {
    /// A random view of each image at `rows`: `[rows.len(), channels, height, width]`. The view of a row depends on `seed`, on
    /// `stream` (step and view number, say) and on the row's place in `rows`; not on the number of threads.
    ///
    /// # Errors
    /// On settings outside their range and on a row beyond the last image.
    pub fn views(&self, images: &Images, rows: &[u32], seed: u64, stream: u64) -> Result<Vec<f32>> {
        self.check(images.shape)?;
        images.check(rows)?;
        let size: usize = images.shape.iter().product();
        let mut out = vec![0.0; rows.len() * size];
        // A batch of eight images is too small to hand to other threads.
        out.par_chunks_exact_mut(size).zip(rows).enumerate().with_min_len(8).for_each_init(
            || vec![0.0; size],
            |scratch, (at, (out, &row))| {
                let mut rng = seed::rng(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15), at as u64);
                self.view(images.image(row as usize), images.shape, out, scratch, &mut rng);
            },
        );
        Ok(out)
    }

    fn check(&self, [_, height, width]: [usize; 3]) -> Result<()> {
        let wrong = |name: &str, value: f32, expected: &str| Err(Error::invalid(format!("{name} is {value}, expected {expected}")));
        let (smallest, largest) = self.crop;
        if !(smallest > 0.0 && smallest <= largest && largest <= 1.0) {
            return Err(Error::invalid(format!("crop is {:?}, expected 0 < smallest ≤ largest ≤ 1", self.crop)));
        }
        if self.shift >= height.min(width) {
            return Err(Error::invalid(format!("shift is {}, images are {height}×{width}", self.shift)));
        }
        for (name, p) in [("flip", self.flip), ("blur", self.blur), ("erase", self.erase)] {
            if !(0.0..=1.0).contains(&p) {
                return wrong(name, p, "a probability");
            }
        }
        for (name, v) in [("gain", self.gain), ("brightness", self.brightness), ("noise", self.noise)] {
            if !(v.is_finite() && v >= 0.0) {
                return wrong(name, v, "a finite number ≥ 0");
            }
        }
        Ok(())
    }

    /// Every plane of an image goes through the same geometry, gain and erasure; noise is drawn anew for each pixel.
    fn view(&self, image: &[u8], [_, height, width]: [usize; 3], out: &mut [f32], scratch: &mut [f32], rng: &mut seed::Rng) {
        let plane = height * width;
        for (pixel, &byte) in out.iter_mut().zip(image) {
            *pixel = f32::from(byte) / 255.0;
        }
        if self.crop != (1.0, 1.0) {
            let window = Window::draw(self.crop, height, width, rng);
            scratch.copy_from_slice(out);
            out.chunks_exact_mut(plane).zip(scratch.chunks_exact(plane)).for_each(|(to, from)| window.resize(from, to, height, width));
        }
        if self.shift > 0 {
            let mut by = || rng.random_range(0..=2 * self.shift) as isize - self.shift as isize;
            let (dy, dx) = (by(), by());
            scratch.copy_from_slice(out);
            out.chunks_exact_mut(plane).zip(scratch.chunks_exact(plane)).for_each(|(to, from)| shift(from, to, width, dy, dx));
        }
        if self.flip > 0.0 && rng.random::<f32>() < self.flip {
            out.chunks_exact_mut(width).for_each(<[f32]>::reverse);
        }
        if self.blur > 0.0 && rng.random::<f32>() < self.blur {
            let sigma = rng.random_range(0.1..=1.0f32);
            out.chunks_exact_mut(plane).zip(scratch.chunks_exact_mut(plane)).for_each(|(p, s)| blur(p, s, width, sigma));
        }
        if self.gain > 0.0 || self.brightness > 0.0 {
            let gain = 1.0 + self.gain * rng.random_range(-1.0..=1.0f32);
            let offset = self.brightness * rng.random_range(-1.0..=1.0f32);
            out.iter_mut().for_each(|v| *v = *v * gain + offset);
        }
        if self.noise > 0.0 {
            for pair in out.chunks_mut(2) {
                let two = normal_pair(rng);
                pair.iter_mut().zip(two).for_each(|(v, z)| *v += self.noise * z);
            }
        }
        if self.erase > 0.0 && rng.random::<f32>() < self.erase {
            let window = Window::draw((0.05, 0.25), height, width, rng);
            let (top, left) = (window.top as usize, window.left as usize);
            let (tall, wide) = ((window.height as usize).max(1), (window.width as usize).max(1));
            for p in out.chunks_exact_mut(plane) {
                p.chunks_exact_mut(width).skip(top).take(tall).for_each(|row| row[left..(left + wide).min(width)].fill(0.0));
            }
        }
    }
}

/// A rectangle in an image, in pixels.
struct Window {
    top: f32,
    left: f32,
    height: f32,
    width: f32,
}

impl Window {
    /// Area uniform in `share` of the image, aspect ratio log-uniform in 3/4 to 4/3, anywhere inside.
    fn draw(share: (f32, f32), height: usize, width: usize, rng: &mut seed::Rng) -> Self {
        let (h, w) = (height as f32, width as f32);
        let area = rng.random_range(share.0..=share.1) * h * w;
        let limit = (4.0f32 / 3.0).ln();
        let aspect = rng.random_range(-limit..=limit).exp();
        let (tall, wide) = ((area / aspect).sqrt().min(h), (area * aspect).sqrt().min(w));
        Self { top: rng.random::<f32>() * (h - tall), left: rng.random::<f32>() * (w - wide), height: tall, width: wide }
    }

    /// The window stretched over the whole of `to`, bilinear between pixel centres.
    fn resize(&self, from: &[f32], to: &mut [f32], height: usize, width: usize) {
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
}

/// `to` is `from` moved down by `dy` and right by `dx`, zeros outside.
fn shift(from: &[f32], to: &mut [f32], width: usize, dy: isize, dx: isize) {
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

/// Separable Gaussian of five taps; the border pixel is repeated outside.
fn blur(plane: &mut [f32], scratch: &mut [f32], width: usize, sigma: f32) {
    let mut taps = [0.0f32; 5];
    for (i, tap) in taps.iter_mut().enumerate() {
        *tap = (-0.5 * ((i as f32 - 2.0) / sigma).powi(2)).exp();
    }
    let sum: f32 = taps.iter().sum();
    taps.iter_mut().for_each(|t| *t /= sum);
    let height = plane.len() / width;
    let tap_at = |i: usize, t: usize, n: usize| (i + t).saturating_sub(2).min(n - 1);
    for (row, out) in plane.chunks_exact(width).zip(scratch.chunks_exact_mut(width)) {
        for (x, o) in out.iter_mut().enumerate() {
            *o = taps.iter().enumerate().map(|(t, w)| w * row[tap_at(x, t, width)]).sum();
        }
    }
    for (y, row) in plane.chunks_exact_mut(width).enumerate() {
        for (x, o) in row.iter_mut().enumerate() {
            *o = taps.iter().enumerate().map(|(t, w)| w * scratch[tap_at(y, t, height) * width + x]).sum();
        }
    }
}

/// Two standard normal numbers (Box–Muller).
fn normal_pair(rng: &mut seed::Rng) -> [f32; 2] {
    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
    let (sin, cos) = (std::f32::consts::TAU * rng.random::<f32>()).sin_cos();
    [radius * cos, radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ramp(n: usize, shape: [usize; 3]) -> Images {
        let size: usize = shape.iter().product();
        let pixels = (0..n * size).map(|i| (i * 37 % 251) as u8).collect();
        Images::new(shape, pixels, (0..n).map(|i| (i % 4) as u8).collect()).unwrap()
    }

    fn strong() -> Augment {
        Augment { crop: (0.3, 1.0), shift: 2, flip: 0.5, blur: 0.5, gain: 0.4, brightness: 0.2, noise: 0.1, erase: 0.5 }
    }

    #[test]
    fn without_settings_a_view_is_the_image_and_parts_that_are_off_change_nothing() {
        let images = ramp(5, [2, 6, 7]);
        let rows = [4, 0, 0];
        let plain = images.batch(&rows).unwrap();
        assert_eq!(plain.len(), 3 * 84);
        assert_eq!(plain[..84], images.image(4).iter().map(|&b| f32::from(b) / 255.0).collect::<Vec<_>>());
        assert_eq!(Augment::default().views(&images, &rows, 7, 1).unwrap(), plain);
    }

    #[test]
    fn views_follow_seed_stream_and_place_but_not_threads() {
        let images = ramp(40, [1, 28, 28]);
        let rows: Vec<u32> = (0..40).collect();
        let make = |seed, stream| strong().views(&images, &rows, seed, stream).unwrap();
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| make(3, 5));
        assert_eq!(make(3, 5), one);
        assert_ne!(make(3, 6), one);
        assert_ne!(make(4, 5), one);
        let twice = strong().views(&images, &[1, 1], 3, 5).unwrap();
        assert_ne!(twice[..784], twice[784..]);
    }

    #[test]
    fn each_part_does_what_it_says() {
        let images = ramp(1, [1, 4, 4]);
        let plain = images.batch(&[0]).unwrap();
        let flipped = Augment { flip: 1.0, ..Augment::default() }.views(&images, &[0], 1, 1).unwrap();
        for y in 0..4 {
            for x in 0..4 {
                assert_eq!(flipped[y * 4 + x], plain[y * 4 + 3 - x]);
            }
        }
        let mut moved = vec![9.0; 16];
        shift(&plain, &mut moved, 4, 1, -2);
        assert_eq!(moved[..4], [0.0; 4]);
        assert_eq!(moved[4..8], [plain[2], plain[3], 0.0, 0.0]);

        let whole = Window { top: 0.0, left: 0.0, height: 4.0, width: 4.0 };
        let mut same = vec![0.0; 16];
        whole.resize(&plain, &mut same, 4, 4);
        assert_eq!(same, plain);
        let quarter = Window { top: 0.0, left: 2.0, height: 2.0, width: 2.0 };
        let mut grown = vec![0.0; 16];
        quarter.resize(&[0., 1., 2., 3., 0., 1., 2., 3., 4., 5., 6., 7., 4., 5., 6., 7.], &mut grown, 4, 4);
        // Destination centres fall at 1.75, 2.25, 2.75 and 3.25 (clamped to 3) of the source columns.
        assert_eq!(grown[..4], [1.75, 2.25, 2.75, 3.0]);

        let mut flat = vec![0.25; 16];
        blur(&mut flat, &mut [0.0; 16], 4, 0.7);
        assert!(flat.iter().all(|v| (v - 0.25).abs() < 1e-6));
        let mut dot = vec![0.0; 49];
        dot[24] = 1.0;
        blur(&mut dot, &mut [0.0; 49], 7, 0.7);
        assert!((dot.iter().sum::<f32>() - 1.0).abs() < 1e-5 && dot[24] < 0.5 && dot[17] == dot[23]);
    }

    #[test]
    fn noise_has_its_standard_deviation_and_erasing_its_share() {
        let flat = Images::new([1, 28, 28], vec![51; 784 * 200], vec![0; 200]).unwrap();
        let rows: Vec<u32> = (0..200).collect();
        let noisy = Augment { noise: 0.1, ..Augment::default() }.views(&flat, &rows, 1, 1).unwrap();
        let n = noisy.len() as f64;
        let mean = noisy.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let sd = (noisy.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
        // Standard errors: 0.1/√156800 ≈ 2.5e-4 and 1.8e-4; five of them.
        assert!((mean - 0.2).abs() < 1.3e-3 && (sd - 0.1).abs() < 9e-4, "{mean} {sd}");
        let erased = Augment { erase: 1.0, ..Augment::default() }.views(&flat, &rows, 1, 1).unwrap();
        for view in erased.chunks(784) {
            let share = view.iter().filter(|v| **v == 0.0).count() as f64 / 784.0;
            assert!((0.02..=0.26).contains(&share), "{share}");
        }
    }

    #[test]
    fn a_balanced_sample_has_every_class_alike_and_no_image_twice() {
        let images = ramp(40, [1, 2, 2]);
        let sample = images.balanced_sample(10, 3).unwrap();
        let mut counts = [0; 4];
        sample.labels().iter().for_each(|&c| counts[c as usize] += 1);
        assert_eq!(counts, [3, 3, 2, 2]);
        assert!(images.balanced_sample(41, 3).unwrap_err().to_string().contains("41"));
    }

    #[test]
    fn wrong_input_is_refused_with_its_value() {
        let images = ramp(2, [1, 4, 4]);
        let error = |a: Augment| a.views(&images, &[0], 0, 0).unwrap_err().to_string();
        assert!(error(Augment { flip: 1.5, ..Augment::default() }).contains("flip is 1.5"));
        assert!(error(Augment { noise: f32::NAN, ..Augment::default() }).contains("noise is NaN"));
        assert!(error(Augment { crop: (0.0, 1.0), ..Augment::default() }).contains("crop"));
        assert!(error(Augment { shift: 4, ..Augment::default() }).contains("shift is 4"));
        assert!(images.batch(&[2]).unwrap_err().to_string().contains("image 2"));
        assert!(Images::new([1, 4, 4], vec![0; 15], vec![0]).is_err());
        assert!(Images::new([1, 0, 4], vec![], vec![]).is_err());
    }

    proptest! {
        #[test]
        fn views_are_finite_and_crops_stay_in_range(height in 1usize..20, width in 1usize..20, seed in 0u64..1000) {
            let images = Images::new([1, height, width], vec![255; height * width], vec![0]).unwrap();
            let geometry = Augment { crop: (0.05, 1.0), flip: 0.5, blur: 0.5, erase: 0.5, ..Augment::default() };
            let view = geometry.views(&images, &[0], seed, 0).unwrap();
            prop_assert!(view.iter().all(|v| (-1e-6..=1.0 + 1e-6).contains(v)));
        }
    }
}
