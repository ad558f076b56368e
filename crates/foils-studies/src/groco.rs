//! Learning by sorting (groco).
//!
//! A softmax over negatives asks for one positive that outweighs them all. GroCo asks for an order: a differentiable sorting network
//! sorts an anchor's positives with its nearest negatives, and what matters is which of them end at the upper ranks. So local
//! neighbourhoods should be good, which k-NN accuracy sees, and fewer of the nearest negatives should be nearer than the positive.

use crate::images::{ImageData, Rows, STRONG_VIEWS, knn_accuracy, measure, search, two_views};
use crate::plot::{Plot, Series};
use crate::study::{Baseline, Better, Claim, Context, Outcome, Study};
use burn::tensor::{DType, Device, Tensor, TensorData};
use foils::Result;
use foils::data::images::Images;
use foils::diagnostics::SimilarityHistograms;
use foils::losses::NtXent;
use foils::losses::groco::{Distribution, Groco, GroupOrdering, Network, NtXentTopK, SortingNetwork};
use foils::metrics::Histogram;
use foils::models::image::{Body, ImageEncoder};
use foils::train::SelfSupervised;
use serde::Serialize;

/// The study.
pub const STUDY: Study = Study {
    slug: "groco",
    says: "Losses that ask for positives above an anchor's nearest negatives, by a differentiable sorting network, make better local \
           neighbourhoods than a softmax: ImageNet, ResNet-50, 100 epochs: k-NN 60.5; better than vanilla contrastive learning.",
    checks: "k-NN accuracy and mis-ordered pairs after GroCo, NT-Xent and NT-Xent over the 10 nearest negatives, the same encoder, views \
             and updates. Temperature and learning rate of the softmaxes, and steepness, number of negatives and learning rate of GroCo \
             have 12 tries each on validation images, with 4 epochs instead of 20.",
    data: "Fashion-MNIST: 10,000 training, 5,000 validation and 10,000 test images, balanced; a multilayer perceptron with batch norm and a \
           centred head; batch 128; the 20 nearest neighbours (cosine) are looked for among the training images.",
    claims: &[
        Claim {
            says: "k-NN accuracy is higher than with NT-Xent",
            metric: "accuracy of GroCo",
            baseline: Baseline::Metric("accuracy of NT-Xent"),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "k-NN accuracy is higher than with NT-Xent over the nearest negatives",
            metric: "accuracy of GroCo",
            baseline: Baseline::Metric("accuracy of NT-Xent, nearest"),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "fewer of an anchor's 10 nearest negatives are nearer than its positive, in views of test images, than with NT-Xent",
            metric: "mis-ordered, GroCo",
            baseline: Baseline::Metric("mis-ordered, NT-Xent"),
            margin: 0.0,
            better: Better::Lower,
        },
    ],
    run,
};

const METHODS: [&str; 3] = ["NT-Xent", "NT-Xent, nearest", "GroCo"];
const BATCH: usize = 128;
const BODY: Body = Body::Mlp(128);
const WIDTH: usize = 64;
/// Negatives of the paper's setting, and of every measurement of order.
const NEAREST: usize = 10;

/// What is tried.
#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    loss: Loss,
    learning_rate: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Loss {
    NtXent { temperature: f64 },
    NtXentTopK { temperature: f64 },
    Groco { steepness: f64, topk_neg: usize },
}

impl Loss {
    fn of(self, z1: Tensor<2>, z2: Tensor<2>) -> Result<Tensor<1>> {
        match self {
            Self::NtXent { temperature } => NtXent::new(temperature)?.forward(z1, z2),
            Self::NtXentTopK { temperature } => NtXentTopK::new(temperature, NEAREST)?.forward(z1, z2),
            Self::Groco { steepness, topk_neg } => {
                Groco::new(topk_neg)?.network(network(steepness)?).forward(Tensor::stack(vec![z1, z2], 0), 2)
            }
        }
    }
}

/// The paper's, but for the steepness.
fn network(steepness: f64) -> Result<SortingNetwork> {
    SortingNetwork::new(Network::OddEven, Distribution::Cauchy, steepness)
}

/// Twelve settings of a method. GroCo's are the paper's (steepness 1, 10 negatives) and what lies beside it.
fn grid(method: &str) -> Vec<Setting> {
    let temperatures = [0.05, 0.1, 0.2, 0.5];
    let losses: Vec<Loss> = match method {
        "NT-Xent" => temperatures.map(|temperature| Loss::NtXent { temperature }).into(),
        "NT-Xent, nearest" => temperatures.map(|temperature| Loss::NtXentTopK { temperature }).into(),
        _ => [(1.0, 5), (1.0, 10), (1.0, 20), (3.0, 10)].map(|(steepness, topk_neg)| Loss::Groco { steepness, topk_neg }).into(),
    };
    [3e-4, 1e-3, 3e-3].into_iter().flat_map(|learning_rate| losses.iter().map(move |&loss| Setting { loss, learning_rate })).collect()
}

