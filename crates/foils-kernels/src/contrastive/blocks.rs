//! Blocks of anchors: their logits, their rows turned, and the products that make the gradients, on all threads.

use super::Contrast;
use super::prepared::Prepared;
use super::rows::{Outcome, Turner, mean};
use super::settings::{Negatives, Settings};
use crate::real::product;
use crate::simd::Row;
use rayon::prelude::*;

/// The logits of a block of anchors are kept below this many values (4 MB of f32), so that they stay in the processor's cache.
const BLOCK_VALUES: usize = 1 << 20;
/// A block has no fewer anchors than this: products of fewer rows would wait for memory.
pub(super) const FEWEST_ROWS: usize = 16;
/// Nor more than this.
const MOST_ROWS: usize = 128;

/// One contrast.
pub(super) struct Job<'a, T: Clone> {
    pub a: &'a Prepared<'a, T>,
    pub c: &'a Prepared<'a, T>,
    pub n: usize,
    pub m: usize,
    pub settings: &'a Settings<'a>,
}

/// Seen from the anchors.
pub(super) fn contrast<T: Row>(job: &Job<T>) -> Contrast<T> {
    let settings = job.settings;
    let mut outcomes = vec![Outcome::NONE; job.n];
    let (grad_anchors, grad_candidates) = job.shares(&mut outcomes, |first, outcomes, grad| match settings.negatives {
        Negatives::None => job.positives_only(first, outcomes, grad),
        _ => job.rows(first, outcomes, grad),
    });
    let each = |wanted: bool, value: fn(&Outcome) -> f64| if wanted { outcomes.iter().map(value).collect() } else { Vec::new() };
    Contrast {
        loss: outcomes.iter().map(|o| o.loss).sum(),
        terms: outcomes.iter().map(|o| o.term).collect(),
        candidate_terms: Vec::new(),
        grad_anchors,
        grad_candidates,
        grad_positive_logits: each(settings.positive_logits.is_some(), |o| o.positive_logit),
        grad_extra_denominator: each(settings.extra_denominator.is_some(), |o| o.extra),
    }
}

