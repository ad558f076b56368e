//! Every loss on the same encoder and data, of texts and of images: the tables of the book's page "Which loss?".
//!
//! ```sh
//! cargo run --release -p foils-studies --example which_loss            # both tables, about ten minutes
//! cargo run --release -p foils-studies --example which_loss -- texts   # one of them
//! ```
//!
//! Each loss has as many tries on validation data with seed 0, three values of the setting that matters most to it with two or three
//! learning rates each; what is best there is trained with seeds 1 to 3 and judged on test data.

use burn::tensor::Tensor;
use foils::data::images::Images;
use foils::data::registry;
use foils::device::DeviceName;
use foils::losses::amcl::{Amcl, AmclHeads, AmclSettings, NegativeMode, Temperature};
use foils::losses::groco::NtXentTopK;
use foils::losses::{LossSettings, MocoInfoNce, RankingLoss, SupCon, Targets, by_name};
use foils::metrics::sample_mean;
use foils::models::image::{Body, ImageEncoder};
use foils::progress::Progress;
use foils::train::tune::{Strategy, TuneData, TuneSettings, Tuner};
use foils::train::{KeyEncoder, RunFiles, SelfSupervised, TrainSettings, ViewBatch};
use foils::{Error, Result, seed};
use foils_studies::images::{ImageData, Rows, STRONG_VIEWS};
use foils_studies::study::{Budget, Context, Outcome};
use std::time::Instant;

/// Memory that is freed is kept, as in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let only = std::env::args().nth(1);
    if only.as_deref().is_none_or(|only| only == "texts") {
        texts()?;
    }
    if only.as_deref().is_none_or(|only| only == "images") {
        images()?;
    }
    Ok(())
}

/// Losses by name that need neither relevance nor classes; the first is what the others are compared with.
const BOTH: [&str; 12] = [
    "infonce",
    "nt-xent",
    "dcl",
    "dclw",
    "hard-contrastive",
    "simple-contrastive",
    "hard-simple-contrastive",
    "cacr",
    "triplet",
    "groco",
    "alignment-uniformity",
    "barlow-twins",
];

/// One try of a loss.
#[derive(Clone, Copy)]
struct Setting {
    own: f64,
    learning_rate: f64,
}

/// The setting that matters most to a loss, and its values worth trying: on texts, on images.
fn own(loss: &str) -> (&'static str, [[f64; 3]; 2]) {
    match loss {
        "simple-contrastive" => ("lambda_neg", [[0.004, 0.008, 0.016]; 2]),
        "hard-simple-contrastive" => ("lambda_neg", [[0.04, 0.08, 0.16]; 2]),
        "cacr" => ("tau_neg", [[0.3, 1.0, 3.0], [1.0, 3.0, 10.0]]),
        "groco" => ("steepness", [[4.0, 16.0, 64.0], [1.0, 4.0, 16.0]]),
        "triplet" => ("margin", [[0.1, 0.3, 0.8], [0.3, 0.8, 1.5]]),
        "alignment-uniformity" => ("uniformity_weight", [[0.3, 1.0, 3.0]; 2]),
        "amcl" => ("beta", [[0.01, 0.1, 0.5]; 2]),
        "barlow-twins" => ("lambda_offdiag", [[0.02, 0.08, 0.3], [0.005, 0.02, 0.08]]),
        _ => ("temperature", [[0.1, 0.2, 0.4], [0.1, 0.2, 0.5]]),
    }
}

fn loss_settings(loss: &str, value: f64) -> LossSettings {
    let mut settings = LossSettings::default();
    match own(loss).0 {
        "lambda_neg" => settings.lambda_neg = Some(value),
        "tau_neg" => settings.tau_neg = value,
        "steepness" => settings.steepness = value,
        "margin" => settings.margin = value,
        "uniformity_weight" => settings.uniformity_weight = value,
        "lambda_offdiag" => settings.lambda_offdiag = value,
        _ => settings.temperature = Some(value),
    }
    settings
}

/// The best of the tries by `score`.
fn best(loss: &str, which: usize, rates: &[f64], mut score: impl FnMut(Setting) -> Result<f64>) -> Result<Setting> {
    let mut best: Option<(f64, Setting)> = None;
    for own in own(loss).1[which] {
        for &learning_rate in rates {
            let setting = Setting { own, learning_rate };
            let score = score(setting)?;
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, setting));
            }
        }
    }
    best.map(|(_, setting)| setting).ok_or_else(|| Error::invalid("no tries"))
}

/// Measurements of one loss over the seeds.
struct Row {
    loss: &'static str,
    chosen: Setting,
    /// By measurement, then by seed; the last is milliseconds a step.
    values: Vec<Vec<f64>>,
}

