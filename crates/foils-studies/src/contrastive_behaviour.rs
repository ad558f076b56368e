//! Understanding the behaviour of contrastive loss (contrastive-behaviour).
//!
//! The gradient of InfoNCE by the similarity of a negative is its probability over the temperature: the smaller the temperature, the
//! more of the force falls on the nearest negatives. That spreads embeddings, and it pushes relatives apart, which are near too. So
//! the temperature should trade uniformity against tolerance, and a loss that looks at the nearest negatives alone should need
//! no small temperature to find them.

use crate::images::{ImageData, Rows, STRONG_VIEWS, knn_accuracy, search};
use crate::plot::{Plot, Series};
use crate::study::{Baseline, Better, Claim, Context, Outcome, Study};
use burn::tensor::{DType, Device, Tensor, TensorData};
use foils::data::images::Images;
use foils::diagnostics::{SimilarityHistograms, Tolerance, hardness_profile, uniformity};
use foils::losses::{HardContrastive, InfoNce, SimpleContrastive};
use foils::models::image::{Body, ImageEncoder};
use foils::search::Similarity;
use foils::train::SelfSupervised;
use foils::{Error, Result};
use serde::Serialize;

/// The study.
pub const STUDY: Study = Study {
    slug: "contrastive-behaviour",
    says: "The temperature of InfoNCE decides how much of the force falls on the nearest negatives. With a small one embeddings are spread \
           evenly and classes torn apart, with a large one classes stay together and little is spread; accuracy is best between. With \
           the hardest negatives alone the temperature matters less, and the simple loss, which pushes all negatives alike, is worst.",
    checks: "On the similarities of a trained encoder: that the entropy of the penalties rises with the temperature, what the loss \
             becomes at both ends of it, and that attraction and repulsion are equal. By training: whether uniformity and tolerance \
             follow the temperature from step to step, and whether the simple loss is behind the best temperature. Temperature, λ and \
             learning rate are searched with 12 tries for each of four losses on validation images.",
    data: "Fashion-MNIST at half its size (14 × 14): 10,000 training, 2,000 validation and 2,000 test images; a small convolutional \
           encoder with a centred head, batches of 128; accuracy of the 20 nearest neighbours (cosine) among the training images; \
           uniformity and tolerance of projections of test images.",
    claims: &[
        above("uniformity: 0.1 is less uniform than 0.03", ["uniformity of contrastive 0.1", "uniformity of contrastive 0.03"]),
        above("uniformity: 0.3 is less uniform than 0.1", ["uniformity of contrastive 0.3", "uniformity of contrastive 0.1"]),
        above("uniformity: 1 is less uniform than 0.3", ["uniformity of contrastive 1", "uniformity of contrastive 0.3"]),
        above("tolerance: 0.1 is more tolerant than 0.03", ["tolerance of contrastive 0.1", "tolerance of contrastive 0.03"]),
        above("tolerance: 0.3 is more tolerant than 0.1", ["tolerance of contrastive 0.3", "tolerance of contrastive 0.1"]),
        above("tolerance: 1 is more tolerant than 0.3", ["tolerance of contrastive 1", "tolerance of contrastive 0.3"]),
        above(
            "contrastive at its best temperature is more accurate than simple",
            ["accuracy of contrastive, best temperature", "accuracy of simple"],
        ),
    ],
    run,
};

/// The first measurement is above the second.
const fn above(says: &'static str, [metric, baseline]: [&'static str; 2]) -> Claim {
    Claim { says, metric, baseline: Baseline::Metric(baseline), margin: 0.0, better: Better::Higher }
}

const METHODS: [&str; 4] = ["contrastive", "hard", "simple", "hard-simple"];
const TEMPERATURES: [f64; 4] = [0.03, 0.1, 0.3, 1.0];
/// λ times the number of negatives that are pushed: what they weigh together, the positive weighing 1.
const LAMBDAS: [f64; 4] = [0.5, 1.0, 2.0, 4.0];
const RATES: [f64; 3] = [1e-3, 3e-3, 1e-2];
/// The share of negatives that the hard losses keep; about that of the paper on data of ten classes.
const ALPHA: f64 = 0.1;
const BATCH: usize = 128;

#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    /// One of [`TEMPERATURES`] or, where the loss has none, of [`LAMBDAS`].
    strength: f64,
    rate: f64,
}

