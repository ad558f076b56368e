//! Unified negative pairs (unpg).
//!
//! Margin heads learn from negatives "image against class weights". UNPG appends the batch's negatives "image against image" to every
//! denominator, outliers left out, so that no pair of two identities may stay nearer than the positives. Identities here are parts
//! of clothing classes; what is verified is pairs of classes that nobody trained on.

use crate::images::{Rows, STRONG_VIEWS, search};
use crate::plot::{Plot, Series};
use crate::study::{Baseline, Better, Claim, Context, Outcome, Study};
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, TensorData};
use foils::data::images::Images;
use foils::data::registry;
use foils::diagnostics::{SimilarityHistograms, uniformity};
use foils::losses::{MagFace, MarginHead, Unpg};
use foils::models::image::{Body, ImageEncoder, batch};
use foils::train::SelfSupervised;
use foils::weighting::{BoxWhisker, PairSimilarities};
use foils::{Result, seed};
use rand::RngExt;
use rayon::slice::ParallelSliceMut;
use serde::Serialize;

/// The study.
pub const STUDY: Study = Study {
    slug: "unpg",
    says: "Negative pairs of the batch, outliers left out, beside the class weights in the denominator of CosFace, ArcFace and MagFace \
           lower the largest negative similarities and verify faces better: ArcFace on IJB-B, TAR at FAR 1e-5, from 89.99 to 90.57.",
    checks: "The gap between the 5 % quantile of positive and the 95 % quantile of negative similarities on classes that were not trained \
             on, and the largest negative similarity while training, of each head with and without UNPG. Scale, margin and learning rate \
             have 16 tries each, with and without, by encoders trained on three of the training classes and judged by TAR at FAR 1e-2 on \
             the others, with 6 epochs instead of 15.",
    data: "Fashion-MNIST: 1,000 images of each of six classes, each class split into 20 identities by k-means; all pairs of 2,000 test images \
           of four others (pullover, shirt, sneaker, ankle boot); a multilayer perceptron with batch norm and 32 features; batch 128.",
    claims: &[
        gap("UNPG widens CosFace's gap", "gap of CosFace + UNPG", "gap of CosFace"),
        gap("UNPG widens ArcFace's gap", "gap of ArcFace + UNPG", "gap of ArcFace"),
        largest("negatives of a batch come less near with UNPG, CosFace", "largest negative, CosFace + UNPG", "largest negative, CosFace"),
        largest("negatives of a batch come less near with UNPG, ArcFace", "largest negative, ArcFace + UNPG", "largest negative, ArcFace"),
    ],
    run,
};

const fn gap(says: &'static str, metric: &'static str, head_alone: &'static str) -> Claim {
    Claim { says, metric, baseline: Baseline::Metric(head_alone), margin: 0.0, better: Better::Higher }
}

const fn largest(says: &'static str, metric: &'static str, head_alone: &'static str) -> Claim {
    Claim { says, metric, baseline: Baseline::Metric(head_alone), margin: 0.0, better: Better::Lower }
}

const BATCH: usize = 128;
const BODY: Body = Body::Mlp(128);
const WIDTH: usize = 32;
/// Classes trained on: T-shirt, dress, sandal; trouser, coat, bag. A search trains on the first three and judges by the others.
const LEARNT: [u8; 6] = [0, 3, 5, 1, 4, 8];
const TRAINED: u8 = LEARNT.len() as u8;
const SEARCHED: u8 = 3;
/// Classes verified. Some are like a class trained on and some like each other, as people are.
const HELD_OUT: [u8; 4] = [2, 6, 7, 9];
const NAMES: [&str; 4] = ["pullover", "shirt", "sneaker", "ankle boot"];
/// Identities of a class.
const PARTS: u8 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Cos,
    Arc,
    Mag,
}

/// Which pairs of the batch are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pairs {
    None,
    Filtered,
    All,
}

