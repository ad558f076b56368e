//! Contrastive attraction and contrastive repulsion: positives are compared with positives, negatives with negatives.

use super::contrast::{Closeness, Contrast, Negatives, PositiveMean, PositiveWeight, Ragged, normalize_rows};
use super::setters::setters;
use super::{Options, RankingLoss, Similarity, Targets, ZeroRows};
use crate::{Error, Result, check};
use burn::tensor::Tensor;

/// What a negative costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RepulsionCost {
    /// −β ‖a − n‖², averaged.
    Euclidean,
    /// β log of the mean of exp(−t ‖a − n‖²); t = 2 is usual.
    Rbf {
        /// t.
        t: f64,
    },
}

/// CACR (cacr). With d² squared distances: the attraction of an anchor is α Σ_y π⁺_y d²_y over its positives, π⁺ = softmax(τ₊ d²), so that the
/// farther ones are pulled harder; its repulsion is −β Σ_j π⁻_j d²_j over its negatives, π⁻ = softmax(−τ₋ d²), so that the nearer ones are pushed
/// harder (or the logarithm of a mean of exp(−t d²), [`RepulsionCost::Rbf`]). Gradients flow through both weights. The loss is their sum, and
/// may be negative. Of two views the positive stands alone: then π⁺ is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cacr {
    tau_pos: f64,
    tau_neg: f64,
    alpha: f64,
    beta: f64,
    cost: RepulsionCost,
    positive_weighting: bool,
    negative_weighting: bool,
    tau_plus: Option<f64>,
    normalize: bool,
    options: Options,
}

/// What [`Cacr`] returns.
#[derive(Clone, Debug)]
pub struct CacrOutput {
    /// Attraction + repulsion, shape `[1]`, on the graph.
    pub loss: Tensor<1>,
    /// With α.
    pub attraction: f64,
    /// With β.
    pub repulsion: f64,
}

/// What [`Cacr::weights`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct CacrWeights {
    /// π⁺ `[views, n, views − 1]`: of each view's anchors over the other views, in order.
    pub positive: Vec<f64>,
    /// π⁻ `[n, n − 1]`: of the first view's anchors over the other samples of the second view, in order.
    pub negative: Vec<f64>,
}

impl Cacr {
    /// On normalised rows, with euclidean cost, both weightings and α = β = 1. τ₊ = 1 is usual, τ₋ 0.9 to 2.
    ///
    /// # Errors
    /// When `tau_pos` or `tau_neg` is not a finite number of at least 0.
    pub fn new(tau_pos: f64, tau_neg: f64) -> Result<Self> {
        Ok(Self {
            tau_pos: check::not_negative("tau_pos", tau_pos)?,
            tau_neg: check::not_negative("tau_neg", tau_neg)?,
            alpha: 1.0,
            beta: 1.0,
            cost: RepulsionCost::Euclidean,
            positive_weighting: true,
            negative_weighting: true,
            tau_plus: None,
            normalize: true,
            options: Options::default(),
        })
    }

    /// α and β, the factors of attraction and repulsion.
    ///
    /// # Errors
    /// When one is not a finite number above 0.
    pub fn factors(mut self, alpha: f64, beta: f64) -> Result<Self> {
        (self.alpha, self.beta) = (check::positive("alpha", alpha)?, check::positive("beta", beta)?);
        Ok(self)
    }

    /// What a negative costs.
    ///
    /// # Errors
    /// When t is not a finite number above 0, or the loss is debiased ([`Cacr::debiased`]) and the cost not euclidean.
    pub fn cost(mut self, cost: RepulsionCost) -> Result<Self> {
        if let RepulsionCost::Rbf { t } = cost {
            check::positive("rbf_t", t)?;
        }
        self.cost = cost;
        self.check_debiased()
    }

    /// Whether positives are weighted by their distance; else all alike.
    #[must_use]
    pub fn positive_weighting(mut self, on: bool) -> Self {
        self.positive_weighting = on;
        self
    }

    /// Whether negatives are weighted by their distance; else all alike.
    ///
    /// # Errors
    /// When it is turned off and the loss is debiased.
    pub fn negative_weighting(mut self, on: bool) -> Result<Self> {
        self.negative_weighting = on;
        self.check_debiased()
    }

