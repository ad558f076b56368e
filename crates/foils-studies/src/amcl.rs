//! Adaptive multi-head contrastive learning (amcl).
//!
//! Under strong augmentations two views of one image may look unlike and two images alike, and one similarity with one temperature
//! cannot serve all pairs. AMCL has several heads, and a small network gives every pair in every head a temperature of its own.
//!
//! With the nearest negative alone, as published (Eq. 2.1), the network may give positives the lowest and negatives the highest
//! temperature, so that attraction outweighs repulsion by their ratio, and projections collapse where nothing centres them. The form
//! that is judged therefore adds up all negatives (`logsumexp`, from the same likelihood); the published one is measured beside it.

use crate::images::{ImageData, Rows, search};
use crate::plot::{Marks, Plot, Series};
use crate::study::{Baseline, Better, Claim, Context, Outcome, Study};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use foils::data::images::{Augment, Erase, Images};
use foils::data::registry;
use foils::diagnostics::{SimilarityHistograms, uniformity};
use foils::losses::amcl::{Amcl, AmclBarlowTwins, AmclHeads, AmclSettings, NegativeMode, Temperature};
use foils::losses::{BarlowTwins, Dcl, MocoInfoNce, NtXent};
use foils::metrics::Histogram;
use foils::models::image::{Body, Encoded, ImageEncoder};
use foils::train::{KeyEncoder, SelfSupervised, ViewBatch};
use foils::{Error, Result};
use serde::Serialize;

/// The study.
pub const STUDY: Study = Study {
    slug: "amcl",
    says: "Several heads, and a temperature for each pair and head from a small network, make contrastive learning better on SimCLR, \
           MoCo and Barlow Twins, the more so the more types of augmentation there are; similarities of positives and negatives \
           overlap less.",
    checks: "Three heads with adaptive temperatures against one head with a constant one, after the same steps with 1, 3 and 5 types of \
             augmentation: a linear probe of the encoder's features, and the overlap of the similarities of positives and negatives, \
             mean of the heads. Settings (temperature; highest temperature and β) have the same number of tries each, with 5 types, \
             on validation images.",
    data: "Fashion-MNIST, balanced: 3,200 training, 3,000 validation and 5,000 test images; a small convolutional encoder, 100 steps; \
           heads of 128 hidden units and 64 numbers.",
    claims: &[
        Claim {
            says: "with 5 types the similarities of positives and negatives overlap less than with NT-Xent",
            metric: "overlap of AMCL, 5 types",
            baseline: Baseline::Metric("overlap of NT-Xent, 5 types"),
            margin: 0.0,
            better: Better::Lower,
        },
        Claim {
            says: "with 5 types the linear probe is at most half a point below NT-Xent's",
            metric: "linear accuracy of AMCL, 5 types",
            baseline: Baseline::Metric("linear accuracy of NT-Xent, 5 types"),
            margin: -0.005,
            better: Better::Higher,
        },
        Claim {
            says: "with 5 types the linear probe is above NT-Xent's",
            metric: "linear accuracy of AMCL, 5 types",
            baseline: Baseline::Metric("linear accuracy of NT-Xent, 5 types"),
            margin: 0.0,
            better: Better::Higher,
        },
    ],
    run,
};

const BATCH: usize = 128;
const DIM: usize = 64;
/// The paper's 1e-5 allows logits of 1e5.
const LOWEST: f64 = 0.05;
/// Barlow Twins' weight of what is off the diagonal.
const LAMBDA: f64 = 0.02;
/// Above it projections have collapsed.
const COLLAPSED: f64 = -0.2;

/// Crops; blur and brightness with them; flips and erasing too.
fn views(types: usize) -> Augment {
    let one = Augment { crop: (0.3, 1.0), ..Augment::NONE };
    let three = Augment { blur: 0.5, gain: 0.4, brightness: 0.2, ..one.clone() };
    match types {
        1 => one,
        3 => three,
        _ => Augment { flip: 0.5, erase: Erase { probability: 0.5, ..Erase::NONE }, ..three },
    }
}

/// What contrasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    SimClr,
    Moco,
    BarlowTwins,
}

