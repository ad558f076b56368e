//! What happens to one anchor's row of logits: it becomes the anchor's loss and, in place, its gradient.

use super::Term;
use super::blocks::Job;
use super::early::Early;
use super::settings::{Keep, Negatives, PositiveMean, Settings};
use crate::simd::Row;
use std::ops::Range;

/// What one row came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub term: Term,
    /// v_i L_i.
    pub loss: f64,
    /// ∂L/∂⟨a_i, c_j⟩ is this times what stands in the row.
    pub factor: f64,
    /// ∂L/∂ the given positive logit.
    pub positive_logit: f64,
    /// ∂L/∂ the extra log-denominator.
    pub extra: f64,
}

impl Outcome {
    pub const NONE: Self = Self {
        term: Term { positive: 0.0, log_denominator: f64::NEG_INFINITY, hardest_negative: f64::NEG_INFINITY },
        loss: 0.0,
        factor: 0.0,
        positive_logit: 0.0,
        extra: 0.0,
    };
}

/// Turns rows, one after the other; holds what that needs from row to row.
pub(super) struct Turner<'a, T> {
    settings: &'a Settings<'a>,
    n: usize,
    /// The anchors of the block.
    anchors: Range<usize>,
    early: Option<Early<T>>,
    /// Whether that serves this block.
    is_early: bool,
    /// The logits of the positives, as listed.
    saved: Vec<T>,
    /// ∂s̄/∂s_p of each of them.
    pull: Vec<f64>,
    copy: Vec<T>,
    wide: Vec<f64>,
}

/// Σ_{j ∈ D} exp(s_j + b_j − shift) + exp(extra − shift), whose terms stand in the row.
struct Denominator {
    shift: f64,
    sum: f64,
    /// exp(given positive − shift), 0 unless it counts.
    given: f64,
    /// exp(extra − shift).
    extra: f64,
}

impl Denominator {
    fn log(&self) -> f64 {
        self.sum.ln() + self.shift
    }
}

impl<'a, T: Row> Turner<'a, T> {
    pub fn new(job: &Job<'a, T>) -> Self {
        let (saved, pull, copy, wide) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { settings: job.settings, n: job.n, anchors: 0..0, early: Early::new(job), is_early: false, saved, pull, copy, wide }
    }

    /// Begins a block of these anchors.
    pub fn start(&mut self, anchors: Range<usize>) {
        self.is_early = self.early.as_mut().is_some_and(|early| early.start(self.settings, anchors.clone()));
        self.anchors = anchors;
    }

    /// Does what can be done when some columns of the block's k-th row are there.
    pub fn panel(&mut self, columns: &Range<usize>, k: usize, row: &mut [T]) {
        if let Some(early) = self.early.as_mut().filter(|_| self.is_early) {
            early.panel(self.settings, self.anchors.start + k, k, columns, row);
        }
    }

    /// Turns the logits of the block's k-th row into its outcome and, in place, its gradient up to a factor.
    pub fn turn(&mut self, k: usize, row: &mut [T]) -> Outcome {
        let i = self.anchors.start + k;
        let mut out = match self.early.as_ref().filter(|_| self.is_early) {
            None => self.whole(i, row),
            Some(early) => {
                let (sums, saved) = early.row(k);
                let d = Denominator { shift: sums.shift, sum: sums.sum, given: 0.0, extra: 0.0 };
                let mut out = Outcome::NONE;
                out.term.positive = mean(saved, self.settings.positive_mean, &mut self.pull);
                out.term.hardest_negative = sums.hardest;
                self.log_sum_exp(i, row, &d, &mut out);
                out
            }
        };
        // An anchor of weight 0 may have an empty denominator, and 0 · −∞ is not 0.
        let v = self.settings.weight_of(i, self.n);
        out.loss = if v == 0.0 { 0.0 } else { v * out.loss };
        out.factor *= v * self.settings.scale_of(i);
        out.positive_logit *= v;
        out.extra *= v;
        out
    }