    /// Takes a share `tau_plus` of the negatives for positives: the repulsion becomes (−τ₊ d²_positive + repulsion)/(1 − τ₊).
    ///
    /// # Errors
    /// When `tau_plus` is not at least 0 and below 1, the cost is not euclidean, or negatives are not weighted.
    pub fn debiased(mut self, tau_plus: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&tau_plus) {
            return Err(Error::invalid(format!("tau_plus = {tau_plus}, must be at least 0 and below 1")));
        }
        self.tau_plus = Some(tau_plus);
        self.check_debiased()
    }

    fn check_debiased(self) -> Result<Self> {
        if self.tau_plus.is_some() && (self.cost != RepulsionCost::Euclidean || !self.negative_weighting) {
            return Err(Error::invalid("the debiased loss is defined for the euclidean cost with weighted negatives alone"));
        }
        Ok(self)
    }

    setters!(normalize, options);

    /// The loss of `[views, n, d]`: at least two views of at least two samples. Negatives of a view's anchors are the other samples of each
    /// later view.
    ///
    /// # Errors
    /// When there are too few views or samples, a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, views: Tensor<3>) -> Result<CacrOutput> {
        let [v, n, d] = check_views("views", &views)?;
        let rows = views.reshape([v * n, d]);
        let of = |x: usize| rows.clone().slice(x * n..(x + 1) * n);
        let attraction = self.attraction(rows.clone(), rows.clone(), v, n, false)?;
        let mut repulsion: Option<Tensor<1>> = None;
        for (x, y) in (0..v).flat_map(|x| (x + 1..v).map(move |y| (x, y))) {
            let pair = self.repulsion(of(x), of(y), selves(n, 0))?;
            let pair = match self.tau_plus {
                None => pair,
                Some(share) => {
                    let own = Contrast { negatives: Negatives::None, ..self.contrast(Ragged::new((0..n as u32).map(|i| [i]))) };
                    let own = own.forward(("views", of(x)), ("views", of(y)))?.loss;
                    (pair - own.mul_scalar(share)).mul_scalar(1.0 / (1.0 - share))
                }
            };
            repulsion = Some(repulsion.map_or(pair.clone(), |sum| sum + pair));
        }
        let pairs = (v * (v - 1) / 2) as f64;
        let repulsion = repulsion.expect("two views are a pair").mul_scalar(1.0 / pairs);
        CacrOutput::new(attraction, repulsion)
    }

    /// The loss of queries `[views, n, d]` with the keys of a momentum encoder `[views, n, d]` and a queue `[k, d]`, both constants, as are the
    /// weights made of them. With `intra_batch` the other queries of the same view are negatives too, with the gradient flowing
    /// through their weights, as in the official code. Euclidean cost; the d² of a query and the queue is 2 − 2⟨q, n⟩, which without
    /// [`Cacr::normalize`] supposes rows of norm 1.
    ///
    /// # Errors
    /// As [`Cacr::forward`]; when shapes do not fit, the queue is empty, or the loss is debiased or its cost not euclidean.
    pub fn forward_queue(&self, queries: Tensor<3>, keys: Tensor<3>, queue: Tensor<2>, intra_batch: bool) -> Result<CacrOutput> {
        if self.cost != RepulsionCost::Euclidean || self.tau_plus.is_some() {
            return Err(Error::invalid("against a queue the loss has the euclidean cost and is not debiased"));
        }
        check::same_shape(("queries", &queries), ("keys", &keys))?;
        let [v, n, d] = check_views("queries", &queries)?;
        check::rows("queue", &queue, 1)?;
        let (queries, keys) = (queries.reshape([v * n, d]), keys.inner().reshape([v * n, d]));
        check::same_width(("queries", &queries), ("queue", &queue))?;
        check::values("queue", &queue, self.normalize && self.options.zero_rows == ZeroRows::Refuse)?;
        let attraction = self.attraction(queries.clone(), keys, v, n, true)?;
        let unit = |rows: Tensor<2>| if self.normalize { normalize_rows(rows) } else { rows };
        let (queries, queue) = (unit(queries), unit(queue.inner()));
        let mut repulsion: Option<Tensor<1>> = None;
        for x in 0..v {
            let view = queries.clone().slice(x * n..(x + 1) * n);
            let loss = self.queue_repulsion(view, queue.clone(), intra_batch)?;
            repulsion = Some(repulsion.map_or(loss.clone(), |sum| sum + loss));
        }
        CacrOutput::new(attraction, repulsion.expect("two views at least").mul_scalar(1.0 / v as f64))
    }

    /// Of one view's queries, normalised already.
    fn queue_repulsion(&self, queries: Tensor<2>, queue: Tensor<2>, intra_batch: bool) -> Result<Tensor<1>> {
        let (n, k) = (queries.dims()[0], queue.dims()[0]);
        // Twice the product of (q, ‖q‖², 1) with (n, 0, −1), or with (q', −½, −½ ‖q'‖²), is −d².
        let squared = queries.clone().powi_scalar(2).sum_dim(1);
        let one = squared.clone().inner().ones_like();
        let zero = queue.clone().slice([0..k, 0..1]).zeros_like();
        let minus = zero.clone().sub_scalar(1.0);
        let anchors = Tensor::cat(vec![queries.clone(), squared.clone(), one.clone()], 1);
        let mut candidates = Tensor::cat(vec![queue, zero, minus], 1);
        let mut excluded = Ragged::none();
        if intra_batch {
            let others = Tensor::cat(vec![queries, one.mul_scalar(-0.5), squared.mul_scalar(-0.5)], 1);
            candidates = Tensor::cat(vec![candidates, others], 0);
            excluded = selves(n, k);
        }
        let negatives = self.weighted_mean(k);
        let contrast = Contrast { excluded, negatives, ..Contrast::new(nobody(n), 0.5, false, self.options) };
        Ok(contrast.forward(("queries", anchors), ("queue", candidates))?.loss)
    }

    /// The weights of the views `[views, n, d]`, computed in f64.
    ///
    /// # Errors
    /// As [`Cacr::forward`].
    pub fn weights(&self, views: &Tensor<3>) -> Result<CacrWeights> {
        let [v, n, d] = check_views("views", views)?;
        check::values("views", views, false)?;
        let mut rows: Vec<f64> = views.clone().inner().into_data().iter::<f64>().collect();
        if self.normalize {
            for row in rows.chunks_exact_mut(d) {
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
                row.iter_mut().for_each(|x| *x /= norm);
            }
        }
        let distance = |a: usize, b: usize| -> f64 { (0..d).map(|k| (rows[a * d + k] - rows[b * d + k]).powi(2)).sum() };
        let softmax = |logits: Vec<f64>| {
            let shift = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|s| (s - shift).exp()).sum();
            logits.into_iter().map(move |s| (s - shift).exp() / sum)
        };
        let (positive_by, negative_by) =
            (if self.positive_weighting { self.tau_pos } else { 0.0 }, if self.negative_weighting { self.tau_neg } else { 0.0 });
        let mut out = CacrWeights { positive: Vec::with_capacity(v * n * (v - 1)), negative: Vec::with_capacity(n * (n - 1)) };
        for (x, i) in (0..v).flat_map(|x| (0..n).map(move |i| (x, i))) {
            let others = (0..v).filter(|&y| y != x);
            out.positive.extend(softmax(others.map(|y| positive_by * distance(x * n + i, y * n + i)).collect()));
        }
        for i in 0..n {
            let others = (0..n).filter(|&j| j != i);
            out.negative.extend(softmax(others.map(|j| -negative_by * distance(i, n + j)).collect()));
        }
        Ok(out)
    }

    /// On −d², with nothing chosen but who is positive.
    fn contrast(&self, positives: Ragged) -> Contrast {
        Contrast { similarity: Closeness::NegativeSquaredDistance, ..Contrast::new(positives, 1.0, self.normalize, self.options) }
    }

    fn positive_mean(&self, constant: bool) -> PositiveMean {
        if self.positive_weighting { PositiveMean::Softmax { sharpness: -self.tau_pos, constant } } else { PositiveMean::Uniform }
    }

    fn weighted_mean(&self, constant_before: usize) -> Negatives {
        let sharpness = if self.negative_weighting { self.tau_neg } else { 0.0 };
        Negatives::WeightedMean { weight: self.beta, sharpness, constant_before }
    }

    /// α times the mean over all anchors; the positives of a view's anchors are the same samples in the other views.
    fn attraction(&self, anchors: Tensor<2>, candidates: Tensor<2>, v: usize, n: usize, constant: bool) -> Result<Tensor<1>> {
        let others = |row: usize| (0..v).filter(move |y| *y != row / n).map(move |y| (y * n + row % n) as u32);
        let positives = Ragged::new((0..v * n).map(others));
        let contrast = Contrast { positive_mean: self.positive_mean(constant), negatives: Negatives::None, ..self.contrast(positives) };
        Ok(contrast.forward(("views", anchors), ("views", candidates))?.loss.mul_scalar(self.alpha))
    }

    fn repulsion(&self, anchors: Tensor<2>, candidates: Tensor<2>, excluded: Ragged) -> Result<Tensor<1>> {
        let n = anchors.dims()[0];
        let of = |contrast: &Contrast| contrast.forward(("views", anchors.clone()), ("views", candidates.clone()));
        let RepulsionCost::Rbf { t } = self.cost else {
            let contrast = Contrast { excluded, negatives: self.weighted_mean(0), ..self.contrast(nobody(n)) };
            return Ok(of(&contrast)?.loss);
        };
        // Σ_j π_j exp(t s_j) = exp( LSE((τ + t) s) − LSE(τ s) ), of each anchor; the logarithm of their mean has the gradient of their mean weighted
        // by the softmax.
        let at = |scale: f64| Contrast { scale, excluded: excluded.clone(), ..self.contrast(nobody(n)) };
        let sharpness = if self.negative_weighting { self.tau_neg } else { 0.0 };
        let denominators = [at(sharpness + t), at(sharpness)];
        let terms = [&denominators[0], &denominators[1]]
            .map(|c| c.forward(("views", anchors.clone().inner()), ("views", candidates.clone().inner())));
        let [above, below] = terms;
        let rows: Vec<f64> = above?.terms.iter().zip(&below?.terms).map(|(a, b)| a.log_denominator - b.log_denominator).collect();
        let shift = rows.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = rows.iter().map(|r| (r - shift).exp()).sum();
        let anchor_weight: Vec<f64> = rows.iter().map(|r| (r - shift).exp() / sum).collect();
        let value = shift + (sum / n as f64).ln();
        let weighted: f64 = rows.iter().zip(&anchor_weight).map(|(r, w)| r * w).sum();
        let [above, below] = denominators.map(|c| of(&Contrast { anchor_weight: Some(anchor_weight.clone()), ..c }));
        Ok((above?.loss - below?.loss).add_scalar(value - weighted).mul_scalar(self.beta))
    }
}

