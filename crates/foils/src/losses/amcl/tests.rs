//! What the forms have in common, and what is refused.

use super::*;
use crate::losses::Dcl;
use burn::tensor::{DType, Device};

fn tensor<const D: usize>(values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (&Device::flex().autodiff(), DType::F64)).require_grad()
}

fn wave<const D: usize>(shape: [usize; D], step: f64) -> Tensor<D> {
    tensor((0..shape.iter().product()).map(|i| (i as f64 * step + step).sin()).collect(), shape)
}

fn full<const D: usize>(shape: [usize; D], value: f64) -> Tensor<D> {
    tensor(vec![value; shape.iter().product()], shape)
}

fn refused<T>(result: Result<T>, words: &str) {
    let message = result.err().unwrap().to_string();
    assert!(message.contains(words), "{message}");
}

#[test]
fn one_head_one_temperature_and_no_regulariser_are_dcl() {
    let (n, d, t) = (5, 3, 0.2);
    let (z1, z2) = (wave([1, n, d], 0.7), wave([1, n, d], 1.9));
    let ours = Amcl::new(0.0).unwrap().mode(NegativeMode::LogSumExp);
    let ours = ours.forward(z1.clone(), z2.clone(), full([1, 2 * n, 2 * n], t)).unwrap().into_scalar::<f64>();
    let dcl = Dcl::new(t).unwrap().symmetric(true).forward(z1.reshape([n, d]), z2.reshape([n, d])).unwrap().into_scalar::<f64>();
    assert!((ours - dcl / 2.0).abs() < 1e-12, "{ours} and {dcl}");
}

#[test]
fn heads_add_up_and_equal_neighbours_count_once() {
    let (z1, z2, tau) = (wave([3, 4, 3], 0.7), wave([3, 4, 3], 1.9), wave([3, 8, 8], 0.3).abs().add_scalar(0.1));
    for mode in [NegativeMode::Max, NegativeMode::LogSumExp] {
        let loss = Amcl::new(0.1).unwrap().mode(mode);
        let all = loss.forward(z1.clone(), z2.clone(), tau.clone()).unwrap().into_scalar::<f64>();
        let one = |c: usize| {
            let of = |x: &Tensor<3>| x.clone().slice(c..c + 1);
            loss.forward(of(&z1), of(&z2), of(&tau)).unwrap().into_scalar::<f64>()
        };
        assert!((all - one(0) - one(1) - one(2)).abs() < 1e-12);
    }
    // All rows equal: the first other row is the nearest, and no second one has a gradient.
    let tau = full([1, 6, 6], 0.5);
    let loss = Amcl::new(0.1).unwrap().forward(full([1, 3, 2], 1.0), full([1, 3, 2], 1.0), tau.clone()).unwrap();
    let gradient: Vec<f64> = tau.grad(&loss.backward()).unwrap().into_data().iter::<f64>().collect();
    let read: Vec<usize> = (0..6).filter(|j| gradient[*j] != 0.0).collect();
    assert_eq!(read, [1, 3]);
}

#[test]
fn temperatures_of_all_pairs_are_those_of_pairs() {
    let device = Device::flex().autodiff();
    let network = AdaptiveTemperature::new(3, 7, 0.05, 2.0, 4, &device).unwrap();
    let (a, b) = (wave([5, 3], 0.7).cast(DType::F32), wave([4, 3], 1.3).cast(DType::F32));
    let all: Vec<f32> = network.weights().all_pairs(a.clone(), b.clone()).unwrap().into_data().iter::<f32>().collect();
    for (k, tau) in all.iter().enumerate() {
        let row = |x: &Tensor<2>, i: usize| x.clone().slice(i..i + 1);
        let one = network.weights().pairs(row(&a, k / 4), row(&b, k % 4)).unwrap().into_scalar::<f32>();
        assert!((one - tau).abs() < 1e-6 && (0.05..=2.0).contains(tau));
    }
    // Rows in several blocks.
    let many = network.weights().all_pairs(wave([700, 3], 0.7).cast(DType::F32), wave([900, 3], 1.3).cast(DType::F32)).unwrap();
    assert_eq!(many.dims(), [700, 900]);
    let gradients = many.sum().backward();
    let weights = network.weights();
    assert!(weights.w1.grad(&gradients).is_some());
}

