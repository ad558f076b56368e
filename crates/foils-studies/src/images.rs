//! What studies of image encoders share: data, a fair search of settings, and how good an encoder is. The recipe of training itself is
//! [`foils::train::SelfSupervised`].

use crate::plot::Plot;
use crate::study::{Context, Outcome};
use burn::tensor::{Device, Tensor, TensorData};
use foils::data::images::{Augment, Images};
use foils::data::registry::{self, FASHION_CLASSES};
use foils::diagnostics::{Tolerance, uniformity};
use foils::losses::{Alignment, Options, ZeroRows};
use foils::metrics::{KnnSettings, LinearProbe, ProbeSettings, knn_predict};
use foils::models::image::ImageEncoder;
use foils::{Error, Result};
use std::collections::BTreeMap;

/// Images to learn from, to choose settings on, and to be judged on.
pub struct ImageData {
    /// To learn from; neighbours are looked for here.
    pub train: Images,
    /// To choose settings on. Taken from the training part, so that the test part is seen once, at the end.
    pub validation: Images,
    /// To be judged on.
    pub test: Images,
}

impl ImageData {
    /// Fashion-MNIST, balanced: 10,000, 2,000 and 2,000 images; with [`Budget::Quick`](crate::study::Budget) 2,000, 500 and 500.
    pub fn fashion_mnist(context: &Context) -> Result<Self> {
        Self::fashion_mnist_of(context.pick([10_000, 2_000, 2_000], [2_000, 500, 500]))
    }

    /// As many as asked for: to learn from, to choose settings on (together at most 60,000) and to be judged on (at most 10,000).
    pub fn fashion_mnist_of([n, validation, test]: [usize; 3]) -> Result<Self> {
        let all = registry::fashion_mnist()?;
        let sample = all.train.balanced_sample(n + validation, 0)?;
        let rows: Vec<u32> = (0..(n + validation) as u32).collect();
        let (train, validation) = rows.split_at(n);
        Ok(Self { train: sample.select(train)?, validation: sample.select(validation)?, test: all.test.balanced_sample(test, 0)? })
    }

    /// The same images at half their width and height, each pixel the mean of four: a step costs a fifth, so that more steps fit.
    pub fn halved(self) -> Result<Self> {
        Ok(Self { train: halved(&self.train)?, validation: halved(&self.validation)?, test: halved(&self.test)? })
    }
}

/// An odd last row or column is left out.
fn halved(images: &Images) -> Result<Images> {
    let [channels, height, width] = images.shape();
    let mut pixels = Vec::with_capacity(images.pixels().len() / 4);
    for plane in images.pixels().chunks_exact(height * width) {
        for rows in plane.chunks_exact(2 * width) {
            let (above, below) = rows.split_at(width);
            let sum = |two: &[u8]| two.iter().map(|&p| u32::from(p)).sum::<u32>();
            pixels.extend(above.chunks_exact(2).zip(below.chunks_exact(2)).map(|(a, b)| ((sum(a) + sum(b) + 2) / 4) as u8));
        }
    }
    Images::new([channels, height / 2, width / 2], pixels, images.labels().to_vec())
}

/// Views that change an image so much that positives are not easy from the start: crops, flips, gain, brightness, noise.
pub const STRONG_VIEWS: Augment = Augment { crop: (0.3, 1.0), flip: 0.5, gain: 0.4, brightness: 0.2, noise: 0.1, ..Augment::NONE };

/// For each method the setting with which it does best on validation data. Every method gets the same tries, so that none is searched
/// longer than another; of equals the earlier try is taken. With a quick budget nothing is searched: the middle one is taken.
///
/// # Errors
/// What `score` returns, and a grid without a setting.
pub fn search<S: Copy + serde::Serialize>(
    context: &Context,
    note: impl Into<String>,
    methods: &[&str],
    grid: &[S],
    mut score: impl FnMut(&str, S) -> Result<f64>,
) -> Result<Vec<S>> {
    let middle = *grid.get(grid.len() / 2).ok_or_else(|| Error::invalid("a search without a setting to try"))?;
    if context.pick(false, true) {
        return Ok(vec![middle; methods.len()]);
    }
    let mut chosen = Vec::with_capacity(methods.len());
    for method in methods {
        let mut best = (f64::NEG_INFINITY, middle);
        for &setting in grid {
            let score = score(method, setting)?;
            if score > best.0 {
                best = (score, setting);
            }
        }
        chosen.push(best.1);
    }
    context.note(note, methods.iter().zip(&chosen).collect::<BTreeMap<_, _>>())?;
    Ok(chosen)
}

