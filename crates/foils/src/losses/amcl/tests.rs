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
    let ours = AmclNtXent::new(0.0).unwrap().mode(NegativeMode::LogSumExp);
    let ours = ours.forward(z1.clone(), z2.clone(), full([1, 2 * n, 2 * n], t)).unwrap().into_scalar::<f64>();
    let dcl = Dcl::new(t).unwrap().symmetric(true).forward(z1.reshape([n, d]), z2.reshape([n, d])).unwrap().into_scalar::<f64>();
    assert!((ours - dcl / 2.0).abs() < 1e-12, "{ours} and {dcl}");
}

#[test]
fn heads_add_up_and_equal_neighbours_count_once() {
    let (z1, z2, tau) = (wave([3, 4, 3], 0.7), wave([3, 4, 3], 1.9), wave([3, 8, 8], 0.3).abs().add_scalar(0.1));
    for mode in [NegativeMode::Max, NegativeMode::LogSumExp] {
        let loss = AmclNtXent::new(0.1).unwrap().mode(mode);
        let all = loss.forward(z1.clone(), z2.clone(), tau.clone()).unwrap().into_scalar::<f64>();
        let one = |c: usize| {
            let of = |x: &Tensor<3>| x.clone().slice(c..c + 1);
            loss.forward(of(&z1), of(&z2), of(&tau)).unwrap().into_scalar::<f64>()
        };
        assert!((all - one(0) - one(1) - one(2)).abs() < 1e-12);
    }
    // All rows equal: the first other row is the nearest, and no second one has a gradient.
    let tau = full([1, 6, 6], 0.5);
    let loss = AmclNtXent::new(0.1).unwrap().forward(full([1, 3, 2], 1.0), full([1, 3, 2], 1.0), tau.clone()).unwrap();
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
    // Rows in several blocks, and gradients that reach all weights.
    let many = network.weights().all_pairs(wave([700, 3], 0.7).cast(DType::F32), wave([900, 3], 1.3).cast(DType::F32)).unwrap();
    assert_eq!(many.dims(), [700, 900]);
    let gradients = many.sum().backward();
    let weights = network.weights();
    assert!(weights.w1.grad(&gradients).is_some() && weights.b1.grad(&gradients).is_some() && weights.b2.grad(&gradients).is_some());
}

#[test]
fn gradients_of_the_barlow_form_are_right() {
    let (z1, z2, tau) = (wave([2, 5, 3], 0.7), wave([2, 5, 3], 1.9), wave([2, 3, 3], 0.3).abs().add_scalar(0.2));
    let loss = AmclBarlowTwins::new(0.01, 0.1).unwrap();
    let tau = tensor(tau.into_data().iter::<f64>().collect(), [2, 3, 3]);
    let gradients = loss.forward(z1.clone(), z2.clone(), tau.clone()).unwrap().backward();
    let check = |gradient: Tensor<3>, x: &Tensor<3>, at: &dyn Fn(Tensor<3>) -> f64| {
        let (gradient, values) = (gradient.into_data(), x.clone().inner().into_data());
        let (gradient, values): (Vec<f64>, Vec<f64>) = (gradient.iter::<f64>().collect(), values.iter::<f64>().collect());
        for k in 0..values.len() {
            let by = |h: f64| {
                let mut moved = values.clone();
                moved[k] += h;
                at(tensor(moved, x.dims()))
            };
            assert!((gradient[k] - (by(1e-5) - by(-1e-5)) / 2e-5).abs() < 1e-6 * (1.0 + gradient[k].abs()));
        }
    };
    check(z1.grad(&gradients).unwrap(), &z1, &|x| loss.forward(x, z2.clone(), tau.clone()).unwrap().into_scalar());
    check(tau.grad(&gradients).unwrap(), &tau, &|x| loss.forward(z1.clone(), z2.clone(), x).unwrap().into_scalar());
}

#[test]
fn bad_input_is_refused() {
    let z = |c: usize, n: usize| wave([c, n, 3], 0.7);
    let tau = |c: usize, n: usize| full([c, 2 * n, 2 * n], 0.5);
    let loss = AmclNtXent::new(0.1).unwrap();
    refused(loss.forward(z(1, 1), z(1, 1), tau(1, 1)), "2 rows");
    refused(loss.forward(z(1, 3), z(1, 3), tau(2, 3)), "tau has the shape [2, 6, 6]");
    refused(loss.forward(z(1, 3), z(1, 2), tau(1, 3)), "z2");
    for bad in [0.0, -0.5, f64::NAN, f64::INFINITY] {
        refused(loss.forward(z(1, 3), z(1, 3), full([1, 6, 6], bad)), "entry 0 is");
        refused(temperature_regularizer(full([2], bad), 3), "entry 0 is");
    }
    refused(loss.forward(z(1, 3).mul_scalar(f64::NAN), z(1, 3), tau(1, 3)), "z1");
    refused(temperature_regularizer(full([2], 1.0), 0), "dim = 0");
    refused(AmclNtXent::new(-0.1), "beta");
    refused(AmclMoco::new(f64::NAN), "beta");
    refused(AmclBarlowTwins::new(-1.0, 0.1), "lambda_offdiag");
    let moco = AmclMoco::new(0.1).unwrap();
    refused(moco.forward(z(2, 3), z(2, 3), z(1, 4), full([2, 3], 1.0), full([2, 3, 4], 1.0)), "queue has the shape [1, 4, 3]");
    refused(moco.forward(z(2, 3), z(2, 3), z(2, 4), full([2, 2], 1.0), full([2, 3, 4], 1.0)), "tau_pos has the shape");
    refused(moco.forward(z(2, 3), z(2, 3), z(2, 4), full([2, 3], 1.0), full([2, 3, 4], -1.0)), "tau_neg: entry 0 is -1");
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