const METHODS: [(Head, Pairs, &str); 8] = [
    (Head::Cos, Pairs::None, "CosFace"),
    (Head::Cos, Pairs::Filtered, "CosFace + UNPG"),
    (Head::Cos, Pairs::All, "CosFace + UNPG, unfiltered"),
    (Head::Arc, Pairs::None, "ArcFace"),
    (Head::Arc, Pairs::Filtered, "ArcFace + UNPG"),
    (Head::Arc, Pairs::All, "ArcFace + UNPG, unfiltered"),
    (Head::Mag, Pairs::None, "MagFace"),
    (Head::Mag, Pairs::Filtered, "MagFace + UNPG"),
];

impl Head {
    fn with(self, margin: f64) -> MarginHead {
        match self {
            Self::Cos => MarginHead::CosFace { margin },
            Self::Arc => MarginHead::ArcFace { margin },
            // The paper's norms are of 512 features, here are 32: in proportion to the root of their number. So are the margins to each other.
            Self::Mag => {
                let u_margin = margin * 0.8 / 0.45;
                MarginHead::MagFace(MagFace { l_margin: margin, u_margin, l_a: 2.5, u_a: 27.5, lambda_g: 35.0 / 4.0 })
            }
        }
    }
}

impl Pairs {
    fn filter(self) -> Result<Option<BoxWhisker>> {
        match self {
            Self::None => Ok(None),
            Self::Filtered => Ok(Some(BoxWhisker::default())),
            Self::All => BoxWhisker::new(1e9).map(Some),
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    scale: f64,
    margin: f64,
    learning_rate: f64,
}

fn grid() -> Vec<Setting> {
    let mut grid = Vec::new();
    for learning_rate in [1e-3, 3e-3] {
        for scale in [4.0, 8.0, 16.0, 30.0] {
            grid.extend([0.25, 0.5].map(|margin| Setting { scale, margin, learning_rate }));
        }
    }
    grid
}

fn run(context: &Context, seed: u64) -> Result<Outcome> {
    let data = context.once("data", || Data::new(context))?;
    let settings = context.once("settings", || search_settings(context, &data))?;
    let mut outcome = Outcome::default();
    verify(&mut outcome, "raw pixels", &Rows::pixels(&data.test)?)?;
    let untrained = ImageEncoder::new(BODY, data.train.shape(), WIDTH, seed, &Device::flex())?.centred();
    verify(&mut outcome, "untrained", &Rows::projections(&untrained, &data.test)?)?;
    let mut curves = Vec::new();
    for ((head, pairs, name), setting) in METHODS.into_iter().zip(settings.iter()) {
        let trained = train(context, &data.train, TRAINED * PARTS, (head, pairs), *setting, context.pick(15, 2), seed)?;
        outcome.measure(format!("largest negative, {name}"), trained.largest);
        let rows = Rows::projections(&trained.encoder, &data.test)?;
        let found = verify(&mut outcome, name, &rows)?;
        if uniformity(&rows.values, rows.width, 2.0, true)? > -0.2 {
            for of in ["gap of", "largest negative,"] {
                outcome.doubt(format!("{of} {name}"), "the features have collapsed (uniformity above −0.2)");
            }
        }
        if pairs != Pairs::All {
            curves.push(Series::new(name, (0..=32).map(|k| 10f64.powf(-4.0 + f64::from(k) / 8.0)).map(|far| (far, found.tar(far)))));
        }
        if head == Head::Cos && pairs != Pairs::All {
            let of = SimilarityHistograms::of_classes(&rows.values, rows.width, &rows.labels, 50)?;
            let look = "The gap is from where 5 % of the positives lie below to where 5 % of the negatives lie above.";
            outcome.plot(Plot::similarities(format!("Pairs of held-out classes, {name}"), look, &of));
            let look = "Classes that no identity was trained of: do they lie apart?";
            outcome.plot(Plot::embedding(format!("Held-out images, {name}"), look, &rows.values, rows.width, &rows.labels, &NAMES)?);
        }
        if (head, pairs) == (Head::Cos, Pairs::Filtered) {
            check_pairs(&mut outcome, &trained, &data.train, setting.scale)?;
        }
    }
    // With few identities class weights leave pairs little to add, says the paper's reasoning.
    for ((head, pairs, name), setting) in METHODS.into_iter().zip(settings.iter()).take(2) {
        let trained = train(context, &data.classes, TRAINED, (head, pairs), *setting, context.pick(15, 2), seed)?;
        verify(&mut outcome, &format!("{name}, 6 identities"), &Rows::projections(&trained.encoder, &data.test)?)?;
    }
    let look = "How many positive pairs are accepted where this share of the negative ones is.";
    let axes = ["false accept rate", "true accept rate"];
    outcome.plot(Plot::lines("Verification of held-out classes", look, axes, curves).logarithmic());
    Ok(outcome)
}

/// For each of [`METHODS`] what accepts most positive pairs at FAR 1e-2 of classes that were not trained on, with seed 0. Without its filter, UNPG has the
/// settings that it has with it.
fn search_settings(context: &Context, data: &Data) -> Result<Vec<Setting>> {
    let mut chosen: Vec<Setting> = Vec::new();
    for (head, pairs, name) in METHODS {
        let setting = match (pairs, chosen.last()) {
            (Pairs::All, Some(filtered)) => *filtered,
            _ => search(context, format!("settings of {name}"), &[name], &grid(), |_, setting| {
                let trained = train(context, &data.searched, SEARCHED * PARTS, (head, pairs), setting, 6, 0)?;
                Ok(Verification::of(&Rows::projections(&trained.encoder, &data.validation)?)?.tar(1e-2))
            })?[0],
        };
        chosen.push(setting);
    }
    Ok(chosen)
}

/// Pictures by identity (to learn from) and by class (to verify).
struct Data {
    train: Images,
    /// The same images by class.
    classes: Images,
    /// Identities of the first classes, and images of the others: for searches.
    searched: Images,
    validation: Images,
    test: Images,
}

impl Data {
    fn new(context: &Context) -> Result<Self> {
        let all = registry::fashion_mnist()?;
        let (each, held_out) = (context.pick(1_000, 200), context.pick(500, 100));
        let classes = Self::of_classes(&all.train, &LEARNT, each)?;
        let test = Self::of_classes(&all.test, &HELD_OUT, held_out)?;
        let of = |wanted: &dyn Fn(u8) -> bool| -> Vec<u32> {
            (0..).zip(classes.labels()).filter(|(_, l)| wanted(**l)).map(|(i, _)| i).collect()
        };
        let mut identities = vec![0; classes.len()];
        for class in 0..TRAINED {
            let rows = of(&|l| l == class);
            let parts = k_means(&classes.batch(&rows)?, classes.pixels().len() / classes.len(), PARTS, class.into());
            rows.iter().zip(parts).for_each(|(&row, part)| identities[row as usize] = class * PARTS + part);
        }
        let train = Images::new(classes.shape(), classes.pixels().to_vec(), identities)?;
        let mut room = [held_out; TRAINED as usize];
        let mut validation = of(&|l| l >= SEARCHED);
        validation.retain(|&i| {
            let left = &mut room[classes.labels()[i as usize] as usize];
            let taken = *left > 0;
            *left -= usize::from(taken);
            taken
        });
        Ok(Self { searched: train.select(&of(&|l| l < SEARCHED))?, validation: classes.select(&validation)?, train, classes, test })
    }

    /// `each` images of each class, which is known by its place in `classes` from there on.
    fn of_classes(images: &Images, classes: &[u8], each: usize) -> Result<Images> {
        let place = |label: u8| classes.iter().position(|c| *c == label);
        let counts: Vec<usize> = (0..=9).map(|label| if place(label).is_some() { each } else { 0 }).collect();
        let found = images.sample(&counts, 0)?;
        let labels = found.labels().iter().map(|&l| place(l).unwrap_or_default() as u8).collect();
        Images::new(found.shape(), found.pixels().to_vec(), labels)
    }
}

/// Lloyd's algorithm from `k` of the rows, 20 rounds; the part of each row.
fn k_means(rows: &[f32], dim: usize, k: u8, seed: u64) -> Vec<u8> {
    let rows: Vec<&[f32]> = rows.chunks_exact(dim).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    seed::shuffle(&mut order, &mut seed::rng(seed, 0));
    let mut centres: Vec<Vec<f32>> = order.iter().take(k.into()).map(|&i| rows[i].to_vec()).collect();
    let mut parts = vec![0; rows.len()];
    for _ in 0..20 {
        for (part, row) in parts.iter_mut().zip(&rows) {
            let distances = (0..k).zip(&centres).map(|(c, centre)| (centre.iter().zip(*row).map(|(a, b)| (a - b).powi(2)).sum::<f32>(), c));
            *part = distances.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, c)| c);
        }
        for (c, centre) in (0..k).zip(&mut centres) {
            let own: Vec<&[f32]> = rows.iter().zip(&parts).filter(|(_, p)| **p == c).map(|(r, _)| *r).collect();
            // A centre without rows stays where it is.
            if !own.is_empty() {
                centre.iter_mut().enumerate().for_each(|(d, v)| *v = own.iter().map(|r| r[d]).sum::<f32>() / own.len() as f32);
            }
        }
    }
    parts
}

