//! The kernel and tensor operations give the same loss and gradients; gradients are right; bad input is refused.

mod devices;
mod distillation;
mod hardness;
mod pairs;
mod ranking;

use super::*;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// What sentence-transformers gives: `tests/peers/distillation.py`.
pub(crate) fn recorded() -> serde_json::Value {
    crate::files::read_json(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/distillation.json"))).unwrap()
}

fn leaf(rows: &[f64], dim: usize) -> Tensor<2> {
    let data = TensorData::new(rows.to_vec(), [rows.len() / dim, dim]);
    Tensor::from_data(data, (&Device::flex().autodiff(), DType::F64)).require_grad()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.inner().into_data().iter::<f64>().collect()
}

/// Value, gradient of `a`, gradient of `b`.
fn evaluate(a: &[f64], b: &[f64], dim: usize, f: impl Fn(Tensor<2>, Tensor<2>) -> Result<Tensor<1>>) -> Result<[Vec<f64>; 3]> {
    let (a, b) = (leaf(a, dim), leaf(b, dim));
    // Times 3, so that the gradient from above is not 1.
    let loss = f(a.clone(), b.clone())?.mul_scalar(3.0);
    let gradients = loss.backward();
    let grad = |x: &Tensor<2>| x.grad(&gradients).map(values).unwrap_or_default();
    Ok([values(loss), grad(&a), grad(&b)])
}

/// Runs a loss by both paths and returns the kernel's answer.
fn both(a: &[f64], b: &[f64], dim: usize, f: impl Fn(Options, Tensor<2>, Tensor<2>) -> Result<Tensor<1>>) -> [Vec<f64>; 3] {
    let by = |compute| evaluate(a, b, dim, |x, y| f(Options { compute, ..Options::default() }, x, y)).unwrap();
    let (kernel, plain) = (by(Compute::Auto), by(Compute::TensorOps));
    for (x, y) in kernel.iter().zip(&plain) {
        let size = y.iter().fold(1.0, |l: f64, v| l.max(v.abs()));
        assert!(x.len() == y.len() && x.iter().zip(y).all(|(x, y)| (x - y).abs() <= 1e-10 * size), "the paths differ: {x:?} and {y:?}");
    }
    kernel
}

/// `len` numbers in −1..1 without pattern.
fn wave(len: usize, step: f64) -> Vec<f64> {
    (0..len).map(|i| (i as f64 * step + step).sin()).collect()
}

/// The gradient of `f` by its only input against central differences.
fn check_gradient(x: &[f64], dim: usize, f: impl Fn(Tensor<2>) -> Result<Tensor<1>>) {
    let input = leaf(x, dim);
    let gradient = values(input.grad(&f(input.clone()).unwrap().backward()).unwrap());
    let h = 1e-5;
    for k in 0..x.len() {
        let at = |by: f64| {
            let mut x = x.to_vec();
            x[k] += by;
            values(f(leaf(&x, dim)).unwrap())[0]
        };
        let expected = (at(h) - at(-h)) / (2.0 * h);
        assert!((gradient[k] - expected).abs() < 1e-7 * (1.0 + expected.abs()), "entry {k}: {} instead of {expected}", gradient[k]);
    }
}
