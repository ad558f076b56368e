//! Gradients against differences, what must hold for any numbers, and what is refused.

use super::*;
use crate::Result;
use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::prelude::*;

fn leaf(values: &[f64]) -> Tensor<1> {
    constant(values).require_grad()
}

fn constant(values: &[f64]) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (&Device::flex().autodiff(), DType::F64))
}

fn wave(len: usize, step: f64) -> Vec<f64> {
    (0..len).map(|i| 2.0 * (i as f64 * step + step).sin()).collect()
}

/// The gradient of `f` by each of its inputs against central differences.
fn check_gradients<const N: usize>(inputs: [Vec<f64>; N], f: impl Fn([Tensor<1>; N]) -> Result<Tensor<1>>) {
    let leaves = inputs.each_ref().map(|x| leaf(x));
    // Times 3, so that the gradient from above is not 1.
    let gradients = f(leaves.clone()).unwrap().mul_scalar(3.0).backward();
    let h = 1e-5;
    for (i, x) in leaves.iter().enumerate() {
        let gradient = input::host(&Tensor::from_inner(x.grad(&gradients).unwrap()));
        for k in 0..gradient.len() {
            let at = |by: f64| {
                let mut inputs = inputs.clone();
                inputs[i][k] += by;
                input::host(&f(inputs.each_ref().map(|x| leaf(x))).unwrap())[0]
            };
            let expected = 3.0 * (at(h) - at(-h)) / (2.0 * h);
            assert!((gradient[k] - expected).abs() < 1e-7 * (1.0 + expected.abs()), "input {i}, entry {k}: {} not {expected}", gradient[k]);
        }
    }
}

#[test]
fn gradients_are_those_of_the_loss() {
    let (data, noise, q_data, q_noise) = (wave(5, 0.7), wave(7, 1.3), wave(5, 2.1), wave(7, 0.4));
    check_gradients([data.clone(), noise.clone()], |[d, n]| MlePlugin.forward(d, n, constant(&q_noise)));
    for nu in [1.0, 3.5] {
        check_gradients([data.clone(), noise.clone(), vec![0.3]], |[d, n, z]| {
            Nce::new(nu)?.forward(d, n, constant(&q_data), constant(&q_noise), z)
        });
    }
    check_gradients([data, noise, vec![0.3]], |[d, n, z]| Ence.forward(d, n, constant(&q_data), constant(&q_noise), z));
}

/// MECO's gradient is that of −mean log p̃ + g(θ)/u with u held.
#[test]
fn the_surrogate_holds_u_and_its_state_can_be_saved() {
    let (data, noise, q) = (wave(4, 0.7), wave(6, 1.3), wave(6, 0.4));
    let mut meco = Meco::new(0.25).unwrap();
    assert_eq!(meco.log_u(), None);
    let first = meco.step(&data, &noise, &q).unwrap();
    let (plain, estimate) = MlePlugin.evaluate(&data, &noise, &q).unwrap();
    assert_eq!(first, plain, "the first step is the plug-in");
    assert_eq!(meco.log_u(), Some(estimate.log_z));

    let moved: Vec<f64> = noise.iter().map(|v| v + 0.5).collect();
    let saved = serde_json::to_string(&meco).unwrap();
    let mut resumed = [serde_json::from_str::<Meco>(&saved).unwrap(), Meco::new(0.25).unwrap().resume(estimate.log_z).unwrap()];
    let second = meco.step(&data, &moved, &q).unwrap();
    for other in &mut resumed {
        assert_eq!(other.step(&data, &moved, &q).unwrap(), second);
        assert_eq!(other.log_u(), meco.log_u());
    }
    // g rose by e^½, a quarter of which is in u.
    let u = meco.log_u().unwrap();
    assert!((u - (estimate.log_z + (0.75 + 0.25 * 0.5f64.exp()).ln())).abs() < 1e-14);
    assert!((second.loss - (u - data.iter().sum::<f64>() / 4.0)).abs() < 1e-14);
    for (j, weight) in second.grad_log_model_noise.iter().enumerate() {
        assert!((weight - (moved[j] - q[j] - u).exp() / 6.0).abs() < 1e-15);
    }
    assert!((second.grad_log_model_noise.iter().sum::<f64>() - (estimate.log_z + 0.5 - u).exp()).abs() < 1e-14);

    // At β = 1 what was before does not count, whatever it is.
    let before = Meco::new(1.0).unwrap().resume(800.0).unwrap().step(&data, &noise, &q).unwrap();
    assert_eq!(before, plain);
}