fn run(context: &Context, seed: u64) -> Result<Outcome> {
    let data = context.once("data", || ImageData::fashion_mnist(context)?.halved())?;
    let best = context.once("settings", || search_settings(context, &data))?;
    let mut outcome = Outcome::default();
    outcome.measure("accuracy of raw pixels", Rows::pixels(&data.train)?.knn_accuracy(&Rows::pixels(&data.test)?)?);
    let untrained = ImageEncoder::new(Body::Conv, data.train.shape(), 64, seed, &Device::flex())?;
    outcome.measure("accuracy, untrained", knn_accuracy(&untrained, &data.train, &data.test)?);

    let mut curves: Vec<Vec<Trained>> = Vec::new();
    for (method, best) in METHODS.into_iter().zip(best.iter()) {
        let strengths = if has_temperature(method) { &TEMPERATURES[..] } else { &[best.strength] };
        let trained = strengths.iter().map(|&strength| {
            let encoder = train(context, &data, method, Setting { strength, ..*best }, context.pick(6, 2), seed)?;
            let name = if has_temperature(method) { format!("{method} {strength}") } else { method.to_owned() };
            Trained::measured(encoder, &name, &data, &mut outcome)
        });
        let curve = trained.collect::<Result<Vec<_>>>()?;
        if has_temperature(method) {
            let chosen = TEMPERATURES.iter().position(|t| *t == best.strength).unwrap_or(0);
            outcome.measure(format!("accuracy of {method}, best temperature"), curve[chosen].accuracy);
            let of = |better: fn(f64, f64) -> f64| curve.iter().map(|t| t.accuracy).reduce(better).unwrap_or(f64::NAN);
            outcome.measure(format!("range of accuracy over temperatures, {method}"), of(f64::max) - of(f64::min));
        }
        curves.push(curve);
    }
    plot_curves(&curves, &mut outcome);
    let temperature = TEMPERATURES.iter().position(|t| *t == best[0].strength).unwrap_or(0);
    look_at_penalties(&Views::of(&curves[0][temperature].encoder, &data.test, seed)?, &mut outcome)?;
    for at in [0, TEMPERATURES.len() - 1] {
        plot_embeddings(&curves[0][at].encoder, TEMPERATURES[at], &data.test, seed, &mut outcome)?;
    }
    Ok(outcome)
}

fn has_temperature(method: &str) -> bool {
    matches!(method, "contrastive" | "hard")
}

/// The best of 12 settings for each of [`METHODS`], with seed 0 and fewer epochs, on validation images. A loss keeps the rate of its best
/// setting at every temperature, so that the temperature is all that changes.
fn search_settings(context: &Context, data: &ImageData) -> Result<Vec<Setting>> {
    let [hot, others] = [(true, TEMPERATURES), (false, LAMBDAS)].map(|(hot, strengths)| {
        let methods: Vec<&str> = METHODS.into_iter().filter(|m| has_temperature(m) == hot).collect();
        let grid: Vec<Setting> = strengths.iter().flat_map(|&strength| RATES.map(|rate| Setting { strength, rate })).collect();
        let note = if hot { "temperatures and learning rates" } else { "λ times negatives and learning rates" };
        search(context, note, &methods, &grid, |method, setting| {
            knn_accuracy(&train(context, data, method, setting, 2, 0)?, &data.train, &data.validation)
        })
    });
    Ok([hot?, others?].concat())
}

fn train(context: &Context, data: &ImageData, method: &str, setting: Setting, epochs: usize, seed: u64) -> Result<ImageEncoder> {
    let Setting { strength, rate } = setting;
    let recipe = SelfSupervised {
        body: Body::Conv,
        projections: 64,
        // Without it the hard loss collapses here at any temperature, and hard-simple does where λ is small.
        centred: true,
        views: vec![STRONG_VIEWS; 2],
        batch: BATCH,
        epochs,
        learning_rate: rate,
        keys: None,
        seed,
    };
    let doing = format!("contrastive-behaviour, seed {seed}: {method}, {strength}, learning rate {rate}");
    let progress = context.progress(recipe.steps(data.train.len()), doing);
    recipe.fit(&data.train, &context.device()?, &progress, |batch| {
        let [z1, z2] = batch.projections()?;
        let negatives = (BATCH - 1) as f64;
        match method {
            "contrastive" => InfoNce::new(strength)?.forward(z1, z2),
            "hard" => HardContrastive::new(strength, ALPHA)?.forward(z1, z2),
            "simple" => SimpleContrastive::new(Some(strength / negatives))?.forward(z1, z2),
            _ => SimpleContrastive::new(Some(strength / (ALPHA * negatives).ceil()))?.hardest(ALPHA)?.forward(z1, z2),
        }
    })
}