/// A way of training.
#[derive(Clone, Copy, Debug)]
struct Method {
    name: &'static str,
    form: Form,
    /// AMCL's loss with these negatives; the form's usual loss without.
    amcl: Option<NegativeMode>,
    heads: usize,
    adaptive: bool,
    centred: bool,
}

const NT_XENT: Method = Method { name: "NT-Xent", form: Form::SimClr, amcl: None, heads: 1, adaptive: false, centred: false };
const AMCL: Method = Method { name: "AMCL", amcl: Some(NegativeMode::LogSumExp), heads: 3, adaptive: true, ..NT_XENT };
// On MoCo's queue, heads that are not centred pull projections into a cone, with either loss.
const MOCO: Method = Method { name: "MoCo", form: Form::Moco, centred: true, ..NT_XENT };
const AMCL_MOCO: Method = Method { name: "AMCL on MoCo", form: Form::Moco, centred: true, ..AMCL };
const TWINS: Method = Method { name: "Barlow Twins", form: Form::BarlowTwins, ..NT_XENT };
const AMCL_TWINS: Method = Method { name: "AMCL on Barlow Twins", form: Form::BarlowTwins, ..AMCL };
const ONE_HEAD: Method = Method { name: "AMCL, 1 head", heads: 1, ..AMCL };
const CONSTANT: Method = Method { name: "3 heads, constant temperature", adaptive: false, ..AMCL };
const NEAREST: Method = Method { name: "AMCL, nearest negative", amcl: Some(NegativeMode::Max), ..AMCL };
const NEAREST_CENTRED: Method = Method { name: "AMCL, nearest negative, centred", centred: true, ..NEAREST };

/// Hyper-parameters.
#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    /// The constant one, or the highest.
    temperature: f64,
    beta: f64,
}

const fn constant(temperature: f64) -> Setting {
    Setting { temperature, beta: 0.0 }
}

const fn adaptive(temperature: f64, beta: f64) -> Setting {
    Setting { temperature, beta }
}

/// As many tries for one as for the other. The paper has 2 and 0.1.
const TRIES: [(Method, [Setting; 3]); 2] =
    [(NT_XENT, [constant(0.1), constant(0.2), constant(0.5)]), (AMCL, [adaptive(2.0, 0.1), adaptive(0.5, 0.1), adaptive(1.0, 0.02)])];

/// What is compared beside with 5 types, in NT-Xent's setting (0) or AMCL's (1).
const BESIDE: [(Method, usize); 8] =
    [(MOCO, 0), (AMCL_MOCO, 1), (TWINS, 0), (AMCL_TWINS, 1), (ONE_HEAD, 1), (CONSTANT, 0), (NEAREST, 1), (NEAREST_CENTRED, 1)];

fn run(context: &Context, seed: u64) -> Result<Outcome> {
    let data = context.once("data", || data(context))?;
    let settings = context.once("settings", || settings(context, &data))?;
    let mut outcome = Outcome::default();
    let bank = bank(context, &data.train)?;
    let of_pixels = context.once("pixels", || {
        let (pixels, known) = (Rows::pixels(&data.test)?, Rows::pixels(&bank)?);
        Ok([known.knn_accuracy(&pixels)?, known.linear_accuracy(&pixels)?])
    })?;
    outcome.measure("accuracy of raw pixels", of_pixels[0]);
    outcome.measure("linear accuracy of raw pixels", of_pixels[1]);
    let untrained = ImageEncoder::new(Body::Conv, data.train.shape(), 1, seed, &Device::flex())?;
    let (known, features) = (Rows::features(&untrained, &bank)?, Rows::features(&untrained, &data.test)?);
    outcome.measure("accuracy, untrained", known.knn_accuracy(&features)?);
    outcome.measure("linear accuracy, untrained", known.linear_accuracy(&features)?);

    let mut accuracies: Vec<Series> = [NT_XENT, AMCL].map(|method| Series::new(method.name, [])).to_vec();
    for types in [1, 3, 5] {
        for (at, method) in [NT_XENT, AMCL].into_iter().enumerate() {
            let trained = Trained::new(context, &data.train, method, settings[at], types, seed)?;
            let linear = trained.measure(&mut outcome, [&bank, &data.test], seed)?;
            accuracies[at].points.push((types as f64, linear));
            if types == 5 {
                trained.plot(&mut outcome, &data.test, seed)?;
            }
        }
    }
    let axes = ["types of augmentation", "linear accuracy"];
    let look = "AMCL's line should lie above, and farther above with more types.";
    outcome.plot(Plot::lines("Accuracy by augmentation", look, axes, accuracies));

    for (method, like) in BESIDE {
        let trained = Trained::new(context, &data.train, method, settings[like], 5, seed)?;
        trained.measure(&mut outcome, [&bank, &data.test], seed)?;
    }
    Ok(outcome)
}

