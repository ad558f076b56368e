//! The tiled kernel against the formula written out, and its gradients against finite differences.

mod general;
mod papers;

use super::prepared::norm;
use super::*;
use crate::Lists;
use proptest::prelude::*;

/// A problem whose lists can be borrowed.
#[derive(Clone, Debug)]
struct Problem {
    a: Vec<f64>,
    c: Vec<f64>,
    dim: usize,
    positives: Vec<Vec<u32>>,
    excluded: Vec<Vec<u32>>,
    first_negative: usize,
    scale: f64,
    cosine: bool,
    positive_in_denominator: bool,
    positive_weight: Option<Vec<f64>>,
    anchor_weight: Option<Vec<f64>>,
}

fn flat(lists: &[Vec<u32>]) -> (Vec<usize>, Vec<u32>) {
    let mut offsets = vec![0];
    offsets.extend(lists.iter().scan(0, |end, l| {
        *end += l.len();
        Some(*end)
    }));
    (offsets, lists.concat())
}

impl Problem {
    fn run<T: Row>(&self) -> Contrast<T> {
        let (po, pi) = flat(&self.positives);
        let (eo, ei) = flat(&self.excluded);
        let settings = Settings {
            excluded: Lists::new(&eo, &ei),
            first_negative: self.first_negative,
            cosine: self.cosine,
            positive_in_denominator: self.positive_in_denominator,
            positive_weight: self.positive_weight.as_deref(),
            anchor_weight: self.anchor_weight.as_deref(),
            ..Settings::new(Lists::new(&po, &pi), self.scale)
        };
        let of = |x: &[f64]| x.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
        contrast(&of(&self.a), &of(&self.c), self.dim, &settings)
    }

    /// The module's formula, word for word.
    fn naive(&self) -> (f64, Vec<Term>) {
        let unit = |rows: &[f64]| -> Vec<Vec<f64>> {
            let of = |x: &[f64]| {
                let norm = if self.cosine { x.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12) } else { 1.0 };
                x.iter().map(|v| v / norm).collect()
            };
            rows.chunks(self.dim).map(of).collect()
        };
        let (a, c) = (unit(&self.a), unit(&self.c));
        let mut loss = 0.0;
        let mut terms = Vec::new();
        for (i, x) in a.iter().enumerate() {
            let s: Vec<f64> = c.iter().map(|y| self.scale * x.iter().zip(y).map(|(p, q)| p * q).sum::<f64>()).collect();
            let positives = &self.positives[i];
            let is_positive = |j: usize| positives.contains(&(j as u32));
            let negatives: Vec<usize> =
                (self.first_negative..c.len()).filter(|&j| !is_positive(j) && !self.excluded[i].contains(&(j as u32))).collect();
            let own = positives.iter().map(|&p| p as usize).filter(|_| self.positive_in_denominator);
            let shift = negatives.iter().copied().chain(own.clone()).map(|j| s[j]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = negatives.iter().copied().chain(own).map(|j| (s[j] - shift).exp()).sum();
            let term = Term {
                positive: positives.iter().map(|&p| s[p as usize]).sum::<f64>() / positives.len().max(1) as f64,
                log_denominator: if sum > 0.0 { shift + sum.ln() } else { f64::NEG_INFINITY },
                hardest_negative: negatives.iter().map(|&j| s[j]).fold(f64::NEG_INFINITY, f64::max),
            };
            let v = self.anchor_weight.as_ref().map_or(1.0 / a.len() as f64, |v| v[i]);
            let w = self.positive_weight.as_ref().map_or(1.0, |w| w[i]);
            if v != 0.0 {
                loss += v * (term.log_denominator - w * term.positive);
            }
            terms.push(term);
        }
        (loss, terms)
    }

    fn empty_denominator(&self) -> bool {
        self.naive().1.iter().any(|t| t.log_denominator == f64::NEG_INFINITY)
    }
}

prop_compose! {
    fn problem()(n in 0usize..40, m in 0usize..40, dim in 1usize..9)(
        dim in Just(dim),
        a in prop::collection::vec(-1.0..1.0f64, n * dim),
        c in prop::collection::vec(-1.0..1.0f64, m * dim),
        positives in prop::collection::vec(prop::collection::btree_set(0..m.max(1) as u32, 0..=3.min(m)), n),
        excluded in prop::collection::vec(prop::collection::btree_set(0..m.max(1) as u32, 0..=m.min(4)), n),
        first_negative in 0..=m.min(3),
        scale in 0.5..20.0f64,
        cosine in any::<bool>(), positive_in_denominator in any::<bool>(),
        positive_weight in prop::option::of(prop::collection::vec(-1.0..2.0f64, n)),
        anchor_weight in prop::option::of(prop::collection::vec(prop_oneof![Just(0.0), -1.0..1.0f64], n)),
    ) -> Problem {
        let lists = |l: Vec<std::collections::BTreeSet<u32>>| l.into_iter().map(|s| s.into_iter().collect()).collect();
        Problem { a, c, dim, positives: lists(positives), excluded: lists(excluded), first_negative, scale, cosine,
            positive_in_denominator, positive_weight, anchor_weight }
    }
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * (1.0 + b.abs())
}