    /// The outcome, without the anchor's weight and scale, of a row of which nothing was done yet.
    fn whole(&mut self, i: usize, row: &mut [T]) -> Outcome {
        let settings = self.settings;
        let positive = self.take(i, row);
        keep(row, settings.keep, &mut self.copy);
        let hardest = T::largest(row);
        let mut out = Outcome { term: Term { positive, hardest_negative: hardest.to_f64(), ..Outcome::NONE.term }, ..Outcome::NONE };
        match settings.negatives {
            Negatives::LogSumExp => {
                let shift = self.open(i, row, hardest);
                let d = self.close(i, row, shift);
                self.log_sum_exp(i, row, &d, &mut out);
            }
            Negatives::Sum { weight } => {
                let sum = fill(row, weight);
                self.beside_positives(i, row, weight * sum, &mut out);
            }
            Negatives::WeightedMean { weight, sharpness, constant_before } => {
                let mean = self.weighted_mean(i, row, weight, sharpness, constant_before);
                self.beside_positives(i, row, weight * mean, &mut out);
            }
            Negatives::CrossEntropy { targets } => {
                let floor = settings.floor;
                let entropy = |t: f64, p: f64, log: f64| {
                    let log = if floor > 0.0 { (p + floor).ln() } else { log };
                    // 0 · −∞ is not 0.
                    if t == 0.0 { (0.0, 0.0) } else { (-t * log, if floor > 0.0 { -t * p / (p + floor) } else { -t }) }
                };
                self.by_probability(i, row, hardest, targets, entropy, &mut out);
            }
            Negatives::BinaryCrossEntropy { targets } => {
                // PyTorch's: 1 − p of the rounded p, so that what has all the probability is at the bound; a slope whose denominator is bounded.
                let entropy = |t: f64, p: f64, log: f64| {
                    let rest = 1.0 - p;
                    (-t * log.max(-100.0) - (1.0 - t) * rest.ln().max(-100.0), (p - t) * p / (p * rest).max(1e-12))
                };
                self.by_probability(i, row, hardest, targets, entropy, &mut out);
            }
            Negatives::None => self.beside_positives(i, row, 0.0, &mut out),
        }
        out
    }

    /// L and its slopes from the finished denominator.
    fn log_sum_exp(&mut self, i: usize, row: &mut [T], d: &Denominator, out: &mut Outcome) {
        let (w, floor) = (self.settings.positive_weight_of(i), self.settings.floor);
        out.term.log_denominator = d.log();
        out.loss = d.log() - w * out.term.positive;
        // Of −ln(e^(−L) + ε).
        let mut slope = 1.0;
        if floor > 0.0 {
            slope = 1.0 / (1.0 + floor * out.loss.exp());
            out.loss = -((-out.loss).exp() + floor).ln();
        }
        // The row is divided by the sum afterwards, and the pull of the positives with it.
        let divisor = if d.sum > 0.0 { d.sum } else { 1.0 };
        out.factor = slope / divisor;
        out.positive_logit = slope * (d.given / divisor - w);
        out.extra = slope * d.extra / divisor;
        self.pull_positives(i, row, w * divisor);
    }

    /// L of an R without denominator.
    fn beside_positives(&mut self, i: usize, row: &mut [T], negatives: f64, out: &mut Outcome) {
        let w = self.settings.positive_weight_of(i);
        out.term.log_denominator = negatives;
        out.loss = negatives - w * out.term.positive;
        out.factor = 1.0;
        out.positive_logit = -w;
        self.pull_positives(i, row, w);
    }

    fn pull_positives(&self, i: usize, row: &mut [T], by: f64) {
        if self.settings.positive_logits.is_none() {
            for (&p, pull) in self.settings.positives.get(i).iter().zip(&self.pull) {
                row[p as usize] = T::from_f64(row[p as usize].to_f64() - by * pull);
            }
        }
    }