struct Trained {
    encoder: ImageEncoder,
    accuracy: f64,
    uniformity: f64,
    tolerance: f64,
}

impl Trained {
    fn measured(encoder: ImageEncoder, name: &str, data: &ImageData, outcome: &mut Outcome) -> Result<Self> {
        let accuracy = knn_accuracy(&encoder, &data.train, &data.test)?;
        let rows = Rows::projections(&encoder, &data.test)?;
        let uniformity = uniformity(&rows.values, rows.width, 2.0, true)?;
        let tolerance = Tolerance::default().of(&rows.values, rows.width, &rows.labels)?;
        for (what, value) in [("accuracy", accuracy), ("uniformity", uniformity), ("tolerance", tolerance)] {
            let metric = format!("{what} of {name}");
            outcome.measure(&metric, value);
            if uniformity > -0.2 {
                outcome.doubt(metric, format!("the projections collapsed: their uniformity is {uniformity:.3}"));
            }
        }
        Ok(Self { encoder, accuracy, uniformity, tolerance })
    }
}

/// Unit projections `[n, width]` of two views of test images.
struct Views {
    z: [Tensor<2>; 2],
}

impl Views {
    const IMAGES: usize = 256;

    fn of(encoder: &ImageEncoder, test: &Images, seed: u64) -> Result<Self> {
        let shown = test.select(&(0..Self::IMAGES.min(test.len()) as u32).collect::<Vec<_>>())?;
        let view = |which| -> Result<Tensor<2>> {
            let (values, width) = encoder.project(&shown, |rows| STRONG_VIEWS.views(&shown, rows, seed, which))?;
            let z = Tensor::<2>::from_data(TensorData::new(values, [shown.len(), width]).convert::<f64>(), (&Device::flex(), DType::F64));
            let norms = z.clone().powi_scalar(2).sum_dim(1).sqrt();
            Ok(z / norms)
        };
        Ok(Self { z: [view(0)?, view(1)?] })
    }

    fn values(&self) -> [Vec<f64>; 2] {
        [0, 1].map(|view| self.z[view].clone().into_data().iter::<f64>().collect())
    }
}

/// What holds of the loss on any similarities, and how its force is shared out.
fn look_at_penalties(views: &Views, outcome: &mut Outcome) -> Result<()> {
    let [z1, z2] = &views.z;
    let n = z1.dims()[0];
    let similarities: Vec<f64> = z1.clone().matmul(z2.clone().transpose()).into_data().iter::<f64>().collect();
    let (mut entropies, mut unequal, mut series): (Vec<Vec<f64>>, f64, _) = (Vec::new(), 0.0, Vec::new());
    for temperature in TEMPERATURES {
        let profile = hardness_profile(&similarities, n, temperature, Similarity::Cosine)?;
        let mut by_rank = vec![0.0; n - 1];
        for (i, (attraction, row)) in profile.positive_gradient.iter().zip(profile.negative_gradient.chunks(n)).enumerate() {
            unequal = unequal.max((attraction + row.iter().sum::<f64>()).abs() / attraction.abs());
            let mut penalties = profile.relative_penalty[i * n..][..n].to_vec();
            penalties.remove(i);
            penalties.sort_by(|a, b| b.total_cmp(a));
            by_rank.iter_mut().zip(&penalties).for_each(|(sum, p)| *sum += 100.0 * p / n as f64);
        }
        let mean = profile.penalty_entropy.iter().sum::<f64>() / n as f64;
        outcome.measure(format!("entropy of penalties at {temperature}"), mean);
        entropies.push(profile.penalty_entropy);
        series.push(Series::new(format!("τ = {temperature}"), by_rank.into_iter().enumerate().map(|(rank, p)| ((rank + 1) as f64, p))));
    }
    let rises = (0..n).filter(|&i| entropies.is_sorted_by(|colder, warmer| colder[i] < warmer[i])).count();
    outcome.check("the entropy of the penalties rises with the temperature for each image", rises == n, format!("for {rises} of {n}"));
    outcome.check("attraction and repulsion of each image are equal, to 1e-9", unequal < 1e-9, format!("{unequal:.1e}"));

    // τ LSE(s/τ) lies between the largest s and τ ln n above it; and by Hoeffding's lemma no more than 2²/8τ above the mean.
    let contrastive = |temperature| Ok::<_, Error>(InfoNce::new(temperature)?.forward(z1.clone(), z2.clone())?.into_scalar::<f64>());
    let hinge = |(i, row): (usize, &[f64])| row.iter().map(|s| s - row[i]).fold(0.0, f64::max);
    let triplet = similarities.chunks(n).enumerate().map(hinge).sum::<f64>() / n as f64;
    let cold = 1e-3 * contrastive(1e-3)? - triplet;
    let near = (-1e-12..=1e-3 * (n as f64).ln()).contains(&cold);
    outcome.check("at τ = 0.001 τ·loss is the hardest triplet's hinge, to τ ln n", near, format!("{triplet:.5}, {cold:+.1e}"));
    let simple = SimpleContrastive::new(None)?.forward(z1.clone(), z2.clone())?.into_scalar::<f64>() * (n - 1) as f64 / n as f64;
    let warm = 1e4 * (contrastive(1e4)? - (n as f64).ln()) - simple;
    let near = (-1e-9..=0.5e-4).contains(&warm);
    outcome.check("at τ = 10,000 τ·(loss − ln n) is the simple loss, to 1/2τ", near, format!("{simple:.5}, {warm:+.1e}"));

    outcome.plot(
        Plot::lines(
            "Gradient weight by hardness",
            "The smaller the temperature, the more of an image's force falls on its nearest negatives. The same similarities for all lines.",
            ["rank of the negative, nearest first", "% of the force on it"],
            series,
        )
        .logarithmic(),
    );
    Ok(())
}