/// More to judge on than other studies have, because differences of half a point are asked about.
fn data(context: &Context) -> Result<ImageData> {
    let all = registry::fashion_mnist()?;
    let (n, held_out) = (context.pick(3_200, 640), context.pick(3_000, 200));
    let sample = all.train.balanced_sample(n + held_out, 0)?;
    let rows: Vec<u32> = (0..(n + held_out) as u32).collect();
    let (train, validation) = rows.split_at(n);
    let test = all.test.balanced_sample(context.pick(5_000, 400), 0)?;
    Ok(ImageData { train: sample.select(train)?, validation: sample.select(validation)?, test })
}

/// The training images whose classes the probes are told.
fn bank(context: &Context, train: &Images) -> Result<Images> {
    train.select(&(0..context.pick(2_000, 640)).collect::<Vec<_>>())
}

/// The best of [`TRIES`] by the linear probe of validation images, with seed 0 and 5 types.
fn settings(context: &Context, data: &ImageData) -> Result<[Setting; 2]> {
    let bank = bank(context, &data.train)?;
    let best = |(method, tries): (Method, [Setting; 3])| {
        let score = |_: &str, setting: Setting| {
            let trained = Trained::new(context, &data.train, method, setting, 5, 0)?;
            Rows::features(&trained.encoder, &bank)?.linear_accuracy(&Rows::features(&trained.encoder, &data.validation)?)
        };
        Ok::<_, Error>(search(context, format!("setting of {}", method.name), &[method.name], &tries, score)?[0])
    };
    let [nt_xent, amcl] = TRIES;
    Ok([best(nt_xent)?, best(amcl)?])
}

struct Trained {
    method: Method,
    types: usize,
    encoder: ImageEncoder,
    heads: AmclHeads,
}

impl Trained {
    fn new(context: &Context, images: &Images, method: Method, setting: Setting, types: usize, seed: u64) -> Result<Self> {
        let bounds = [LOWEST, setting.temperature];
        let temperature = match method.form {
            _ if !method.adaptive => Temperature::Constant(setting.temperature),
            Form::BarlowTwins => Temperature::Entries { bounds },
            _ => Temperature::Pairs { hidden: 128, bounds, shared: true },
        };
        let device = context.device()?;
        let settings = AmclSettings { heads: method.heads, hidden: 128, dim: DIM, centred: method.centred, temperature };
        let heads = AmclHeads::new(&settings, 128, seed, &device)?;
        let queue = context.pick(1_024, 256);
        let recipe = SelfSupervised {
            body: Body::Conv,
            // The encoder's own head has no part in this.
            projections: 1,
            centred: false,
            views: vec![views(types); 2],
            batch: BATCH,
            epochs: context.pick(4, 2),
            learning_rate: 3e-3,
            keys: (method.form == Form::Moco).then_some(KeyEncoder { momentum: 0.99, queue, every_view: false }),
            seed,
        };
        let doing = format!("amcl, seed {seed}: {}, {types} types", method.name);
        let progress = context.progress(recipe.steps(images.len()), doing);
        let keys = |heads: &AmclHeads, encoded: Encoded| heads.rows(encoded.features);
        let loss = |heads: &AmclHeads, batch: &ViewBatch| method.loss(heads, batch, setting);
        let (encoder, heads) = recipe.fit_with_keys(images, heads, keys, &device, &progress, loss)?;
        Ok(Self { method, types, encoder, heads })
    }

