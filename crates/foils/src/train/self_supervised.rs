//! Learning without classes: random views of images, an encoder, a loss, Adam along a cosine. Methods differ in the loss, which
//! is handed in, and in whether the encoder has a slowly moving copy that makes the keys (MoCo).

use crate::data::images::{Augment, Images};
use crate::models::MomentumCopy;
use crate::models::image::{Body, Encoded, ImageEncoder, batch};
use crate::negatives::Queue;
use crate::progress::Progress;
use crate::{Error, Result, check, seed};
use burn::module::Module;
use burn::nn::Linear;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The recipe. Weights, order of the images and views depend on the seed and not on the loss, so that two losses can be compared
/// pair by pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfSupervised {
    /// What the encoder is made of.
    pub body: Body,
    /// Width of the projections, which the loss sees.
    pub projections: usize,
    /// Whether the head ends in a batch norm ([`ImageEncoder::centred`]).
    pub centred: bool,
    /// How each view is made; there are as many views as entries.
    pub views: Vec<Augment>,
    /// Images in a step; those that are left over at the end of an epoch are left out of it.
    pub batch: usize,
    /// How often each image is seen.
    pub epochs: usize,
    /// Adam's learning rate in the first step; it falls to 0 along a cosine.
    pub learning_rate: f64,
    /// A momentum encoder, if there is one.
    pub keys: Option<KeyEncoder>,
    /// Of weights, order, views and queue.
    pub seed: u64,
}

/// A momentum encoder and its queue (baselines-contrastive, 3).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEncoder {
    /// How much of itself the key encoder keeps in each step; 0.999 is usual in long trainings, 0.99 in short ones.
    pub momentum: f64,
    /// How many older keys the queue holds; 0 is no queue.
    pub queue: usize,
    /// Whether both encoders see every view. Otherwise the first view goes to the encoder and the others to the key encoder, as
    /// in MoCo.
    pub every_view: bool,
}

/// What the loss of one step is made from.
pub struct ViewBatch<'a> {
    /// Which images these are.
    pub rows: &'a [u32],
    /// Their classes, for losses that use them.
    pub labels: Vec<i64>,
    /// Features and projections of the views, view after view: `[views · n, width]`. All views went through the encoder
    /// together, so that batch norm saw them together.
    pub encoded: Encoded,
    /// The key encoder's projections (or what [`SelfSupervised::fit_with_keys`] makes of it), view after view, without a graph.
    pub keys: Option<Tensor<2>>,
    /// Older keys `[queue, projections]`; those of this step come in after its loss.
    pub queue: Option<Tensor<2>>,
    /// The step, from 0.
    pub step: usize,
    /// How many steps there are in all.
    pub steps: usize,
}

impl ViewBatch<'_> {
    /// Projections of each view, `[n, projections]`.
    ///
    /// # Errors
    /// When the encoder did not see `V` views.
    pub fn projections<const V: usize>(&self) -> Result<[Tensor<2>; V]> {
        self.split("projections", self.encoded.projections.clone())
    }

    /// Features of each view, `[n, features]`.
    ///
    /// # Errors
    /// When the encoder did not see `V` views.
    pub fn features<const V: usize>(&self) -> Result<[Tensor<2>; V]> {
        self.split("features", self.encoded.features.clone())
    }

    /// Keys of each view, `[n, projections]` (or as wide as they are made).
    ///
    /// # Errors
    /// When there is no key encoder, or it did not see `V` views.
    pub fn keys<const V: usize>(&self) -> Result<[Tensor<2>; V]> {
        let keys = self.keys.clone().ok_or_else(|| Error::invalid("keys asked for, but the recipe has no key encoder"))?;
        self.split("keys", keys)
    }

    fn split<const V: usize>(&self, name: &str, x: Tensor<2>) -> Result<[Tensor<2>; V]> {
        let wrong = |parts: Vec<_>| Error::invalid(format!("{name} of {V} views asked for, there are {}", parts.len()));
        x.split(self.rows.len(), 0).try_into().map_err(wrong)
    }
}

impl SelfSupervised {
    /// How many steps a training on `images` images takes.
    pub fn steps(&self, images: usize) -> usize {
        self.epochs * (images / self.batch.max(1))
    }