fn print(rows: &[Row], columns: &[&str]) {
    println!("| loss | setting, learning rate | {} | against the first row | ms a step | of the first row's |", columns.join(" | "));
    println!("|---|---|{}", "---|".repeat(columns.len() + 3));
    for row in rows {
        let mean = |values: &[f64]| sample_mean(values).expect("a value for each seed");
        let cells: Vec<String> = row.values[..columns.len()]
            .iter()
            .map(|values| {
                let found = mean(values);
                format!("{:.4} ± {:.4}", found.mean, found.sd.unwrap_or(f64::NAN))
            })
            .collect();
        let difference: Vec<f64> = row.values[0].iter().zip(&rows[0].values[0]).map(|(a, b)| a - b).collect();
        let difference = mean(&difference);
        let (low, high) = difference.interval.unwrap_or((f64::NAN, f64::NAN));
        let against = if row.loss == rows[0].loss { String::new() } else { format!("{:+.4} ({low:+.4} … {high:+.4})", difference.mean) };
        // The fastest of the seeds: what else the machine does can only add.
        let step = |row: &Row| row.values[columns.len()].iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "| `{}` | {} {}, {} | {} | {against} | {:.2} | {:.2} |",
            row.loss,
            own(row.loss).0,
            row.chosen.own,
            row.chosen.learning_rate,
            cells.join(" | "),
            step(row),
            step(row) / step(&rows[0])
        );
    }
}

/// Docstring → function, a token table tuned with in-batch negatives of 128 pairs.
fn texts() -> Result<()> {
    let losses = BOTH.into_iter().chain(["soft-infonce", "weighted-infonce", "bce-infonce", "kl-infonce"]);
    let registry::Splits { mut train, mut validation, mut test } = registry::code_search()?;
    seed::shuffle(&mut train, &mut seed::rng(0, 0));
    train.truncate(4_000);
    validation.truncate(1_000);
    test.truncate(1_000);
    let data = TuneData::from_parts(train, &validation, &test)?;
    let pairs = Strategy { key: "in-batch", name: "in-batch only".into(), mine: None };
    let (mut rows, mut untuned) = (Vec::new(), f64::NAN);
    let progress = Progress::new(losses.clone().count() as u64, "texts");
    for loss in losses {
        let mut train = |setting: Setting, seed: u64| -> Result<(f64, Vec<f64>)> {
            let LossSettings { temperature, .. } = loss_settings(loss, setting.own);
            let train = TrainSettings {
                loss: loss.into(),
                temperature: temperature.unwrap_or(0.05),
                loss_settings: LossSettings { temperature: None, ..loss_settings(loss, setting.own) },
                learning_rate: setting.learning_rate,
                batch_size: 128,
                weights: (loss == "soft-infonce").then(|| "soft-infonce:bm25".into()),
                teacher: ["weighted-infonce", "bce-infonce", "kl-infonce"].contains(&loss).then(|| "bm25".into()),
                ..TrainSettings::default()
            };
            let settings = TuneSettings { seed, in_batch_only: true, train, ..TuneSettings::default() };
            let mut tuner = Tuner::new(&data, &settings)?;
            let (examples, _) = tuner.examples(&pairs)?;
            let summary = tuner.train(&examples, &settings.train, &RunFiles::default())?;
            if seed == 0 {
                return Ok((summary.best_ndcg, Vec::new()));
            }
            let metrics = tuner.evaluate(&data.test)?.evaluation.metrics;
            let at_10 = |name: &str| metrics.iter().find(|m| m.metric == name && m.k == 10);
            untuned = at_10("ndcg").and_then(|m| m.before).map_or(f64::NAN, |m| m.mean);
            let of = |name: &str| at_10(name).map_or(f64::NAN, |m| m.after.mean);
            let steps = summary.steps.last().map_or(1, |s| s.step) as f64;
            Ok((summary.best_ndcg, vec![of("ndcg"), of("mrr"), 1e3 * summary.seconds.get("train").copied().unwrap_or(f64::NAN) / steps]))
        };
        let chosen = best(loss, 0, &[1e-2, 3e-2, 1e-1], |setting| Ok(train(setting, 0)?.0))?;
        let values = by_measurement((1..=3).map(|seed| Ok(train(chosen, seed)?.1)).collect::<Result<_>>()?);
        rows.push(Row { loss, chosen, values });
        progress.inc(1);
    }
    println!("\nCode search, held-out queries (untuned nDCG@10 {untuned:.4})\n");
    print(&rows, &["nDCG@10", "MRR@10"]);
    Ok(())
}

fn by_measurement(seeds: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    (0..seeds[0].len()).map(|m| seeds.iter().map(|values| values[m]).collect()).collect()
}