struct Trained {
    encoder: ImageEncoder,
    weights: Linear,
    /// The largest similarity of two images of two identities in a batch, mean over the last tenth of the steps.
    largest: f64,
}

fn train(
    context: &Context,
    images: &Images,
    identities: u8,
    (head, pairs): (Head, Pairs),
    setting: Setting,
    epochs: usize,
    seed: u64,
) -> Result<Trained> {
    let Setting { scale, margin, learning_rate } = setting;
    let loss = Unpg::new(head.with(margin), scale)?.pairs(pairs.filter()?);
    let views = vec![STRONG_VIEWS];
    let recipe =
        SelfSupervised { body: BODY, projections: WIDTH, centred: true, views, batch: BATCH, epochs, learning_rate, keys: None, seed };
    let device = context.device()?;
    let classes = usize::from(identities);
    let mut rng = seed::rng(seed, u64::MAX);
    let values: Vec<f32> = (0..WIDTH * classes).map(|_| rng.random_range(-0.1..=0.1f32)).collect();
    let mut weights = LinearConfig::new(WIDTH, classes).with_bias(false).init(&device);
    weights.weight = Param::from_data(TensorData::new(values, [WIDTH, classes]), &device);
    let progress = context.progress(recipe.steps(images.len()), format!("unpg, seed {seed}: {head:?}, {pairs:?} pairs, {setting:?}"));
    let mut late = Vec::new();
    let (encoder, weights) = recipe.fit_with(images, weights, &device, &progress, |weights, batch| {
        let [features] = batch.projections()?;
        if batch.steps - batch.step <= batch.steps.div_ceil(10) {
            let rows: Vec<f32> = features.clone().inner().into_data().iter().collect();
            late.extend(PairSimilarities::of(&rows, WIDTH, &batch.labels)?.negative.into_iter().reduce(f64::max));
        }
        Ok(loss.forward(features, weights.weight.val().transpose(), &batch.labels)?.loss)
    })?;
    Ok(Trained { encoder, weights, largest: late.iter().sum::<f64>() / late.len() as f64 })
}