/// Rows of numbers with a class each: what an encoder makes of images.
pub struct Rows {
    /// `[n, width]`, row-major.
    pub values: Vec<f32>,
    /// Numbers in a row.
    pub width: usize,
    /// The class of each row.
    pub labels: Vec<i64>,
}

impl Rows {
    /// Features of clean images.
    pub fn features(encoder: &ImageEncoder, images: &Images) -> Result<Self> {
        let (values, width) = encoder.embed(images, |rows| images.batch(rows))?;
        Ok(Self { values, width, labels: labels(images) })
    }

    /// Projections of clean images.
    pub fn projections(encoder: &ImageEncoder, images: &Images) -> Result<Self> {
        let (values, width) = encoder.project(images, |rows| images.batch(rows))?;
        Ok(Self { values, width, labels: labels(images) })
    }

    /// The images themselves.
    pub fn pixels(images: &Images) -> Result<Self> {
        let values = images.batch(&(0..images.len() as u32).collect::<Vec<_>>())?;
        Ok(Self { values, width: images.shape().iter().product(), labels: labels(images) })
    }

    /// Each divided by its norm, as losses see projections; a zero row stays.
    #[must_use]
    pub fn unit(mut self) -> Self {
        for row in self.values.chunks_exact_mut(self.width) {
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            row.iter_mut().for_each(|v| *v /= norm);
        }
        self
    }

    /// The first thousand rows along their two principal axes, coloured by the classes of Fashion-MNIST.
    ///
    /// # Errors
    /// When a label is none of those classes, and as [`Plot::embedding`].
    pub fn scatter(&self, title: impl Into<String>, look: impl Into<String>) -> Result<Plot> {
        let shown = self.labels.len().min(1_000);
        Plot::embedding(title, look, &self.values[..shown * self.width], self.width, &self.labels[..shown], &FASHION_CLASSES)
    }

    /// Share of `test` whose class the 20 nearest of these rows give (cosine).
    pub fn knn_accuracy(&self, test: &Self) -> Result<f64> {
        let settings = KnnSettings { k: 20, temperature: 0.1, num_classes: self.classes() };
        let found = knn_predict(&test.values, &self.values, self.width, &self.labels, &settings)?;
        let right = found.predictions.iter().zip(&test.labels).filter(|(p, l)| **p as i64 == **l).count();
        Ok(right as f64 / test.labels.len() as f64)
    }

    /// Share of `test` that a linear classifier of these rows gets right; how strongly it is held back is chosen on a fifth of them.
    pub fn linear_accuracy(&self, test: &Self) -> Result<f64> {
        LinearProbe::search(&self.values, self.width, &self.labels, self.classes(), &ProbeSettings::default())?
            .accuracy(&test.values, &test.labels)
    }

    fn classes(&self) -> usize {
        self.labels.iter().max().map_or(0, |&l| l as usize + 1)
    }
}

fn labels(images: &Images) -> Vec<i64> {
    images.labels().iter().map(|&l| l.into()).collect()
}

/// Share of `test` whose class the 20 nearest features of `bank` give.
///
/// # Errors
/// As [`Rows::knn_accuracy`].
pub fn knn_accuracy(encoder: &ImageEncoder, bank: &Images, test: &Images) -> Result<f64> {
    Rows::features(encoder, bank)?.knn_accuracy(&Rows::features(encoder, test)?)
}

