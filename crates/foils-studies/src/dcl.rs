//! Decoupled contrastive learning (dcl).
//!
//! InfoNCE multiplies the gradient of every anchor by a coupling q, one minus the probability of its positive. With few
//! negatives q is small as soon as the positive is easy, and attraction and repulsion vanish together. DCL takes the positive
//! out of the denominator, which sets q to 1. So its gain should be largest at the smallest batch.

use crate::study::{Baseline, Better, Claim, Context, Outcome, Study};
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{DType, Device, Tensor};
use foils::Result;
use foils::data::images::{Augment, Images};
use foils::data::registry;
use foils::diagnostics::npc_multiplier;
use foils::losses::{Dcl, InfoNce, NtXent, RankingLoss, Targets};
use foils::metrics::{KnnSettings, knn_predict};
use foils::models::image::{Body, ImageEncoder, batch};
use foils::seed;

/// The study.
pub const STUDY: Study = Study {
    slug: "dcl",
    says: "The factor q by which InfoNCE multiplies each anchor's gradient shrinks with the batch; without it (DCL) learning no longer \
           needs large batches. CIFAR-10, ResNet-18, batch 32: 78.3 with InfoNCE, 84.6 with DCL; batch 256: 83.3 and 85.4.",
    checks: "Whether q couples the gradients exactly and rises with the batch, and whether DCL gains more over NT-Xent at batch 8 than at \
             batch 256, both seeing the same views of the same images as often. Learning rates are searched for each loss and batch on \
             validation images.",
    data: "Fashion-MNIST: 10,000 training, 2,000 validation and 2,000 test images, balanced; a small convolutional encoder; accuracy of \
           the 20 nearest neighbours (cosine) among the training images.",
    claims: &[Claim {
        says: "DCL gains more where the batch is small",
        metric: "gain of DCL, batch 8",
        baseline: Baseline::Metric("gain of DCL, batch 256"),
        margin: 0.0,
        better: Better::Higher,
    }],
    run,
};

const BATCHES: [usize; 3] = [8, 32, 256];
const RATES: [f64; 5] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2];
const TEMPERATURE: f64 = 0.1;
const VIEWS: Augment = Augment { crop: (0.3, 1.0), shift: 0, flip: 0.5, blur: 0.0, gain: 0.4, brightness: 0.2, noise: 0.1, erase: 0.0 };

#[derive(Clone, Copy)]
enum Loss {
    NtXent,
    Dcl,
}

struct Data {
    train: Images,
    validation: Images,
    test: Images,
}

fn run(context: &Context, seed: u64) -> Result<Outcome> {
    let data = context.once("data", || load(context))?;
    let rates = context.once("learning rates", || search(context, &data))?;
    let mut outcome = Outcome::default();
    outcome.measure("accuracy of raw pixels", raw_pixels(&data)?);
    outcome.measure("accuracy, untrained", accuracy(&untrained(&data, seed)?, &data.train, &data.test)?);

    let (mut late_q, mut largest_error) = (Vec::new(), 0.0f64);
    for (batch, best) in BATCHES.into_iter().zip(rates.iter()) {
        let epochs = context.pick(3, 6);
        let coupled = train(context, &data.train, Loss::NtXent, batch, best[0], epochs, seed)?;
        let decoupled = train(context, &data.train, Loss::Dcl, batch, best[1], epochs, seed)?;
        let of = |encoder| accuracy(encoder, &data.train, &data.test);
        let (with_nt_xent, with_dcl) = (of(&coupled.encoder)?, of(&decoupled.encoder)?);
        outcome.measure(format!("accuracy of NT-Xent, batch {batch}"), with_nt_xent);
        outcome.measure(format!("accuracy of DCL, batch {batch}"), with_dcl);
        outcome.measure(format!("gain of DCL, batch {batch}"), with_dcl - with_nt_xent);
        outcome.measure(format!("q late in training, batch {batch}"), coupled.late_q);
        late_q.push(coupled.late_q);
        let [z1, z2] = views(&data.test, &(0..32).collect::<Vec<_>>(), seed, 0, &context.device()?)?
            .map(|x| coupled.encoder.valid().forward(x).projections);
        largest_error = largest_error.max(coupling_error(z1, z2)?);
    }

    let identity = "for each anchor, gradient of InfoNCE = q × gradient of DCL, to 1e-10 in f64";
    outcome.check(identity, largest_error < 1e-10, format!("{largest_error:.1e}"));
    let found = late_q.iter().map(|q| format!("{q:.3}")).collect::<Vec<_>>().join(" < ");
    outcome.check("q late in training rises with the batch", late_q.is_sorted_by(|a, b| a < b), found);
    outcome.check("q late in training is below 0.5 at batch 8", late_q[0] < 0.5, format!("{:.3}", late_q[0]));
    Ok(outcome)
}

