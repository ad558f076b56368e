//! Heads: that what is computed for training is what the losses say, and that encoders learn with it.

use super::*;
use crate::data::images::{Augment, Images};
use crate::losses::{BarlowTwins, Dcl};
use crate::models::image::Body;
use crate::progress::Progress;
use crate::train::{KeyEncoder, SelfSupervised};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, TensorData};

const FEATURES: usize = 6;

fn device() -> Device {
    Device::flex().autodiff()
}

fn features(n: usize, step: f64) -> Tensor<2> {
    let values: Vec<f32> = (0..n * FEATURES).map(|i| (i as f64 * step + step).sin() as f32).collect();
    Tensor::from_data(TensorData::new(values, [n, FEATURES]), &device()).require_grad()
}

fn settings(heads: usize, temperature: Temperature) -> AmclSettings {
    AmclSettings { heads, hidden: 8, dim: 5, centred: false, temperature }
}

fn heads(settings: AmclSettings) -> AmclHeads {
    AmclHeads::new(&settings, FEATURES, 3, &device()).unwrap()
}

const fn pairs(shared: bool) -> Temperature {
    Temperature::Pairs { hidden: 7, bounds: [0.05, 2.0], shared }
}

/// The loss, and its gradients of the inputs and of every parameter.
fn found(heads: &AmclHeads, inputs: &[Tensor<2>], loss: Tensor<1>) -> Vec<f64> {
    struct Gradients<'a>(&'a burn::tensor::Gradients, Vec<f64>);
    impl Gradients<'_> {
        fn add<const D: usize>(&mut self, x: &Tensor<D>) {
            match x.grad(self.0) {
                Some(gradient) => self.1.extend(gradient.into_data().iter::<f64>()),
                None => self.1.extend(vec![0.0; x.dims().iter().product()]),
            }
        }
    }
    impl ModuleVisitor for Gradients<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.add(&param.val());
        }
    }
    let gradients = loss.backward();
    let mut all = Gradients(&gradients, vec![loss.into_scalar::<f64>()]);
    inputs.iter().for_each(|x| all.add(x));
    heads.visit(&mut all);
    all.1
}

fn assert_close(one: &[f64], other: &[f64]) {
    assert_eq!(one.len(), other.len());
    let largest = other.iter().fold(0.0, |l: f64, v| l.max(v.abs()));
    for (k, (a, b)) in one.iter().zip(other).enumerate() {
        assert!((a - b).abs() < 1e-5 * (largest + 1.0), "number {k}: {a} and {b}");
    }
    assert!(one.iter().filter(|v| v.abs() > 1e-7).count() > 20, "there is something in it");
}

#[test]
fn what_is_read_alone_gives_the_loss_of_all_pairs() {
    let (n, k) = (6, 9);
    for (temperature, centred) in [(pairs(true), false), (pairs(false), true), (Temperature::Constant(0.3), false)] {
        let heads = heads(AmclSettings { centred, ..settings(3, temperature) });
        for mode in [NegativeMode::Max, NegativeMode::LogSumExp] {
            let loss = Amcl::new(0.1).unwrap().mode(mode);
            let [f1, f2] = [features(n, 0.7), features(n, 1.9)];
            let ours = found(&heads, &[f1.clone(), f2.clone()], heads.simclr(&loss, [f1, f2]).unwrap());
            let [f1, f2] = [features(n, 0.7), features(n, 1.9)];
            let z = heads.project(Tensor::cat(vec![f1.clone(), f2.clone()], 0));
            let tau = heads.all_pairs(z.clone(), z.clone()).unwrap();
            let expected = loss.forward(z.clone().narrow(1, 0, n), z.narrow(1, n, n), tau).unwrap();
            assert_close(&ours, &found(&heads, &[f1, f2], expected));

            let (keys, queue) = (heads.rows(features(n, 0.4)).detach(), heads.rows(features(k, 1.1)).detach());
            let query = features(n, 0.7);
            let ours = heads.moco(&loss, query.clone(), keys.clone(), queue.clone()).unwrap();
            let ours = found(&heads, &[query], ours);
            let query = features(n, 0.7);
            let q = heads.project(query.clone());
            let [keys, queue] = [keys, queue].map(|rows| heads::by_head(rows, 3));
            let own = heads.pairs(q.clone(), keys.clone()).unwrap();
            let theirs = heads.all_pairs(q.clone(), queue.clone()).unwrap();
            assert_close(&ours, &found(&heads, &[query], loss.forward_queue(q, keys, queue, own, theirs).unwrap()));
        }
    }
}

