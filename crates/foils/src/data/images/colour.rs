//! Changes of brightness, contrast, saturation and hue, by torchvision's formulas. Pixels are planes `[channels, height · width]` in
//! [0, 1] and stay there.

use crate::{Error, Result, seed};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Colour jitter: each part by a random factor, the parts in random order, as torchvision's `ColorJitter`. Saturation and hue are
/// those of three channels, red, green and blue; they leave grey images as they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jitter {
    /// Probability that a view is jittered at all.
    pub probability: f32,
    /// The image is multiplied by a factor uniform in 1 ± this (not below 0).
    pub brightness: f32,
    /// The distance to the mean grey is, likewise.
    pub contrast: f32,
    /// The distance to the pixel's own grey is, likewise.
    pub saturation: f32,
    /// Hues are turned by an angle uniform in ± this, in turns; at most ½.
    pub hue: f32,
}

impl Default for Jitter {
    fn default() -> Self {
        Self::NONE
    }
}

impl Jitter {
    /// Off.
    pub const NONE: Self = Self { probability: 0.0, brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 };

    /// SimCLR's at this strength (1 on photographs, ½ on small ones): four views of five.
    pub const fn simclr(strength: f32) -> Self {
        let s = strength;
        Self { probability: 0.8, brightness: 0.8 * s, contrast: 0.8 * s, saturation: 0.8 * s, hue: 0.2 * s }
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |name: &str, value: f32, expected: &str| Err(Error::invalid(format!("jitter: {name} is {value}, expected {expected}")));
        if !(0.0..=1.0).contains(&self.probability) {
            return wrong("probability", self.probability, "a probability");
        }
        for (name, v) in [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)] {
            if !(v.is_finite() && v >= 0.0) {
                return wrong(name, v, "a finite number ≥ 0");
            }
        }
        if !(0.0..=0.5).contains(&self.hue) {
            return wrong("hue", self.hue, "a part of a turn from 0 to 0.5");
        }
        Ok(())
    }

    pub(super) fn apply(&self, pixels: &mut [f32], channels: usize, rng: &mut seed::Rng) {
        if self.probability == 0.0 || rng.random::<f32>() >= self.probability {
            return;
        }
        let mut parts = [0, 1, 2, 3];
        seed::shuffle(&mut parts, rng);
        let around_one = |by: f32, rng: &mut seed::Rng| rng.random_range((1.0 - by).max(0.0)..=1.0 + by);
        for part in parts {
            match part {
                0 if self.brightness > 0.0 => brightness(pixels, around_one(self.brightness, rng)),
                1 if self.contrast > 0.0 => contrast(pixels, channels, around_one(self.contrast, rng)),
                2 if self.saturation > 0.0 => saturation(pixels, channels, around_one(self.saturation, rng)),
                3 if self.hue > 0.0 => hue(pixels, channels, rng.random_range(-self.hue..=self.hue)),
                _ => {}
            }
        }
    }
}

/// `factor` of the image and 1 − `factor` of `other`.
fn blend(pixel: &mut f32, other: f32, factor: f32) {
    *pixel = (factor * *pixel + (1.0 - factor) * other).clamp(0.0, 1.0);
}

pub(super) fn brightness(pixels: &mut [f32], factor: f32) {
    pixels.iter_mut().for_each(|v| blend(v, 0.0, factor));
}

pub(super) fn contrast(pixels: &mut [f32], channels: usize, factor: f32) {
    let mean = if channels == 3 {
        let [r, g, b] = planes(pixels);
        r.iter().zip(&*g).zip(&*b).map(|((r, g), b)| f64::from(grey(*r, *g, *b))).sum::<f64>() / r.len() as f64
    } else {
        pixels.iter().map(|v| f64::from(*v)).sum::<f64>() / pixels.len() as f64
    };
    pixels.iter_mut().for_each(|v| blend(v, mean as f32, factor));
}

pub(super) fn saturation(pixels: &mut [f32], channels: usize, factor: f32) {
    each_pixel(pixels, channels, |rgb| {
        let grey = grey(rgb[0], rgb[1], rgb[2]);
        rgb.map(|mut v| {
            blend(&mut v, grey, factor);
            v
        })
    });
}

pub(super) fn hue(pixels: &mut [f32], channels: usize, turn: f32) {
    each_pixel(pixels, channels, |rgb| {
        let [h, s, v] = to_hsv(rgb);
        from_hsv([(h + turn).rem_euclid(1.0), s, v])
    });
}

/// All three channels become the grey of the pixel.
pub(super) fn greyscale(pixels: &mut [f32], channels: usize) {
    each_pixel(pixels, channels, |[r, g, b]| [grey(r, g, b); 3]);
}

fn grey(r: f32, g: f32, b: f32) -> f32 {
    0.2989 * r + 0.587 * g + 0.114 * b
}

fn planes(pixels: &mut [f32]) -> [&mut [f32]; 3] {
    let (r, rest) = pixels.split_at_mut(pixels.len() / 3);
    let (g, b) = rest.split_at_mut(rest.len() / 2);
    [r, g, b]
}

/// Nothing is done with images of other than three channels.
fn each_pixel(pixels: &mut [f32], channels: usize, change: impl Fn([f32; 3]) -> [f32; 3]) {
    if channels == 3 {
        let [r, g, b] = planes(pixels);
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            [*r, *g, *b] = change([*r, *g, *b]);
        }
    }
}