    /// An encoder trained on `images` with `loss`. `device` is one with autodiff; `progress` is told of each step.
    ///
    /// # Errors
    /// On settings outside their range, fewer images than a batch, and what `loss` returns.
    pub fn fit(
        &self,
        images: &Images,
        device: &Device,
        progress: &Progress,
        mut loss: impl FnMut(&ViewBatch) -> Result<Tensor<1>> + Send,
    ) -> Result<ImageEncoder> {
        let none = Vec::<Linear>::new();
        Ok(self.fit_with(images, none, device, progress, |_, batch| loss(batch))?.0)
    }

    /// [`SelfSupervised::fit`] with a module of the loss's own (heads, class weights, a network of temperatures), which is
    /// trained along and returned beside the encoder.
    ///
    /// # Errors
    /// As [`SelfSupervised::fit`].
    pub fn fit_with<H: Module>(
        &self,
        images: &Images,
        own: H,
        device: &Device,
        progress: &Progress,
        loss: impl FnMut(&H, &ViewBatch) -> Result<Tensor<1>> + Send,
    ) -> Result<(ImageEncoder, H)> {
        self.fit_with_keys(images, own, |_, encoded| encoded.projections, device, progress, loss)
    }

    /// [`SelfSupervised::fit_with`] for a loss whose own module makes the keys: `keys` makes their rows, of any one width, from what
    /// the momentum encoder returns, and is given a momentum copy of that module.
    ///
    /// # Errors
    /// As [`SelfSupervised::fit`].
    pub fn fit_with_keys<H: Module>(
        &self,
        images: &Images,
        own: H,
        keys: impl Fn(&H, Encoded) -> Tensor<2> + Send,
        device: &Device,
        progress: &Progress,
        mut loss: impl FnMut(&H, &ViewBatch) -> Result<Tensor<1>> + Send,
    ) -> Result<(ImageEncoder, H)> {
        self.check(images)?;
        // On a thread of the pool: from any other, each of the many small operations would put that thread to sleep and wake
        // another. On one thread from beginning to end, because running statistics are kept by thread.
        rayon::scope(|_| self.run(images, own, keys, device, progress, &mut loss))
    }

    fn run<H: Module>(
        &self,
        images: &Images,
        own: H,
        make_keys: impl Fn(&H, Encoded) -> Tensor<2>,
        device: &Device,
        progress: &Progress,
        loss: &mut impl FnMut(&H, &ViewBatch) -> Result<Tensor<1>>,
    ) -> Result<(ImageEncoder, H)> {
        let encoder = ImageEncoder::new(self.body, images.shape(), self.projections, self.seed, device)?;
        let encoder = if self.centred { encoder.centred() } else { encoder };
        let mut model = (encoder, own);
        let mut keys = self.keys.map(|k| Keys::new(&model, k)).transpose()?;
        let mut adam = AdamConfig::new().with_epsilon(1e-8).init();
        let steps = self.steps(images.len());
        let mut step = 0;
        let mut order: Vec<u32> = (0..images.len() as u32).collect();
        for epoch in 0..self.epochs {
            seed::shuffle(&mut order, &mut seed::rng(self.seed, 2 + epoch as u64));
            for rows in order.chunks_exact(self.batch) {
                let views = self.make_views(images, rows, step, device)?;
                let (seen, key_views) = match &keys {
                    None => (views, Vec::new()),
                    Some(keys) if keys.settings.every_view => (views.clone(), views),
                    Some(_) => (views[..1].to_vec(), views[1..].to_vec()),
                };
                let keys_now = keys.as_ref().map(|keys| {
                    let (encoder, own) = keys.copy.get();
                    make_keys(own, encoder.forward(Tensor::cat(key_views, 0))).detach()
                });
                if let (Some(keys), Some(now)) = (&mut keys, &keys_now) {
                    keys.make_queue(now.dims()[1], self.seed, device)?;
                }
                let batch = ViewBatch {
                    rows,
                    labels: rows.iter().map(|&i| images.labels()[i as usize].into()).collect(),
                    encoded: model.0.forward(Tensor::cat(seen, 0)),
                    keys: keys_now.clone(),
                    queue: keys.as_ref().and_then(|keys| Some(keys.queue.as_ref()?.rows())),
                    step,
                    steps,
                };
                let value = loss(&model.1, &batch)?;
                drop(batch);
                let gradients = GradientsParams::from_grads(value.backward(), &model);
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
                model = adam.step(self.learning_rate * cosine, model, gradients);
                if let (Some(keys), Some(now)) = (&mut keys, keys_now) {
                    keys.copy.follow(&model)?;
                    if let Some(queue) = &mut keys.queue {
                        queue.push(now)?;
                    }
                }
                step += 1;
                progress.inc(1);
            }
        }
        Ok(model)
    }