#[test]
fn one_head_with_one_temperature_is_dcl_and_barlow_twins() {
    let [f1, f2] = [features(5, 0.7), features(5, 1.9)];
    let one = heads(settings(1, Temperature::Constant(0.2)));
    let loss = Amcl::new(0.0).unwrap().mode(NegativeMode::LogSumExp);
    let ours = one.simclr(&loss, [f1.clone(), f2.clone()]).unwrap().into_scalar::<f64>();
    let dcl = Dcl::new(0.2).unwrap().symmetric(true).forward(one.rows(f1.clone()), one.rows(f2.clone())).unwrap();
    assert!((ours - dcl.into_scalar::<f64>() / 2.0).abs() < 1e-5);

    let one = heads(settings(1, Temperature::Constant(1.0)));
    let ours = one.barlow_twins(&AmclBarlowTwins::new(0.1, 0.0).unwrap(), [f1.clone(), f2.clone()]).unwrap().into_scalar::<f64>();
    let twins = BarlowTwins::new(0.1).unwrap().forward(one.rows(f1), one.rows(f2)).unwrap().loss.into_scalar::<f64>();
    assert!((ours - twins).abs() < 1e-5 && ours > 0.1, "{ours} and {twins}");
}

#[test]
fn rows_lie_head_after_head_and_heads_share_nothing() {
    let heads = heads(settings(3, pairs(true)));
    let (rows, z) = (heads.rows(features(4, 0.7)), heads.project(features(4, 0.7)));
    for head in 0..3 {
        let of_head = rows.clone().narrow(1, 5 * head, 5).into_data();
        assert_eq!(z.clone().narrow(0, head, 1).reshape([4, 5]).into_data(), of_head);
    }
    // A head's projections reach that head's four parameters and no others.
    let gradients = z.narrow(0, 1, 1).sum().backward();
    struct Reached<'a>(&'a burn::tensor::Gradients, Vec<bool>);
    impl ModuleVisitor for Reached<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let sum = |gradient: Tensor<D>| gradient.abs().sum().into_scalar::<f32>();
            self.1.push(param.val().grad(self.0).is_some_and(|gradient| sum(gradient) > 0.0));
        }
    }
    let mut reached = Reached(&gradients, Vec::new());
    heads.visit(&mut reached);
    assert_eq!(reached.1, [[false; 4], [true; 4], [false; 4], [false; 4]].concat());
}