/// Similarities of all pairs, ascending.
struct Verification {
    positive: Vec<f64>,
    negative: Vec<f64>,
}

impl Verification {
    fn of(rows: &Rows) -> Result<Self> {
        let PairSimilarities { mut positive, mut negative } = PairSimilarities::of(&rows.values, rows.width, &rows.labels)?;
        positive.par_sort_unstable_by(f64::total_cmp);
        negative.par_sort_unstable_by(f64::total_cmp);
        Ok(Self { positive, negative })
    }

    /// 5 % of the positives are below its upper end, 5 % of the negatives above its lower end.
    fn gap(&self) -> f64 {
        let quantile = |values: &[f64], q: f64| values[(q * (values.len() - 1) as f64).round() as usize];
        quantile(&self.positive, 0.05) - quantile(&self.negative, 0.95)
    }

    /// Share of positives above the least threshold that at most `far` of the negatives are above.
    fn tar(&self, far: f64) -> f64 {
        let accepted = (far * self.negative.len() as f64) as usize;
        let threshold = self.negative.len().checked_sub(accepted + 1).map_or(f64::NEG_INFINITY, |at| self.negative[at]);
        let below = self.positive.partition_point(|p| *p <= threshold);
        (self.positive.len() - below) as f64 / self.positive.len() as f64
    }
}