proptest! {
    #[test]
    fn equals_the_formula(p in problem()) {
        let (loss, terms) = p.naive();
        let ours = p.run::<f64>();
        prop_assert!(close(ours.loss, loss, 1e-12), "{} instead of {loss}", ours.loss);
        for (x, y) in ours.terms.iter().zip(&terms) {
            prop_assert!(close(x.positive, y.positive, 1e-12) && close(x.log_denominator, y.log_denominator, 1e-12)
                && close(x.hardest_negative, y.hardest_negative, 1e-12), "{x:?} instead of {y:?}");
        }
        prop_assert_eq!(ours.grad_anchors.len(), p.a.len());
        prop_assert_eq!(ours.grad_candidates.len(), p.c.len());
    }

    #[test]
    fn gradients_equal_finite_differences(p in problem()) {
        prop_assume!(!p.empty_denominator());
        // A row near zero has a curvature that differences cannot follow.
        prop_assume!(!p.cosine || p.a.chunks(p.dim).chain(p.c.chunks(p.dim)).all(|x| norm(x) > 0.2));
        let ours = p.run::<f64>();
        let h = 1e-5;
        for side in [true, false] {
            let (grad, len) = if side { (&ours.grad_anchors, p.a.len()) } else { (&ours.grad_candidates, p.c.len()) };
            for k in (0..len).step_by(7) {
                let shifted = |by: f64| {
                    let mut q = p.clone();
                    if side { q.a[k] += by } else { q.c[k] += by }
                    q.naive().0
                };
                let expected = (shifted(h) - shifted(-h)) / (2.0 * h);
                prop_assert!((grad[k] - expected).abs() < 2e-6 * (1.0 + expected.abs()), "{} instead of {expected}", grad[k]);
            }
        }
    }

    #[test]
    fn f32_follows_f64(p in problem()) {
        prop_assume!(!p.empty_denominator());
        prop_assume!(!p.cosine || p.a.chunks(p.dim).chain(p.c.chunks(p.dim)).all(|x| norm(x) > 0.05));
        let (single, double) = (p.run::<f32>(), p.run::<f64>());
        prop_assert!(close(single.loss, double.loss, 1e-4), "{} instead of {}", single.loss, double.loss);
        let pairs = single.grad_anchors.iter().chain(&single.grad_candidates).zip(double.grad_anchors.iter().chain(&double.grad_candidates));
        for (x, y) in pairs {
            prop_assert!(close(f64::from(*x), *y, 2e-3), "{x} instead of {y}");
        }
    }
}

/// In-batch InfoNCE over pseudo-random rows, more of them than one block and one share hold.
fn large(n: usize, m: usize, dim: usize) -> Problem {
    let wave = |len: usize, step: f64| (0..len).map(|i| (i as f64 * step).sin()).collect();
    Problem {
        a: wave(n * dim, 0.37),
        c: wave(m * dim, 0.53),
        dim,
        positives: (0..n as u32).map(|i| vec![i % m as u32]).collect(),
        excluded: (0..n as u32).map(|i| vec![(i + 1) % m as u32]).collect(),
        first_negative: 0,
        scale: 10.0,
        cosine: true,
        positive_in_denominator: true,
        positive_weight: None,
        anchor_weight: None,
    }
}

#[test]
fn several_blocks_and_shares_are_one_sum() {
    let p = large(300, 277, 5);
    let ours = p.run::<f64>();
    assert!(close(ours.loss, p.naive().0, 1e-12));
    // The gradient of one anchor alone is its row of the whole; the candidates' is the sum over anchors.
    let mut candidates = vec![0.0; p.c.len()];
    for i in 0..300 {
        let one = Problem {
            a: p.a[i * 5..][..5].to_vec(),
            positives: vec![p.positives[i].clone()],
            excluded: vec![p.excluded[i].clone()],
            anchor_weight: Some(vec![1.0 / 300.0]),
            ..p.clone()
        }
        .run::<f64>();
        assert!(one.grad_anchors.iter().zip(&ours.grad_anchors[i * 5..]).all(|(x, y)| (x - y).abs() < 1e-14));
        candidates.iter_mut().zip(&one.grad_candidates).for_each(|(x, y)| *x += y);
    }
    assert!(candidates.iter().zip(&ours.grad_candidates).all(|(x, y)| (x - y).abs() < 1e-12));
}