fn plot_curves(curves: &[Vec<Trained>], outcome: &mut Outcome) {
    let mut plot = |title, look, y, of: fn(&Trained) -> f64, methods: &[usize]| {
        let line = |&method: &usize| {
            let points = |at: usize| &curves[method][at.min(curves[method].len() - 1)];
            Series::new(METHODS[method], TEMPERATURES.into_iter().enumerate().map(|(at, t)| (t, of(points(at)))))
        };
        outcome.plot(Plot::lines(title, look, ["temperature", y], methods.iter().map(line).collect()).logarithmic());
    };
    plot("Uniformity by temperature", "Contrastive should fall.", "−uniformity of projections", |t| -t.uniformity, &[0, 1]);
    plot("Tolerance by temperature", "Contrastive should rise.", "tolerance of projections", |t| t.tolerance, &[0, 1]);
    let look = "Contrastive should be best between; hard should be flatter. The losses without a temperature are level lines.";
    plot("Accuracy by temperature", look, "accuracy of 20 nearest neighbours", |t| t.accuracy, &[0, 1, 2, 3]);
}

fn plot_embeddings(encoder: &ImageEncoder, temperature: f64, test: &Images, seed: u64, outcome: &mut Outcome) -> Result<()> {
    let [z1, z2] = Views::of(encoder, test, seed)?.values();
    let width = z1.len() / Views::IMAGES.min(test.len());
    outcome.plot(Plot::similarities(
        format!("Similarities of projections, contrastive at τ = {temperature}"),
        "A large temperature should leave negatives at higher similarities.",
        &SimilarityHistograms::of_views(&z1, &z2, width, 40)?,
    ));
    let title = format!("Unit projections of test images, contrastive at τ = {temperature}");
    outcome.plot(Rows::projections(encoder, test)?.unit().scatter(title, "A large temperature should leave classes in tighter clouds.")?);
    Ok(())
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
        assert!(report.must_hold, "{:?}", report.runs[0].outcome.checks);
        assert_eq!((report.claims.len(), report.runs[0].outcome.plots.len()), (STUDY.claims.len(), 8));
        let of = |name: &str| report.summary.iter().find(|s| s.name == name).unwrap().mean;
        // What 30 steps show already: at 1 the force is spread over most of 255 negatives, at 0.03 over a few.
        assert!(of("entropy of penalties at 0.03").exp() < 64.0 && of("entropy of penalties at 1").exp() > 200.0);
        assert!(of("accuracy of contrastive, best temperature") > 0.5);
        assert!(report.runs[0].outcome.unreliable.is_empty(), "{:?}", report.runs[0].outcome.unreliable);
    }
}