/// Validation images are taken from the training part, so that the test part is seen once, at the end.
fn load(context: &Context) -> Result<Data> {
    let all = registry::fashion_mnist()?;
    let (n, held_out) = (context.pick(10_000, 2_000), context.pick(2_000, 500));
    let sample = all.train.balanced_sample(n + held_out, 0)?;
    let rows: Vec<u32> = (0..(n + held_out) as u32).collect();
    let (train, validation) = rows.split_at(n);
    Ok(Data { train: sample.select(train)?, validation: sample.select(validation)?, test: all.test.balanced_sample(held_out, 0)? })
}

/// For each batch size the best learning rates of NT-Xent and of DCL: as many tries for each, with seed 0 and one epoch,
/// judged on validation images.
fn search(context: &Context, data: &Data) -> Result<Vec<[f64; 2]>> {
    if context.pick(false, true) {
        return Ok(vec![[RATES[2]; 2]; BATCHES.len()]);
    }
    let mut chosen = Vec::new();
    for batch in BATCHES {
        let mut best = [(0.0, 0.0); 2];
        for (loss, best) in [Loss::NtXent, Loss::Dcl].into_iter().zip(&mut best) {
            for rate in RATES {
                let trained = train(context, &data.train, loss, batch, rate, 1, 0)?;
                let accuracy = accuracy(&trained.encoder, &data.train, &data.validation)?;
                if accuracy > best.0 {
                    *best = (accuracy, rate);
                }
            }
        }
        context.note(format!("learning rates, batch {batch}"), serde_json::json!({ "NT-Xent": best[0].1, "DCL": best[1].1 }))?;
        chosen.push(best.map(|(_, rate)| rate));
    }
    Ok(chosen)
}

struct Trained {
    encoder: ImageEncoder,
    /// Mean q over the last tenth of the steps.
    late_q: f64,
}

/// Adam with a learning rate that falls to 0 along a cosine. Weights, order of the images and views depend on the seed and not
/// on the loss, so that two losses are compared pair by pair.
fn train(context: &Context, images: &Images, loss: Loss, batch: usize, rate: f64, epochs: usize, seed: u64) -> Result<Trained> {
    let device = context.device()?;
    let mut encoder = ImageEncoder::new(Body::Conv, images.shape(), 64, seed, &device)?;
    let mut adam = AdamConfig::new().with_epsilon(1e-8).init();
    let (nt_xent, dcl) = (NtXent::new(TEMPERATURE)?, Dcl::new(TEMPERATURE)?);
    let steps = epochs * (images.len() / batch);
    let name = match loss {
        Loss::NtXent => "NT-Xent",
        Loss::Dcl => "DCL",
    };
    let progress = context.progress(steps, format!("dcl, seed {seed}: {name}, batch {batch}, learning rate {rate}"));
    let (mut late, mut step) = (Vec::new(), 0);
    let mut order: Vec<u32> = (0..images.len() as u32).collect();
    for epoch in 0..epochs {
        seed::shuffle(&mut order, &mut seed::rng(seed, 2 + epoch as u64));
        for rows in order.chunks_exact(batch) {
            // One pass over both views: batch norm sees them together.
            let both = encoder.forward(Tensor::cat(views(images, rows, seed, step as u64, &device)?.to_vec(), 0)).projections;
            let [z1, z2] = both.split(batch, 0).try_into().expect("two views of one batch");
            if steps - step <= steps.div_ceil(10) {
                late.push(npc_multiplier(&z1, &z2, TEMPERATURE, true)?.mean());
            }
            let value = match loss {
                Loss::NtXent => nt_xent.forward(z1, z2)?,
                Loss::Dcl => dcl.forward(z1, z2)?.mul_scalar(0.5),
            };
            let gradients = GradientsParams::from_grads(value.backward(), &encoder);
            let cosine = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            encoder = adam.step(rate * cosine, encoder, gradients);
            step += 1;
            progress.inc(1);
        }
    }
    Ok(Trained { encoder, late_q: late.iter().sum::<f64>() / late.len() as f64 })
}