    /// Takes the positives out of the row, and with them what is no negative; returns s̄.
    fn take(&mut self, i: usize, row: &mut [T]) -> f64 {
        let settings = self.settings;
        let masked = T::from_f64(f64::NEG_INFINITY);
        let positives = settings.positives.get(i);
        self.saved.clear();
        self.saved.extend(positives.iter().map(|&p| row[p as usize]));
        row[..settings.first_negative].fill(masked);
        for &j in settings.excluded.get(i).iter().chain(positives) {
            row[j as usize] = masked;
        }
        let mean = mean(&self.saved, settings.positive_mean, &mut self.pull);
        settings.positive_logits.map_or(mean, |s| s[i])
    }

    /// Adds the bias and puts the positives back that count; returns the largest value, also of what counts beside the row.
    fn open(&mut self, i: usize, row: &mut [T], hardest: T) -> f64 {
        let settings = self.settings;
        let mut shift = hardest.to_f64();
        if let Some(bias) = settings.bias {
            bias.add(i, row, &mut self.wide);
            shift = T::largest(row).to_f64();
        }
        if settings.positive_in_denominator {
            match settings.positive_logits {
                Some(given) => shift = shift.max(given[i]),
                None => {
                    for (&p, &s) in settings.positives.get(i).iter().zip(&self.saved) {
                        row[p as usize] = s;
                        shift = shift.max(s.to_f64());
                    }
                }
            }
        }
        // As the row knows it.
        T::from_f64(settings.extra_denominator.map_or(shift, |extra| shift.max(extra[i]))).to_f64()
    }

    /// Turns the row into exponentials.
    fn close(&self, i: usize, row: &mut [T], shift: f64) -> Denominator {
        if shift == f64::NEG_INFINITY {
            row.fill(T::ZERO);
            return Denominator { shift, sum: 0.0, given: 0.0, extra: 0.0 };
        }
        let settings = self.settings;
        let beside = |s: Option<&[f64]>| s.map_or(0.0, |s| (s[i] - shift).exp());
        let given = if settings.positive_in_denominator { beside(settings.positive_logits) } else { 0.0 };
        let extra = beside(settings.extra_denominator);
        let sum = T::exp_sum(row, T::from_f64(shift)) + given + extra;
        Denominator { shift, sum, given, extra }
    }

    /// The mean of the row, weighted by the softmax of its multiple, and `weight` times its gradient.
    fn weighted_mean(&mut self, i: usize, row: &mut [T], weight: f64, sharpness: f64, constant_before: usize) -> f64 {
        self.wide.clear();
        self.wide.resize(row.len(), 0.0);
        if let Some(bias) = self.settings.bias {
            bias.fill(i, row.len(), &mut self.wide);
        }
        let masked = T::from_f64(f64::NEG_INFINITY);
        self.copy.clear();
        // Of what is masked, the product with a sharpness of 0 or less is no longer −∞.
        let logit = |(&s, &b): (&T, &f64)| if s > masked { T::from_f64(sharpness * s.to_f64() + b) } else { masked };
        self.copy.extend(row.iter().zip(&self.wide).map(logit));
        let shift = T::largest(&self.copy);
        if shift.to_f64() == f64::NEG_INFINITY {
            row.fill(T::ZERO);
            return 0.0;
        }
        let sum = T::exp_sum(&mut self.copy, shift);
        let parts = || self.copy.iter().enumerate().filter(|(_, e)| **e != T::ZERO).map(|(j, e)| (j, e.to_f64() / sum));
        let mean: f64 = parts().map(|(j, p)| p * row[j].to_f64()).sum();
        for (j, (s, e)) in row.iter_mut().zip(&self.copy).enumerate() {
            let p = weight * e.to_f64() / sum;
            let through = if j < constant_before || p == 0.0 { 0.0 } else { sharpness * (s.to_f64() - mean) };
            *s = T::from_f64(p * (1.0 + through));
        }
        mean
    }

