//! Small images and their random views. Pixels stay bytes until a batch is made; a batch is f32 in [0, 1], `[n, channels,
//! height, width]`, which a model takes as it is. Views are plain loops over slices, a thread an image.

mod augment;
mod colour;
mod geometry;
#[cfg(test)]
mod tests;

pub use augment::{Augment, Erase, Fill};
pub use colour::Jitter;

use crate::{Error, Result, seed};

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
        let classes = self.classes();
        self.sample(&(0..classes).map(|c| n / classes + usize::from(c < n % classes)).collect::<Vec<_>>(), seed)
    }

    /// A long-tailed sample, in random order: `most` images of the first class and `most` · `share` of the last, falling
    /// geometrically between them, at least one of each.
    ///
    /// # Errors
    /// When `share` is not above 0 and at most 1, or a class has too few images.
    pub fn long_tailed_sample(&self, most: usize, share: f64, seed: u64) -> Result<Self> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::invalid(format!("share = {share}, must be above 0 and at most 1")));
        }
        let last = self.classes().saturating_sub(1).max(1) as f64;
        let of = |class: usize| (most as f64 * share.powf(class as f64 / last)).round().max(1.0) as usize;
        self.sample(&(0..self.classes()).map(of).collect::<Vec<_>>(), seed)
    }

    /// Images drawn without replacement, `counts[c]` of class c, in random order.
    ///
    /// # Errors
    /// When a class has too few images.
    pub fn sample(&self, counts: &[usize], seed: u64) -> Result<Self> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        seed::shuffle(&mut order, &mut seed::rng(seed, 0));
        let mut room = counts.to_vec();
        order.retain(|&i| match room.get_mut(self.labels[i as usize] as usize) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        });
        if let Some(class) = room.iter().position(|left| *left > 0) {
            let (asked, have) = (counts[class], counts[class] - room[class]);
            return Err(Error::invalid(format!("{asked} images of class {class} asked for, there are {have}")));
        }
        self.select(&order)
    }

    fn classes(&self) -> usize {
        self.labels.iter().max().map_or(0, |c| *c as usize + 1)
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
