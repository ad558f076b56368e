//! Encoders of small images: a convolutional one and a multilayer perceptron, each with the projection head that contrastive
//! losses act on. Features (what is used afterwards) and projections (what the loss sees) are both returned.

use crate::data::images::Images;
use crate::nn::{self, ConvBlock, Planes};
use crate::{Error, Result, seed};
use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation::relu};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// What an [`ImageEncoder`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// Three 3×3 convolutions with stride 2 and 32, 64 and 128 channels, each with batch norm and ReLU; then the mean over
    /// what is left of the plane. 128 features.
    Conv,
    /// Two linear layers with batch norm and ReLU of this width; as many features.
    Mlp(usize),
}

/// An image encoder with a projection head (linear, batch norm, ReLU, linear).
#[derive(Module, Debug)]
pub struct ImageEncoder {
    convolutions: Vec<ConvBlock>,
    linears: Vec<LinearBlock>,
    hidden: LinearBlock,
    projection: Linear,
    centre: Option<BatchNorm>,
}

#[derive(Module, Debug)]
struct LinearBlock {
    linear: Linear,
    norm: BatchNorm,
}

impl LinearBlock {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        relu(self.norm.forward(self.linear.forward(x)))
    }
}

/// Features and projections of a batch.
pub struct Encoded {
    /// `[n, features]`, after the last ReLU of the body.
    pub features: Tensor<2>,
    /// `[n, projections]`, not normalised.
    pub projections: Tensor<2>,
}

impl ImageEncoder {
    /// An untrained encoder for images of `shape` = `[channels, height, width]`, with `projections` outputs. The weights
    /// depend on `seed` alone: uniform in ±1/√(inputs), biases in front of a batch norm left out.
    ///
    /// # Errors
    /// When a size is 0.
    pub fn new(body: Body, shape: [usize; 3], projections: usize, seed: u64, device: &Device) -> Result<Self> {
        let inputs: usize = shape.iter().product();
        if inputs == 0 || projections == 0 || body == Body::Mlp(0) {
            return Err(Error::invalid(format!("an encoder {body:?} of {shape:?} images with {projections} projections has no weights")));
        }
        let mut weights = Weights { rng: seed::rng(seed, 1), device };
        let (mut convolutions, mut linears) = (Vec::new(), Vec::new());
        let features = match body {
            Body::Conv => {
                let mut from = shape[0];
                for to in [32, 64, 128] {
                    convolutions.push(weights.conv_block(from, to));
                    from = to;
                }
                from
            }
            Body::Mlp(width) => {
                linears = vec![weights.linear_block(inputs, width), weights.linear_block(width, width)];
                width
            }
        };
        let hidden = weights.linear_block(features, features);
        let projection = weights.linear(features, projections, true);
        Ok(Self { convolutions, linears, hidden, projection, centre: None })
    }

    /// Ends the head with a batch norm that has neither scale nor offset. Losses that let most negatives go (the nearest k, the upper
    /// share) pull projections into a narrow cone without it.
    #[must_use]
    pub fn centred(mut self) -> Self {
        let [_, width] = self.projection.weight.dims();
        self.centre = Some(nn::centring(width, &self.projection.weight.val().device()));
        self
    }

    /// Features and projections of `[n, channels, height, width]` images. On an autodiff device batch norm uses the batch's
    /// statistics and updates the running ones; [`Module::valid`] gives the encoder that uses the running ones.
    pub fn forward(&self, images: Tensor<4>) -> Encoded {
        let features = self.features(images);
        let projections = self.projection.forward(self.hidden.forward(features.clone()));
        let projections = match &self.centre {
            Some(norm) => norm.forward(projections),
            None => projections,
        };
        Encoded { features, projections }
    }

    fn features(&self, images: Tensor<4>) -> Tensor<2> {
        if self.convolutions.is_empty() {
            return self.linears.iter().fold(images.flatten(1, 3), |x, block| block.forward(x));
        }
        self.convolutions.iter().fold(Planes::new(images), |x, block| block.forward(x)).mean()
    }