impl<T: Row> Job<'_, T> {
    /// s_ij, alone.
    pub fn logit(&self, i: usize, j: usize) -> f64 {
        self.settings.scale_of(i) * T::dot(self.a.row(i), self.c.row(j))
    }

    /// How many anchors one thread takes: one contiguous share, not more when threads are idle, because which rows are summed into which
    /// accumulator decides the rounding of the candidates' gradient.
    pub fn share(&self) -> usize {
        self.n.div_ceil(rayon::current_num_threads()).max(FEWEST_ROWS)
    }

    /// How many anchors make a block, of `rows` at most.
    pub fn block(&self, rows: usize) -> usize {
        (BLOCK_VALUES / self.m.max(1)).clamp(FEWEST_ROWS, MOST_ROWS).min(rows)
    }

    /// Runs `work` on each share of the anchors: the first one's number, a value for each to be set, and the rows of their gradient (none
    /// when it is not asked for). It returns its part of the candidates' gradient. Both gradients, of the prepared rows.
    pub fn shares<U: Send>(&self, each: &mut [U], work: impl Fn(usize, &mut [U], &mut [T]) -> Vec<T> + Sync) -> (Vec<T>, Vec<T>) {
        let (share, width) = (self.share(), self.a.width);
        let mut grad_anchors = vec![T::ZERO; if self.settings.grad_anchors { self.n * width } else { 0 }];
        let grads: Vec<&mut [T]> = if self.settings.grad_anchors {
            grad_anchors.chunks_mut(share * width).collect()
        } else {
            (0..self.n.div_ceil(share)).map(|_| <&mut [T]>::default()).collect()
        };
        let parts: Vec<Vec<T>> =
            each.par_chunks_mut(share).zip(grads).enumerate().map(|(s, (each, grad))| work(s * share, each, grad)).collect();
        let grad_candidates = sum(parts, if self.settings.grad_candidates { self.m * width } else { 0 });
        (grad_anchors, grad_candidates)
    }

    /// Sets the logits `[r, m]` of the anchors from `at`.
    pub fn logits(&self, at: usize, logits: &mut [T], r: usize) {
        let (m, width) = (self.m, self.a.width);
        let a = &self.a.rows[at * width..][..r * width];
        let scale = if self.settings.anchor_scale.is_some() { 1.0 } else { self.settings.scale };
        product(logits, (r, m, width), a, (width, 1), &self.c.rows, (1, width), false, T::from_f64(scale));
        if let Some(scale) = self.settings.anchor_scale {
            logits.chunks_mut(m.max(1)).zip(&scale[at..]).for_each(|(row, &s)| T::scale(row, T::from_f64(s)));
        }
    }

    /// Adds what the turned rows `[r, m]`, each times its factor, make of both gradients.
    pub fn gradients(
        &self,
        at: usize,
        rows: &[T],
        factors: &[f64],
        grad_anchors: &mut [T],
        grad_candidates: &mut [T],
        scaled: &mut Vec<T>,
    ) {
        let (m, width, r) = (self.m, self.a.width, factors.len());
        if self.settings.grad_anchors {
            product(grad_anchors, (r, width, m), rows, (m, 1), &self.c.rows, (width, 1), false, T::ONE);
            grad_anchors.chunks_mut(width).zip(factors).for_each(|(g, &f)| T::scale(g, T::from_f64(f)));
        }
        if self.settings.grad_candidates {
            scaled.clear();
            scaled.extend_from_slice(&self.a.rows[at * width..][..r * width]);
            scaled.chunks_mut(width).zip(factors).for_each(|(a, &f)| T::scale(a, T::from_f64(f)));
            product(grad_candidates, (m, width, r), rows, (1, m), scaled, (width, 1), true, T::ONE);
        }
    }

    /// A share of the anchors, block by block.
    fn rows(&self, first: usize, outcomes: &mut [Outcome], grad_anchors: &mut [T]) -> Vec<T> {
        let (width, m, settings) = (self.a.width, self.m, self.settings);
        let most = self.block(outcomes.len());
        let mut logits = vec![T::ZERO; most * m];
        let mut grad_candidates = vec![T::ZERO; if settings.grad_candidates { m * width } else { 0 }];
        let (mut turner, mut scaled, mut factors) = (Turner::new(settings, self.n), Vec::new(), Vec::new());
        let grads = grad_anchors.chunks_mut(most * width).map(Some).chain(std::iter::repeat_with(|| None));
        for ((block, outcomes), grad) in outcomes.chunks_mut(most).enumerate().zip(grads) {
            let (at, r) = (first + block * most, outcomes.len());
            let logits = &mut logits[..r * m];
            self.logits(at, logits, r);
            for (i, out) in outcomes.iter_mut().enumerate() {
                *out = turner.turn(at + i, &mut logits[i * m..(i + 1) * m]);
            }
            factors.clear();
            factors.extend(outcomes.iter().map(|o| o.factor));
            self.gradients(at, logits, &factors, grad.unwrap_or_default(), &mut grad_candidates, &mut scaled);
        }
        grad_candidates
    }

    /// A share of the anchors of a loss without negatives: only the logits of the positives are computed.
    fn positives_only(&self, first: usize, outcomes: &mut [Outcome], grad_anchors: &mut [T]) -> Vec<T> {
        let (width, settings) = (self.a.width, self.settings);
        let mut grad_candidates = vec![T::ZERO; if settings.grad_candidates { self.m * width } else { 0 }];
        let (mut logits, mut pull) = (Vec::new(), Vec::new());
        for (k, out) in outcomes.iter_mut().enumerate() {
            let (i, positives) = (first + k, settings.positives.get(first + k));
            logits.clear();
            logits.extend(positives.iter().map(|&p| self.logit(i, p as usize)));
            let positive = settings.positive_logits.map_or(mean(&logits, settings.positive_mean, &mut pull), |given| given[i]);
            let by = -settings.weight_of(i, self.n) * settings.positive_weight_of(i);
            out.term.positive = positive;
            out.term.log_denominator = 0.0;
            (out.loss, out.positive_logit) = (by * positive, by);
            if settings.positive_logits.is_some() {
                continue;
            }
            for (&p, pull) in positives.iter().zip(&pull) {
                let (p, by) = (p as usize, T::from_f64(by * pull * settings.scale_of(i)));
                if settings.grad_anchors {
                    add_scaled(&mut grad_anchors[k * width..][..width], self.c.row(p), by);
                }
                if settings.grad_candidates {
                    add_scaled(&mut grad_candidates[p * width..][..width], self.a.row(i), by);
                }
            }
        }
        grad_candidates
    }
}

fn add_scaled<T: Row>(to: &mut [T], from: &[T], by: T) {
    to.iter_mut().zip(from).for_each(|(x, &y)| *x += y * by);
}

/// Adds the parts up, entry by entry in their order.
fn sum<T: Row>(parts: Vec<Vec<T>>, len: usize) -> Vec<T> {
    let mut parts = parts.into_iter();
    let Some(mut total) = parts.next() else { return vec![T::ZERO; len] };
    let rest: Vec<Vec<T>> = parts.collect();
    const CHUNK: usize = 1 << 14;
    total.par_chunks_mut(CHUNK).enumerate().for_each(|(c, total)| {
        for other in &rest {
            T::add(total, &other[c * CHUNK..][..total.len()]);
        }
    });
    total
}