fn run(context: &Context, seed: u64) -> Result<Outcome> {
    let data = context.once("data", || ImageData::fashion_mnist_of(context.pick([10_000, 5_000, 10_000], [2_000, 500, 500])))?;
    let settings = context.once("settings", || search_settings(context, &data))?;
    let mut outcome = Outcome::default();
    let pixels = context.once("pixels", || Rows::pixels(&data.train)?.knn_accuracy(&Rows::pixels(&data.test)?))?;
    outcome.measure("accuracy of raw pixels", *pixels);
    let untrained = ImageEncoder::new(BODY, data.train.shape(), WIDTH, seed, &Device::flex())?.centred();
    outcome.measure("accuracy, untrained", knn_accuracy(&untrained, &data.train, &data.test)?);

    let ordering = GroupOrdering::new(network(1.0)?);
    let mut curves = Vec::new();
    for (method, setting) in METHODS.into_iter().zip(settings.iter()) {
        let trained = train(context, &data.train, method, *setting, context.pick(20, 3), seed)?;
        measure(&mut outcome, method, &trained.encoder, [&data.train, &data.test], &STRONG_VIEWS, seed)?;
        let groups = Groups::of_images(&trained.encoder, &data.test, seed)?;
        outcome.measure(format!("mis-ordered, {method}"), groups.misordered());
        outcome
            .measure(format!("mis-ordered across views, {method}"), Groups::across_views(&trained.encoder, &data.test, seed)?.misordered());
        outcome.measure(format!("GroCo's loss of test views, {method}"), groups.loss(&ordering)?);
        say_if_collapsed(&mut outcome, method);
        if method != METHODS[1] {
            let look = "The more of the positives lie to the right of the nearest negatives, the better the order.";
            outcome.plot(Plot::similarities(format!("Positives and the 10 nearest negatives, {method}"), look, &groups.histograms()));
            let look = "Classes that lie apart are told apart by neighbours.";
            outcome.plot(Rows::features(&trained.encoder, &data.test)?.scatter(format!("Test images, {method}"), look)?);
        }
        curves.push(Series::new(method, trained.misordered));
        if method == METHODS[2] {
            check_order(&mut outcome, &groups, setting.loss)?;
        }
    }
    // The paper's own baseline is NT-Xent at temperature 0.5, which is not searched.
    let paper = Setting { loss: Loss::NtXent { temperature: 0.5 }, ..settings[0] };
    let trained = train(context, &data.train, "NT-Xent", paper, context.pick(20, 3), seed)?;
    outcome.measure("accuracy of NT-Xent, temperature 0.5", knn_accuracy(&trained.encoder, &data.train, &data.test)?);
    let misordered = Groups::of_images(&trained.encoder, &data.test, seed)?.misordered();
    outcome.measure("mis-ordered, NT-Xent, temperature 0.5", misordered);
    let look = "What GroCo asks for: how much sooner and lower does it get than a softmax?";
    outcome.plot(Plot::lines("Mis-ordered pairs while learning", look, ["epochs", "mis-ordered, % of pairs in the batch"], curves));
    outcome.measure("floor of GroCo's loss, steepness 1", ordering.floor(1, NEAREST)?);
    outcome.measure("GroCo's loss of equal scores", Groups { positives: vec![0.0], negatives: vec![0.0; NEAREST] }.loss(&ordering)?);
    Ok(outcome)
}

/// For each of [`METHODS`] what does best on validation images, with seed 0.
fn search_settings(context: &Context, data: &ImageData) -> Result<Vec<Setting>> {
    let of_method = |method| {
        let found = search(context, format!("settings of {method}"), &[method], &grid(method), |_, setting| {
            let trained = train(context, &data.train, method, setting, 4, 0)?;
            knn_accuracy(&trained.encoder, &data.train, &data.validation)
        })?;
        Ok(found[0])
    };
    METHODS.into_iter().map(of_method).collect()
}

struct Trained {
    encoder: ImageEncoder,
    /// Per cent of mis-ordered pairs in batches, by epoch.
    misordered: Vec<(f64, f64)>,
}

