//! Decoupled contrastive learning (dcl).
//!
//! InfoNCE multiplies the gradient of every anchor by a coupling q, one minus the probability of its positive. With few
//! negatives q is small as soon as the positive is easy, and attraction and repulsion vanish together. DCL takes the positive
//! out of the denominator, which sets q to 1. So its gain should be largest at the smallest batch.

use crate::images::{ImageData, Rows, STRONG_VIEWS, knn_accuracy, search};
use crate::study::{Baseline, Better, Claim, Context, Outcome, Study};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use foils::Result;
use foils::data::images::Images;
use foils::diagnostics::npc_multiplier;
use foils::losses::{Dcl, InfoNce, NtXent, RankingLoss, Targets};
use foils::models::image::{Body, ImageEncoder, batch};
use foils::train::SelfSupervised;

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

const LOSSES: [&str; 2] = ["NT-Xent", "DCL"];

fn run(context: &Context, seed: u64) -> Result<Outcome> {
    let data = context.once("data", || ImageData::fashion_mnist(context))?;
    let rates = context.once("learning rates", || search_rates(context, &data))?;
    let mut outcome = Outcome::default();
    outcome.measure("accuracy of raw pixels", Rows::pixels(&data.train)?.knn_accuracy(&Rows::pixels(&data.test)?)?);
    let untrained = ImageEncoder::new(Body::Conv, data.train.shape(), 64, seed, &Device::flex())?;
    outcome.measure("accuracy, untrained", knn_accuracy(&untrained, &data.train, &data.test)?);

    let (mut late_q, mut largest_error) = (Vec::new(), 0.0f64);
    for (batch, best) in BATCHES.into_iter().zip(rates.iter()) {
        let recipe = |rate| recipe(batch, rate, context.pick(3, 6), seed);
        let coupled = train(context, &data.train, LOSSES[0], &recipe(best[0]))?;
        let decoupled = train(context, &data.train, LOSSES[1], &recipe(best[1]))?;
        let of = |encoder| knn_accuracy(encoder, &data.train, &data.test);
        let (with_nt_xent, with_dcl) = (of(&coupled.encoder)?, of(&decoupled.encoder)?);
        outcome.measure(format!("accuracy of NT-Xent, batch {batch}"), with_nt_xent);
        outcome.measure(format!("accuracy of DCL, batch {batch}"), with_dcl);
        outcome.measure(format!("gain of DCL, batch {batch}"), with_dcl - with_nt_xent);
        outcome.measure(format!("q late in training, batch {batch}"), coupled.late_q);
        late_q.push(coupled.late_q);
        largest_error = largest_error.max(coupling_error(&coupled.encoder, &data.test, seed)?);
    }

    let identity = "for each anchor, gradient of InfoNCE = q × gradient of DCL, to 1e-10 in f64";
    outcome.check(identity, largest_error < 1e-10, format!("{largest_error:.1e}"));
    let found = late_q.iter().map(|q| format!("{q:.3}")).collect::<Vec<_>>().join(" < ");
    outcome.check("q late in training rises with the batch", late_q.is_sorted_by(|a, b| a < b), found);
    outcome.check("q late in training is below 0.5 at batch 8", late_q[0] < 0.5, format!("{:.3}", late_q[0]));
    Ok(outcome)
}

fn recipe(batch: usize, learning_rate: f64, epochs: usize, seed: u64) -> SelfSupervised {
    let views = vec![STRONG_VIEWS; 2];
    SelfSupervised { body: Body::Conv, projections: 64, centred: false, views, batch, epochs, learning_rate, keys: None, seed }
}

/// For each batch size the best learning rates of [`LOSSES`], with seed 0 and one epoch, judged on validation images.
fn search_rates(context: &Context, data: &ImageData) -> Result<Vec<Vec<f64>>> {
    let of_batch = |batch| {
        search(context, format!("learning rates, batch {batch}"), &LOSSES, &RATES, |loss, rate| {
            let trained = train(context, &data.train, loss, &recipe(batch, rate, 1, 0))?;
            knn_accuracy(&trained.encoder, &data.train, &data.validation)
        })
    };
    BATCHES.into_iter().map(of_batch).collect()
}

struct Trained {
    encoder: ImageEncoder,
    /// Mean q over the last tenth of the steps.
    late_q: f64,
}

fn train(context: &Context, images: &Images, loss: &str, recipe: &SelfSupervised) -> Result<Trained> {
    let (nt_xent, dcl) = (NtXent::new(TEMPERATURE)?, Dcl::new(TEMPERATURE)?);
    let SelfSupervised { batch, learning_rate, seed, .. } = recipe;
    let doing = format!("dcl, seed {seed}: {loss}, batch {batch}, learning rate {learning_rate}");
    let progress = context.progress(recipe.steps(images.len()), doing);
    let mut late = Vec::new();
    let encoder = recipe.fit(images, &context.device()?, &progress, |batch| {
        let [z1, z2] = batch.projections()?;
        if batch.steps - batch.step <= batch.steps.div_ceil(10) {
            late.push(npc_multiplier(&z1, &z2, TEMPERATURE, true)?.mean());
        }
        if loss == LOSSES[0] { nt_xent.forward(z1, z2) } else { Ok(dcl.forward(z1, z2)?.mul_scalar(0.5)) }
    })?;
    Ok(Trained { encoder, late_q: late.iter().sum::<f64>() / late.len() as f64 })
}

/// The largest |∂InfoNCE/∂z − q ∂DCL/∂z| over two views of 32 images, all anchors and all embeddings z (anchor, positive,
/// negatives), in f64.
fn coupling_error(encoder: &ImageEncoder, images: &Images, seed: u64) -> Result<f64> {
    let encoder = encoder.valid();
    let (n, device) = (32, Device::flex().autodiff());
    let rows: Vec<u32> = (0..n as u32).collect();
    let view = |which| {
        let pixels = STRONG_VIEWS.views(images, &rows, seed, which)?;
        Ok(encoder.forward(batch(pixels, n, images.shape(), &encoder.devices()[0])).projections)
    };
    let values = Tensor::cat(vec![view(0)?, view(1)?], 0).into_data().convert::<f64>();
    let dim = values.shape()[1];
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
