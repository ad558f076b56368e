//! Linear probe: how much of the classes does a linear map of frozen features know?

use crate::{Error, Result, check, seed};
use foils_kernels::{Real, product};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How [`LinearProbe::search`] chooses the penalty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeSettings {
    /// The penalties that are tried; see [`LinearProbe::fit`].
    pub l2: Vec<f64>,
    /// Share of the rows that the choice is judged on.
    pub held_out: f64,
    /// Which rows those are.
    pub seed: u64,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self { l2: vec![1e-5, 1e-4, 1e-3, 1e-2, 1e-1], held_out: 0.2, seed: 0 }
    }
}

/// Multinomial logistic regression on standardised features.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearProbe {
    /// `[dim + 1, classes]`, row-major, of standardised features; the last row are the offsets.
    weights: Vec<f64>,
    classes: usize,
    l2: f64,
    scaling: Scaling,
}

impl LinearProbe {
    /// Minimises mean cross-entropy + l2/2 · ‖W‖² (offsets free) over `features` `[n, dim]`, each column brought to mean 0 and
    /// standard deviation 1 first. This is scikit-learn's `LogisticRegression(C=1/(l2·n))`. Newton's method in f64, its systems
    /// solved by conjugate gradients, until no entry of the gradient exceeds 1e-8; the same bits whatever the number of threads.
    ///
    /// # Errors
    /// When there are no features, rows are ragged, a value is not finite, labels are not one a row or not in `0..classes`, there
    /// are fewer than 2 classes, `l2` is not a finite number above 0, or 200 Newton steps do not suffice.
    pub fn fit<T: Real>(features: &[T], dim: usize, labels: &[i64], classes: usize, l2: f64) -> Result<Self> {
        check_rows(features, dim, labels, classes)?;
        let scaling = Scaling::of(features, dim);
        let x = scaling.apply(features);
        let mut weights = vec![0.0; (dim + 1) * classes];
        Problem { x: &x, dim, labels, classes, l2: check::positive("l2", l2)? }.minimise(&mut weights)?;
        Ok(Self { weights, classes, l2, scaling })
    }

    /// [`LinearProbe::fit`] on all rows with the penalty whose classifier of the other rows gets most of the held-out rows right
    /// (of equals the larger penalty).
    ///
    /// # Errors
    /// As [`LinearProbe::fit`]; when no penalty is given or the held-out share leaves either part without a row.
    pub fn search<T: Real>(features: &[T], dim: usize, labels: &[i64], classes: usize, settings: &ProbeSettings) -> Result<Self> {
        check_rows(features, dim, labels, classes)?;
        let n = labels.len();
        let held_out = (settings.held_out * n as f64).round();
        if !(held_out >= 1.0 && held_out < n as f64) {
            return Err(Error::invalid(format!("held_out = {} of {n} rows leaves a part without a row", settings.held_out)));
        }
        let mut order: Vec<usize> = (0..n).collect();
        seed::shuffle(&mut order, &mut seed::rng(settings.seed, 0));
        let part = |rows: &[usize]| -> (Vec<T>, Vec<i64>) {
            (rows.iter().flat_map(|&r| &features[r * dim..(r + 1) * dim]).copied().collect(), rows.iter().map(|&r| labels[r]).collect())
        };
        let (judges, others) = order.split_at(held_out as usize);
        let ((judge, judge_labels), (x, x_labels)) = (part(judges), part(others));
        let scaling = Scaling::of(&x, dim);
        let x = scaling.apply(&x);
        let mut penalties = settings.l2.clone();
        penalties.sort_by(|a, b| b.total_cmp(a));
        let mut best: Option<(f64, f64)> = None;
        // From the largest down, each from where the one before ended.
        let mut weights = vec![0.0; (dim + 1) * classes];
        for l2 in penalties {
            Problem { x: &x, dim, labels: &x_labels, classes, l2: check::positive("l2", l2)? }.minimise(&mut weights)?;
            let probe = Self { weights: weights.clone(), classes, l2, scaling: scaling.clone() };
            let accuracy = probe.accuracy(&judge, &judge_labels)?;
            if best.is_none_or(|(b, _)| accuracy > b) {
                best = Some((accuracy, l2));
            }
        }
        let (_, l2) = best.ok_or_else(|| Error::invalid("no penalty to try"))?;
        Self::fit(features, dim, labels, classes, l2)
    }