/// Hue in turns, saturation, value.
fn to_hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let (largest, smallest) = (r.max(g).max(b), r.min(g).min(b));
    let range = largest - smallest;
    if range == 0.0 {
        return [0.0, 0.0, largest];
    }
    let sixths = if largest == r {
        (g - b) / range
    } else if largest == g {
        2.0 + (b - r) / range
    } else {
        4.0 + (r - g) / range
    };
    [(sixths / 6.0).rem_euclid(1.0), range / largest, largest]
}

fn from_hsv([h, s, v]: [f32; 3]) -> [f32; 3] {
    let sector = (h * 6.0).floor();
    let f = h * 6.0 - sector;
    let part = |share: f32| (v * (1.0 - share)).clamp(0.0, 1.0);
    let (p, q, t) = (part(s), part(s * f), part(s * (1.0 - f)));
    match sector as usize % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two pixels: planes of red, green, blue.
    const IMAGE: [f32; 6] = [0.8, 0.1, 0.4, 0.5, 0.2, 0.9];

    fn close(a: &[f32], b: &[f64]) {
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{a:?} {b:?}");
    }

    /// torchvision.transforms.functional: adjust_brightness, adjust_contrast, adjust_saturation, rgb_to_grayscale.
    #[test]
    fn blends_are_torchvisions() {
        let of = |change: &dyn Fn(&mut [f32])| {
            let mut image = IMAGE;
            change(&mut image);
            image
        };
        let wide = IMAGE.map(f64::from);
        let clamp = |v: f64| v.clamp(0.0, 1.0);
        close(&of(&|i| brightness(i, 1.4)), &wide.map(|v| clamp(1.4 * v)));
        let greys: Vec<f64> = (0..2).map(|p| 0.2989 * wide[p] + 0.587 * wide[p + 2] + 0.114 * wide[p + 4]).collect();
        let mean = (greys[0] + greys[1]) / 2.0;
        for factor in [0.0, 0.3, 1.0, 1.9] {
            close(&of(&|i| contrast(i, 3, factor as f32)), &wide.map(|v| clamp(factor * v + (1.0 - factor) * mean)));
            let theirs: Vec<f64> = (0..6).map(|k| clamp(factor * wide[k] + (1.0 - factor) * greys[k % 2])).collect();
            close(&of(&|i| saturation(i, 3, factor as f32)), &theirs);
        }
        close(&of(&|i| greyscale(i, 3)), &[greys[0], greys[1], greys[0], greys[1], greys[0], greys[1]]);
        // One channel: the mean of its own pixels; no colour to change.
        let all = wide.iter().sum::<f64>() / 6.0;
        close(&of(&|i| contrast(i, 1, 0.5)), &wide.map(|v| 0.5 * v + 0.5 * all));
        close(&of(&|i| hue(i, 1, 0.2)), &wide);
        close(&of(&|i| saturation(i, 1, 0.2)), &wide);
    }

    /// Turns of a third exchange the channels; others go through the hexagon of the colour wheel.
    #[test]
    fn hues_turn() {
        let turned = |rgb: [f32; 3], by: f32| {
            let mut image = rgb;
            hue(&mut image, 3, by);
            image
        };
        let third = 1.0 / 3.0;
        close(&turned([0.8, 0.4, 0.2], third), &[0.2, 0.8, 0.4]);
        close(&turned([0.8, 0.4, 0.2], -third), &[0.4, 0.2, 0.8]);
        close(&turned([1.0, 0.0, 0.0], 0.5), &[0.0, 1.0, 1.0]);
        close(&turned([1.0, 0.0, 0.0], 1.0 / 6.0), &[1.0, 1.0, 0.0]);
        close(&turned([1.0, 0.0, 0.0], 0.25), &[0.5, 1.0, 0.0]);
        close(&turned([0.3, 0.3, 0.3], 0.4), &[0.3, 0.3, 0.3]);
        close(&turned([0.0, 0.0, 0.0], 0.4), &[0.0, 0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn colours_stay_in_range_and_no_strength_changes_nothing(
            image in prop::collection::vec(0.0..=1.0f32, 12), factor in 0.0..3.0f32, turn in -0.5..=0.5f32, seed in 0u64..100,
        ) {
            let in_range = |image: &[f32]| image.iter().all(|v| (0.0..=1.0).contains(v));
            for channels in [1, 3] {
                for change in [
                    &(|i: &mut [f32]| brightness(i, factor)) as &dyn Fn(&mut [f32]),
                    &|i| contrast(i, channels, factor),
                    &|i| saturation(i, channels, factor),
                    &|i| hue(i, channels, turn),
                    &|i| Jitter::simclr(1.0).apply(i, channels, &mut seed::rng(seed, 0)),
                ] {
                    let mut changed = image.clone();
                    change(&mut changed);
                    prop_assert!(in_range(&changed), "{:?}", changed);
                }
                let mut same = image.clone();
                brightness(&mut same, 1.0);
                contrast(&mut same, channels, 1.0);
                saturation(&mut same, channels, 1.0);
                Jitter { probability: 1.0, ..Jitter::NONE }.apply(&mut same, channels, &mut seed::rng(seed, 0));
                prop_assert_eq!(&same, &image);
                hue(&mut same, channels, 0.0);
                prop_assert!(same.iter().zip(&image).all(|(a, b)| (a - b).abs() < 1e-6));
            }
        }
    }
}