/// The gradient of `f` by its only input against central differences.
fn check_gradient<const D: usize>(x: &Tensor<D>, f: impl Fn(Tensor<D>) -> Tensor<1>) {
    let values: Vec<f64> = x.clone().inner().into_data().iter::<f64>().collect();
    let input = tensor(values.clone(), x.dims());
    let gradient: Vec<f64> = input.grad(&f(input.clone()).backward()).unwrap().into_data().iter::<f64>().collect();
    for k in 0..values.len() {
        let at = |h: f64| {
            let mut moved = values.clone();
            moved[k] += h;
            f(tensor(moved, x.dims())).into_scalar::<f64>()
        };
        let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((gradient[k] - expected).abs() < 1e-6 * (1.0 + expected.abs()), "entry {k}: {} and {expected}", gradient[k]);
    }
}

#[test]
fn gradients_are_right() {
    let (z1, z2, tau) = (wave([2, 4, 3], 0.7), wave([2, 4, 3], 1.9), wave([2, 3, 3], 0.3).abs().add_scalar(0.2).detach().require_grad());
    let twins = AmclBarlowTwins::new(0.01, 0.1).unwrap();
    check_gradient(&z1, |x| twins.forward(x, z2.clone(), tau.clone()).unwrap());
    check_gradient(&z2, |x| twins.forward(z1.clone(), x, tau.clone()).unwrap());
    check_gradient(&tau, |x| twins.forward(z1.clone(), z2.clone(), x).unwrap());
    for mode in [NegativeMode::Max, NegativeMode::LogSumExp] {
        let loss = Amcl::new(0.1).unwrap().mode(mode);
        let tau = wave([2, 8, 8], 0.3).abs().add_scalar(0.2).detach().require_grad();
        check_gradient(&z1, |x| loss.forward(x, z2.clone(), tau.clone()).unwrap());
        check_gradient(&z2, |x| loss.forward(z1.clone(), x, tau.clone()).unwrap());
        check_gradient(&tau, |x| loss.forward(z1.clone(), z2.clone(), x).unwrap());
        let (queue, own, theirs) = (
            wave([2, 5, 3], 0.4),
            wave([2, 4], 0.9).abs().add_scalar(0.2).detach().require_grad(),
            wave([2, 4, 5], 1.4).abs().add_scalar(0.2).detach().require_grad(),
        );
        let of = |query: Tensor<3>, own: Tensor<2>, theirs: Tensor<3>| {
            loss.forward_queue(query, z2.clone(), queue.clone(), own, theirs).unwrap()
        };
        check_gradient(&z1, |x| of(x, own.clone(), theirs.clone()));
        check_gradient(&own, |x| of(z1.clone(), x, theirs.clone()));
        check_gradient(&theirs, |x| of(z1.clone(), own.clone(), x));
    }
}

#[test]
fn gradients_of_all_pairs_are_right() {
    let (a, b) = (wave([4, 3], 0.7), wave([5, 3], 1.3));
    let (w1, b1, w2, b2) = (wave([6, 6], 0.37), wave([6], 0.9), wave([1, 6], 1.7), wave([1], 0.2));
    let weights = wave([4, 5], 2.1);
    let of = |a: &Tensor<2>, b: &Tensor<2>, w1: &Tensor<2>, b1: &Tensor<1>, w2: &Tensor<2>, b2: &Tensor<1>| {
        let network = TemperatureWeights::new(w1.clone(), b1.clone(), w2.clone(), b2.clone(), 0.05, 2.0).unwrap();
        (network.all_pairs(a.clone(), b.clone()).unwrap() * weights.clone()).sum()
    };
    check_gradient(&a, |x| of(&x, &b, &w1, &b1, &w2, &b2));
    check_gradient(&b, |x| of(&a, &x, &w1, &b1, &w2, &b2));
    check_gradient(&w1, |x| of(&a, &b, &x, &b1, &w2, &b2));
    check_gradient(&b1, |x| of(&a, &b, &w1, &x, &w2, &b2));
    check_gradient(&w2, |x| of(&a, &b, &w1, &b1, &x, &b2));
    check_gradient(&b2, |x| of(&a, &b, &w1, &b1, &w2, &x));
}