#[test]
fn a_noise_sample_without_mass_has_weight_0_in_tensors_too() {
    let (data, q) = ([0.5, -1.0], [0.1, -0.2, 0.3]);
    let noise = leaf(&[0.2, f64::NEG_INFINITY, -0.4]);
    let gradient = |loss: Tensor<1>| input::host(&Tensor::from_inner(noise.grad(&loss.backward()).unwrap()));
    let found = gradient(Meco::new(0.1).unwrap().forward(leaf(&data), noise.clone(), constant(&q)).unwrap());
    let w = [0.1f64.exp(), 0.0, (-0.7f64).exp()];
    assert!(found.iter().zip(w).all(|(g, w)| (g - w / (w_sum(&[0.1, -0.7]))).abs() < 1e-14), "{found:?}");
    for loss in [
        Nce::new(1.0).unwrap().forward(leaf(&data), noise.clone(), constant(&[0.0, f64::NEG_INFINITY]), constant(&q), leaf(&[0.0])),
        Ence.forward(leaf(&data), noise.clone(), constant(&[0.0, f64::NEG_INFINITY]), constant(&q), leaf(&[0.0])),
    ] {
        let found = gradient(loss.unwrap());
        assert!(found[1] == 0.0 && found[0] > 0.0 && found[2] > 0.0, "{found:?}");
    }
}

fn w_sum(logs: &[f64]) -> f64 {
    logs.iter().map(|l| l.exp()).sum()
}

#[test]
fn single_precision_and_one_sample_of_each_will_do() {
    let device = Device::flex().autodiff();
    let [d, n, q] = [1.5f32, 0.25, -0.5].map(|v| Tensor::<1>::from_floats([v], &device).require_grad());
    let loss = Meco::new(0.1).unwrap().forward(d.clone(), n.clone(), q).unwrap();
    assert_eq!(input::host(&loss), [0.75 - 1.5]);
    let gradients = loss.backward();
    assert_eq!([d, n].map(|x| x.grad(&gradients).unwrap().into_scalar::<f32>()), [-1.0, 1.0]);
}

proptest! {
    /// log p̃ is known up to a constant: it moves log u, and nothing else.
    #[test]
    fn a_constant_in_the_energy_changes_no_gradient(
        data in prop::collection::vec(-30.0..30.0f64, 1..6),
        pairs in prop::collection::vec((-30.0..30.0f64, -30.0..30.0f64), 1..8),
        beta in 0.01..=1.0f64,
        before in -30.0..30.0f64,
        shift in -400.0..400.0f64,
    ) {
        let (noise, q): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let at = |shift: f64| {
            let mut meco = Meco::new(beta).unwrap().resume(before + shift).unwrap();
            let [d, n] = [&data, &noise].map(|v| v.iter().map(|x| x + shift).collect::<Vec<_>>());
            (meco.step(&d, &n, &q).unwrap(), meco.log_u().unwrap())
        };
        let ((plain, u), (moved, moved_u)) = (at(0.0), at(shift));
        prop_assert!((plain.loss - moved.loss).abs() < 1e-9);
        prop_assert!((moved_u - u - shift).abs() < 1e-9);
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * (1.0 + b);
        prop_assert!(plain.grad_log_model_noise.iter().zip(&moved.grad_log_model_noise).all(close));
        // u is between what it was and g, and the weights cannot sum to more than 1/β.
        let g = estimate_partition(&noise, &q).unwrap();
        prop_assert!(u >= g.log_z.min(before) - 1e-9 && u <= g.log_z.max(before) + 1e-9);
        prop_assert!(plain.grad_log_model_noise.iter().sum::<f64>() <= 1.0 / beta + 1e-9);
        prop_assert!(g.effective_sample_size >= 1.0 - 1e-12 && g.effective_sample_size <= noise.len() as f64 * (1.0 + 1e-12));
    }
}

