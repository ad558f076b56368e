//! The losses of the papers, each as settings of the kernel, against its formula written out and differences of it.

use super::flat;
use crate::Lists;
use crate::contrastive::*;

/// A loss and its gradients by the rows of both sides; one side's gradient is added to the other's where they are the same rows.
type Result = (f64, Vec<f64>, Vec<f64>);

fn wave(len: usize, step: f64) -> Vec<f64> {
    (0..len).map(|i| (i as f64 * step + step * step).sin()).collect()
}

fn unit(rows: &[f64], dim: usize) -> Vec<Vec<f64>> {
    rows.chunks(dim).map(|x| x.iter().map(|v| v / x.iter().map(|v| v * v).sum::<f64>().sqrt()).collect()).collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn lse(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    let shift = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    shift + values.iter().map(|v| (v - shift).exp()).sum::<f64>().ln()
}

fn softmax(values: &[f64]) -> Vec<f64> {
    let log = lse(values.iter().copied());
    values.iter().map(|v| (v - log).exp()).collect()
}

/// Holds `ours` to `value` and both gradients to its differences.
fn holds(name: &str, a: &[f64], c: &[f64], ours: &Result, value: impl Fn(&[f64], &[f64]) -> f64) {
    let expected = value(a, c);
    assert!((ours.0 - expected).abs() < 1e-11 * (1.0 + expected.abs()), "{name}: {} instead of {expected}", ours.0);
    let h = 1e-5;
    for (side, gradient) in [&ours.1, &ours.2].into_iter().enumerate() {
        for k in 0..gradient.len() {
            let at = |by: f64| {
                let (mut a, mut c) = (a.to_vec(), c.to_vec());
                if side == 0 {
                    a[k] += by
                } else {
                    c[k] += by
                }
                value(&a, &c)
            };
            let slope = (8.0 * (at(h) - at(-h)) - at(2.0 * h) + at(-2.0 * h)) / (12.0 * h);
            assert!((gradient[k] - slope).abs() < 1e-7 * (1.0 + slope.abs()), "{name}, side {side}, {k}: {} not {slope}", gradient[k]);
        }
    }
}

fn run(a: &[f64], c: &[f64], dim: usize, settings: Settings) -> Result {
    let r = contrast(a, c, dim, &settings);
    (r.loss, r.grad_anchors, r.grad_candidates)
}

/// Each anchor's own list.
struct Own {
    offsets: Vec<usize>,
    indices: Vec<u32>,
}

impl Own {
    fn new(lists: &[Vec<u32>]) -> Self {
        let (offsets, indices) = flat(lists);
        Self { offsets, indices }
    }

    fn diagonal(n: usize) -> Self {
        Self::new(&(0..n as u32).map(|i| vec![i]).collect::<Vec<_>>())
    }

    fn lists(&self) -> Lists<'_> {
        Lists::new(&self.offsets, &self.indices)
    }
}

const N: usize = 7;
const D: usize = 4;

fn sides() -> (Vec<f64>, Vec<f64>) {
    (wave(N * D, 1.7), wave(N * D, 2.9))
}

/// τ = 0.3; z1 against z2 by cosine.
fn scaled(a: &[f64], c: &[f64], scale: f64) -> Vec<Vec<f64>> {
    let c = unit(c, D);
    unit(a, D).iter().map(|x| c.iter().map(|y| scale * dot(x, y)).collect()).collect()
}

fn mean(of: impl Fn(usize) -> f64) -> f64 {
    (0..N).map(of).sum::<f64>() / N as f64
}

#[test]
fn info_nce_in_one_direction_and_both() {
    let ((a, c), own) = (sides(), Own::diagonal(N));
    let rows = |a: &[f64], c: &[f64]| {
        let s = scaled(a, c, 3.0);
        mean(|i| lse(s[i].iter().copied()) - s[i][i])
    };
    let settings = Settings::new(own.lists(), 3.0);
    holds("InfoNCE", &a, &c, &run(&a, &c, D, settings), rows);
    let both = Settings { both_directions: true, ..settings };
    holds("symmetric", &a, &c, &run(&a, &c, D, both), |a, c| 0.5 * (rows(a, c) + rows(c, a)));
}