#[test]
fn the_same_bits_every_time_and_the_same_sum_on_any_number_of_threads() {
    let p = large(500, 333, 7);
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| p.run::<f32>());
    let one = on(1);
    for threads in [1, 3, 8] {
        let (x, y) = (on(threads), on(threads));
        assert_eq!((x.loss, &x.grad_anchors, &x.grad_candidates), (y.loss, &y.grad_anchors, &y.grad_candidates));
        assert!(close(x.loss, one.loss, 1e-9));
        assert!(x.grad_candidates.iter().zip(&one.grad_candidates).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}

#[test]
fn equal_candidates_have_equal_logits_wherever_they_stand() {
    for m in 1..70 {
        let mut p = large(3, m, 11);
        let first = p.c[..11].to_vec();
        p.c.chunks_mut(11).for_each(|c| c.copy_from_slice(&first));
        p.positives = vec![vec![0], vec![m as u32 / 2], vec![m as u32 - 1]];
        p.excluded = vec![vec![]; 3];
        let terms = p.run::<f32>().terms;
        assert!(m == 1 || terms.iter().all(|t| t.positive == t.hardest_negative), "{m}: {terms:?}");
    }
}

#[test]
fn zero_rows_stay_zero_and_huge_rows_keep_their_direction() {
    let mut p = large(4, 6, 3);
    p.a[..3].fill(0.0);
    p.a[3..6].iter_mut().for_each(|v| *v *= 1e200);
    p.a[6..9].iter_mut().for_each(|v| *v *= 1e-9);
    let zero = p.run::<f64>();
    assert_eq!(zero.terms[0].positive, 0.0);
    assert!(zero.loss.is_finite() && zero.grad_anchors.iter().all(|g| g.is_finite()));
    let plain = large(4, 6, 3).run::<f64>();
    assert!((1..3).all(|i| close(zero.terms[i].log_denominator, plain.terms[i].log_denominator, 1e-12)));
}

#[test]
fn gradients_that_are_not_asked_for_are_not_computed() {
    let p = large(40, 30, 4);
    let (po, pi) = flat(&p.positives);
    let both = contrast(&p.a, &p.c, 4, &Settings::new(Lists::new(&po, &pi), 5.0));
    for (grad_anchors, grad_candidates) in [(true, false), (false, true), (false, false)] {
        let settings = Settings { grad_anchors, grad_candidates, ..Settings::new(Lists::new(&po, &pi), 5.0) };
        let some = contrast(&p.a, &p.c, 4, &settings);
        assert_eq!(some.terms, both.terms);
        assert_eq!(some.grad_anchors, if grad_anchors { both.grad_anchors.clone() } else { vec![] });
        assert_eq!(some.grad_candidates, if grad_candidates { both.grad_candidates.clone() } else { vec![] });
    }
    let settings = Settings::new(Lists::new(&po, &pi), 5.0);
    let logits = positive_logits(&p.a, &p.c, 4, &settings);
    assert!(logits.iter().zip(&both.terms).all(|(x, t)| close(*x, t.positive, 1e-13)));
}

#[test]
fn a_bias_may_be_a_matrix_or_rows_near_zero_or_far_from_it() {
    let (n, m) = (300, 277);
    let p = large(n, m, 5);
    let ((po, pi), (eo, ei)) = (flat(&p.positives), flat(&p.excluded));
    // Some blocks of anchors are near, others are not.
    for far in [1.0f32, 40.0, 1000.0] {
        let value = |k: usize| match k {
            _ if k.is_multiple_of(13) => f32::NEG_INFINITY,
            _ => (k as f32 * 0.7).sin() * if k / m % 150 > 140 { far } else { 1.0 },
        };
        let matrix: Vec<f32> = (0..n * m).map(value).collect();
        let rows = |i: usize, row: &mut [f64]| row.iter_mut().zip(&matrix[i * m..]).for_each(|(b, &x)| *b = x.into());
        for positive_in_denominator in [false, true] {
            let plain = Settings { excluded: Lists::new(&eo, &ei), positive_in_denominator, ..Settings::new(Lists::new(&po, &pi), 10.0) };
            let with = |bias| Settings { bias: Some(bias), floor: 1e-15, ..plain };
            let expected = contrast(&p.a, &p.c, 5, &with(Bias::Rows(Pairs(&rows))));
            let ours = contrast(&p.a, &p.c, 5, &with(Bias::Matrix(&matrix)));
            let narrow = |x: &[f64]| x.iter().map(|&v| v as f32).collect::<Vec<f32>>();
            let single = contrast(&narrow(&p.a), &narrow(&p.c), 5, &with(Bias::Matrix(&matrix)));
            assert!(close(ours.loss, expected.loss, 1e-12) && close(single.loss, expected.loss, 1e-5), "{far}");
            for (x, y) in ours.terms.iter().zip(&expected.terms) {
                assert!(
                    close(x.log_denominator, y.log_denominator, 1e-12) && x.hardest_negative == y.hardest_negative,
                    "{far}: {x:?}, {y:?}"
                );
            }
            let gradients = |c: &Contrast<f64>| [c.grad_anchors.clone(), c.grad_candidates.clone()].concat();
            let of_single = single.grad_anchors.iter().chain(&single.grad_candidates);
            for ((x, y), z) in gradients(&ours).iter().zip(&gradients(&expected)).zip(of_single) {
                assert!((x - y).abs() < 1e-12 && (f64::from(*z) - y).abs() < 1e-4, "{far}: {x}, {z} instead of {y}");
            }
        }
    }
}