/// Two random views of each image.
fn views(images: &Images, rows: &[u32], seed: u64, step: u64, device: &Device) -> Result<[Tensor<4>; 2]> {
    let view = |which| Ok(batch(VIEWS.views(images, rows, seed, 2 * step + which)?, rows.len(), images.shape(), device));
    Ok([view(0)?, view(1)?])
}

/// The largest |∂InfoNCE/∂z − q ∂DCL/∂z| over all anchors and all embeddings z (anchor, positive, negatives), in f64.
fn coupling_error(z1: Tensor<2>, z2: Tensor<2>) -> Result<f64> {
    let device = Device::flex().autodiff();
    let (n, dim) = (z1.dims()[0], z1.dims()[1]);
    let values = Tensor::cat(vec![z1.inner(), z2.inner()], 0).into_data().convert::<f64>();
    let rows = Tensor::<2>::from_data(values, (&device, DType::F64));
    let [z1, z2] = rows.clone().inner().split(n, 0).try_into().expect("two views of one batch");
    let q = npc_multiplier(&z1, &z2, TEMPERATURE, true)?;
    let (coupled, decoupled) = (InfoNce::new(TEMPERATURE)?, Dcl::new(TEMPERATURE)?);
    let mut largest = 0.0f64;
    for (i, q) in q.q1.into_iter().chain(q.q2).enumerate() {
        let targets = Targets::new(vec![((i + n) % (2 * n)) as u32], vec![vec![i as u32]]);
        let gradient = |loss: &dyn RankingLoss| -> Result<Vec<f64>> {
            let candidates = rows.clone().detach().require_grad();
            let anchor = rows.clone().detach().slice([i..i + 1, 0..dim]).require_grad();
            let gradients = loss.forward(anchor.clone(), candidates.clone(), &targets)?.backward();
            let of = |z: Tensor<2>| z.grad(&gradients).map_or_else(Vec::new, |g| g.into_data().iter::<f64>().collect());
            Ok([of(anchor), of(candidates)].concat())
        };
        let (with, without) = (gradient(&coupled)?, gradient(&decoupled)?);
        assert_eq!((with.len(), without.len()), ((2 * n + 1) * dim, (2 * n + 1) * dim), "every embedding has a gradient");
        largest = with.iter().zip(&without).fold(largest, |m, (a, b)| m.max((a - q * b).abs()));
    }
    Ok(largest)
}

fn untrained(data: &Data, seed: u64) -> Result<ImageEncoder> {
    ImageEncoder::new(Body::Conv, data.train.shape(), 64, seed, &Device::flex())
}

/// Share of `test` whose class the 20 nearest features of `bank` give.
fn accuracy(encoder: &ImageEncoder, bank: &Images, test: &Images) -> Result<f64> {
    let features = |images: &Images| encoder.embed(images, |rows| images.batch(rows));
    let ((bank_features, width), (test_features, _)) = (features(bank)?, features(test)?);
    nearest(bank_features, bank, test_features, test, width)
}

fn raw_pixels(data: &Data) -> Result<f64> {
    let pixels = |images: &Images| images.batch(&(0..images.len() as u32).collect::<Vec<_>>());
    nearest(pixels(&data.train)?, &data.train, pixels(&data.test)?, &data.test, data.train.shape().iter().product())
}

/// Share of `test` that the 20 nearest rows of the bank classify rightly.
fn nearest(bank_rows: Vec<f32>, bank: &Images, rows: Vec<f32>, test: &Images, width: usize) -> Result<f64> {
    let labels: Vec<i64> = bank.labels().iter().map(|&l| l.into()).collect();
    let settings = KnnSettings { k: 20, temperature: 0.1, num_classes: 10 };
    let found = knn_predict(&rows, &bank_rows, width, &labels, &settings)?;
    let right = found.predictions.iter().zip(test.labels()).filter(|(p, l)| **p == usize::from(**l)).count();
    Ok(right as f64 / test.len() as f64)
}