#[test]
fn views_against_each_other_nt_xent_sup_con_dcl() {
    let z = wave(2 * N * D, 1.3);
    let n = 2 * N;
    let selves = Own::diagonal(n);
    let partners = Own::new(&(0..n).map(|i| vec![((i + N) % n) as u32]).collect::<Vec<_>>());
    let labels: Vec<usize> = (0..n).map(|i| if i == 3 { 9 } else { i % 4 }).collect();
    let same: Vec<Vec<u32>> = (0..n).map(|i| (0..n).filter(|&j| j != i && labels[j] == labels[i]).map(|j| j as u32).collect()).collect();
    let folded = |settings: Settings| {
        let (loss, mut ga, gc) = run(&z, &z, D, settings);
        ga.iter_mut().zip(&gc).for_each(|(x, y)| *x += y);
        (loss, ga, Vec::new())
    };
    let logits = |z: &[f64]| scaled(z, z, 2.0);
    let settings = Settings { excluded: selves.lists(), ..Settings::new(partners.lists(), 2.0) };
    let others = |i: usize| move |j: &usize| *j != i;
    holds("NT-Xent", &z, &[], &folded(settings), |z, _| {
        let s = logits(z);
        (0..n).map(|i| lse((0..n).filter(others(i)).map(|j| s[i][j])) - s[i][(i + N) % n]).sum::<f64>() / n as f64
    });
    // The sum of both views' means.
    let v = vec![1.0 / N as f64; n];
    let dcl = Settings { positive_in_denominator: false, anchor_weight: Some(&v), ..settings };
    let naive_dcl = |z: &[f64], w: &[f64]| {
        let s = logits(z);
        let term = |i: usize| lse((0..n).filter(|&j| j % N != i % N).map(|j| s[i][j])) - w[i] * s[i][(i + N) % n];
        (0..n).map(term).sum::<f64>() / N as f64
    };
    holds("DCL", &z, &[], &folded(dcl), |z, _| naive_dcl(z, &vec![1.0; n]));
    let fixed: Vec<f64> = (0..n).map(|i| 2.0 - 0.3 * (i % N) as f64).collect();
    let dclw = Settings { positive_weight: Some(&fixed), ..dcl };
    holds("DCLW with constant weights", &z, &[], &folded(dclw), |z, _| naive_dcl(z, &fixed));
    // τ/τ_base = 1.4; an anchor without positives contributes nothing, but counts.
    let v: Vec<f64> = same.iter().map(|p| if p.is_empty() { 0.0 } else { 1.4 / n as f64 }).collect();
    let same_lists = Own::new(&same);
    let sup_con = Settings { positives: same_lists.lists(), anchor_weight: Some(&v), ..settings };
    holds("SupCon", &z, &[], &folded(sup_con), |z, _| {
        let s = logits(z);
        let log = |i: usize| lse((0..n).filter(others(i)).map(|j| s[i][j]));
        let term = |i: usize| same[i].iter().map(|&p| log(i) - s[i][p as usize]).sum::<f64>() / same[i].len().max(1) as f64;
        1.4 * (0..n).map(term).sum::<f64>() / n as f64
    });
}