impl CacrOutput {
    fn new(attraction: Tensor<1>, repulsion: Tensor<1>) -> Result<Self> {
        let value = |x: &Tensor<1>| x.clone().inner().into_scalar::<f64>();
        let (of_attraction, of_repulsion) = (value(&attraction), value(&repulsion));
        check::loss(of_attraction + of_repulsion)?;
        Ok(Self { loss: attraction + repulsion, attraction: of_attraction, repulsion: of_repulsion })
    }
}

impl RankingLoss for Cacr {
    /// Each anchor's positive attracts it, all other candidates that are not excluded repel it.
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        if self.cost != RepulsionCost::Euclidean || self.tau_plus.is_some() {
            return Err(Error::invalid("over anchors and candidates the loss has the euclidean cost and is not debiased"));
        }
        let (n, m) = (anchors.dims()[0], candidates.dims()[0]);
        if m < 2 {
            return Err(Error::invalid(format!("{m} candidates: there are no negatives")));
        }
        let contrast = Contrast {
            similarity: Closeness::NegativeSquaredDistance,
            negatives: self.weighted_mean(0),
            positive_weight: PositiveWeight::Constant(self.alpha),
            ..Contrast::of_targets(targets, (n, m), 1.0, self.normalize, self.options)?
        };
        Ok(contrast.forward(("anchors", anchors), ("candidates", candidates))?.loss)
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        let similarity = Similarity::from_normalize(self.normalize);
        format!("CACR(alpha {}, beta {}, tau {}, {}, {similarity})", self.alpha, self.beta, self.tau_pos, self.tau_neg)
    }
}

/// No anchor has a positive.
fn nobody(n: usize) -> Ragged {
    Ragged::new((0..n).map(|_| []))
}

/// Each anchor's own row among candidates that begin so many rows later.
fn selves(n: usize, after: usize) -> Ragged {
    Ragged::new((0..n).map(|i| [(after + i) as u32]))
}

fn check_views(name: &str, views: &Tensor<3>) -> Result<[usize; 3]> {
    let dims @ [v, n, d] = views.dims();
    if v < 2 || n < 2 || d == 0 {
        return Err(Error::invalid(format!(
            "{name} has shape {dims:?}: two views of two samples are needed at least, and rows that are not empty"
        )));
    }
    Ok(dims)
}