    /// A loss that is a sum over the probabilities of D: `entropy` makes of (t, p, ln p) its value and p times its slope.
    fn by_probability(
        &mut self,
        i: usize,
        row: &mut [T],
        hardest: T,
        targets: super::Pairs,
        entropy: impl Fn(f64, f64, f64) -> (f64, f64),
        out: &mut Outcome,
    ) {
        let shift = self.open(i, row, hardest);
        self.copy.clear();
        self.copy.extend_from_slice(row);
        let d = self.close(i, row, shift);
        out.term.log_denominator = d.log();
        self.wide.clear();
        self.wide.resize(row.len(), 0.0);
        (targets.0)(i, &mut self.wide);
        let most = row.iter().position(|e| e.to_f64() > 0.5 * d.sum);
        let (mut total, mut of_most) = (0.0, 0.0);
        for (j, (s, t)) in self.copy.iter().zip(&mut self.wide).enumerate() {
            if s.to_f64() == f64::NEG_INFINITY {
                *t = 0.0;
                continue;
            }
            let p = row[j].to_f64() / d.sum;
            let (value, slope) = entropy(*t, p, s.to_f64() - d.log());
            out.loss += value;
            // slope − p · Σ slopes, where the one that has nearly all may have a slope that its share of the sum would cancel.
            if Some(j) == most {
                (of_most, *t) = (slope, slope * (1.0 - p));
            } else {
                total += slope;
                *t = slope;
            }
        }
        let share = if d.sum > 0.0 { 1.0 / d.sum } else { 0.0 };
        for (j, (e, slope)) in row.iter_mut().zip(&self.wide).enumerate() {
            let total = if Some(j) == most { total } else { total + of_most };
            *e = T::from_f64(slope - e.to_f64() * share * total);
        }
        out.factor = 1.0;
        out.positive_logit = -d.given * share * (total + of_most);
        out.extra = -d.extra * share * (total + of_most);
    }
}

/// Sets what is not masked to `value` and the rest to 0; returns the sum of what was not masked.
fn fill<T: Row>(row: &mut [T], value: f64) -> f64 {
    let (masked, value) = (T::from_f64(f64::NEG_INFINITY), T::from_f64(value));
    let mut sum = 0.0;
    for s in row {
        if *s > masked {
            sum += s.to_f64();
            *s = value;
        } else {
            *s = T::ZERO;
        }
    }
    sum
}

/// Masks the negatives that do not count.
fn keep<T: Row>(row: &mut [T], which: Keep, copy: &mut Vec<T>) {
    let masked = T::from_f64(f64::NEG_INFINITY);
    let (lower, upper) = match which {
        Keep::All => return,
        Keep::Within { lower, upper } => (lower, upper),
        Keep::Hardest(share) => {
            copy.clear();
            copy.extend(row.iter().copied().filter(|&s| s > masked));
            if copy.is_empty() {
                return;
            }
            // 0.3 · 10 is a little more than 3.
            let k = ((share * copy.len() as f64 - 1e-12).ceil() as usize).clamp(1, copy.len());
            let at = copy.len() - k;
            let (_, threshold, _) = copy.select_nth_unstable_by(at, |a, b| a.to_f64().total_cmp(&b.to_f64()));
            (threshold.to_f64(), f64::INFINITY)
        }
    };
    for s in row {
        if s.to_f64() < lower || s.to_f64() > upper {
            *s = masked;
        }
    }
}

/// s̄ of the positives' logits, and its derivatives by them.
pub(super) fn mean<T: Row>(logits: &[T], how: PositiveMean, pull: &mut Vec<f64>) -> f64 {
    pull.clear();
    match how {
        PositiveMean::Uniform => {
            let count = logits.len().max(1) as f64;
            pull.resize(logits.len(), 1.0 / count);
            logits.iter().map(|s| s.to_f64()).sum::<f64>() / count
        }
        PositiveMean::Softmax { sharpness, constant } => {
            let shift = logits.iter().map(|s| sharpness * s.to_f64()).fold(f64::NEG_INFINITY, f64::max);
            pull.extend(logits.iter().map(|s| (sharpness * s.to_f64() - shift).exp()));
            let sum: f64 = pull.iter().sum();
            pull.iter_mut().for_each(|p| *p /= sum);
            let mean = logits.iter().zip(pull.iter()).map(|(s, p)| p * s.to_f64()).sum();
            if !constant {
                pull.iter_mut().zip(logits).for_each(|(p, s)| *p *= 1.0 + sharpness * (s.to_f64() - mean));
            }
            mean
        }
    }
}
