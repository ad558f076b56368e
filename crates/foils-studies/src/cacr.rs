//! Contrastive attraction and contrastive repulsion (cacr).
//!
//! InfoNCE weighs a negative by its share of one softmax that holds the positive too. CACR contrasts within the groups: of several
//! positives the farthest are pulled hardest, of the negatives the nearest are pushed hardest, and the two costs are squared distances.
//! Without the weights the repulsion has nothing to do but to raise the mean distance.

use crate::images::{ImageData, Rows, STRONG_VIEWS, knn_accuracy, search};
use crate::plot::{Plot, Series};
use crate::study::{Baseline, Better, Claim, Context, Outcome, Study};
use burn::tensor::{DType, Device, Tensor, TensorData};
use foils::data::images::Images;
use foils::data::registry::fashion_mnist;
use foils::diagnostics::uniformity;
use foils::losses::{Cacr, NtXent};
use foils::models::image::{Body, ImageEncoder};
use foils::train::{KeyEncoder, SelfSupervised, ViewBatch};
use foils::{Error, Result};
use serde::Serialize;

/// The study.
pub const STUDY: Study = Study {
    slug: "cacr",
    says: "Attracting the farther of several positives more and repelling the nearer negatives more, each contrasted within its own group, \
           learns better than InfoNCE and suffers less where classes are not balanced.",
    checks: "Whether CACR with four views is better than the same costs without both weightings, on balanced and on long-tailed images, and \
             whether it loses less from one to the other than NT-Xent with two views and with four (the mean over all pairs of views). \
             Setting and learning rate are searched with 12 tries for each method on validation images; training is as many steps on \
             either data. And that the weights of negatives are less even than uniform ones, the less the larger τ₋.",
    data: "Fashion-MNIST at half its size (14 × 14): 10,000 images, nearly balanced, and of these a long tail of about 2,800 (class i keeps \
           the share 0.02^(i/9)); a small convolutional encoder with a centred head, batches of 128; accuracy of all 10,000 test images by \
           their 20 nearest neighbours (cosine) among the 10,000, whatever was trained on.",
    claims: &[
        Claim {
            says: "balanced: CACR is better than without weights",
            metric: "accuracy of CACR, balanced",
            baseline: Baseline::Metric("accuracy of no weights, balanced"),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "long-tailed: CACR is better than without weights",
            metric: "accuracy of CACR, long-tailed",
            baseline: Baseline::Metric("accuracy of no weights, long-tailed"),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "CACR loses less by the long tail than NT-Xent with as many views",
            metric: "drop by the long tail, CACR",
            baseline: Baseline::Metric("drop by the long tail, NT-Xent, 4 views"),
            margin: 0.0,
            better: Better::Lower,
        },
        Claim {
            says: "CACR loses less by the long tail than NT-Xent with two views",
            metric: "drop by the long tail, CACR",
            baseline: Baseline::Metric("drop by the long tail, NT-Xent, 2 views"),
            margin: 0.0,
            better: Better::Lower,
        },
    ],
    run,
};

const METHODS: [&str; 5] = ["CACR", "no weights", "NT-Xent, 4 views", "NT-Xent, 2 views", QUEUE];
/// With the settings of CACR, on balanced images only.
const QUEUE: &str = "CACR with a queue";
const RATES: [f64; 4] = [3e-4, 1e-3, 3e-3, 1e-2];
/// τ₋ of CACR (the paper has 0.9 and 2), β without weights, temperature of NT-Xent.
const TAU_NEG: [f64; 3] = [1.0, 2.0, 4.0];
const BETA: [f64; 3] = [0.5, 1.0, 2.0];
const TEMPERATURES: [f64; 3] = [0.05, 0.1, 0.2];
const VIEWS: usize = 4;
const BATCH: usize = 128;
/// The last class's share of the first in the long tail.
const TAIL: f64 = 0.02;

#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    /// Which of [`TAU_NEG`], [`BETA`] or [`TEMPERATURES`].
    which: usize,
    rate: f64,
}

