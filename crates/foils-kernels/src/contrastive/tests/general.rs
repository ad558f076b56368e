//! Every setting with every other, against the formula written out over a dense matrix, and gradients against finite differences.

use super::{close, flat};
use crate::Lists;
use crate::contrastive::*;
use crate::simd::Row;
use proptest::prelude::*;

const MASKED: f64 = f64::NEG_INFINITY;

/// [`Negatives`] that own their targets.
#[derive(Clone, Debug)]
enum Repulsion {
    LogSumExp,
    Sum(f64),
    WeightedMean(f64, f64, usize),
    CrossEntropy,
    BinaryCrossEntropy,
    None,
}

#[derive(Clone, Debug)]
struct Problem {
    a: Vec<f64>,
    c: Vec<f64>,
    dim: usize,
    positives: Vec<Vec<u32>>,
    excluded: Vec<Vec<u32>>,
    first_negative: usize,
    scales: Vec<f64>,
    cosine: bool,
    distance: bool,
    positive_in_denominator: bool,
    positive_mean: PositiveMean,
    given: Option<Vec<f64>>,
    positive_weight: Vec<f64>,
    anchor_weight: Option<Vec<f64>>,
    /// Each is an f32.
    bias: Option<Vec<f64>>,
    bias_as_matrix: bool,
    targets: Vec<f64>,
    keep: Keep,
    repulsion: Repulsion,
    extra: Option<Vec<f64>>,
    floor: f64,
    both: bool,
}

/// log Σ exp.
fn lse(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let shift = values.clone().fold(MASKED, f64::max);
    if shift == MASKED { MASKED } else { shift + values.map(|v| (v - shift).exp()).sum::<f64>().ln() }
}

fn softmax(values: &[f64]) -> Vec<f64> {
    let log = lse(values.iter().copied());
    values.iter().map(|v| if *v == MASKED { 0.0 } else { (v - log).exp() }).collect()
}

impl Problem {
    fn n(&self) -> usize {
        self.a.len() / self.dim
    }

    fn m(&self) -> usize {
        self.c.len() / self.dim
    }

    fn run<T: Row>(&self) -> Contrast<T> {
        let (po, pi) = flat(&self.positives);
        let (eo, ei) = flat(&self.excluded);
        let m = self.m();
        let bias = |i: usize, row: &mut [f64]| row.copy_from_slice(&self.bias.as_ref().unwrap()[i * m..][..m]);
        let matrix: Vec<f32> = self.bias.iter().flatten().map(|&b| b as f32).collect();
        let targets = |i: usize, row: &mut [f64]| row.copy_from_slice(&self.targets[i * m..][..m]);
        let targets = Pairs(&targets);
        let settings = Settings {
            excluded: Lists::new(&eo, &ei),
            first_negative: self.first_negative,
            anchor_scale: Some(&self.scales),
            cosine: self.cosine,
            similarity: if self.distance { Similarity::NegativeSquaredDistance } else { Similarity::Inner },
            positive_in_denominator: self.positive_in_denominator,
            positive_mean: self.positive_mean,
            positive_logits: self.given.as_deref(),
            positive_weight: if self.both { None } else { Some(&self.positive_weight) },
            anchor_weight: self.anchor_weight.as_deref(),
            bias: self.bias.as_ref().map(|_| if self.bias_as_matrix { Bias::Matrix(&matrix) } else { Bias::Rows(Pairs(&bias)) }),
            keep: self.keep,
            negatives: match self.repulsion {
                Repulsion::LogSumExp => Negatives::LogSumExp,
                Repulsion::Sum(weight) => Negatives::Sum { weight },
                Repulsion::WeightedMean(weight, sharpness, constant_before) => {
                    Negatives::WeightedMean { weight, sharpness, constant_before }
                }
                Repulsion::CrossEntropy => Negatives::CrossEntropy { targets },
                Repulsion::BinaryCrossEntropy => Negatives::BinaryCrossEntropy { targets },
                Repulsion::None => Negatives::None,
            },
            extra_denominator: self.extra.as_deref(),
            floor: self.floor,
            both_directions: self.both,
            ..Settings::new(Lists::new(&po, &pi), f64::NAN)
        };
        let of = |x: &[f64]| x.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
        contrast(&of(&self.a), &of(&self.c), self.dim, &settings)
    }