#[test]
fn queues_moco_dcl_and_mochi() {
    let (q, keys, queue) = (wave(N * D, 1.7), wave(N * D, 2.9), wave(11 * D, 0.7));
    let synthetic = wave(N * 3 * D, 5.3);
    let candidates = [keys.clone(), queue.clone()].concat();
    let own = Own::diagonal(N);
    let settings = Settings { first_negative: N, grad_candidates: false, ..Settings::new(own.lists(), 5.0) };
    let logits = |q: &[f64]| scaled(q, &candidates, 5.0);
    holds("MoCo", &q, &candidates, &run(&q, &candidates, D, settings), |q, _| {
        let s = logits(q);
        mean(|i| lse([s[i][i]].into_iter().chain(s[i][N..].iter().copied())) - s[i][i])
    });
    let decoupled = Settings { positive_in_denominator: false, ..settings };
    holds("DCL's queue", &q, &candidates, &run(&q, &candidates, D, decoupled), |q, _| {
        let s = logits(q);
        mean(|i| lse(s[i][N..].iter().copied()) - s[i][i])
    });
    // MoCHi: three synthetic points for each query, stop-gradient, of length one.
    let points = unit(&synthetic, D);
    let hard = |q: &[f64], i: usize| -> Vec<f64> { points[i * 3..][..3].iter().map(|h| 5.0 * dot(&unit(q, D)[i], h)).collect() };
    let extra: Vec<f64> = (0..N).map(|i| lse(hard(&q, i))).collect();
    let r = contrast(&q, &candidates, D, &Settings { extra_denominator: Some(&extra), ..settings });
    let mut gradient = r.grad_anchors;
    for i in 0..N {
        let (u, share) = (&unit(&q, D)[i], softmax(&hard(&q, i)));
        let pull: Vec<f64> = (0..D).map(|k| (0..3).map(|h| 5.0 * share[h] * points[i * 3 + h][k]).sum::<f64>()).collect();
        let (along, norm) = (dot(&pull, u), dot(&q[i * D..][..D], &q[i * D..][..D]).sqrt());
        (0..D).for_each(|k| gradient[i * D + k] += r.grad_extra_denominator[i] * (pull[k] - along * u[k]) / norm);
    }
    holds("MoCHi", &q, &candidates, &(r.loss, gradient, Vec::new()), |q, _| {
        let s = logits(q);
        mean(|i| lse([s[i][i]].into_iter().chain(s[i][N..].iter().copied()).chain(hard(q, i))) - s[i][i])
    });
}

/// A relevance, and its softmax over the other texts.
fn similarities() -> (Vec<f64>, Vec<Vec<f64>>) {
    let relevance = wave(N * N, 7.1);
    let rows = (0..N).map(|i| {
        let log = lse((0..N).filter(|&j| j != i).map(|j| relevance[i * N + j]));
        (0..N).map(|j| if j == i { 0.0 } else { (relevance[i * N + j] - log).exp() }).collect()
    });
    (relevance.clone(), rows.collect())
}

#[test]
fn soft_info_nce_and_its_alternatives() {
    let ((mut q, c), own) = (sides(), Own::diagonal(N));
    // Raw products, one of them so far off that the floor is felt.
    q[..D].iter_mut().for_each(|v| *v *= 12.0);
    let (relevance, sim) = similarities();
    let raw = |q: &[f64], c: &[f64]| -> Vec<Vec<f64>> { q.chunks(D).map(|x| c.chunks(D).map(|y| dot(x, y)).collect()).collect() };
    let weight = |i: usize, j: usize| f64::max(0.1, (1.5 - sim[i][j]) / (1.5 - 1.0 / (N - 1) as f64));
    let bias = |i: usize, row: &mut [f64]| row.iter_mut().enumerate().for_each(|(j, b)| *b = weight(i, j).ln());
    let plain = Settings { cosine: false, ..Settings::new(own.lists(), 1.0) };
    let soft = Settings { bias: Some(Bias::Rows(Pairs(&bias))), floor: 1e-15, ..plain };
    holds("Soft-InfoNCE", &q, &c, &run(&q, &c, D, soft), |q, c| {
        let s = raw(q, c);
        mean(|i| -((s[i][i] - lse((0..N).map(|j| s[i][j] + if j == i { 0.0 } else { weight(i, j).ln() }))).exp() + 1e-15).ln())
    });

    let own_first = |i: usize, row: &mut [f64]| {
        row.copy_from_slice(&sim[i]);
        row[i] = 1.0;
    };
    let targets = Pairs(&own_first);
    let weighted = Settings { negatives: Negatives::CrossEntropy { targets }, floor: 1e-15, ..plain };
    holds("Weighted InfoNCE", &q, &c, &run(&q, &c, D, weighted), |q, c| {
        let s = raw(q, c);
        mean(|i| softmax(&s[i]).iter().enumerate().map(|(j, p)| -(if i == j { 1.0 } else { sim[i][j] }) * (p + 1e-15).ln()).sum())
    });

    let others = |i: usize, row: &mut [f64]| row.copy_from_slice(&sim[i]);
    let divergence = Settings { negatives: Negatives::CrossEntropy { targets: Pairs(&others) }, positive_in_denominator: false, ..plain };
    let mut ours = run(&q, &c, D, divergence);
    ours.0 += mean(|i| sim[i].iter().filter(|t| **t > 0.0).map(|t| t * t.ln()).sum());
    holds("KL", &q, &c, &ours, |q, c| {
        let s = raw(q, c);
        let log = |i: usize| lse((0..N).filter(|&j| j != i).map(|j| s[i][j]));
        mean(|i| (0..N).filter(|&j| j != i).map(|j| sim[i][j] * (sim[i][j].ln() - s[i][j] + log(i))).sum())
    });

    let (calm, v) = (sides().0, vec![1.0 / (N * N) as f64; N]);
    let binary = Settings { negatives: Negatives::BinaryCrossEntropy { targets }, anchor_weight: Some(&v), ..plain };
    holds("BCE", &calm, &c, &run(&calm, &c, D, binary), |q, c| {
        let s = raw(q, c);
        let entry = |t: f64, p: f64| -t * p.ln() - (1.0 - t) * (1.0 - p).ln();
        let row = |i: usize| softmax(&s[i]).iter().enumerate().map(|(j, &p)| entry(if i == j { 1.0 } else { sim[i][j] }, p)).sum::<f64>();
        mean(row) / N as f64
    });

    let dropped = |i: usize, j: usize| i != j && relevance[i * N + j] >= 0.3 * relevance[i * N + i].abs();
    let lists = Own::new(&(0..N).map(|i| (0..N).filter(|&j| dropped(i, j)).map(|j| j as u32).collect()).collect::<Vec<_>>());
    let cancelled = Settings { excluded: lists.lists(), ..plain };
    holds("false-negative cancellation", &q, &c, &run(&q, &c, D, cancelled), |q, c| {
        let s = raw(q, c);
        mean(|i| lse((0..N).filter(|&j| !dropped(i, j)).map(|j| s[i][j])) - s[i][i])
    });
}