    /// A random view of each image for each entry of [`SelfSupervised::views`].
    fn make_views(&self, images: &Images, rows: &[u32], step: usize, device: &Device) -> Result<Vec<Tensor<4>>> {
        let stream = |view: usize| (step * self.views.len() + view) as u64;
        let view = |(v, augment): (usize, &Augment)| {
            Ok(batch(augment.views(images, rows, self.seed, stream(v))?, rows.len(), images.shape(), device))
        };
        self.views.iter().enumerate().map(view).collect()
    }

    fn check(&self, images: &Images) -> Result<()> {
        check::positive("learning_rate", self.learning_rate)?;
        if self.batch == 0 || self.epochs == 0 || self.views.is_empty() {
            let (b, e, v) = (self.batch, self.epochs, self.views.len());
            return Err(Error::invalid(format!("a batch of {b}, {e} epochs and {v} views: each must be at least 1")));
        }
        if images.len() < self.batch {
            return Err(Error::invalid(format!("{} images do not fill a batch of {}", images.len(), self.batch)));
        }
        if let Some(keys) = self.keys {
            let key_views = if keys.every_view { self.views.len() } else { self.views.len() - 1 };
            if key_views == 0 {
                return Err(Error::invalid("one view leaves none for the key encoder; give it two, or let both see every view"));
            }
            if keys.queue > 0 && keys.queue < key_views * self.batch {
                let keys_now = key_views * self.batch;
                return Err(Error::invalid(format!("a queue of {} does not hold the {keys_now} keys of one step", keys.queue)));
            }
        }
        Ok(())
    }
}

/// The key encoder at work, with what of the loss's own makes keys.
struct Keys<H> {
    copy: MomentumCopy<(ImageEncoder, H)>,
    queue: Option<Queue>,
    settings: KeyEncoder,
}

impl<H: Module> Keys<H> {
    fn new(model: &(ImageEncoder, H), settings: KeyEncoder) -> Result<Self> {
        Ok(Self { copy: MomentumCopy::new(model, settings.momentum)?, queue: None, settings })
    }