fn verify(outcome: &mut Outcome, name: &str, rows: &Rows) -> Result<Verification> {
    let found = Verification::of(rows)?;
    outcome.measure(format!("gap of {name}"), found.gap());
    outcome.measure(format!("TAR at FAR 1e-2, {name}"), found.tar(1e-2));
    outcome.measure(format!("TAR at FAR 1e-3, {name}"), found.tar(1e-3));
    Ok(found)
}

/// What must hold of appended pairs, on a batch of training images after training.
fn check_pairs(outcome: &mut Outcome, trained: &Trained, images: &Images, scale: f64) -> Result<()> {
    let encoder = trained.encoder.valid();
    let weights = trained.weights.valid().weight.val().transpose();
    let rows: Vec<u32> = (0..BATCH as u32).collect();
    let features = encoder.forward(batch(images.batch(&rows)?, BATCH, images.shape(), &weights.device())).projections;
    let labels: Vec<i64> = images.labels()[..BATCH].iter().map(|&l| l.into()).collect();
    let head = MarginHead::CosFace { margin: 0.35 };
    let of = |pairs: Pairs, labels: &[i64]| {
        let found = Unpg::new(head, scale)?.pairs(pairs.filter()?).forward(features.clone(), weights.clone(), labels)?;
        Ok::<_, foils::Error>((found.loss.into_scalar::<f64>(), found.kept))
    };
    let [alone, filtered, all] = [of(Pairs::None, &labels)?, of(Pairs::Filtered, &labels)?, of(Pairs::All, &labels)?];
    let found = format!("{:.4} ≤ {:.4} ≤ {:.4}", alone.0, filtered.0, all.0);
    outcome.check(
        "pairs only add to the loss, and all pairs more than the filtered ones",
        alone.0 < filtered.0 && filtered.0 <= all.0,
        found,
    );
    let values: Vec<f32> = features.clone().into_data().iter().collect();
    let negatives = PairSimilarities::of(&values, WIDTH, &labels)?.negative.len();
    let holds = all.1 == negatives && 2 * filtered.1 >= negatives && filtered.1 <= negatives;
    let found = format!("{} and {} of {negatives}", filtered.1, all.1);
    outcome.check("a whisker of 1.5 keeps between half and all negative pairs, a long one all", holds, found);
    let one = vec![labels[0]; BATCH];
    let (alone, with) = (of(Pairs::None, &one)?, of(Pairs::Filtered, &one)?);
    outcome.check("a batch of one identity has the head's loss", alone == with && with.1 == 0, format!("{} and {}", alone.0, with.0));
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
        let of = |name: String| report.summary.iter().find(|s| s.name == name).unwrap().mean;
        for (_, pairs, name) in METHODS {
            let (strict, loose) = (of(format!("TAR at FAR 1e-3, {name}")), of(format!("TAR at FAR 1e-2, {name}")));
            assert!(strict <= loose && loose > 0.02, "{name}: {strict} {loose}");
            // What is trained on is told apart better with pairs, even after 18 steps.
            if pairs == Pairs::Filtered {
                let alone = name.split(" +").next().unwrap();
                assert!(of(format!("largest negative, {name}")) <= of(format!("largest negative, {alone}")) + 0.02, "{name}");
            }
        }
    }

    #[test]
    fn gaps_and_rates_are_of_ordered_pairs() {
        let found = Verification { positive: (0..=100).map(|i| f64::from(i) / 100.0).collect(), negative: vec![-0.5, -0.4, 0.1, 0.2] };
        assert!((found.gap() - (0.05 - 0.2)).abs() < 1e-12);
        assert_eq!((found.tar(0.0), found.tar(0.25), found.tar(1.0)), (80.0 / 101.0, 90.0 / 101.0, 1.0));
    }

    #[test]
    fn k_means_finds_separate_heaps() {
        let rows: Vec<f32> = (0..60).flat_map(|i| [(i % 2) as f32 * 10.0 + (i / 2) as f32 * 0.01, 1.0]).collect();
        for seed in 0..5 {
            let parts = k_means(&rows, 2, 2, seed);
            assert!(parts[0] != parts[1] && parts.iter().enumerate().all(|(i, p)| *p == parts[i % 2]), "{parts:?}");
        }
    }
}
