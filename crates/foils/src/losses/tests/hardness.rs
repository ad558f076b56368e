//! Losses that choose or weigh their negatives: soft-infonce, contrastive-behaviour, cacr.

use super::*;
use crate::weighting::SoftNegatives;
use proptest::prelude::*;

fn views(n: usize, dim: usize, seed: f64) -> (Vec<f64>, Vec<f64>) {
    (wave(n * dim, 0.7 + seed), wave(n * dim, 1.3 + seed))
}

fn own(n: usize) -> Targets {
    Targets::new((0..n as u32).collect(), vec![])
}

fn relevance_losses(options: Options, normalize: bool) -> Vec<Box<dyn RankingLoss>> {
    vec![
        Box::new(RelevanceInfoNce::weighted(0.5, 0.7).unwrap().normalize(normalize).options(options)),
        Box::new(RelevanceInfoNce::bce(0.5, 0.7).unwrap().normalize(normalize).options(options)),
        Box::new(RelevanceInfoNce::kl(0.5, 0.7, 1.0, 0.3).unwrap().normalize(normalize).options(options)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_paths_agree(n in 2usize..9, dim in 3usize..6, seed in 0.0f64..3.0, alpha in 0.05f64..1.0, normalize: bool) {
        let (a, b) = views(n, dim, seed);
        both(&a, &b, dim, |o, x, y| HardContrastive::new(0.3, alpha)?.normalize(normalize).options(o).forward(x, y));
        both(&a, &b, dim, |o, x, y| SimpleContrastive::new(Some(0.5))?.normalize(normalize).options(o).forward(x, y));
        both(&a, &b, dim, |o, x, y| SimpleContrastive::new(Some(0.5))?.hardest(alpha)?.normalize(normalize).options(o).forward(x, y));
        let targets = Targets { teacher: wave(n * n, 0.31 + seed), ..own(n) };
        for k in 0..relevance_losses(Options::default(), normalize).len() {
            both(&a, &b, dim, |o, x, y| relevance_losses(o, normalize)[k].forward(x, y, &targets));
        }
    }

    #[test]
    fn cacr_of_several_views_agrees(v in 2usize..5, n in 2usize..6, seed in 0.0f64..3.0, weighted: bool, normalize: bool) {
        let (dim, k) = (4, 5);
        let (rows, keys) = (wave(v * n * dim, 0.7 + seed), wave(v * n * dim, 1.1 + seed));
        let cubic = move |x: Tensor<2>| x.reshape([v, n, dim]);
        let plain = |o: Options| Cacr::new(0.7, 1.9).unwrap().positive_weighting(weighted).normalize(normalize).options(o);
        let rbf = RepulsionCost::Rbf { t: 1.5 };
        both(&rows, &keys, dim, |o, x, _| Ok(plain(o).negative_weighting(weighted)?.forward(cubic(x))?.loss));
        both(&rows, &keys, dim, |o, x, _| Ok(plain(o).negative_weighting(weighted)?.cost(rbf)?.forward(cubic(x))?.loss));
        both(&rows, &keys, dim, |o, x, _| Ok(plain(o).debiased(0.2)?.forward(cubic(x))?.loss));
        let queue = wave(k * dim, 2.3 + seed);
        for intra_batch in [false, true] {
            both(&rows, &keys, dim, |o, x, y| Ok(plain(o).forward_queue(cubic(x), cubic(y), leaf(&queue, dim), intra_batch)?.loss));
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (n, dim) = (4, 3);
    let (a, b) = views(n, dim, 0.0);
    let soft = SoftNegatives::new(0.5, 1.0, 1.0, 0.1).unwrap().weights(&wave(n * n, 0.9), n, &own(n).positive, &[]).unwrap();
    let targets = Targets { weights: soft.weights, ..Targets::new(own(n).positive, vec![vec![1], vec![], vec![3], vec![]]) };
    let learned = Targets { teacher: wave(n * n, 0.31), weights: vec![], ..targets.clone() };
    let mut all: Vec<(Box<dyn RankingLoss>, &Targets)> = vec![
        (Box::new(SoftInfoNce::new(0.4).unwrap()), &targets),
        (Box::new(HardContrastive::new(0.4, 0.5).unwrap()), &targets),
        (Box::new(Cacr::new(1.0, 2.0).unwrap()), &targets),
        (Box::new(SimpleContrastive::new(None).unwrap().hardest(0.5).unwrap()), &learned),
    ];
    all.extend(relevance_losses(Options::default(), true).into_iter().map(|loss| (loss, &learned)));
    for (loss, targets) in &all {
        check_gradient(&a, dim, |x| loss.forward(x, leaf(&b, dim), targets));
        check_gradient(&b, dim, |y| loss.forward(leaf(&a, dim), y, targets));
    }
    let rows = wave(3 * n * dim, 0.7);
    for cost in [RepulsionCost::Euclidean, RepulsionCost::Rbf { t: 2.0 }] {
        check_gradient(&rows, dim, |x| Ok(Cacr::new(1.0, 2.0)?.cost(cost)?.forward(x.reshape([3, n, dim]))?.loss));
    }
}

#[test]
fn the_ends_are_infonce_the_nearest_and_the_simple_loss() {
    let (n, dim) = (7, 4);
    let (a, b) = views(n, dim, 0.4);
    let value = |f: &dyn Fn(Tensor<2>, Tensor<2>) -> Result<Tensor<1>>| evaluate(&a, &b, dim, f).unwrap()[0][0] / 3.0;
    let plain = value(&|x, y| InfoNce::new(0.3)?.forward(x, y));
    let all = value(&|x, y| HardContrastive::new(0.3, 1.0)?.forward(x, y));
    assert!((plain - all).abs() < 1e-12);
    // Weights of 1 leave InfoNCE and its floor.
    let soft = value(&|x, y| SoftInfoNce::new(0.3)?.forward(x, y, &own(n)));
    assert!((plain - soft).abs() < 1e-9);
    // τ (L − ln n) tends to (n − 1)/n times the simple loss with λ = 1/(n − 1).
    let warm = value(&|x, y| InfoNce::new(1e5)?.forward(x, y));
    let simple = value(&|x, y| SimpleContrastive::new(None)?.forward(x, y));
    let limit = simple * (n - 1) as f64 / n as f64;
    assert!((1e5 * (warm - (n as f64).ln()) - limit).abs() < 1e-4);
    // The smallest share is the hardest negative alone.
    let hardest = value(&|x, y| SimpleContrastive::new(Some(1.0))?.hardest(1e-9)?.forward(x, y));
    let fewer = value(&|x, y| SimpleContrastive::new(Some(1.0))?.hardest(0.5)?.forward(x, y));
    assert!(hardest < 1.0 && fewer.is_finite());
    // Identical views attract nothing.
    let twice = [a.clone(), a.clone()].concat();
    assert!(Cacr::new(1.0, 2.0).unwrap().forward(leaf(&twice, dim).reshape([2, n, dim])).unwrap().attraction.abs() < 1e-12);
}

#[test]
fn the_nearer_negatives_weigh_more_and_all_the_more_with_tau() {
    let (v, n, dim) = (3, 6, 4);
    let rows = leaf(&wave(v * n * dim, 0.7), dim).reshape([v, n, dim]);
    let entropy = |tau: f64| {
        let found = Cacr::new(1.0, tau).unwrap().weights(&rows).unwrap();
        assert_eq!((found.positive.len(), found.negative.len()), (v * n * (v - 1), n * (n - 1)));
        assert!(found.positive.chunks(v - 1).chain(found.negative.chunks(n - 1)).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12));
        found.negative.iter().map(|p| -p * p.ln()).sum::<f64>()
    };
    let [flat, some, sharp] = [0.0, 1.0, 3.0].map(entropy);
    assert!((flat - n as f64 * ((n - 1) as f64).ln()).abs() < 1e-9 && flat > some && some > sharp);
}

#[test]
fn unusable_input_is_named() {
    fn says<T>(result: Result<T>, words: &[&str]) {
        let message = result.err().unwrap().to_string();
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
    }
    let (a, b) = views(3, 2, 0.0);
    let run = |loss: &dyn RankingLoss, targets: &Targets| loss.forward(leaf(&a, 2), leaf(&b, 2), targets);
    says(HardContrastive::new(0.1, 0.0), &["alpha = 0"]);
    says(HardContrastive::new(0.1, 1.5), &["alpha = 1.5"]);
    says(HardContrastive::new(-1.0, 0.5), &["temperature = -1"]);
    says(SimpleContrastive::new(Some(-1.0)), &["lambda_neg = -1"]);
    says(SimpleContrastive::new(None).unwrap().hardest(f64::NAN), &["alpha = NaN"]);
    says(HardContrastive::new(0.1, 0.5).unwrap().forward(leaf(&a[..2], 2), leaf(&b[..2], 2)), &["no negatives"]);
    says(RelevanceInfoNce::weighted(0.1, 0.0), &["weight_temperature = 0"]);
    says(RelevanceInfoNce::kl(0.1, 1.0, -1.0, 0.0), &["info_nce_weight = -1"]);
    let bce = RelevanceInfoNce::bce(1.0, 1.0).unwrap();
    says(run(&bce, &own(3)), &["3 × 3", "0 are given"]);
    let with = |teacher: Vec<f64>| Targets { teacher, ..own(3) };
    says(run(&bce, &with(vec![0.0, 0.0, 0.0, f64::NAN, 0.0, 0.0, 0.0, 0.0, 0.0])), &["candidate 0", "anchor 1", "NaN"]);
    let weighted = |weights: Vec<f64>| Targets { weights, ..own(3) };
    let soft = SoftInfoNce::new(0.1).unwrap();
    says(run(&soft, &weighted(vec![1.0; 8])), &["8 weights", "3 anchors"]);
    says(run(&soft, &weighted(vec![1.0, 1.0, 1.0, 1.0, 1.0, -0.5, 1.0, 1.0, 1.0])), &["candidate 2", "anchor 1", "-0.5"]);
    says(run(&SimpleContrastive::new(None).unwrap(), &weighted(vec![1.0; 9])), &["SimpleContrastive", "weights"]);
    says(run(&InfoNce::new(0.1).unwrap().symmetric(true), &weighted(vec![1.0; 9])), &["symmetric"]);
    says(Cacr::new(-1.0, 1.0), &["tau_pos = -1"]);
    says(Cacr::new(1.0, f64::NAN), &["tau_neg = NaN"]);
    let cacr = Cacr::new(1.0, 1.0).unwrap();
    says(cacr.factors(0.0, 1.0), &["alpha = 0"]);
    says(cacr.factors(1.0, 0.0), &["beta = 0"]);
    says(cacr.cost(RepulsionCost::Rbf { t: 0.0 }), &["rbf_t = 0"]);
    says(cacr.debiased(1.0), &["tau_plus = 1"]);
    says(cacr.debiased(0.1).unwrap().negative_weighting(false), &["debiased"]);
    says(cacr.cost(RepulsionCost::Rbf { t: 2.0 }).unwrap().debiased(0.1), &["debiased"]);
    says(cacr.forward(leaf(&a, 2).reshape([1, 3, 2])), &["[1, 3, 2]"]);
    says(cacr.forward(leaf(&a[..4], 2).reshape([2, 1, 2])), &["[2, 1, 2]"]);
    says(cacr.debiased(-0.1), &["tau_plus = -0.1"]);
    says(cacr.forward(leaf(&[f64::NAN; 8], 2).reshape([2, 2, 2])), &["NaN"]);
    let two = || leaf(&wave(8, 0.7), 2).reshape([2, 2, 2]);
    says(cacr.forward_queue(two(), two(), Tensor::zeros([0, 2], (&Device::flex().autodiff(), DType::F64)), true), &["queue has 0 rows"]);
    says(cacr.forward_queue(two(), two(), leaf(&a, 3), true), &["queue has", "[2, 3]", "widths differ"]);
    says(cacr.forward_queue(two(), two(), leaf(&[1.0, f64::NAN], 2), false), &["queue: row 0", "NaN"]);
    says(cacr.forward_queue(two(), two(), leaf(&[0.0, 0.0], 2), false), &["queue: row 0", "zero vector"]);
    says(SoftInfoNce::new(0.0), &["temperature = 0"]);
    says(soft.forward(leaf(&a[..2], 2), leaf(&b[..2], 2), &own(1)), &["1 candidates", "no negatives"]);
}

/// With one negative the weight is 1, and what repels is its distance: to a queue 2 − 2⟨q, n⟩, also of rows that have another norm.
#[test]
fn a_single_negative_has_all_the_weight() {
    let views = leaf(&[1.0, 0.0, 0.0, 1.0, 0.6, 0.8, 0.8, 0.6], 2).reshape([2, 2, 2]);
    let cacr = Cacr::new(1.0, 2.0).unwrap();
    assert_eq!(cacr.weights(&views).unwrap().negative, [1.0, 1.0]);
    // d² of (1, 0) and (0.8, 0.6), and of (0, 1) and (0.6, 0.8).
    assert!((cacr.forward(views.clone()).unwrap().repulsion + 0.4).abs() < 1e-12);
    for compute in [Compute::Auto, Compute::TensorOps] {
        let loss = cacr.normalize(false).options(Options { compute, ..Options::default() });
        let found = loss.forward_queue(views.clone(), views.clone(), leaf(&[3.0, -1.0], 2), false).unwrap();
        let products = [3.0, -1.0, 1.0, 1.8];
        assert!((found.repulsion + products.iter().map(|s| 2.0 - 2.0 * s).sum::<f64>() / 4.0).abs() < 1e-12);
    }
}

/// A probability that is 1 to the last digit has the bound of its rest's logarithm, as in PyTorch.
#[test]
fn binary_entropies_end_at_the_bound() {
    let targets = Targets { teacher: vec![0.0; 9], ..own(3) };
    let bce = |o: Options| RelevanceInfoNce::bce(1.0, 1.0).unwrap().normalize(false).options(o);
    let found = both(&[30.0; 3], &[0.0, 0.0, 2.0], 1, |o, x, y| bce(o).forward(x, y, &targets));
    // Rows 0 and 1: the positive, a negative of target ½, and that which has all: 60 + 30 + ½ · 100. Row 2: two negatives.
    assert!((found[0][0] / 3.0 - (2.0 * 140.0 + 60.0) / 9.0).abs() < 1e-9);
}