    /// Returns the linear probe's accuracy.
    fn measure(&self, outcome: &mut Outcome, [bank, test]: [&Images; 2], seed: u64) -> Result<f64> {
        let name = format!("{}, {}", self.method.name, if self.types == 1 { "1 type".to_owned() } else { format!("{} types", self.types) });
        let (known, features) = (Rows::features(&self.encoder, bank)?, Rows::features(&self.encoder, test)?);
        let linear = known.linear_accuracy(&features)?;
        outcome.measure(format!("accuracy of {name}"), known.knn_accuracy(&features)?);
        outcome.measure(format!("linear accuracy of {name}"), linear);
        let by_head = self.similarities(test, seed)?;
        let mean = |of: &dyn Fn(&OfHead) -> f64| by_head.iter().map(of).sum::<f64>() / by_head.len() as f64;
        let overlap = format!("overlap of {name}");
        outcome.measure(&overlap, mean(&|head| head.histograms.overlap().unwrap_or(1.0)));
        let spread = mean(&|head| head.uniformity);
        outcome.measure(format!("uniformity of projections, {name}"), spread);
        if spread > COLLAPSED {
            outcome.doubt(overlap, "the projections have collapsed");
        }
        if self.method.adaptive {
            let read = self.heads.valid().temperatures(self.method.amcl.unwrap_or_default(), self.two_views(test, seed, 128)?)?;
            let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
            outcome.measure(format!("temperature of positives, {name}"), mean(&read.positive));
            outcome.measure(format!("temperature of negatives, {name}"), mean(&read.negative));
            let [low, high] = read.near_bounds().unwrap_or_default();
            outcome.measure(format!("share of temperatures at the lowest, {name}"), low);
            outcome.measure(format!("share of temperatures at the highest, {name}"), high);
        }
        Ok(linear)
    }

    fn plot(&self, outcome: &mut Outcome, test: &Images, seed: u64) -> Result<()> {
        let mut heads = self.similarities(test, seed)?.into_iter().map(|head| head.histograms);
        if let Some(mut all) = heads.next() {
            for head in heads {
                all.positive.merge(&head.positive);
                all.negative.merge(&head.negative);
            }
            let look = "The less the shapes share, the better positives are told from negatives.";
            outcome.plot(Plot::similarities(format!("Similarities, {}, 5 types", self.method.name), look, &all));
        }
        if self.method.adaptive {
            let read = self.heads.valid().temperatures(NegativeMode::LogSumExp, self.two_views(test, seed, 128)?)?;
            let largest = read.positive.iter().chain(&read.negative).fold(LOWEST, |l, &tau| l.max(tau));
            let shape = |name: &str, of: &[f64]| {
                let mut histogram = Histogram::new(0.0, largest, 60);
                of.iter().for_each(|&tau| histogram.add(tau));
                (name.to_owned(), histogram)
            };
            outcome.plot(Plot {
                title: "Temperatures of AMCL, 5 types".into(),
                look: "A heap at an end is a collapse to a bound.".into(),
                x: "temperature τ".into(),
                y: "% of pairs per 0.1 of temperature".into(),
                marks: Marks::Histograms(vec![shape("positives", &read.positive), shape("negatives", &read.negative)]),
            });
            self.identity(outcome, test, seed)?;
        }
        Ok(())
    }

    /// In one head with one temperature and without regulariser, AMCL with all negatives is DCL.
    fn identity(&self, outcome: &mut Outcome, test: &Images, seed: u64) -> Result<()> {
        let settings = AmclSettings { heads: 1, hidden: 32, dim: DIM, centred: true, temperature: Temperature::Constant(0.2) };
        let head = AmclHeads::new(&settings, 128, seed, &Device::flex())?;
        let [f1, f2] = self.two_views(test, seed, 128)?;
        let ours = head.simclr(&Amcl::new(0.0)?.mode(NegativeMode::LogSumExp), [f1.clone(), f2.clone()])?.into_scalar::<f64>();
        let dcl = 0.5 * Dcl::new(0.2)?.symmetric(true).forward(head.rows(f1), head.rows(f2))?.into_scalar::<f64>();
        let says = "one head, one temperature, β = 0 and all negatives: the loss is half of DCL's, to 1e-5";
        outcome.check(says, (ours - dcl).abs() < 1e-5 * (1.0 + dcl.abs()), format!("{ours:.6} and {dcl:.6}"));
        Ok(())
    }