fn run(context: &Context, seed: u64) -> Result<Outcome> {
    let data = context.once("data", || {
        let data = ImageData::fashion_mnist(context)?;
        // All test images: what is compared are small differences.
        ImageData { test: context.pick(fashion_mnist()?.test, data.test), ..data }.halved()
    })?;
    let mut settings = context.once("settings", || search_settings(context, &data))?.to_vec();
    settings.push(settings[0]);
    let mut outcome = Outcome::default();
    outcome.measure("accuracy of raw pixels", Rows::pixels(&data.train)?.knn_accuracy(&Rows::pixels(&data.test)?)?);
    let untrained = ImageEncoder::new(Body::Conv, data.train.shape(), 64, seed, &Device::flex())?;
    outcome.measure("accuracy, untrained", knn_accuracy(&untrained, &data.train, &data.test)?);

    let first = data.train.labels().iter().filter(|label| **label == 0).count();
    let tail = data.train.long_tailed_sample(first, TAIL, seed)?;
    let mut series = Vec::new();
    for (method, setting) in METHODS.into_iter().zip(settings) {
        let mut accuracies = Vec::new();
        let on = [("balanced", &data.train), ("long-tailed", &tail)];
        for &(name, images) in if method == QUEUE { &on[..1] } else { &on } {
            // As many steps on either.
            let epochs = context.pick(3, 1) * (data.train.len() / BATCH) / (images.len() / BATCH);
            let encoder = train(context, images, method, setting, epochs, seed)?;
            let accuracy = knn_accuracy(&encoder, &data.train, &data.test)?;
            outcome.measure(format!("accuracy of {method}, {name}"), accuracy);
            let rows = Rows::projections(&encoder, &data.test)?;
            let spread = uniformity(&rows.values, rows.width, 2.0, true)?;
            outcome.measure(format!("uniformity of projections, {method}, {name}"), spread);
            if spread > -0.2 {
                let why = format!("the projections collapsed: their uniformity is {spread:.3}");
                outcome.doubt(format!("accuracy of {method}, {name}"), why.clone());
                outcome.doubt(format!("drop by the long tail, {method}"), why);
            }
            accuracies.push(accuracy);
            if name == "balanced" && METHODS[..2].contains(&method) {
                let title = format!("Unit projections of test images, {method}, balanced");
                outcome.plot(rows.unit().scatter(title, "Without weights there is no force to part what is near.")?);
            }
            if name == "balanced" && method == METHODS[0] {
                look_at_weights(&encoder, &data.test, seed, &mut outcome)?;
            }
            if name == "long-tailed" {
                outcome.measure(format!("accuracy of {method}, long-tailed labels too"), knn_accuracy(&encoder, &tail, &data.test)?);
            }
        }
        if let [balanced, long_tailed] = accuracies[..] {
            outcome.measure(format!("drop by the long tail, {method}"), balanced - long_tailed);
            series.push(Series::new(method, [(TAIL, long_tailed), (1.0, balanced)]));
        }
    }
    let look = "Lines that rise less to the right lose less by the long tail.";
    let axes = ["images of the last class to one of the first", "accuracy of 20 nearest neighbours"];
    outcome.plot(Plot::lines("Accuracy on a long tail and on balanced images", look, axes, series).logarithmic());
    Ok(outcome)
}

/// The best of 12 settings for each method that is searched, on balanced data, with seed 0 and one epoch.
fn search_settings(context: &Context, data: &ImageData) -> Result<Vec<Setting>> {
    let grid: Vec<Setting> = (0..3).flat_map(|which| RATES.map(|rate| Setting { which, rate })).collect();
    context.note("which, of the settings below", serde_json::json!({ "τ₋": TAU_NEG, "β": BETA, "temperature": TEMPERATURES }))?;
    search(context, "settings", &METHODS[..4], &grid, |method, setting| {
        knn_accuracy(&train(context, &data.train, method, setting, 1, 0)?, &data.train, &data.validation)
    })
}

fn train(context: &Context, images: &Images, method: &str, setting: Setting, epochs: usize, seed: u64) -> Result<ImageEncoder> {
    let Setting { which, rate } = setting;
    let views = if method == "NT-Xent, 2 views" { 2 } else { VIEWS };
    let keys = (method == QUEUE).then_some(KeyEncoder { momentum: 0.99, queue: 1024, every_view: true });
    let recipe = SelfSupervised {
        body: Body::Conv,
        projections: 64,
        centred: true,
        views: vec![STRONG_VIEWS; views],
        batch: BATCH,
        epochs,
        learning_rate: rate,
        keys,
        seed,
    };
    let progress =
        context.progress(recipe.steps(images.len()), format!("cacr, seed {seed}: {method}, setting {which}, learning rate {rate}"));
    recipe.fit(images, &context.device()?, &progress, |batch| {
        let stack = |rows: &Tensor<2>| rows.clone().reshape([views, BATCH, rows.dims()[1]]);
        let projections = stack(&batch.encoded.projections);
        let cacr = Cacr::new(1.0, TAU_NEG[which])?;
        Ok(match method {
            "CACR" => cacr.forward(projections)?.loss,
            "no weights" => without_weights(BETA[which])?.forward(projections)?.loss,
            QUEUE => match (&batch.keys, &batch.queue) {
                (Some(keys), Some(queue)) => cacr.forward_queue(projections, stack(keys), queue.clone(), true)?.loss,
                _ => return Err(Error::invalid("CACR with a queue needs keys and a queue")),
            },
            _ => nt_xent(batch, TEMPERATURES[which])?,
        })
    })
}

/// The paper's ablation: both weightings off.
fn without_weights(beta: f64) -> Result<Cacr> {
    Cacr::new(0.0, 0.0)?.factors(1.0, beta)?.positive_weighting(false).negative_weighting(false)
}

/// The mean of NT-Xent over all pairs of views.
fn nt_xent(batch: &ViewBatch, temperature: f64) -> Result<Tensor<1>> {
    let loss = NtXent::new(temperature)?;
    let views = batch.encoded.projections.clone().split(BATCH, 0);
    let pairs = (0..views.len()).flat_map(|x| (x + 1..views.len()).map(move |y| (x, y)));
    let losses = pairs.map(|(x, y)| loss.forward(views[x].clone(), views[y].clone())).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(losses, 0).mean())
}