#[test]
fn temperatures_that_are_not_read_have_no_gradient_however_small() {
    let (z1, z2) = (wave([1, 3, 2], 0.7), wave([1, 3, 2], 1.9));
    for mode in [NegativeMode::Max, NegativeMode::LogSumExp] {
        // The diagonal is never read.
        let tau = tensor((0..36).map(|k| if k % 7 == 0 { 1e-300 } else { 0.5 }).collect(), [1, 6, 6]);
        let loss = Amcl::new(0.1).unwrap().mode(mode).forward(z1.clone(), z2.clone(), tau.clone()).unwrap();
        let gradient: Vec<f64> = tau.grad(&loss.backward()).unwrap().into_data().iter::<f64>().collect();
        assert!(gradient.iter().all(|g| g.is_finite()) && (0..6).all(|i| gradient[7 * i] == 0.0), "{mode:?}: {gradient:?}");
    }
}

#[test]
fn bad_input_is_refused() {
    let z = |c: usize, n: usize| wave([c, n, 3], 0.7);
    let tau = |c: usize, n: usize| full([c, 2 * n, 2 * n], 0.5);
    let loss = Amcl::new(0.1).unwrap();
    refused(loss.forward(z(1, 1), z(1, 1), tau(1, 1)), "2 rows");
    refused(loss.forward(z(0, 3), z(0, 3), tau(0, 3)), "at least 1 head");
    assert!(serde_json::from_str::<NegativeMode>(r#""mean""#).unwrap_err().to_string().contains("logsumexp"));
    refused(loss.forward(z(1, 3), z(1, 3), tau(2, 3)), "tau has the shape [2, 6, 6]");
    refused(loss.forward(z(1, 3), z(1, 2), tau(1, 3)), "z2");
    for bad in [0.0, -0.5, f64::NAN, f64::INFINITY] {
        refused(loss.forward(z(1, 3), z(1, 3), full([1, 6, 6], bad)), "entry 0 is");
        refused(temperature_regularizer(full([2], bad), 3), "entry 0 is");
    }
    refused(loss.forward(z(1, 3).mul_scalar(f64::NAN), z(1, 3), tau(1, 3)), "z1");
    refused(temperature_regularizer(full([2], 1.0), 0), "dim = 0");
    refused(Amcl::new(-0.1), "beta");
    refused(Amcl::new(f64::NAN), "beta");
    refused(AmclBarlowTwins::new(-1.0, 0.1), "lambda_offdiag");
    let moco = Amcl::new(0.1).unwrap();
    refused(moco.forward_queue(z(2, 3), z(2, 3), z(2, 0), full([2, 3], 1.0), full([2, 3, 0], 1.0)), "queue is empty");
    refused(moco.forward_queue(z(2, 3), z(2, 3), z(1, 4), full([2, 3], 1.0), full([2, 3, 4], 1.0)), "queue has the shape [1, 4, 3]");
    refused(moco.forward_queue(z(2, 3), z(2, 3), z(2, 4), full([2, 2], 1.0), full([2, 3, 4], 1.0)), "tau_pos has the shape");
    refused(moco.forward_queue(z(2, 3), z(2, 3), z(2, 4), full([2, 3], 1.0), full([2, 3, 4], -1.0)), "tau_neg: entry 0 is -1");
    refused(AmclBarlowTwins::new(0.1, 0.1).unwrap().forward(z(1, 3), z(1, 3), full([1, 2, 2], 1.0)), "tau has the shape");
    let device = Device::flex();
    for (low, high, words) in [(0.0, 1.0, "tau_min"), (1.0, 1.0, "tau_min = 1 must be below"), (0.1, f64::NAN, "tau_max")] {
        refused(AdaptiveTemperature::new(3, 4, low, high, 0, &device), words);
    }
    refused(AdaptiveTemperature::new(0, 4, 0.1, 1.0, 0, &device), "0 numbers a row");
    let network = TemperatureWeights::new(wave([4, 6], 1.0), full([4], 0.0), full([1, 4], 0.1), full([1], 0.0), 0.1, 1.0).unwrap();
    refused(network.pairs(wave([2, 3], 1.0), wave([3, 3], 1.0)), "z_b");
    refused(network.all_pairs(wave([2, 2], 1.0), wave([3, 3], 1.0)), "z_a has 2 columns");
    refused(TemperatureWeights::new(wave([4, 5], 1.0), full([4], 0.0), full([1, 4], 0.1), full([1], 0.0), 0.1, 1.0), "[h, 2d]");
}