    /// The queue is made with the first keys, which say how wide its rows are.
    fn make_queue(&mut self, width: usize, seed: u64, device: &Device) -> Result<()> {
        if self.queue.is_none() && self.settings.queue > 0 {
            self.queue = Some(Queue::new(self.settings.queue, width, seed, device)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::{MocoInfoNce, NtXent};
    use crate::metrics::{KnnSettings, knn_predict};
    use rand::RngExt;

    /// Class 0 is bright above, class 1 below; half of what there is is noise.
    fn images(n: usize) -> Images {
        let mut rng = seed::rng(5, 0);
        let mut pixels = Vec::new();
        for i in 0..n {
            for y in 0..8 {
                pixels.extend((0..8).map(|_| rng.random_range(0..=160u8) + if (y < 4) == (i % 2 == 0) { 90 } else { 0 }));
            }
        }
        Images::new([1, 8, 8], pixels, (0..n).map(|i| (i % 2) as u8).collect()).unwrap()
    }

    fn recipe() -> SelfSupervised {
        let view = Augment { shift: 1, flip: 0.5, noise: 0.1, ..Augment::default() };
        SelfSupervised {
            body: Body::Conv,
            projections: 16,
            centred: false,
            views: vec![view; 2],
            batch: 16,
            epochs: 8,
            learning_rate: 3e-3,
            keys: None,
            seed: 3,
        }
    }

    fn nearest(encoder: &ImageEncoder, images: &Images) -> f64 {
        let (features, width) = encoder.embed(images, |rows| images.batch(rows)).unwrap();
        let labels: Vec<i64> = images.labels().iter().map(|&l| l.into()).collect();
        let (bank, test) = features.split_at(features.len() / 2);
        let half = images.len() / 2;
        let found = knn_predict(test, bank, width, &labels[..half], &KnnSettings { k: 5, temperature: 0.1, num_classes: 2 }).unwrap();
        found.predictions.iter().zip(&labels[half..]).filter(|(p, l)| **p as i64 == **l).count() as f64 / half as f64
    }

    #[test]
    fn both_ways_learn_and_the_same_seed_gives_the_same_bits() {
        let (device, images) = (Device::flex().autodiff(), images(96));
        let nt_xent = NtXent::new(0.5).unwrap();
        let simclr = |recipe: &SelfSupervised| {
            let mut losses = Vec::new();
            let encoder = recipe
                .fit(&images, &device, &Progress::new(0, ""), |batch| {
                    let [z1, z2] = batch.projections()?;
                    let loss = nt_xent.forward(z1, z2)?;
                    losses.push(loss.clone().into_scalar::<f32>());
                    Ok(loss)
                })
                .unwrap();
            assert_eq!(losses.len(), recipe.steps(images.len()));
            (nearest(&encoder, &images), losses)
        };
        let (accuracy, losses) = simclr(&recipe());
        assert!(accuracy > 0.9, "{accuracy}");
        assert!(losses[losses.len() - 1] < losses[0]);
        assert_eq!(simclr(&recipe()).1, losses);
        assert_ne!(simclr(&SelfSupervised { seed: 4, ..recipe() }).1, losses);

        let moco = MocoInfoNce::new(0.2).unwrap();
        let keys = Some(KeyEncoder { momentum: 0.9, queue: 40, every_view: false });
        let mut queues = Vec::new();
        let encoder = SelfSupervised { keys, ..recipe() }
            .fit(&images, &device, &Progress::new(0, ""), |batch| {
                let ([query], [key]) = (batch.projections()?, batch.keys()?);
                assert!(batch.projections::<2>().is_err() && !key.is_require_grad());
                let queue = batch.queue.clone().expect("the recipe has one");
                queues.push((key.clone().into_data(), queue.clone().narrow(0, 0, 16).into_data()));
                Ok(moco.forward(query, key, queue)?.loss)
            })
            .unwrap();
        // Keys come into the queue after their own loss.
        assert_ne!(queues[0].0, queues[0].1);
        assert_eq!(queues[0].0, queues[1].1);
        assert!(nearest(&encoder, &images) > 0.9);
    }

    #[test]
    fn a_module_of_the_loss_is_trained_along() {
        use burn::nn::LinearConfig;
        let (device, images) = (Device::flex().autodiff(), images(32));
        let head = LinearConfig::new(128, 2).init(&device);
        let before = head.weight.val().into_data();
        let recipe = SelfSupervised { views: recipe().views[..1].to_vec(), ..recipe() };
        let mut losses = Vec::new();
        let (_, head) = recipe
            .fit_with(&images, head, &device, &Progress::new(0, ""), |head, batch| {
                let classes: Vec<u32> = batch.labels.iter().map(|&l| l as u32).collect();
                let loss = crate::nn::cross_entropy(head.forward(batch.encoded.features.clone()), &classes)?;
                losses.push(loss.clone().into_scalar::<f32>());
                Ok(loss)
            })
            .unwrap();
        assert_ne!(head.weight.val().into_data(), before);
        assert!(losses[losses.len() - 1] < 0.7 * losses[0], "{losses:?}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let images = images(8);
        let error = |recipe: SelfSupervised| {
            let none = |_: &ViewBatch| Err(Error::invalid("not reached"));
            recipe.fit(&images, &Device::flex().autodiff(), &Progress::new(0, ""), none).unwrap_err().to_string()
        };
        assert!(error(recipe()).contains("8 images do not fill a batch of 16"));
        assert!(error(SelfSupervised { batch: 0, ..recipe() }).contains("a batch of 0"));
        assert!(error(SelfSupervised { learning_rate: f64::NAN, ..recipe() }).contains("learning_rate"));
        let keys = |momentum, queue| Some(KeyEncoder { momentum, queue, every_view: false });
        let small = SelfSupervised { batch: 4, ..recipe() };
        assert!(error(SelfSupervised { keys: keys(0.9, 3), ..small.clone() }).contains("a queue of 3"));
        assert!(error(SelfSupervised { keys: keys(1.5, 0), ..small.clone() }).contains("momentum = 1.5"));
        let one = small.views[..1].to_vec();
        assert!(error(SelfSupervised { keys: keys(0.9, 0), views: one, ..small }).contains("one view"));
    }
}