    fn logits(&self) -> Vec<Vec<f64>> {
        let rows = |rows: &[f64]| -> Vec<Vec<f64>> {
            let of = |x: &[f64]| {
                let norm = if self.cosine { x.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12) } else { 1.0 };
                x.iter().map(|v| v / norm).collect()
            };
            rows.chunks(self.dim).map(of).collect()
        };
        let c = rows(&self.c);
        let similarity = |x: &[f64], y: &[f64]| {
            let pairs = x.iter().zip(y);
            if self.distance { -pairs.map(|(x, y)| (x - y).powi(2)).sum::<f64>() } else { pairs.map(|(x, y)| x * y).sum() }
        };
        rows(&self.a).iter().zip(&self.scales).map(|(x, scale)| c.iter().map(|y| scale * similarity(x, y)).collect()).collect()
    }

    /// The kept negatives' logits, and what stands in exponents of the whole denominator; −∞ elsewhere.
    fn masked(&self, i: usize, s: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let is_positive = |j: usize| self.positives[i].contains(&(j as u32));
        let out = |j: usize| j < self.first_negative || is_positive(j) || self.excluded[i].contains(&(j as u32));
        let mut negatives: Vec<f64> = s.iter().enumerate().map(|(j, &s)| if out(j) { MASKED } else { s }).collect();
        let mut sorted: Vec<f64> = negatives.iter().copied().filter(|s| *s > MASKED).collect();
        sorted.sort_by(|x, y| y.total_cmp(x));
        let (lower, upper) = match self.keep {
            Keep::All => (MASKED, f64::INFINITY),
            Keep::Within { lower, upper } => (lower, upper),
            Keep::Hardest(_) if sorted.is_empty() => (MASKED, f64::INFINITY),
            Keep::Hardest(share) => {
                (sorted[((share * sorted.len() as f64 - 1e-12).ceil() as usize).clamp(1, sorted.len()) - 1], f64::INFINITY)
            }
        };
        negatives.iter_mut().for_each(|s| *s = if *s < lower || *s > upper { MASKED } else { *s });
        let bias = |j: usize| self.bias.as_ref().map_or(0.0, |b| b[i * self.m() + j]);
        let inside = |(j, s_n): (usize, &f64)| {
            if is_positive(j) && self.positive_in_denominator && self.given.is_none() { s[j] } else { s_n + bias(j) }
        };
        let inside = negatives.iter().enumerate().map(inside).collect();
        (negatives, inside)
    }

    /// `constant`: the problem whose logits make the choices and weights that have no gradient.
    fn row(&self, i: usize, s: &[f64], constant: &[f64]) -> f64 {
        let (_, chosen) = self.masked(i, constant);
        let (constant_negatives, _) = self.masked(i, constant);
        let (_, open) = Problem { keep: Keep::All, ..self.clone() }.masked(i, s);
        let inside: Vec<f64> = open.iter().zip(&chosen).map(|(s, c)| if *c == MASKED { MASKED } else { *s }).collect();
        let negative = |j: usize| constant_negatives[j] > MASKED;

        let positives: Vec<f64> = self.positives[i].iter().map(|&p| s[p as usize]).collect();
        let mean = match self.positive_mean {
            _ if positives.is_empty() => 0.0,
            PositiveMean::Uniform => positives.iter().sum::<f64>() / positives.len() as f64,
            PositiveMean::Softmax { sharpness, constant: fixed } => {
                let of: Vec<f64> = self.positives[i].iter().map(|&p| sharpness * if fixed { constant } else { s }[p as usize]).collect();
                softmax(&of).iter().zip(&positives).map(|(w, s)| w * s).sum()
            }
        };
        let mean = self.given.as_ref().map_or(mean, |g| g[i]);
        let pulled = if self.both { mean } else { self.positive_weight[i] * mean };
        let beside = [
            self.given.as_ref().filter(|_| self.positive_in_denominator).map_or(MASKED, |g| g[i]),
            self.extra.as_ref().map_or(MASKED, |e| e[i]),
        ];
        let log = lse(inside.iter().copied().chain(beside));
        // Of the target, p and 1 − p.
        let each = |f: &dyn Fn(f64, f64, f64) -> f64| -> f64 {
            let others = |j: usize| lse(inside.iter().enumerate().filter(move |(k, _)| *k != j).map(|(_, s)| *s).chain(beside));
            let value = |j: usize| f(self.targets[i * s.len() + j], (inside[j] - log).exp(), (others(j) - log).exp());
            (0..s.len()).filter(|&j| inside[j] > MASKED).map(value).sum()
        };
        match self.repulsion {
            Repulsion::LogSumExp if self.floor > 0.0 => -((pulled - log).exp() + self.floor).ln(),
            Repulsion::LogSumExp => log - pulled,
            Repulsion::Sum(weight) => weight * (0..s.len()).filter(|&j| negative(j)).map(|j| s[j]).sum::<f64>() - pulled,
            Repulsion::WeightedMean(weight, sharpness, constant_before) => {
                let bias = |j: usize| self.bias.as_ref().map_or(0.0, |b| b[i * s.len() + j]);
                let exponent = |j: usize| sharpness * if j < constant_before { constant[j] } else { s[j] } + bias(j);
                let exponents: Vec<f64> = (0..s.len()).map(|j| if negative(j) { exponent(j) } else { MASKED }).collect();
                let of = softmax(&exponents);
                weight * of.iter().zip(s).map(|(w, s)| w * s).sum::<f64>() - pulled
            }
            Repulsion::CrossEntropy => each(&|t, p, _| if t == 0.0 { 0.0 } else { -t * (p + self.floor).ln() }),
            Repulsion::BinaryCrossEntropy => each(&|t, p, rest| -t * p.ln().max(-100.0) - (1.0 - t) * rest.ln().max(-100.0)),
            Repulsion::None => -pulled,
        }
    }

    /// The module's formula with the choices that `constant` makes.
    fn naive(&self, constant: &Problem) -> f64 {
        let (s, fixed) = (self.logits(), constant.logits());
        let (n, m) = (self.n(), self.m());
        let v = |i: usize| self.anchor_weight.as_ref().map_or(1.0 / n as f64, |v| v[i]);
        let rows: f64 = (0..n).filter(|&i| v(i) != 0.0).map(|i| v(i) * self.row(i, &s[i], &fixed[i])).sum();
        if !self.both {
            return rows;
        }
        let owners = |j: usize| (0..n).filter(move |&i| self.positives[i].contains(&(j as u32)));
        let counted: Vec<usize> = (0..m).filter(|&j| owners(j).next().is_some()).collect();
        let columns: f64 = counted
            .iter()
            .map(|&j| {
                let log = lse((0..n).map(|i| self.masked(i, &s[i]).1[j]));
                log - owners(j).map(|i| s[i][j]).sum::<f64>() / owners(j).count() as f64
            })
            .sum();
        0.5 * (rows + columns / counted.len().max(1) as f64)
    }

    /// A logarithm of nothing has no differences, and the slope of a binary entropy is bounded where a probability is nearly 0 or 1.
    fn awkward(&self) -> bool {
        let range = || {
            let finite = |i: usize, s: &[f64]| self.masked(i, s).1.into_iter().filter(|s| s.is_finite()).collect::<Vec<_>>();
            let rows = self.logits().iter().enumerate().map(|(i, s)| finite(i, s)).collect::<Vec<_>>();
            rows.concat().iter().fold(0.0f64, |most, s| most.max(s.abs()))
        };
        !self.naive(self).is_finite() || (matches!(self.repulsion, Repulsion::BinaryCrossEntropy) && range() > 8.0)
    }
}