#[test]
fn simple_and_truncated_losses() {
    let ((a, c), own) = (sides(), Own::diagonal(N));
    // ⌈0.4 · 6⌉ = 3 of 6 negatives.
    let hardest = |s: &[f64], i: usize| {
        let mut others: Vec<f64> = (0..N).filter(|&j| j != i).map(|j| s[j]).collect();
        others.sort_by(|x, y| y.total_cmp(x));
        others.truncate(3);
        others
    };
    let hard = Settings { keep: Keep::Hardest(0.4), ..Settings::new(own.lists(), 4.0) };
    holds("hard", &a, &c, &run(&a, &c, D, hard), |a, c| {
        let s = scaled(a, c, 4.0);
        mean(|i| lse(hardest(&s[i], i).into_iter().chain([s[i][i]])) - s[i][i])
    });
    let simple = Settings { negatives: Negatives::Sum { weight: 0.7 }, ..Settings::new(own.lists(), 1.0) };
    holds("simple", &a, &c, &run(&a, &c, D, simple), |a, c| {
        let s = scaled(a, c, 1.0);
        mean(|i| 0.7 * (s[i].iter().sum::<f64>() - s[i][i]) - s[i][i])
    });
    holds("hard-simple", &a, &c, &run(&a, &c, D, Settings { keep: Keep::Hardest(0.4), ..simple }), |a, c| {
        let s = scaled(a, c, 1.0);
        mean(|i| 0.7 * hardest(&s[i], i).iter().sum::<f64>() - s[i][i])
    });
}

fn squared(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum()
}