    /// Features of two random views of the first images.
    fn two_views(&self, images: &Images, seed: u64, first: u32) -> Result<[Tensor<2>; 2]> {
        let images = images.select(&(0..first.min(images.len() as u32)).collect::<Vec<_>>())?;
        let view = |which: u64| {
            // Each chunk of images has views of its own.
            let mut chunk = 0;
            let (values, width) = self.encoder.embed(&images, |rows| {
                chunk += 1;
                views(self.types).views(&images, rows, seed, 2 * chunk + which)
            })?;
            Ok::<_, Error>(Tensor::<2>::from_data(TensorData::new(values, [images.len(), width]), &Device::flex()))
        };
        Ok([view(0)?, view(1)?])
    }

    /// Of two views of 2,000 images, head by head.
    fn similarities(&self, test: &Images, seed: u64) -> Result<Vec<OfHead>> {
        let heads = self.heads.valid();
        let [z1, z2] = self.two_views(test, seed, 2_000)?.map(|features| heads.project(features));
        let of = |head: usize| {
            let rows = |z: &Tensor<3>| z.clone().narrow(0, head, 1).into_data().iter::<f32>().collect::<Vec<_>>();
            let (z1, z2) = (rows(&z1), rows(&z2));
            let uniformity = uniformity(&z1, DIM, 2.0, true)?;
            Ok(OfHead { histograms: SimilarityHistograms::of_views(&z1, &z2, DIM, 50)?, uniformity })
        };
        (0..self.method.heads).map(of).collect()
    }
}

struct OfHead {
    histograms: SimilarityHistograms,
    uniformity: f64,
}

impl Method {
    fn loss(&self, heads: &AmclHeads, batch: &ViewBatch, setting: Setting) -> Result<Tensor<1>> {
        let Setting { temperature, beta } = setting;
        let features = batch.encoded.features.clone();
        if let Some(mode) = self.amcl {
            let loss = Amcl::new(if self.adaptive { beta } else { 0.0 })?.mode(mode);
            return match self.form {
                Form::SimClr => heads.simclr(&loss, batch.features()?),
                Form::Moco => {
                    let [keys, queue] = keys_and_queue(batch)?;
                    heads.moco(&loss, features, keys, queue)
                }
                Form::BarlowTwins => heads.barlow_twins(&AmclBarlowTwins::new(LAMBDA, beta)?, batch.features()?),
            };
        }
        let rows = heads.rows(features);
        if self.form == Form::Moco {
            let [keys, queue] = keys_and_queue(batch)?;
            return Ok(MocoInfoNce::new(temperature)?.forward(rows, keys, queue)?.loss);
        }
        let n = batch.rows.len();
        let (z1, z2) = (rows.clone().narrow(0, 0, n), rows.narrow(0, n, n));
        match self.form {
            Form::BarlowTwins => Ok(BarlowTwins::new(LAMBDA)?.forward(z1, z2)?.loss),
            _ => NtXent::new(temperature)?.forward(z1, z2),
        }
    }
}

fn keys_and_queue(batch: &ViewBatch) -> Result<[Tensor<2>; 2]> {
    let [keys] = batch.keys()?;
    let queue = batch.queue.clone().ok_or_else(|| Error::invalid("the recipe has no queue"))?;
    Ok([keys, queue])
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
        let outcome = &report.runs[0].outcome;
        let measured = |name: &str| outcome.measured.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}")).1;
        let of = |what: &str, method: Method| measured(&format!("{what} of {}, 5 types", method.name));
        for method in TRIES.map(|(method, _)| method).into_iter().chain(BESIDE.map(|(method, _)| method)) {
            assert!(of("linear accuracy", method) > 0.55, "{}", method.name);
        }
        // Ten steps suffice to collapse with the nearest negative alone, and not with all of them.
        let spread = |method: Method| measured(&format!("uniformity of projections, {}, 5 types", method.name));
        assert!(spread(NEAREST) > COLLAPSED && spread(AMCL) < COLLAPSED && of("overlap", AMCL) < 0.8);
        assert!(outcome.unreliable.contains_key("overlap of AMCL, nearest negative, 5 types"));
        assert!((LOWEST..=2.0).contains(&measured("temperature of positives, AMCL, 5 types")));
        assert_eq!(outcome.plots.len(), 4);
    }
}