    /// Features of all images without gradients, `[images.len(), features]` row-major, and their width. `view` makes the pixels
    /// of the rows that it is given (clean ones with [`Images::batch`], or random views).
    ///
    /// # Errors
    /// What `view` returns.
    pub fn embed(&self, images: &Images, view: impl FnMut(&[u32]) -> Result<Vec<f32>>) -> Result<(Vec<f32>, usize)> {
        self.of_all(images, view, Self::features)
    }

    /// [`ImageEncoder::embed`] for projections: what the loss sees.
    ///
    /// # Errors
    /// What `view` returns.
    pub fn project(&self, images: &Images, view: impl FnMut(&[u32]) -> Result<Vec<f32>>) -> Result<(Vec<f32>, usize)> {
        self.of_all(images, view, |encoder, x| encoder.forward(x).projections)
    }

    fn of_all(
        &self,
        images: &Images,
        mut view: impl FnMut(&[u32]) -> Result<Vec<f32>>,
        of: impl Fn(&Self, Tensor<4>) -> Tensor<2>,
    ) -> Result<(Vec<f32>, usize)> {
        let encoder = self.valid();
        let device = encoder.projection.weight.val().device();
        let rows: Vec<u32> = (0..images.len() as u32).collect();
        let mut values = Vec::new();
        for rows in rows.chunks(500) {
            let x = of(&encoder, batch(view(rows)?, rows.len(), images.shape(), &device));
            values.extend(x.into_data().iter::<f32>());
        }
        let width = values.len() / rows.len().max(1);
        Ok((values, width))
    }
}

/// Pixels as a tensor `[n, channels, height, width]`.
pub fn batch(pixels: Vec<f32>, n: usize, [channels, height, width]: [usize; 3], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(pixels, [n, channels, height, width]), device)
}

/// Draws initial weights from the library's generator, so that they do not depend on what else drew numbers on the device.
struct Weights<'a> {
    rng: seed::Rng,
    device: &'a Device,
}