#[test]
fn distances_uniformity_and_cacr() {
    let ((a, c), own) = (sides(), Own::diagonal(N));
    let distances = |a: &[f64], c: &[f64]| -> Vec<Vec<f64>> {
        let c = unit(c, D);
        unit(a, D).iter().map(|x| c.iter().map(|y| squared(x, y)).collect()).collect()
    };
    let base = Settings { similarity: Similarity::NegativeSquaredDistance, ..Settings::new(own.lists(), 1.0) };
    let others = |i: usize| (0..N).filter(move |&j| j != i);
    for (sharpness, constant_before) in [(2.0, 0), (0.0, 0), (2.0, N), (2.0, 4)] {
        // β = 1.3, and the debiased form's own positive: τ₊ = 0.1.
        let (w, v) = (vec![-0.1; N], vec![1.0 / (0.9 * N as f64); N]);
        let negatives = Negatives::WeightedMean { weight: 1.3, sharpness, constant_before };
        let settings = Settings { negatives, positive_weight: Some(&w), anchor_weight: Some(&v), ..base };
        let fixed = distances(&a, &c);
        holds("repulsion", &a, &c, &run(&a, &c, D, settings), |a, c| {
            let d = distances(a, c);
            let row = |i: usize| {
                let exponents: Vec<f64> = others(i).map(|j| -sharpness * if j < constant_before { fixed[i][j] } else { d[i][j] }).collect();
                -0.1 * d[i][i] - 1.3 * softmax(&exponents).iter().zip(others(i)).map(|(p, j)| p * d[i][j]).sum::<f64>()
            };
            mean(row) / 0.9
        });
    }

    // Attraction among the views of each sample: anchors and candidates are all views.
    let views = wave(3 * N * D, 1.3);
    let siblings =
        Own::new(&(0..3 * N).map(|r| (0..3).filter(|v| *v != r / N).map(|v| (v * N + r % N) as u32).collect()).collect::<Vec<_>>());
    let attract = Settings {
        similarity: Similarity::NegativeSquaredDistance,
        negatives: Negatives::None,
        positive_mean: PositiveMean::Softmax { sharpness: -0.8, constant: false },
        ..Settings::new(siblings.lists(), 1.0)
    };
    let (loss, mut gradient, other) = run(&views, &views, D, attract);
    gradient.iter_mut().zip(other).for_each(|(x, y)| *x += y);
    holds("attraction", &views, &[], &(loss, gradient, Vec::new()), |z, _| {
        let u = unit(z, D);
        let row = |r: usize| {
            let d: Vec<f64> = (0..3).filter(|v| *v != r / N).map(|v| squared(&u[r], &u[v * N + r % N])).collect();
            softmax(&d.iter().map(|d| 0.8 * d).collect::<Vec<_>>()).iter().zip(&d).map(|(p, d)| p * d).sum::<f64>()
        };
        (0..3 * N).map(row).sum::<f64>() / (3 * N) as f64
    });

    // Uniformity: a first pass finds each anchor's share of the sum over all pairs.
    let uniform = Settings { excluded: own.lists(), ..Settings { scale: 2.0, positives: Lists::EMPTY, ..base } };
    let logs: Vec<f64> = contrast(&a, &a, D, &uniform).terms.iter().map(|t| t.log_denominator).collect();
    let shares = softmax(&logs);
    let (_, mut gradient, other) = run(&a, &a, D, Settings { anchor_weight: Some(&shares), ..uniform });
    gradient.iter_mut().zip(other).for_each(|(x, y)| *x += y);
    let pairs = ((N * (N - 1)) as f64).ln();
    holds("uniformity", &a, &[], &(lse(logs) - pairs, gradient, Vec::new()), |a, _| {
        let d = distances(a, a);
        lse((0..N).flat_map(|i| others(i).map(move |j| (i, j))).map(|(i, j)| -2.0 * d[i][j])) - pairs
    });

    // CACR's radial cost: the log of the mean over anchors of exp(LSE((κ + t) x) − LSE(κ x)).
    let (kappa, t) = (0.9, 2.0);
    let only = Settings { positives: Lists::EMPTY, excluded: own.lists(), ..base };
    let logs = |scale: f64| contrast(&a, &c, D, &Settings { scale, ..only }).terms.iter().map(|t| t.log_denominator).collect::<Vec<_>>();
    let ratio: Vec<f64> = logs(kappa + t).iter().zip(logs(kappa)).map(|(x, y)| x - y).collect();
    let shares = softmax(&ratio);
    let minus: Vec<f64> = shares.iter().map(|s| -s).collect();
    let part = |scale: f64, v: &[f64]| run(&a, &c, D, Settings { scale, anchor_weight: Some(v), ..only });
    let ((_, mut ga, mut gc), (_, ha, hc)) = (part(kappa + t, &shares), part(kappa, &minus));
    ga.iter_mut().zip(ha).for_each(|(x, y)| *x += y);
    gc.iter_mut().zip(hc).for_each(|(x, y)| *x += y);
    holds("radial repulsion", &a, &c, &(lse(ratio) - (N as f64).ln(), ga, gc), |a, c| {
        let d = distances(a, c);
        let row = |i: usize| {
            let p = softmax(&others(i).map(|j| -kappa * d[i][j]).collect::<Vec<_>>());
            p.iter().zip(others(i)).map(|(p, j)| p * (-t * d[i][j]).exp()).sum::<f64>()
        };
        mean(row).ln()
    });
}

