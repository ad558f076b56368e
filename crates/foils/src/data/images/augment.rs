//! Random views of images.

use super::Images;
use super::colour::{Jitter, greyscale};
use super::geometry::{Window, blur, shift};
use crate::{Error, Result, seed};
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A random view of an image. Every part is off by default; they are applied in the order of the fields. Views stay in [0, 1] but
/// for `gain`, `brightness` and `noise`, which do not clip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Area of a random crop as a share of the image, (smallest, largest), resized back bilinearly; (1, 1) is off.
    pub crop: (f32, f32),
    /// Aspect ratio of the crop: log-uniform from 1/this to this.
    pub crop_aspect: f32,
    /// Largest shift in pixels in each direction; what comes in is 0.
    pub shift: usize,
    /// Probability of a horizontal flip.
    pub flip: f32,
    /// Brightness, contrast, saturation and hue.
    pub jitter: Jitter,
    /// Probability that an image of three channels loses its colour.
    pub greyscale: f32,
    /// Probability of a Gaussian blur.
    pub blur: f32,
    /// Standard deviation of the blur in pixels: uniform from the first to the second, cut off at twice the second.
    pub sigma: (f32, f32),
    /// Pixels are multiplied by a factor uniform in 1 ± `gain`.
    pub gain: f32,
    /// An offset uniform in ± `brightness` is added.
    pub brightness: f32,
    /// Standard deviation of Gaussian noise.
    pub noise: f32,
    /// A random rectangle that is painted over.
    pub erase: Erase,
    /// Side of a square of zeros whose centre is any pixel, so that it may reach over the border (DeVries and Taylor 2017).
    pub cutout: usize,
}

/// Random erasing (Zhong et al. 2020).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Erase {
    /// Probability that there is a rectangle.
    pub probability: f32,
    /// Its area as a share of the image, (smallest, largest).
    pub area: (f32, f32),
    /// Its aspect ratio: log-uniform from 1/this to this.
    pub aspect: f32,
    /// What it is filled with.
    pub fill: Fill,
}

/// What an erased rectangle is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// One value everywhere.
    Constant(f32),
    /// Each pixel of each channel uniform in [0, 1].
    Noise,
}

impl Default for Erase {
    fn default() -> Self {
        Self::NONE
    }
}

impl Erase {
    /// Off; once a probability is set, 5 to 25 % of the area, aspect ratio 3/4 to 4/3, zeros.
    pub const NONE: Self = Self { probability: 0.0, area: (0.05, 0.25), aspect: 4.0 / 3.0, fill: Fill::Constant(0.0) };
}

impl Default for Augment {
    fn default() -> Self {
        Self::NONE
    }
}

impl Augment {
    /// Every part off: a view is the image.
    pub const NONE: Self = Self {
        crop: (1.0, 1.0),
        crop_aspect: 4.0 / 3.0,
        shift: 0,
        flip: 0.0,
        jitter: Jitter::NONE,
        greyscale: 0.0,
        blur: 0.0,
        sigma: (0.1, 1.0),
        gain: 0.0,
        brightness: 0.0,
        noise: 0.0,
        erase: Erase::NONE,
        cutout: 0,
    };