fn train(context: &Context, images: &Images, method: &str, setting: Setting, epochs: usize, seed: u64) -> Result<Trained> {
    let Setting { loss, learning_rate } = setting;
    let views = vec![STRONG_VIEWS; 2];
    let recipe =
        SelfSupervised { body: BODY, projections: WIDTH, centred: true, views, batch: BATCH, epochs, learning_rate, keys: None, seed };
    let progress = context.progress(recipe.steps(images.len()), format!("groco, seed {seed}: {method}, {loss:?}, {learning_rate}"));
    let mut misordered = Vec::new();
    let encoder = recipe.fit(images, &context.device()?, &progress, |batch| {
        let [z1, z2] = batch.projections()?;
        if batch.step.is_multiple_of(batch.steps.div_ceil(40)) {
            let now = Groups::of_views([z1.clone().inner(), z2.clone().inner()], false).misordered();
            misordered.push((epochs as f64 * batch.step as f64 / batch.steps as f64, 100.0 * now));
        }
        loss.of(z1, z2)
    })?;
    Ok(Trained { encoder, misordered })
}

/// A claim on projections that lie in a point is no claim on the method.
fn say_if_collapsed(outcome: &mut Outcome, method: &str) {
    let name = format!("uniformity of projections, {method}");
    let collapsed = outcome.measured.iter().any(|(n, value)| *n == name && *value > -0.2);
    if collapsed {
        for of in ["accuracy of", "mis-ordered,"] {
            outcome.doubt(format!("{of} {method}"), "the projections have collapsed (uniformity above −0.2)");
        }
    }
}

/// Cosines of anchors with their positive and their nearest negatives.
struct Groups {
    /// One an anchor.
    positives: Vec<f64>,
    /// [`NEAREST`] an anchor, ascending.
    negatives: Vec<f64>,
}

impl Groups {
    /// Two views of each image, in groups as large as a batch; negatives are of the anchor's own view, as in GroCo.
    fn of_images(encoder: &ImageEncoder, images: &Images, seed: u64) -> Result<Self> {
        Self::of_batches(encoder, images, seed, false)
    }

    /// The same with negatives of the other view, which NT-Xent has too and GroCo never sees.
    fn across_views(encoder: &ImageEncoder, images: &Images, seed: u64) -> Result<Self> {
        Self::of_batches(encoder, images, seed, true)
    }

    fn of_batches(encoder: &ImageEncoder, images: &Images, seed: u64, across: bool) -> Result<Self> {
        let [z1, z2] = two_views(encoder, images, &STRONG_VIEWS, seed)?;
        let mut all = Self { positives: Vec::new(), negatives: Vec::new() };
        for start in (0..images.len() + 1 - BATCH).step_by(BATCH) {
            let found = Self::of_views([&z1, &z2].map(|z| z.clone().slice(start..start + BATCH)), across);
            all.positives.extend(found.positives);
            all.negatives.extend(found.negatives);
        }
        Ok(all)
    }

    fn of_views(views: [Tensor<2>; 2], across: bool) -> Self {
        let rows = views.map(|z| z.clone() / z.powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-8));
        let n = rows[0].dims()[0];
        let mut found = Self { positives: Vec::new(), negatives: Vec::new() };
        for (own, other) in [(0, 1), (1, 0)] {
            let with = |view: usize| -> Vec<f64> {
                rows[own].clone().matmul(rows[view].clone().transpose()).into_data().convert::<f64>().iter().collect()
            };
            let between = with(other);
            found.positives.extend((0..n).map(|i| between[i * n + i]));
            let against = if across { between } else { with(own) };
            for (i, row) in against.chunks_exact(n).enumerate() {
                let mut row: Vec<f64> = (0..n).filter(|&j| j != i).map(|j| row[j]).collect();
                row.sort_unstable_by(f64::total_cmp);
                found.negatives.extend(&row[n - 1 - NEAREST..]);
            }
        }
        found
    }

    /// Share of negatives that are nearer to the anchor than its positive.
    fn misordered(&self) -> f64 {
        let groups = self.positives.iter().zip(self.negatives.chunks_exact(NEAREST));
        let wrong: usize = groups.map(|(p, negatives)| negatives.iter().filter(|n| *n > p).count()).sum();
        wrong as f64 / self.negatives.len() as f64
    }

    fn loss(&self, ordering: &GroupOrdering) -> Result<f64> {
        Ok(ordering.forward(column(&self.positives, 1), column(&self.negatives, NEAREST))?.into_scalar())
    }

    fn histograms(&self) -> SimilarityHistograms {
        let of = |values: &[f64]| {
            let mut histogram = Histogram::new(-1.0, 1.0, 50);
            values.iter().for_each(|v| histogram.add(*v));
            histogram
        };
        SimilarityHistograms { positive: of(&self.positives), negative: of(&self.negatives) }
    }
}

fn column(values: &[f64], width: usize) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / width, width]), (&Device::flex(), DType::F64))
}