/// How good `encoder` is: k-NN and linear accuracy of `test` by features of `bank`; of the test images' features and projections,
/// uniformity and tolerance of clean images and alignment of two random views (`views`, `seed`). Uniformity above −0.2 on
/// projections is a collapse, which the study should say.
///
/// # Errors
/// When a class of `test` has no two images, or `views` are outside their range.
pub fn measure(outcome: &mut Outcome, name: &str, encoder: &ImageEncoder, data: [&Images; 2], views: &Augment, seed: u64) -> Result<()> {
    let [bank, test] = data;
    let (known, features) = (Rows::features(encoder, bank)?, Rows::features(encoder, test)?);
    outcome.measure(format!("accuracy of {name}"), known.knn_accuracy(&features)?);
    outcome.measure(format!("linear accuracy of {name}"), known.linear_accuracy(&features)?);
    for (of, rows) in [("features", features), ("projections", Rows::projections(encoder, test)?)] {
        outcome.measure(format!("uniformity of {of}, {name}"), uniformity(&rows.values, rows.width, 2.0, true)?);
        outcome.measure(format!("tolerance of {of}, {name}"), Tolerance::default().of(&rows.values, rows.width, &rows.labels)?);
    }
    let aligned = Alignment::new(2.0)?.options(Options { zero_rows: ZeroRows::Allow, ..Options::default() });
    let [z1, z2] = two_views(encoder, test, views, seed)?;
    outcome.measure(format!("alignment of projections, {name}"), aligned.forward(z1, z2)?.into_scalar());
    Ok(())
}

/// Projections of two random views of each image, `[n, projections]`.
///
/// # Errors
/// When `views` are outside their range.
pub fn two_views(encoder: &ImageEncoder, images: &Images, views: &Augment, seed: u64) -> Result<[Tensor<2>; 2]> {
    let view = |which: u64| {
        // Each chunk of images has views of its own.
        let mut chunk = 0;
        let (values, width) = encoder.project(images, |rows| {
            chunk += 1;
            views.views(images, rows, seed, 2 * chunk + which)
        })?;
        Ok::<_, Error>(Tensor::<2>::from_data(TensorData::new(values, [images.len(), width]), &Device::flex()))
    };
    Ok([view(0)?, view(1)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Budget;
    use foils::models::image::Body;

    #[test]
    fn every_method_gets_the_same_tries_and_its_own_best() {
        let mut tries = Vec::new();
        let score = |method: &str, setting: f64| {
            tries.push((method.to_owned(), setting));
            Ok(if method == "a" { -(setting - 0.1).abs() } else { 0.5 })
        };
        let context = Context::new(Budget::Full);
        assert_eq!(search(&context, "rates", &["a", "b"], &[0.01, 0.1, 1.0], score).unwrap(), [0.1, 0.01]);
        assert_eq!(tries.iter().filter(|(m, _)| m == "a").count(), tries.iter().filter(|(m, _)| m == "b").count());
        let quick = Context::new(Budget::Quick);
        let never = |_: &str, _: f64| Err(Error::invalid("not reached"));
        assert_eq!(search(&quick, "rates", &["a", "b"], &[0.01, 0.1, 1.0], never).unwrap(), [0.1, 0.1]);
        assert!(search::<f64>(&context, "rates", &["a"], &[], never).is_err());
    }

    #[test]
    fn a_halved_image_has_the_means_of_squares() {
        let pixels = vec![0, 4, 10, 10, 9, 8, 4, 10, 10, 9, 1, 1, 1, 2, 9, 1, 1, 1, 2, 9];
        let images = Images::new([1, 4, 5], pixels, vec![3]).unwrap();
        assert_eq!(halved(&images).unwrap(), Images::new([1, 2, 2], vec![4, 10, 1, 2], vec![3]).unwrap());
    }

    #[test]
    fn an_untrained_encoder_is_measured_in_every_way() {
        // Class 0 is bright above, class 1 below.
        let pixels = (0..60).flat_map(|i| (0..64).map(move |p| if (p < 32) == (i % 2 == 0) { 200 - i } else { 20 + i })).collect();
        let images = Images::new([1, 8, 8], pixels, (0..60).map(|i| i % 2).collect()).unwrap();
        let encoder = ImageEncoder::new(Body::Conv, [1, 8, 8], 16, 1, &Device::flex()).unwrap();
        let mut outcome = Outcome::default();
        let views = Augment { noise: 0.1, ..Augment::NONE };
        measure(&mut outcome, "x", &encoder, [&images, &images], &views, 1).unwrap();
        let of = |name: &str| outcome.measured.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}")).1;
        assert_eq!((of("accuracy of x"), of("linear accuracy of x")), (1.0, 1.0));
        assert!(of("uniformity of features, x") < 0.0 && of("tolerance of projections, x") <= 1.0);
        assert!(of("alignment of projections, x") > 0.0);
        assert_eq!(outcome.measured.len(), 7);
    }
}