#[test]
fn equal_weights_count_in_full_and_one_large_weight_counts_alone() {
    let even = estimate_partition(&[1e300, 1e300], &[1e300, 1e300]).unwrap();
    assert_eq!((even.log_z, even.effective_sample_size, even.is_reliable()), (0.0, 2.0, true));
    let mut noise = vec![0.0; 200];
    noise[7] = 900.0;
    let one = estimate_partition(&noise, &[0.0; 200]).unwrap();
    assert!((one.log_z - (900.0 - 200f64.ln())).abs() < 1e-9 && (one.effective_sample_size - 1.0).abs() < 1e-12);
    assert!(!one.is_reliable(), "1 of 200 is less than 1 %");
    assert!(estimate_partition(&[0.0; 100], &[0.0; 100]).unwrap().is_reliable());
}

#[test]
fn bad_input_is_refused_with_its_value() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let step = |d: &[f64], n: &[f64], q: &[f64]| Meco::new(0.5).unwrap().step(d, n, q).unwrap_err().to_string();
    let says = |message: String, words: &[&str]| assert!(words.iter().all(|w| message.contains(w)), "{message}");
    says(step(&[], &[0.0], &[0.0]), &["log_model_data has 0 values"]);
    says(step(&[0.0], &[], &[]), &["log_model_noise has 0 values"]);
    says(step(&[0.0], &[0.0, 1.0], &[0.0]), &["log_model_noise has 2 values", "log_noise_noise has 1"]);
    says(step(&[0.0, nan], &[0.0], &[0.0]), &["log_model_data", "value 1 is NaN"]);
    says(step(&[-inf], &[0.0], &[0.0]), &["log_model_data", "value 0 is -inf"]);
    says(step(&[0.0], &[inf], &[0.0]), &["log_model_noise", "value 0 is inf"]);
    says(step(&[0.0], &[nan], &[0.0]), &["log_model_noise", "NaN"]);
    says(step(&[0.0], &[0.0], &[-inf]), &["log_noise_noise", "-inf", "covers its own samples"]);
    says(step(&[0.0], &[0.0, 1e308], &[0.0, -1e308]), &["log weight", "value 1 is inf"]);
    says(step(&[0.0], &[-inf, -inf], &[0.0, 0.0]), &["the model puts no mass on the noise"]);
    says(step(&[1e308, 1e308], &[0.0], &[0.0]), &["the loss is -inf"]);
    for beta in [0.0, -0.1, 1.01, nan] {
        says(Meco::new(beta).unwrap_err().to_string(), &[&format!("beta = {beta}")]);
    }
    says(Meco::new(0.5).unwrap().resume(nan).unwrap_err().to_string(), &["log_u", "NaN"]);
    says(estimate_partition(&[], &[]).unwrap_err().to_string(), &["0 values"]);

    // A step that is refused leaves the state alone.
    let mut meco = Meco::new(0.5).unwrap().resume(1.0).unwrap();
    assert!(meco.step(&[0.0], &[-inf], &[0.0]).is_err() && meco.step(&[1e308, 1e308], &[0.0], &[0.0]).is_err());
    assert_eq!(meco.log_u(), Some(1.0));

    let nce = |p: &[f64], q: &[f64], z| Nce::new(1.0).unwrap().evaluate(p, &[0.0], q, &[0.0], z).unwrap_err().to_string();
    says(nce(&[0.0], &[0.0, 0.0], 0.0), &["log_noise_data has 2"]);
    says(nce(&[0.0], &[inf], 0.0), &["log_noise_data", "value 0 is inf"]);
    says(nce(&[0.0], &[0.0], nan), &["log_z", "NaN"]);
    says(nce(&[0.0], &[0.0], -inf), &["log_z", "-inf"]);
    says(nce(&[], &[], 0.0), &["log_model_data has 0 values"]);
    for ratio in [0.0, -1.0, nan, inf] {
        says(Nce::new(ratio).unwrap_err().to_string(), &[&format!("noise_ratio = {ratio}")]);
    }
    says(Ence.evaluate(&[-3000.0], &[0.0], &[0.0], &[0.0], 0.0).unwrap_err().to_string(), &["the loss is inf"]);
    let two = leaf(&[0.0, 1.0]);
    says(Ence.forward(two.clone(), two.clone(), two.clone(), two.clone(), two.clone()).unwrap_err().to_string(), &["log_z has shape [2]"]);
    let single = Tensor::<1>::from_floats([0.0, 1.0], &Device::flex().autodiff());
    says(MlePlugin.forward(two.clone(), single, two).unwrap_err().to_string(), &["F64", "F32"]);
}
