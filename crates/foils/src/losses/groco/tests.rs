//! Gradients, what the losses have in common, and what is refused.

use super::*;
use crate::losses::{NtXent, RankingLoss, Targets};
use burn::tensor::{DType, Device, Tensor, TensorData};

fn leaf<const D: usize>(values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (&Device::flex().autodiff(), DType::F64)).require_grad()
}

fn wave(len: usize, step: f64) -> Vec<f64> {
    (0..len).map(|i| (i as f64 * step + step).sin()).collect()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.inner().into_data().iter::<f64>().collect()
}

fn check_gradient<const D: usize>(x: Vec<f64>, shape: [usize; D], f: impl Fn(Tensor<D>) -> Tensor<1>) {
    let input = leaf(x.clone(), shape);
    let gradient = values(input.grad(&f(input.clone()).backward()).unwrap());
    for k in 0..x.len() {
        let at = |by: f64| {
            let mut moved = x.clone();
            moved[k] += by;
            f(leaf(moved, shape)).into_scalar::<f64>()
        };
        let expected = (at(1e-6) - at(-1e-6)) / 2e-6;
        assert!((gradient[k] - expected).abs() < 1e-7 * (1.0 + expected.abs()), "entry {k}: {} and {expected}", gradient[k]);
    }
}

#[test]
fn gradients_are_right() {
    let steep = |network| SortingNetwork::new(network, Distribution::Logistic, 3.0).unwrap();
    for network in [Network::OddEven, Network::Bitonic] {
        let group = GroupOrdering::new(steep(network));
        check_gradient(wave(6, 0.7), [2, 3], |p| group.forward(p, leaf(wave(8, 1.3), [2, 4])).unwrap());
        check_gradient(wave(8, 1.3), [2, 4], |n| group.forward(leaf(wave(6, 0.7), [2, 3]), n).unwrap());
        let sorted = |x: Tensor<2>| {
            let found = steep(network).sort(x).unwrap();
            (found.sorted * leaf(wave(10, 0.4), [2, 5])).sum() + (found.permutation * leaf(wave(50, 0.3), [2, 5, 5])).sum()
        };
        check_gradient(wave(10, 0.9), [2, 5], sorted);
    }
    let groco = Groco::new(2).unwrap().stop_grad(false);
    check_gradient(wave(36, 0.7), [3, 4, 3], |views| groco.forward(views, 2).unwrap());
    let targets = Targets::new(vec![1, 0, 3], vec![vec![4], vec![], vec![0]]);
    check_gradient(wave(15, 1.1), [5, 3], |c| RankingLoss::forward(&groco, leaf(wave(9, 0.7), [3, 3]), c, &targets).unwrap());
    check_gradient(wave(9, 0.7), [3, 3], |a| RankingLoss::forward(&groco, a, leaf(wave(15, 1.1), [5, 3]), &targets).unwrap());
}

#[test]
fn tensor_operations_sort_as_the_kernel_does() {
    let phi = Distribution::LogisticPhi { lambda: 0.25 };
    for distribution in [Distribution::Cauchy, Distribution::Logistic, phi, Distribution::Reciprocal, Distribution::Optimal] {
        for (network, n) in [(Network::OddEven, 5), (Network::Bitonic, 6)] {
            let sorting = SortingNetwork::new(network, distribution, 1.7).unwrap();
            let by = |sort: &dyn Fn(Tensor<2>) -> Sorted| {
                let x = leaf(wave(2 * n, 0.9), [2, n]);
                let found = sort(x.clone());
                let (sorted, permutation) = (values(found.sorted.clone()), values(found.permutation.clone()));
                let sum = (found.sorted * leaf(wave(2 * n, 0.4), [2, n])).sum();
                let sum = sum + (found.permutation * leaf(wave(2 * n * n, 0.3), [2, n, n])).sum();
                [sorted, permutation, values(x.grad(&sum.backward()).unwrap())]
            };
            let kernel = by(&|x| sorting.sort(x).unwrap());
            let plain = by(&|x| sorting.by_tensors(x, &sorting.of_width(n).unwrap()));
            for (a, b) in kernel.iter().flatten().zip(plain.iter().flatten()) {
                assert!((a - b).abs() < 1e-12 * (1.0 + b.abs()), "{distribution:?} {network:?}: {a} and {b}");
            }
        }
    }
}