    /// A random view of each image at `rows`: `[rows.len(), channels, height, width]`. The view of a row depends on `seed`, on
    /// `stream` (step and view number, say) and on the row's place in `rows`; not on the number of threads.
    ///
    /// # Errors
    /// On settings outside their range and on a row beyond the last image.
    pub fn views(&self, images: &Images, rows: &[u32], seed: u64, stream: u64) -> Result<Vec<f32>> {
        self.check(images.shape())?;
        images.check(rows)?;
        let size: usize = images.shape().iter().product();
        let mut out = vec![0.0; rows.len() * size];
        // A batch of eight images is too small to hand to other threads.
        out.par_chunks_exact_mut(size).zip(rows).enumerate().with_min_len(8).for_each_init(
            || vec![0.0; size],
            |scratch, (at, (out, &row))| {
                let mut rng = seed::rng(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15), at as u64);
                self.view(images.image(row as usize), images.shape(), out, scratch, &mut rng);
            },
        );
        Ok(out)
    }

    fn check(&self, [_, height, width]: [usize; 3]) -> Result<()> {
        let wrong = |name: &str, value: f32, expected: &str| Err(Error::invalid(format!("{name} is {value}, expected {expected}")));
        for (name, area) in [("crop", self.crop), ("erase: area", self.erase.area)] {
            if !(area.0 > 0.0 && area.0 <= area.1 && area.1 <= 1.0) {
                return Err(Error::invalid(format!("{name} is {area:?}, expected 0 < smallest ≤ largest ≤ 1")));
            }
        }
        for (name, aspect) in [("crop_aspect", self.crop_aspect), ("erase: aspect", self.erase.aspect)] {
            if !(aspect.is_finite() && aspect >= 1.0) {
                return wrong(name, aspect, "a finite number ≥ 1");
            }
        }
        if self.shift >= height.min(width) {
            return Err(Error::invalid(format!("shift is {}, images are {height}×{width}", self.shift)));
        }
        let (least, most) = self.sigma;
        if !(least > 0.0 && least <= most && most <= 100.0) {
            return Err(Error::invalid(format!("sigma is {:?}, expected 0 < smallest ≤ largest ≤ 100 pixels", self.sigma)));
        }
        let probabilities = [self.flip, self.greyscale, self.blur, self.erase.probability];
        for (name, p) in ["flip", "greyscale", "blur", "erase: probability"].into_iter().zip(probabilities) {
            if !(0.0..=1.0).contains(&p) {
                return wrong(name, p, "a probability");
            }
        }
        for (name, v) in [("gain", self.gain), ("brightness", self.brightness), ("noise", self.noise)] {
            if !(v.is_finite() && v >= 0.0) {
                return wrong(name, v, "a finite number ≥ 0");
            }
        }
        if let Fill::Constant(v) = self.erase.fill
            && !(0.0..=1.0).contains(&v)
        {
            return wrong("erase: fill", v, "a value from 0 to 1");
        }
        self.jitter.check()
    }

    /// Every plane of an image goes through the same geometry, gain and erasure; noise is drawn anew for each pixel.
    fn view(&self, image: &[u8], [channels, height, width]: [usize; 3], out: &mut [f32], scratch: &mut [f32], rng: &mut seed::Rng) {
        let plane = height * width;
        for (pixel, &byte) in out.iter_mut().zip(image) {
            *pixel = f32::from(byte) / 255.0;
        }
        if self.crop != (1.0, 1.0) {
            let window = Window::draw(self.crop, self.crop_aspect, height, width, rng);
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
        self.jitter.apply(out, channels, rng);
        if self.greyscale > 0.0 && rng.random::<f32>() < self.greyscale {
            greyscale(out, channels);
        }
        if self.blur > 0.0 && rng.random::<f32>() < self.blur {
            let (sigma, radius) = (rng.random_range(self.sigma.0..=self.sigma.1), (2.0 * self.sigma.1).ceil() as usize);
            out.chunks_exact_mut(plane).zip(scratch.chunks_exact_mut(plane)).for_each(|(p, s)| blur(p, s, width, sigma, radius));
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
        if self.erase.probability > 0.0 && rng.random::<f32>() < self.erase.probability {
            let window = Window::draw(self.erase.area, self.erase.aspect, height, width, rng);
            let [rows, columns] = window.pixels(height, width);
            paint(out, [height, width], rows, columns, || match self.erase.fill {
                Fill::Constant(value) => value,
                Fill::Noise => rng.random(),
            });
        }
        if self.cutout > 0 {
            let mut range = |n: usize| {
                let centre = rng.random_range(0..n);
                let start = centre as isize - (self.cutout / 2) as isize;
                start.max(0) as usize..((start + self.cutout as isize) as usize).min(n)
            };
            let (rows, columns) = (range(height), range(width));
            paint(out, [height, width], rows, columns, || 0.0);
        }
    }
}

/// Gives the pixels of a rectangle the values that `value` returns, in every plane.
fn paint(
    out: &mut [f32],
    [height, width]: [usize; 2],
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    mut value: impl FnMut() -> f32,
) {
    for plane in out.chunks_exact_mut(height * width) {
        for row in plane.chunks_exact_mut(width).take(rows.end).skip(rows.start) {
            row[columns.clone()].fill_with(&mut value);
        }
    }
}

/// Two standard normal numbers (Box–Muller).
fn normal_pair(rng: &mut seed::Rng) -> [f32; 2] {
    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
    let (sin, cos) = (std::f32::consts::TAU * rng.random::<f32>()).sin_cos();
    [radius * cos, radius * sin]
}