    /// The penalty.
    pub fn l2(&self) -> f64 {
        self.l2
    }

    /// Weights `[dim, classes]`, row-major, and offsets `[classes]`, of standardised features.
    pub fn weights(&self) -> (&[f64], &[f64]) {
        self.weights.split_at(self.scaling.mean.len() * self.classes)
    }

    /// The likeliest class of each of `features` `[m, dim]`; of equals the smallest.
    ///
    /// # Errors
    /// When rows are ragged or a value is not finite.
    pub fn predict<T: Real>(&self, features: &[T]) -> Result<Vec<usize>> {
        let dim = self.scaling.mean.len();
        check_values(features, dim)?;
        let x = self.scaling.apply(features);
        let (weights, offsets) = self.weights();
        let of_block = |x: &[f64]| {
            let logits = logits(x, dim, weights, offsets);
            logits.chunks(self.classes).map(|row| (1..row.len()).fold(0, |b, c| if row[c] > row[b] { c } else { b })).collect::<Vec<_>>()
        };
        Ok(x.par_chunks(BLOCK * dim).flat_map_iter(of_block).collect())
    }

    /// The share of `features` `[m, dim]` whose class it tells.
    ///
    /// # Errors
    /// As [`LinearProbe::predict`]; when labels are not one a row, or there are none.
    pub fn accuracy<T: Real>(&self, features: &[T], labels: &[i64]) -> Result<f64> {
        let found = self.predict(features)?;
        if found.len() != labels.len() || labels.is_empty() {
            return Err(Error::invalid(format!("{} labels for {} rows of features", labels.len(), found.len())));
        }
        Ok(found.iter().zip(labels).filter(|(p, l)| **p as i64 == **l).count() as f64 / labels.len() as f64)
    }
}

fn check_values<T: Real>(features: &[T], dim: usize) -> Result<()> {
    if dim == 0 || !features.len().is_multiple_of(dim) {
        return Err(Error::invalid(format!("features: {} values do not fill rows of {dim}", features.len())));
    }
    check::slice("features", features, dim, false)
}

fn check_rows<T: Real>(features: &[T], dim: usize, labels: &[i64], classes: usize) -> Result<()> {
    check_values(features, dim)?;
    let n = features.len() / dim;
    if n == 0 {
        return Err(Error::invalid("there are no features"));
    }
    if labels.len() != n {
        return Err(Error::invalid(format!("{} labels for {n} rows of features", labels.len())));
    }
    if classes < 2 {
        return Err(Error::invalid(format!("{classes} classes; a classifier needs at least 2")));
    }
    match labels.iter().position(|l| !(0..classes as i64).contains(l)) {
        Some(i) => Err(Error::invalid(format!("label {i} is {}, not one of {classes} classes", labels[i]))),
        None => Ok(()),
    }
}

/// Mean and standard deviation of each column.
#[derive(Clone, Debug, PartialEq)]
struct Scaling {
    mean: Vec<f64>,
    sd: Vec<f64>,
}

impl Scaling {
    fn of<T: Real>(features: &[T], dim: usize) -> Self {
        let n = (features.len() / dim) as f64;
        let sum = |of: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0.0; dim];
            for row in features.chunks_exact(dim) {
                sums.iter_mut().zip(row).enumerate().for_each(|(c, (s, v))| *s += of(c, v.to_f64()) / n);
            }
            sums
        };
        let mean = sum(&|_, v| v);
        let mut sd = sum(&|c, v| (v - mean[c]).powi(2));
        for (sd, mean) in sd.iter_mut().zip(&mean) {
            // A column that is constant but for rounding stays as it is.
            *sd = if *sd > (1e-12 * mean).powi(2) { sd.sqrt() } else { 1.0 };
        }
        Self { mean, sd }
    }

    fn apply<T: Real>(&self, features: &[T]) -> Vec<f64> {
        let dim = self.mean.len();
        features.iter().enumerate().map(|(i, v)| (v.to_f64() - self.mean[i % dim]) / self.sd[i % dim]).collect()
    }
}

/// Rows that are computed at a time; their sums are added up in order.
const BLOCK: usize = 512;