/// What must hold of GroCo's loss, on similarities of the encoder that it trained.
fn check_order(outcome: &mut Outcome, groups: &Groups, loss: Loss) -> Result<()> {
    let steepness = if let Loss::Groco { steepness, .. } = loss { steepness } else { 1.0 };
    let network = network(steepness)?;
    let ordering = GroupOrdering::new(network);
    let some = 2 * BATCH.min(groups.positives.len());
    let scores: Vec<f64> =
        (0..some).flat_map(|i| groups.negatives[i * NEAREST..(i + 1) * NEAREST].iter().chain([&groups.positives[i]])).copied().collect();
    let permutation = network.sort(column(&scores, NEAREST + 1))?.permutation;
    let off = |axis: usize| permutation.clone().sum_dim(axis).sub_scalar(1.0).abs().max().into_scalar::<f64>();
    let off = off(1).max(off(2));
    outcome.check("rows and columns of the permutation sum to 1, to 1e-12", off < 1e-12, format!("{off:.1e}"));

    // The same scores with one exchange that betters the order.
    let (mut exchanged, mut fell) = (0, 0);
    for (i, &positive) in groups.positives.iter().enumerate().take(some) {
        let negatives = &groups.negatives[i * NEAREST..(i + 1) * NEAREST];
        if let Some(above) = negatives.iter().position(|n| *n > positive) {
            let one = Groups { positives: vec![positive], negatives: negatives.to_vec() };
            let mut better = Groups { positives: vec![negatives[above]], negatives: negatives.to_vec() };
            better.negatives[above] = positive;
            exchanged += 1;
            fell += usize::from(better.loss(&ordering)? < one.loss(&ordering)?);
        }
    }
    let says = "the loss falls where a positive and a negative above it change places";
    outcome.check(says, exchanged > 0 && fell == exchanged, format!("{fell} of {exchanged} anchors"));

    // At the best order cosines allow, no move that they allow is downhill.
    let leaf = |value: f64, n: usize| {
        Tensor::<2>::from_data(TensorData::new(vec![value; n], [1, n]), (&Device::flex().autodiff(), DType::F64)).require_grad()
    };
    let (positive, negatives) = (leaf(1.0, 1), leaf(-1.0, NEAREST));
    let at_best = ordering.forward(positive.clone(), negatives.clone())?;
    let gradients = at_best.backward();
    let slope = |x: &Tensor<2>| x.grad(&gradients).map_or_else(Vec::new, |g| g.into_data().iter::<f64>().collect());
    // Negatives that rise end above those that do not: the slope of raising m of them is that of the last m.
    let raised = slope(&negatives)
        .iter()
        .rev()
        .scan(0.0, |sum, g| {
            Some({
                *sum += g;
                *sum
            })
        })
        .fold(f64::INFINITY, f64::min);
    let (floor, lowered, found) = (ordering.floor(1, NEAREST)?, -slope(&positive)[0], groups.loss(&ordering)?);
    let says =
        "the loss of positives at 1 and negatives at −1 is a floor above 0: every move from there is uphill, and test views cost more";
    let figures = format!("floor {floor:.4}, slopes at least {:.1e}, test views {found:.4}", raised.min(lowered));
    outcome.check(says, floor > 0.0 && raised >= 0.0 && lowered >= 0.0 && found > floor, figures);
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
        let of = |name: &str| report.summary.iter().find(|s| s.name == name).unwrap().mean;
        for method in METHODS {
            // After 45 steps nothing has collapsed, and neighbours of one class are neighbours still.
            assert!(of(&format!("uniformity of projections, {method}")) < -1.0);
            assert!(of(&format!("accuracy of {method}")) > 0.6);
            assert!((0.01..0.9).contains(&of(&format!("mis-ordered, {method}"))));
        }
        assert!((of("floor of GroCo's loss, steepness 1") - 0.146_971_776_367_664_3).abs() < 1e-12);
        assert!(METHODS.map(grid).iter().all(|g| g.len() == 12));
    }

    #[test]
    fn order_is_judged_against_the_nearest() {
        // Anchors 0 to 11 lie on a circle; the second view of each is turned past its first neighbour.
        let turned = |by: f64| -> Tensor<2> {
            let rows: Vec<f64> = (0..12)
                .flat_map(|i| {
                    let a = 0.1 * (f64::from(i) + by);
                    [2.0 * a.cos(), 2.0 * a.sin()]
                })
                .collect();
            column(&rows, 2)
        };
        let same = Groups::of_views([turned(0.0), turned(0.0)], false);
        assert_eq!((same.misordered(), same.positives.len(), same.negatives.len()), (0.0, 24, 240));
        // By 1.5 places: for most anchors the two neighbours are nearer than the positive.
        let moved = Groups::of_views([turned(0.0), turned(1.5)], false);
        let expected = (2 * (10 * 2 + 2)) as f64 / 240.0;
        assert!((moved.misordered() - expected).abs() < 1e-12, "{}", moved.misordered());
        assert!(moved.negatives.chunks(NEAREST).all(|row| row.is_sorted()));
        assert_eq!(moved.histograms().negative.total(), 240);
    }
}