#[test]
fn order_within_groups_does_not_matter_and_better_order_costs_less() {
    let group = GroupOrdering::default();
    let of = |p: [f64; 2], n: [f64; 3]| group.forward(leaf(p.to_vec(), [1, 2]), leaf(n.to_vec(), [1, 3])).unwrap().into_scalar::<f64>();
    assert_eq!(of([0.8, 0.2], [0.1, 0.5, -0.3]), of([0.2, 0.8], [-0.3, 0.1, 0.5]));
    assert!(of([0.8, 0.6], [0.1, 0.5, -0.3]) < of([0.8, 0.2], [0.1, 0.5, -0.3]));
    let floor = group.floor(2, 3).unwrap();
    assert!(floor > 0.0 && floor < of([0.8, 0.6], [0.1, 0.5, -0.3]) && (of([1.0, 1.0], [-1.0; 3]) - floor).abs() < 1e-12);
}

#[test]
fn all_negatives_of_the_baseline_are_nt_xent() {
    let (z1, z2) = (leaf(wave(12, 0.7), [4, 3]), leaf(wave(12, 1.9), [4, 3]));
    let ours = NtXentTopK::new(0.3, 6).unwrap().stop_grad(false).forward(z1.clone(), z2.clone()).unwrap();
    let all = NtXent::new(0.3).unwrap().forward(z1, z2).unwrap();
    assert!((ours.into_scalar::<f64>() - all.into_scalar::<f64>()).abs() < 1e-12);
}

#[test]
fn bad_input_is_refused() {
    fn refused<T>(result: crate::Result<T>, words: &str) {
        let message = result.err().unwrap().to_string();
        assert!(message.contains(words), "{message}");
    }
    let views = |v: usize, n: usize| leaf(wave(v * n * 2, 0.7), [v, n, 2]);
    refused(Groco::new(0), "topk_neg = 0");
    refused(NtXentTopK::new(0.1, 0), "topk_neg = 0");
    refused(NtXentTopK::new(0.0, 1), "temperature");
    let groco = Groco::new(3).unwrap();
    refused(groco.forward(views(2, 3), 2), "3 rows have 2 negatives, and topk_neg is 3");
    refused(groco.forward(views(1, 5), 1), "full views");
    refused(groco.forward(views(3, 5), 1), "1 full views of 3");
    refused(groco.forward(views(3, 5), 4), "4 full views of 3");
    refused(groco.forward(views(2, 5).mul_scalar(f64::NAN), 2), "views");
    refused(NtXentTopK::new(0.1, 3).unwrap().forward(leaf(wave(4, 1.0), [2, 2]), leaf(wave(4, 1.0), [2, 2])), "2 negatives");
    for steepness in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(SortingNetwork::new(Network::OddEven, Distribution::Cauchy, steepness), "steepness");
    }
    refused(SortingNetwork::new(Network::OddEven, Distribution::LogisticPhi { lambda: -0.1 }, 1.0), "art_lambda");
    refused(SortingNetwork::default().sort(leaf(vec![1.0], [1, 1])), "rows of 1 values");
    refused(SortingNetwork::default().sort(leaf(vec![1.0, f64::INFINITY], [1, 2])), "scores");
    let group = GroupOrdering::default();
    refused(group.forward(leaf(vec![1.0], [1, 1]), leaf(vec![0.0, 0.1], [2, 1])), "at least one of both");
    refused(group.forward(leaf(vec![f64::NAN], [1, 1]), leaf(vec![0.0], [1, 1])), "positives");
    refused(group.floor(0, 3), "0 positives");
    let alone = Targets::new(vec![0], vec![vec![1]]);
    let pair = RankingLoss::forward(&groco, leaf(wave(2, 1.0), [1, 2]), leaf(wave(4, 1.0), [2, 2]), &alone);
    refused(pair, "anchor 0 has no negatives");
    refused(groco.forward(leaf(vec![], [2, 5, 0]), 2), "its rows are empty");
    // All scores equal: every comparator is at one half, and the loss has a value and a gradient.
    let (p, n) = (leaf(vec![0.5; 2], [1, 2]), leaf(vec![0.5; 3], [1, 3]));
    let loss = group.forward(p.clone(), n).unwrap();
    assert!(loss.clone().into_scalar::<f64>().is_finite() && values(p.grad(&loss.backward()).unwrap()).iter().all(|g| *g < 0.0));
}

/// Both zeros are one number: of equal scores the first comes first.
#[test]
fn ties_keep_their_order_whatever_the_sign_of_zero() {
    let gradients = |zeros: [f64; 3]| {
        let negatives = leaf(zeros.to_vec(), [1, 3]);
        let loss = GroupOrdering::default().forward(leaf(vec![0.4], [1, 1]), negatives.clone()).unwrap();
        values(negatives.grad(&loss.backward()).unwrap())
    };
    let (plain, mixed) = (gradients([0.0; 3]), gradients([0.0, 0.0, -0.0]));
    assert!(plain == mixed && plain[0] != plain[2], "{plain:?} {mixed:?}");
}