/// The weights of negatives, of two views of test images, and what the loss is without weights.
fn look_at_weights(encoder: &ImageEncoder, test: &Images, seed: u64, outcome: &mut Outcome) -> Result<()> {
    let n = test.len().min(256);
    let shown = test.select(&(0..n as u32).collect::<Vec<_>>())?;
    let mut values = Vec::new();
    let mut width = 0;
    for view in 0..2 {
        let (view, of) = encoder.project(&shown, |rows| STRONG_VIEWS.views(&shown, rows, seed, view))?;
        values.extend(view);
        width = of;
    }
    let rows = Rows { values, width, labels: Vec::new() }.unit().values;
    let data = TensorData::new(rows.clone(), [2, n, width]).convert::<f64>();
    let views = Tensor::<3>::from_data(data, (&Device::flex(), DType::F64));

    let even = ((n - 1) as f64).ln();
    let (mut entropies, mut series) = (Vec::<Vec<f64>>::new(), Vec::new());
    for tau in [0.5, 1.0, 2.0, 4.0, 8.0] {
        let weights = Cacr::new(1.0, tau)?.weights(&views)?.negative;
        let entropy = |row: &[f64]| -row.iter().map(|w| if *w > 0.0 { w * w.ln() } else { 0.0 }).sum::<f64>();
        entropies.push(weights.chunks(n - 1).map(entropy).collect());
        outcome.measure(format!("entropy of the weights of negatives, τ₋ = {tau}"), mean(&entropies[entropies.len() - 1]));
        series.push(Series::new(format!("τ₋ = {tau}"), by_distance(&weights, &rows, n, width)));
    }
    let uneven = entropies[0].iter().filter(|e| **e < even).count();
    outcome.check(
        "the weights of negatives have less entropy than uniform ones, for each image",
        uneven == n,
        format!("for {uneven} of {n}"),
    );
    let falls = (0..n).filter(|&i| entropies.is_sorted_by(|a, b| a[i] > b[i])).count();
    outcome.check("the entropy falls with τ₋ for each image", falls == n, format!("for {falls} of {n}"));
    let [flat, off] = [Cacr::new(0.0, 0.0)?, without_weights(1.0)?].map(|loss| Ok(loss.forward(views.clone())?.loss.into_scalar::<f64>()));
    let (flat, off) = (flat?, off?);
    outcome.check("τ₊ = τ₋ = 0 is the loss without weights, to 1e-12", (flat - off).abs() < 1e-12, format!("{flat:.6}, {off:.6}"));
    outcome.plot(Plot::lines(
        "Weights of negatives by distance",
        "1 is a negative that weighs as much as the average one; the nearer, the more it weighs.",
        ["squared distance", "weight × number of negatives"],
        series,
    ));
    Ok(())
}

/// The mean weight times the number of negatives in each tenth of squared distances, from 0 to 4; `rows` are two views, `[2 · n, width]`.
fn by_distance(weights: &[f64], rows: &[f32], n: usize, width: usize) -> Vec<(f64, f64)> {
    let mut bins = vec![(0.0, 0.0); 20];
    for (i, row) in weights.chunks(n - 1).enumerate() {
        for (j, weight) in (0..n).filter(|&j| j != i).zip(row) {
            let other = &rows[(n + j) * width..][..width];
            let distance: f32 = rows[i * width..][..width].iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum();
            let (sum, count) = &mut bins[((distance * 5.0) as usize).min(19)];
            *sum += weight * (n - 1) as f64;
            *count += 1.0;
        }
    }
    // A bin of a few pairs says nothing.
    let filled = bins.into_iter().enumerate().filter(|(_, (_, count))| *count >= 10.0);
    filled.map(|(bin, (sum, count))| ((bin as f64 + 0.5) / 5.0, sum / count)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Budget;
    use foils::device::DeviceName;

    /// The whole recipe on little data.
    #[test]
    fn the_recipe_runs() {
        let report = STUDY.reproduce(1..2, Budget::Quick, DeviceName::Cpu).unwrap();
        let outcome = &report.runs[0].outcome;
        assert!(report.must_hold, "{:?}", outcome.checks);
        let of = |name: &str| report.summary.iter().find(|s| s.name == name).unwrap().mean;
        assert_eq!((outcome.checks.len(), outcome.plots.len(), outcome.unreliable.len()), (3, 4, 0));
        assert!(of(&format!("accuracy of {QUEUE}, balanced")) > 0.5);
        for method in &METHODS[..4] {
            let by_tail = of(&format!("accuracy of {method}, balanced")) - of(&format!("accuracy of {method}, long-tailed"));
            assert!((by_tail - of(&format!("drop by the long tail, {method}"))).abs() < 1e-12);
            assert!(of(&format!("accuracy of {method}, balanced")) > 0.5, "{method}");
            // Few labels of rare classes cost more than few images of them.
            let own = of(&format!("accuracy of {method}, long-tailed labels too"));
            assert!(own < of(&format!("accuracy of {method}, long-tailed")), "{method}");
        }
    }
}