fn repulsion() -> impl Strategy<Value = Repulsion> {
    prop_oneof![
        3 => Just(Repulsion::LogSumExp),
        1 => (-2.0..2.0f64).prop_map(Repulsion::Sum),
        2 => (-2.0..2.0f64, prop_oneof![Just(0.0), -2.0..2.0f64], 0..9usize).prop_map(|(w, s, c)| Repulsion::WeightedMean(w, s, c)),
        1 => Just(Repulsion::CrossEntropy),
        1 => Just(Repulsion::BinaryCrossEntropy),
        1 => Just(Repulsion::None),
    ]
}

fn keep_some() -> impl Strategy<Value = Keep> {
    prop_oneof![
        2 => Just(Keep::All),
        1 => (0.05..1.0f64).prop_map(Keep::Hardest),
        1 => (-3.0..0.0f64, 0.0..3.0f64).prop_map(|(lower, upper)| Keep::Within { lower, upper }),
    ]
}

fn positive_mean() -> impl Strategy<Value = PositiveMean> {
    prop_oneof![
        Just(PositiveMean::Uniform),
        (-2.0..2.0f64, any::<bool>()).prop_map(|(sharpness, constant)| PositiveMean::Softmax { sharpness, constant }),
    ]
}

prop_compose! {
    fn problem()(n in 0usize..36, m in 0usize..36, dim in 1usize..6)(
        a in prop::collection::vec(-1.0..1.0f64, n * dim),
        c in prop::collection::vec(-1.0..1.0f64, m * dim),
        positives in prop::collection::vec(prop::collection::btree_set(0..m.max(1) as u32, 0..=3.min(m)), n),
        excluded in prop::collection::vec(prop::collection::vec(0..m.max(1) as u32, 0..=m.min(4)), n),
        per_anchor in prop::collection::vec((0.3..4.0f64, -1.0..2.0f64, -2.0..2.0f64, prop_oneof![4 => -2.0..4.0f64, 1 => Just(MASKED)]), n),
        anchor_weight in prop::option::of(prop::collection::vec(prop_oneof![Just(0.0), -1.0..1.0f64], n)),
        bias in prop::option::weighted(0.4, prop::collection::vec(prop_oneof![6 => (-2.0..2.0f32).prop_map(f64::from), 1 => Just(MASKED)], n * m)),
        bias_as_matrix in any::<bool>(),
        targets in prop::collection::vec(prop_oneof![Just(0.0), 0.0..1.0f64], n * m),
        (first_negative, dim) in (0..=m.min(3), Just(dim)),
        (cosine, distance, positive_in_denominator, given, extra) in any::<(bool, bool, bool, bool, bool)>(),
        (positive_mean, keep, repulsion) in (positive_mean(), keep_some(), repulsion()),
        (floor, both) in (prop_oneof![2 => Just(0.0), 1 => 1e-15..1e-1f64], prop::bool::weighted(0.25)),
    ) -> Problem {
        let lists = |l: Vec<std::collections::BTreeSet<u32>>| l.into_iter().map(|s| s.into_iter().collect()).collect();
        let of = |f: fn(&(f64, f64, f64, f64)) -> f64| per_anchor.iter().map(f).collect::<Vec<f64>>();
        let plain = Problem { a, c, dim, positives: lists(positives), excluded, first_negative, scales: of(|p| p.0), cosine, distance,
            positive_in_denominator, positive_mean: PositiveMean::Uniform, given: None, positive_weight: of(|p| p.1), anchor_weight, bias, bias_as_matrix,
            targets, keep: Keep::All, repulsion: Repulsion::LogSumExp, extra: None, floor: 0.0, both };
        if both {
            return plain;
        }
        Problem { positive_mean, given: given.then(|| of(|p| p.2)), keep, repulsion, extra: extra.then(|| of(|p| p.3)), floor, ..plain }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_global_rejects: 4000, ..ProptestConfig::default() })]
    #[test]
    fn every_setting_equals_the_formula(p in problem()) {
        let (ours, expected) = (p.run::<f64>(), p.naive(&p));
        prop_assert!(close(ours.loss, expected, 1e-10), "{} instead of {expected}", ours.loss);
    }

    #[test]
    fn every_gradient_equals_finite_differences(p in problem()) {
        prop_assume!(!p.awkward());
        // A row near zero has a curvature that differences cannot follow.
        prop_assume!(!p.cosine || p.a.chunks(p.dim).chain(p.c.chunks(p.dim)).all(|x| super::norm(x) > 0.2));
        let ours = p.run::<f64>();
        let h = 1e-5;
        let check = |gradient: &[f64], step: usize, value: fn(&mut Problem, usize) -> &mut f64| {
            for k in (0..gradient.len()).step_by(step) {
                let shifted = |by: f64| {
                    let mut q = p.clone();
                    *value(&mut q, k) += by;
                    q.naive(&p)
                };
                let expected = (shifted(h) - shifted(-h)) / (2.0 * h);
                prop_assert!((gradient[k] - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{} instead of {expected}", gradient[k]);
            }
            Ok(())
        };
        check(&ours.grad_anchors, 5, |q, k| &mut q.a[k])?;
        check(&ours.grad_candidates, 5, |q, k| &mut q.c[k])?;
        check(&ours.grad_positive_logits, 3, |q, k| &mut q.given.as_mut().unwrap()[k])?;
        check(&ours.grad_extra_denominator, 3, |q, k| &mut q.extra.as_mut().unwrap()[k])?;
    }

    #[test]
    fn f32_follows_f64_in_every_setting(p in problem()) {
        let p = Problem { keep: Keep::All, ..p };
        prop_assume!(!p.awkward());
        prop_assume!(!p.cosine || p.a.chunks(p.dim).chain(p.c.chunks(p.dim)).all(|x| super::norm(x) > 0.05));
        let (single, double) = (p.run::<f32>(), p.run::<f64>());
        prop_assert!(close(single.loss, double.loss, 1e-3), "{} instead of {}", single.loss, double.loss);
        let pairs = single.grad_anchors.iter().chain(&single.grad_candidates).zip(double.grad_anchors.iter().chain(&double.grad_candidates));
        for (x, y) in pairs {
            prop_assert!(close(f64::from(*x), *y, 5e-3), "{x} instead of {y}");
        }
    }
}

/// More candidates than a panel holds, with lists in no order that reach over all of them.
fn wide(scale: f64, both: bool) -> Problem {
    let (n, m, dim) = (10, 1100, 3);
    let wave = |len: usize, step: f64| (0..len).map(|i| (i as f64 * step).sin()).collect::<Vec<f64>>();
    Problem {
        a: wave(n * dim, 0.37),
        c: wave(m * dim, 0.53),
        dim,
        positives: (0..n as u32).map(|i| vec![1099 - i, 7 * i, 1024 + i]).collect(),
        excluded: (0..n as u32).map(|i| vec![1023, 1050 + i, 1025 + i, 5]).collect(),
        first_negative: 3,
        scales: vec![scale; n],
        cosine: true,
        distance: false,
        positive_in_denominator: true,
        positive_mean: PositiveMean::Uniform,
        given: None,
        positive_weight: vec![1.0; n],
        anchor_weight: None,
        bias: None,
        bias_as_matrix: false,
        targets: Vec::new(),
        keep: Keep::All,
        repulsion: Repulsion::LogSumExp,
        extra: None,
        floor: 0.0,
        both,
    }
}

#[test]
fn rows_of_several_panels_are_one_row() {
    // With the exponentials taken panel by panel, and (the logits are too large for that) row by row.
    for scale in [10.0, 300.0] {
        for both in [false, true] {
            let p = wide(scale, both);
            let ours = p.run::<f64>();
            assert!(close(ours.loss, p.naive(&p), 1e-11), "{} instead of {}", ours.loss, p.naive(&p));
            let h = 1e-5 / scale;
            let slope = |value: &dyn Fn(&mut Problem, f64)| {
                let at = |by: f64| {
                    let mut q = p.clone();
                    value(&mut q, by);
                    q.naive(&p)
                };
                (at(h) - at(-h)) / (2.0 * h)
            };
            for k in [0, 17, 29] {
                let expected = slope(&|q, by| q.a[k] += by);
                assert!((ours.grad_anchors[k] - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{} not {expected}", ours.grad_anchors[k]);
            }
            for k in [0, 21, 3 * 1024, 3 * 1099 + 2] {
                let expected = slope(&|q, by| q.c[k] += by);
                assert!(
                    (ours.grad_candidates[k] - expected).abs() < 1e-6 * (1.0 + expected.abs()),
                    "{} not {expected}",
                    ours.grad_candidates[k]
                );
            }
            let single = p.run::<f32>();
            assert!(close(single.loss, ours.loss, 1e-5));
            let largest = ours.grad_candidates.iter().fold(0.0f64, |l, g| l.max(g.abs()));
            let pairs = single.grad_candidates.iter().zip(&ours.grad_candidates);
            assert!(pairs.into_iter().all(|(x, y)| (f64::from(*x) - y).abs() < 1e-4 * largest));
        }
    }
}