impl Weights<'_> {
    fn uniform<const D: usize>(&mut self, shape: [usize; D], inputs: usize) -> Param<Tensor<D>> {
        let limit = 1.0 / (inputs as f32).sqrt();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.rng.random_range(-limit..=limit)).collect();
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    fn conv_block(&mut self, from: usize, to: usize) -> ConvBlock {
        ConvBlock::new(self.uniform([9 * from, to], 9 * from), self.device)
    }

    fn linear(&mut self, from: usize, to: usize, bias: bool) -> Linear {
        let mut linear = LinearConfig::new(from, to).with_bias(bias).init(self.device);
        linear.weight = self.uniform([from, to], from);
        linear.bias = bias.then(|| self.uniform([to], from));
        linear
    }

    fn linear_block(&mut self, from: usize, to: usize) -> LinearBlock {
        LinearBlock { linear: self.linear(from, to, false), norm: BatchNormConfig::new(to).init(self.device) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::optim::{AdamConfig, GradientsParams};

    fn two_classes(n: usize) -> Images {
        // Class 0 is bright above, class 1 below; what else there is is noise.
        let mut rng = seed::rng(5, 0);
        let mut pixels = Vec::new();
        for i in 0..n {
            for y in 0..8 {
                pixels.extend((0..8).map(|_| rng.random_range(0..=120u8) + if (y < 4) == (i % 2 == 0) { 120 } else { 0 }));
            }
        }
        Images::new([1, 8, 8], pixels, (0..n).map(|i| (i % 2) as u8).collect()).unwrap()
    }

    #[test]
    fn weights_follow_the_seed_and_shapes_are_as_said() {
        let device = Device::flex();
        let images = two_classes(6);
        for (body, features) in [(Body::Conv, 128), (Body::Mlp(48), 48)] {
            let embed = |seed| {
                let encoder = ImageEncoder::new(body, images.shape(), 16, seed, &device).unwrap();
                let (values, width) = encoder.embed(&images, |rows| images.batch(rows)).unwrap();
                assert_eq!((values.len(), width), (6 * features, features));
                let pixels = images.batch(&[0, 1, 2]).unwrap();
                let encoded = encoder.forward(batch(pixels, 3, images.shape(), &device));
                assert_eq!((encoded.features.dims(), encoded.projections.dims()), ([3, features], [3, 16]));
                values
            };
            assert_eq!(embed(1), embed(1));
            assert_ne!(embed(1), embed(2));
        }
        assert!(ImageEncoder::new(Body::Mlp(0), [1, 8, 8], 16, 0, &device).is_err());
        assert!(ImageEncoder::new(Body::Conv, [1, 8, 8], 0, 0, &device).is_err());
    }

    #[test]
    fn a_centred_head_stays_centred_while_it_learns() {
        let device = Device::flex().autodiff();
        let images = two_classes(32);
        let mut encoder = ImageEncoder::new(Body::Conv, images.shape(), 4, 3, &device).unwrap().centred();
        let mut adam = AdamConfig::new().init();
        let x = || batch(images.batch(&(0..32).collect::<Vec<_>>()).unwrap(), 32, images.shape(), &device);
        for _ in 0..40 {
            let z = encoder.forward(x()).projections;
            let mean: Vec<f32> = z.clone().mean_dim(0).into_data().iter().collect();
            let square: Vec<f32> = z.clone().powi_scalar(2).mean_dim(0).into_data().iter().collect();
            assert!(mean.iter().all(|m| m.abs() < 1e-4) && square.iter().all(|v| (v - 1.0).abs() < 1e-2), "{mean:?} {square:?}");
            let gradients = GradientsParams::from_grads(z.powi_scalar(4).mean().backward(), &encoder);
            encoder = adam.step(0.01, encoder, gradients);
        }
        // Clean images go through running statistics.
        let (values, width) = encoder.project(&images, |rows| images.batch(rows)).unwrap();
        let mean = values.chunks(width).map(|row| row[0]).sum::<f32>() / 32.0;
        assert!(mean.abs() < 0.5, "{mean}");
    }

    #[test]
    fn both_bodies_learn_and_the_trained_encoder_survives_valid() {
        let device = Device::flex().autodiff();
        let images = two_classes(32);
        let rows: Vec<u32> = (0..32).collect();
        let target = Tensor::<2>::from_data(TensorData::new(images.labels().iter().map(|&c| f32::from(c)).collect(), [32, 1]), &device);
        for body in [Body::Conv, Body::Mlp(32)] {
            let mut encoder = ImageEncoder::new(body, images.shape(), 1, 3, &device).unwrap();
            let mut adam = AdamConfig::new().init();
            let mut losses = Vec::new();
            for _ in 0..40 {
                let out = encoder.forward(batch(images.batch(&rows).unwrap(), 32, images.shape(), &device)).projections;
                let loss = (out - target.clone()).powi_scalar(2).mean();
                let gradients = GradientsParams::from_grads(loss.backward(), &encoder);
                losses.push(loss.into_scalar::<f32>());
                encoder = adam.step(0.01, encoder, gradients);
            }
            assert!(losses[39] < 0.2 * losses[0], "{body:?}: {} to {}", losses[0], losses[39]);
            // Running statistics must serve: clean features separate the classes without the batch.
            let (values, width) = encoder.embed(&images, |rows| images.batch(rows)).unwrap();
            let plain = device.clone().inner();
            let features = Tensor::<2>::from_data(TensorData::new(values, [32, width]), &plain);
            let valid = encoder.valid();
            let out = valid.projection.forward(valid.hidden.forward(features)).into_data();
            let right = out.iter::<f32>().zip(images.labels()).filter(|(v, c)| (*v > 0.5) == (**c == 1)).count();
            assert_eq!(right, 32, "{body:?}");
        }
    }
}