#[test]
fn temperatures_are_those_read_and_those_at_the_bounds_are_counted() {
    let n = 4;
    let views = || [features(n, 0.7), features(n, 1.9)];
    let some = heads(settings(2, pairs(true)));
    let read = |mode| some.temperatures(mode, views()).unwrap();
    let (few, all) = (read(NegativeMode::Max), read(NegativeMode::LogSumExp));
    assert_eq!((few.positive.len(), few.negative.len()), (2 * 2 * n, 2 * 2 * n));
    assert_eq!((all.positive.len(), all.negative.len()), (2 * 2 * n, 2 * 2 * n * (2 * n - 2)));
    assert!(few.positive.iter().zip(&all.positive).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!(few.negative.iter().all(|tau| all.negative.iter().any(|other| (tau - other).abs() < 1e-6)));
    assert_eq!(few.near_bounds(), Some([0.0, 0.0]));
    let at = |values: [f64; 4]| ReadTemperatures { positive: values[..2].to_vec(), negative: values[2..].to_vec(), ..few.clone() };
    assert_eq!(at([0.0504, 0.0506, 1.97, 1.99]).near_bounds(), Some([0.25, 0.25]));
    let constant = heads(settings(2, Temperature::Constant(0.5))).temperatures(NegativeMode::Max, views()).unwrap();
    assert_eq!((constant.near_bounds(), constant.negative[3]), (None, 0.5));
    let entries = heads(settings(2, Temperature::Entries { bounds: [0.5, 1.5] })).temperatures(NegativeMode::Max, views()).unwrap();
    assert_eq!((entries.positive, entries.negative), (vec![1.0; 2 * 5], vec![1.0; 2 * 5 * 4]));
}

#[test]
fn encoders_learn_with_each_form() {
    // Class 0 is bright above, class 1 below.
    let pixels =
        (0..64).flat_map(|i: u8| (0..64).map(move |p| if (p < 32) == i.is_multiple_of(2) { 150 + i } else { 20 + i % 7 })).collect();
    let images = Images::new([1, 8, 8], pixels, (0..64).map(|i| i % 2).collect()).unwrap();
    let view = Augment { shift: 1, noise: 0.1, ..Augment::NONE };
    let recipe = SelfSupervised {
        body: Body::Conv,
        projections: 1,
        centred: false,
        views: vec![view; 2],
        batch: 16,
        epochs: 6,
        learning_rate: 3e-3,
        keys: None,
        seed: 3,
    };
    let heads = |temperature| AmclHeads::new(&AmclSettings { centred: true, ..settings(2, temperature) }, 128, 1, &device()).unwrap();
    let fell = |losses: &[f32]| {
        let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
        assert!(mean(&losses[20..]) < mean(&losses[..4]), "{losses:?}");
    };
    let none = Progress::new(0, "");
    for mode in [NegativeMode::Max, NegativeMode::LogSumExp] {
        let loss = Amcl::new(0.1).unwrap().mode(mode);
        let mut losses = Vec::new();
        let step = |heads: &AmclHeads, batch: &crate::train::ViewBatch| {
            let loss = heads.simclr(&loss, batch.features()?)?;
            losses.push(loss.clone().into_scalar::<f32>());
            Ok(loss)
        };
        recipe.fit_with(&images, heads(pairs(true)), &device(), &none, step).unwrap();
        fell(&losses);

        let keys = Some(KeyEncoder { momentum: 0.9, queue: 32, every_view: false });
        let mut losses = Vec::new();
        let mut queues = Vec::new();
        let step = |heads: &AmclHeads, batch: &crate::train::ViewBatch| {
            let ([features], [keys]) = (batch.features()?, batch.keys()?);
            let queue = batch.queue.clone().expect("the recipe has one");
            queues.push((keys.clone().into_data(), queue.clone().narrow(0, 0, 16).into_data()));
            let loss = heads.moco(&loss, features, keys, queue)?;
            losses.push(loss.clone().into_scalar::<f32>());
            Ok(loss)
        };
        let made = |heads: &AmclHeads, encoded: crate::models::image::Encoded| heads.rows(encoded.features);
        SelfSupervised { keys, ..recipe.clone() }.fit_with_keys(&images, heads(pairs(true)), made, &device(), &none, step).unwrap();
        fell(&losses);
        // Keys as wide as both heads, which come into the queue after their own loss.
        assert_eq!((&queues[0].0, queues[0].0.shape().to_vec()), (&queues[1].1, vec![16, 10]));
    }
    let twins = AmclBarlowTwins::new(0.01, 0.0).unwrap();
    let mut losses = Vec::new();
    let entries = heads(Temperature::Entries { bounds: [0.5, 2.0] });
    let (_, trained) = recipe
        .fit_with(&images, entries, &device(), &none, |heads, batch| {
            let loss = heads.barlow_twins(&twins, batch.features()?)?;
            losses.push(loss.clone().into_scalar::<f32>());
            Ok(loss)
        })
        .unwrap();
    fell(&losses);
    let read = trained.temperatures(NegativeMode::Max, [features_of(&images), features_of(&images)]).unwrap();
    assert!(read.positive.iter().any(|tau| (tau - 1.25).abs() > 1e-3), "temperatures are trained along");
}

/// Anything as wide as the encoder's features.
fn features_of(images: &Images) -> Tensor<2> {
    Tensor::ones([images.len(), 128], &device())
}

#[test]
fn what_cannot_be_is_refused() {
    let says = |result: Result<Tensor<1>>, words: &str| {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    let refused = |settings: AmclSettings, features: usize, words: &str| {
        let message = AmclHeads::new(&settings, features, 0, &device()).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    refused(settings(0, pairs(true)), 4, "0 heads");
    refused(AmclSettings { hidden: 0, ..settings(1, pairs(true)) }, 4, "0 hidden units");
    refused(settings(1, pairs(true)), 0, "0 features");
    refused(settings(1, Temperature::Constant(0.0)), 4, "temperature = 0");
    refused(settings(1, Temperature::Pairs { hidden: 4, bounds: [1.0, 0.5], shared: true }), 4, "tau_min = 1");
    refused(settings(1, Temperature::Entries { bounds: [0.0, 0.5] }), 4, "tau_min = 0");
    assert!(serde_json::from_str::<AmclSettings>(r#"{"head": 3}"#).is_err());
    let (loss, twins) = (Amcl::new(0.1).unwrap(), AmclBarlowTwins::new(0.1, 0.1).unwrap());
    let some = heads(settings(2, pairs(true)));
    let entries = heads(settings(2, Temperature::Entries { bounds: [0.1, 1.0] }));
    let views = |n| [features(n, 0.7), features(n, 1.9)];
    for mode in [NegativeMode::Max, NegativeMode::LogSumExp] {
        let loss = loss.mode(mode);
        says(some.simclr(&loss, views(1)), "1 rows");
        says(some.simclr(&loss, [features(3, 0.7), features(4, 0.7)]), "the first view has shape [3, 6]");
        says(some.simclr(&loss, views(3).map(|x| x.mul_scalar(f64::NAN))), "NaN");
        says(entries.simclr(&loss, views(3)), "for Barlow Twins");
        let rows = |n, width| Tensor::<2>::ones([n, width], &device());
        says(some.moco(&loss, features(3, 0.7), rows(3, 5), rows(4, 10)), "keys has [3, 5]");
        says(some.moco(&loss, features(3, 0.7), rows(3, 10), rows(4, 5)), "the widths differ");
        says(some.moco(&loss, features(3, 0.7), rows(3, 10), rows(4, 10).mul_scalar(f64::NAN)), "NaN");
        says(some.moco(&loss, features(1, 0.7), rows(1, 10), rows(4, 10)), "1 rows");
        says(entries.moco(&loss, features(3, 0.7), rows(3, 10), rows(4, 10)), "for Barlow Twins");
    }
    says(some.barlow_twins(&twins, views(3)), "Barlow Twins has no pairs");
}