/// Fashion-MNIST, two strong views, the small convolutional encoder with a centred head.
fn images() -> Result<()> {
    let losses = BOTH.into_iter().chain(["nt-xent-top-k", "amcl", "moco", "sup-con"]);
    let context = Context::new(Budget::Full);
    let data = ImageData::fashion_mnist(&context)?;
    let train = data.train.select(&(0..5_000).collect::<Vec<_>>())?;
    let mut rows = Vec::new();
    let progress = Progress::new(losses.clone().count() as u64, "images");
    for loss in losses {
        let accuracy = |setting| {
            let (encoder, _) = train_images(loss, setting, &train, 1, 0)?;
            foils_studies::images::knn_accuracy(&encoder, &train, &data.validation)
        };
        let chosen = best(loss, 1, &[1e-3, 3e-3], accuracy)?;
        let of_seed = |seed| -> Result<Vec<f64>> {
            let (encoder, step) = train_images(loss, chosen, &train, 5, seed)?;
            let mut outcome = Outcome::default();
            foils_studies::images::measure(&mut outcome, loss, &encoder, [&train, &data.test], &STRONG_VIEWS, seed)?;
            let of = |what: &str| outcome.measured.iter().find(|(name, _)| name.starts_with(what)).map_or(f64::NAN, |(_, value)| *value);
            let measured = ["accuracy of", "linear accuracy of", "uniformity of projections", "tolerance of projections"];
            Ok(measured.map(of).into_iter().chain([step]).collect())
        };
        rows.push(Row { loss, chosen, values: by_measurement((1..=3).map(of_seed).collect::<Result<_>>()?) });
        progress.inc(1);
    }
    let untrained = ImageEncoder::new(Body::Conv, train.shape(), 64, 1, &DeviceName::Cpu.open()?)?;
    println!(
        "\nFashion-MNIST, k-NN accuracy on test images (untrained {:.4}, pixels {:.4})\n",
        foils_studies::images::knn_accuracy(&untrained, &train, &data.test)?,
        Rows::pixels(&train)?.knn_accuracy(&Rows::pixels(&data.test)?)?
    );
    print(&rows, &["k-NN", "linear", "uniformity", "tolerance"]);
    Ok(())
}

/// An encoder trained with `loss`, and milliseconds a step.
fn train_images(loss: &str, setting: Setting, images: &Images, epochs: usize, seed: u64) -> Result<(ImageEncoder, f64)> {
    let recipe = SelfSupervised {
        body: Body::Conv,
        projections: 64,
        centred: true,
        views: vec![STRONG_VIEWS; 2],
        batch: 250,
        epochs,
        learning_rate: setting.learning_rate,
        keys: (loss == "moco").then_some(KeyEncoder { momentum: 0.99, queue: 2_000, every_view: false }),
        seed,
    };
    let (device, progress) = (DeviceName::Cpu.open()?.autodiff(), Progress::new(0, loss));
    let began = Instant::now();
    let encoder = if loss == "amcl" {
        let temperature = Temperature::Pairs { hidden: 64, bounds: [0.05, 2.0], shared: true };
        let settings = AmclSettings { heads: 3, hidden: 128, dim: 64, centred: true, temperature };
        let (heads, value) = (AmclHeads::new(&settings, 128, seed, &device)?, Amcl::new(setting.own)?.mode(NegativeMode::LogSumExp));
        recipe.fit_with(images, heads, &device, &progress, |heads, batch| heads.simclr(&value, batch.features()?))?.0
    } else {
        recipe.fit(images, &device, &progress, image_loss(loss, setting.own)?)?
    };
    Ok((encoder, 1e3 * began.elapsed().as_secs_f64() / recipe.steps(images.len()) as f64))
}

type ImageLoss = Box<dyn Fn(&ViewBatch) -> Result<Tensor<1>> + Send>;

/// By name for losses of anchors and candidates: the mean of both directions, unless the loss sees both by itself.
fn image_loss(loss: &str, own: f64) -> Result<ImageLoss> {
    Ok(match loss {
        "nt-xent-top-k" => {
            let loss = NtXentTopK::new(own, 10)?;
            Box::new(move |batch| {
                let [z1, z2] = batch.projections()?;
                loss.forward(z1, z2)
            })
        }
        "moco" => {
            let loss = MocoInfoNce::new(own)?;
            Box::new(move |batch| {
                let ([query], [key]) = (batch.projections()?, batch.keys()?);
                let queue = batch.queue.clone().ok_or_else(|| Error::invalid("the recipe has no queue"))?;
                Ok(loss.forward(query, key, queue)?.loss)
            })
        }
        "sup-con" => {
            let loss = SupCon::new(own)?;
            Box::new(move |batch| {
                let views: [Tensor<2>; 2] = batch.projections()?;
                loss.forward(Tensor::stack(views.to_vec(), 1), &batch.labels)
            })
        }
        _ => {
            let both_by_itself = ["nt-xent", "alignment-uniformity", "barlow-twins"].contains(&loss);
            let loss = by_name(loss, &loss_settings(loss, own))?;
            Box::new(move |batch| {
                let [z1, z2] = batch.projections()?;
                let n = batch.rows.len();
                let targets = Targets::new((0..n as u32).collect(), vec![Vec::new(); n]);
                let of = |a: &Tensor<2>, b: &Tensor<2>| RankingLoss::forward(&*loss, a.clone(), b.clone(), &targets);
                if both_by_itself { of(&z1, &z2) } else { Ok((of(&z1, &z2)? + of(&z2, &z1)?).mul_scalar(0.5)) }
            })
        }
    })
}