#[test]
fn margins_and_appended_pairs() {
    const CLASSES: usize = 5;
    let (x, w) = (wave(N * D, 1.7), wave(CLASSES * D, 2.9));
    let labels: Vec<usize> = (0..N).map(|i| (i * 3) % CLASSES).collect();
    let classes = Own::new(&labels.iter().map(|&y| vec![y as u32]).collect::<Vec<_>>());
    let same = Own::new(&(0..N).map(|i| (0..N).filter(|&j| labels[j] == labels[i]).map(|j| j as u32).collect()).collect::<Vec<_>>());
    let (scale, margin, lower, upper) = (16.0, 0.3, -0.8, 0.6);

    // The pairs of samples within the box, each seen twice.
    let pairs = Settings {
        excluded: same.lists(),
        keep: Keep::Within { lower: scale * lower, upper: scale * upper },
        ..Settings::new(Lists::EMPTY, scale)
    };
    let logs: Vec<f64> = contrast(&x, &x, D, &pairs).terms.iter().map(|t| t.log_denominator).collect();
    let appended = lse(logs.iter().copied()) - 2f64.ln();
    // ArcFace: cos(θ + m).
    let head = Settings::new(classes.lists(), scale);
    let cosines: Vec<f64> = positive_logits(&x, &w, D, &head).iter().map(|s| s / scale).collect();
    let given: Vec<f64> = cosines.iter().map(|c| scale * (c.acos() + margin).cos()).collect();
    let extra = vec![appended; N];
    let r = contrast(&x, &w, D, &Settings { positive_logits: Some(&given), extra_denominator: Some(&extra), ..head });
    let (mut gx, mut gw) = (r.grad_anchors, r.grad_candidates);
    // Back through the margin: a contrast of the positives alone.
    let through: Vec<f64> =
        cosines.iter().zip(&r.grad_positive_logits).map(|(c, g)| -g * (c.acos() + margin).sin() / c.acos().sin()).collect();
    let (_, hx, hw) = run(&x, &w, D, Settings { negatives: Negatives::None, anchor_weight: Some(&through), ..head });
    gx.iter_mut().zip(hx).for_each(|(x, y)| *x += y);
    gw.iter_mut().zip(hw).for_each(|(x, y)| *x += y);
    // And through the pairs.
    let whole: f64 = r.grad_extra_denominator.iter().sum();
    let shares: Vec<f64> = softmax(&logs).iter().map(|s| whole * s).collect();
    let (_, hx, hy) = run(&x, &x, D, Settings { anchor_weight: Some(&shares), ..pairs });
    gx.iter_mut().zip(hx.iter().zip(hy)).for_each(|(x, (y, z))| *x += y + z);

    holds("UNPG on ArcFace", &x, &w, &(r.loss, gx, gw), |x, w| {
        let (x, w) = (unit(x, D), unit(w, D));
        let kept: Vec<f64> = (0..N)
            .flat_map(|i| (i + 1..N).map(move |j| (i, j)))
            .filter(|&(i, j)| labels[i] != labels[j])
            .map(|(i, j)| dot(&x[i], &x[j]))
            .filter(|s| (lower..=upper).contains(s))
            .map(|s| scale * s)
            .collect();
        let row = |i: usize| {
            let mut s: Vec<f64> = w.iter().map(|w| scale * dot(&x[i], w)).collect();
            let y = labels[i];
            s[y] = scale * ((s[y] / scale).acos() + margin).cos();
            lse(s.iter().copied().chain(kept.iter().copied())) - s[y]
        };
        mean(row)
    });
}