fn logits(x: &[f64], dim: usize, weights: &[f64], offsets: &[f64]) -> Vec<f64> {
    let classes = offsets.len();
    let mut out = offsets.repeat(x.len() / dim);
    product(&mut out, (x.len() / dim, classes, dim), x, (dim, 1), weights, (classes, 1), true, 1.0);
    out
}

/// What is minimised, over weights `[dim + 1, classes]`.
struct Problem<'a> {
    x: &'a [f64],
    dim: usize,
    labels: &'a [i64],
    classes: usize,
    l2: f64,
}

/// The value at a point, the gradient, and the probabilities `[n, classes]`.
struct Point {
    value: f64,
    gradient: Vec<f64>,
    probabilities: Vec<f64>,
}

impl Problem<'_> {
    /// From `weights`, which it moves to the minimum.
    fn minimise(&self, weights: &mut [f64]) -> Result<()> {
        const STEPS: usize = 200;
        const SMALL: f64 = 1e-8;
        let mut at = self.at(weights);
        for _ in 0..STEPS {
            if at.gradient.iter().all(|g| g.abs() <= SMALL) {
                return Ok(());
            }
            let direction = self.newton_direction(&at);
            let slope = dot(&direction, &at.gradient);
            let mut length = 1.0;
            at = loop {
                let moved: Vec<f64> = weights.iter().zip(&direction).map(|(w, d)| w + length * d).collect();
                let next = self.at(&moved);
                // The last term lets through what differs by rounding only.
                if next.value <= at.value + 1e-4 * length * slope + 1e-14 * at.value.abs() {
                    weights.copy_from_slice(&moved);
                    break next;
                }
                length *= 0.5;
                if length < 1e-12 {
                    return Err(Error::invalid(format!("the probe found no way down at a loss of {}", at.value)));
                }
            };
        }
        Err(Error::invalid(format!("the probe did not settle in {STEPS} steps; l2 = {} may be too small", self.l2)))
    }

    /// The solution d of H d = −g by conjugate gradients, the more exact the nearer the minimum is.
    fn newton_direction(&self, at: &Point) -> Vec<f64> {
        let mut residual: Vec<f64> = at.gradient.iter().map(|g| -g).collect();
        let mut direction = vec![0.0; residual.len()];
        let mut along = residual.clone();
        let mut square = dot(&residual, &residual);
        let enough = square * square.sqrt().min(0.25);
        for _ in 0..2 * residual.len() {
            let curved = self.curvature(&at.probabilities, &along);
            let curvature = dot(&along, &curved);
            // Adding a number to all offsets changes nothing: there is a flat direction.
            if curvature <= 1e-300 {
                break;
            }
            let length = square / curvature;
            for i in 0..direction.len() {
                direction[i] += length * along[i];
                residual[i] -= length * curved[i];
            }
            let before = std::mem::replace(&mut square, dot(&residual, &residual));
            if square <= enough {
                break;
            }
            along.iter_mut().zip(&residual).for_each(|(a, r)| *a = r + square / before * *a);
        }
        direction
    }

    fn rows(&self) -> f64 {
        self.labels.len() as f64
    }

    fn at(&self, weights: &[f64]) -> Point {
        let (slopes, offsets) = weights.split_at(self.dim * self.classes);
        let of_block = |(x, labels): (&[f64], &[i64])| {
            let mut p = logits(x, self.dim, slopes, offsets);
            let mut loss = 0.0;
            for (row, &label) in p.chunks_exact_mut(self.classes).zip(labels) {
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let own = row[label as usize] - largest;
                row.iter_mut().for_each(|v| *v = (*v - largest).exp());
                let sum: f64 = row.iter().sum();
                loss += sum.ln() - own;
                row.iter_mut().for_each(|v| *v /= sum);
            }
            let mut rest = p.clone();
            rest.chunks_exact_mut(self.classes).zip(labels).for_each(|(row, &label)| row[label as usize] -= 1.0);
            (loss, p, self.transposed(x, &rest))
        };
        let blocks: Vec<_> = self.blocks().map(of_block).collect();
        let penalty = 0.5 * self.l2 * dot(slopes, slopes);
        let value = blocks.iter().map(|b| b.0).sum::<f64>() / self.rows() + penalty;
        let gradient = self.summed(blocks.iter().map(|b| &b.2), slopes);
        Point { value, gradient, probabilities: blocks.into_iter().flat_map(|b| b.1).collect() }
    }

    /// The Hessian times `v`.
    fn curvature(&self, probabilities: &[f64], v: &[f64]) -> Vec<f64> {
        let (slopes, offsets) = v.split_at(self.dim * self.classes);
        let of_block = |((x, _), p): ((&[f64], &[i64]), &[f64])| {
            let mut u = logits(x, self.dim, slopes, offsets);
            for (u, p) in u.chunks_exact_mut(self.classes).zip(p.chunks_exact(self.classes)) {
                let mean = dot(u, p);
                u.iter_mut().zip(p).for_each(|(u, p)| *u = p * (*u - mean));
            }
            self.transposed(x, &u)
        };
        let blocks: Vec<_> = self.blocks().zip(probabilities.par_chunks(BLOCK * self.classes)).map(of_block).collect();
        self.summed(blocks.iter(), slopes)
    }

    fn blocks(&self) -> impl IndexedParallelIterator<Item = (&[f64], &[i64])> {
        self.x.par_chunks(BLOCK * self.dim).zip(self.labels.par_chunks(BLOCK))
    }

    /// `[x, 1]ᵀ y`: `[dim + 1, classes]`.
    fn transposed(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let (dim, classes) = (self.dim, self.classes);
        let mut out = vec![0.0; (dim + 1) * classes];
        let (slopes, offsets) = out.split_at_mut(dim * classes);
        product(slopes, (dim, classes, y.len() / classes), x, (1, dim), y, (classes, 1), false, 1.0);
        y.chunks_exact(classes).for_each(|row| offsets.iter_mut().zip(row).for_each(|(o, v)| *o += v));
        out
    }

    /// The mean over rows from sums over blocks, and the penalty's part.
    fn summed<'b>(&self, blocks: impl Iterator<Item = &'b Vec<f64>>, slopes: &[f64]) -> Vec<f64> {
        let mut total = vec![0.0; (self.dim + 1) * self.classes];
        blocks.for_each(|block| total.iter_mut().zip(block).for_each(|(t, v)| *t += v));
        let scale = self.rows();
        total.iter_mut().for_each(|t| *t /= scale);
        total.iter_mut().zip(slopes).for_each(|(t, s)| *t += self.l2 * s);
        total
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Deserialize)]
    struct Recorded {
        dim: usize,
        classes: usize,
        features: Vec<f64>,
        labels: Vec<i64>,
        fits: Vec<Fit>,
    }

    #[derive(Deserialize)]
    struct Fit {
        l2: f64,
        weights: Vec<f64>,
        offsets: Vec<f64>,
        predictions: Vec<usize>,
    }

    /// `tests/peers/linear_probe.py` recorded them.
    #[test]
    fn weights_and_predictions_are_those_of_scikit_learn() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/linear_probe.json");
        let theirs: Recorded = crate::files::read_json(std::path::Path::new(path)).unwrap();
        assert!(theirs.fits.len() >= 3);
        for fit in &theirs.fits {
            let probe = LinearProbe::fit(&theirs.features, theirs.dim, &theirs.labels, theirs.classes, fit.l2).unwrap();
            let (weights, offsets) = probe.weights();
            let worst = |a: &[f64], b: &[f64]| {
                assert_eq!(a.len(), b.len());
                a.iter().zip(b).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f64::max)
            };
            // Their solver stops at 1e-12; weakly held back, the minimum is flat.
            assert!(worst(weights, &fit.weights) < 1e-4, "l2 {}: {}", fit.l2, worst(weights, &fit.weights));
            assert!(worst(offsets, &fit.offsets) < 1e-4, "l2 {}: {}", fit.l2, worst(offsets, &fit.offsets));
            assert_eq!(probe.predict(&theirs.features).unwrap(), fit.predictions);
        }
    }

    fn clouds(n: usize, noise: f64) -> (Vec<f32>, Vec<i64>) {
        let mut rng = seed::rng(2, 0);
        let mut features = Vec::new();
        for i in 0..n {
            features.extend((0..4).map(|c| (f64::from(c == i % 3) + noise * seed::normal(&mut rng)) as f32 * 100.0 + 7.0));
        }
        (features, (0..n).map(|i| (i % 3) as i64).collect())
    }

    #[test]
    fn it_is_the_minimum_whatever_the_threads() {
        let (x, labels) = clouds(1200, 0.4);
        let run = || LinearProbe::fit(&x, 4, &labels, 3, 1e-3).unwrap();
        let probe = run();
        assert_eq!(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(run), probe);
        let scaled = probe.scaling.apply(&x);
        let problem = Problem { x: &scaled, dim: 4, labels: &labels, classes: 3, l2: 1e-3 };
        let best = problem.at(&probe.weights);
        assert!(best.gradient.iter().all(|g| g.abs() <= 1e-8));
        for i in 0..probe.weights.len() {
            for by in [-1e-3, 1e-3] {
                let mut moved = probe.weights.clone();
                moved[i] += by;
                assert!(problem.at(&moved).value > best.value);
            }
        }
        assert!(probe.accuracy(&x, &labels).unwrap() > 0.8);
    }

    proptest! {
        #[test]
        fn gradient_and_curvature_are_the_derivatives(
            x in prop::collection::vec(-2.0..2.0f64, 30), labels in prop::collection::vec(0..3i64, 10),
            w in prop::collection::vec(-1.0..1.0f64, 12), v in prop::collection::vec(-1.0..1.0f64, 12),
        ) {
            let problem = Problem { x: &x, dim: 3, labels: &labels, classes: 3, l2: 0.1 };
            let at = |h: f64| problem.at(&w.iter().zip(&v).map(|(w, v)| w + h * v).collect::<Vec<_>>());
            let here = at(0.0);
            prop_assert!(((at(1e-5).value - at(-1e-5).value) / 2e-5 - dot(&here.gradient, &v)).abs() < 1e-8);
            let curved = problem.curvature(&here.probabilities, &v);
            for (i, c) in curved.iter().enumerate() {
                prop_assert!(((at(1e-5).gradient[i] - at(-1e-5).gradient[i]) / 2e-5 - c).abs() < 1e-8);
            }
        }
    }

    #[test]
    fn the_penalty_is_chosen_on_held_out_rows() {
        let (x, labels) = clouds(90, 0.8);
        // Noise columns, so that a weak penalty learns by heart.
        let mut rng = seed::rng(3, 0);
        let wide: Vec<f64> = x
            .chunks(4)
            .flat_map(|row| row.iter().map(|v| f64::from(*v)).chain((0..60).map(|_| seed::normal(&mut rng))).collect::<Vec<_>>())
            .collect();
        let settings = ProbeSettings { l2: vec![1e-5, 1e-1, 1e2], ..ProbeSettings::default() };
        let probe = LinearProbe::search(&wide, 64, &labels, 3, &settings).unwrap();
        assert_eq!(probe.l2(), 1e-1);
        assert_eq!(probe, LinearProbe::fit(&wide, 64, &labels, 3, 1e-1).unwrap());
    }

    #[test]
    fn constant_columns_do_no_harm_and_bad_input_is_refused() {
        let (x, labels) = clouds(30, 0.2);
        let constant: Vec<f32> = x.chunks(4).flat_map(|row| [row[0], 0.1, row[1], row[2]]).collect();
        assert!(LinearProbe::fit(&constant, 4, &labels, 3, 1e-3).unwrap().accuracy(&constant, &labels).unwrap() > 0.9);
        let error = |x: &[f32], labels: &[i64], classes, l2| LinearProbe::fit(x, 4, labels, classes, l2).unwrap_err().to_string();
        assert!(error(&x[..119], &labels, 3, 1.0).contains("119 values"));
        assert!(error(&[], &[], 3, 1.0).contains("no features"));
        assert!(error(&x, &labels[..29], 3, 1.0).contains("29 labels for 30"));
        assert!(error(&x, &labels, 2, 1.0).contains("label 2 is 2"));
        assert!(error(&x, &labels, 1, 1.0).contains("1 classes"));
        assert!(error(&x, &labels, 3, 0.0).contains("l2 = 0"));
        let mut nan = x.clone();
        nan[5] = f32::NAN;
        assert!(error(&nan, &labels, 3, 1.0).contains("row 1, column 1 is NaN"));
        let search = |settings: ProbeSettings| LinearProbe::search(&x, 4, &labels, 3, &settings).unwrap_err().to_string();
        assert!(search(ProbeSettings { held_out: 1.0, ..ProbeSettings::default() }).contains("held_out = 1"));
        assert!(search(ProbeSettings { l2: vec![], ..ProbeSettings::default() }).contains("no penalty"));
    }
}
