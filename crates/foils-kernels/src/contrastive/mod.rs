//! Contrastive losses, forward and backward in one pass and without the `[n, m]` matrix of logits.
//!
//! With logits s_ij = scale · ⟨a_i, c_j⟩ (cosine if asked for), positives P(i) and a denominator set D(i), every loss here is
//!
//! > L = Σ_i v_i · ( −w_i · mean_{p ∈ P(i)} s_ip + log Σ_{j ∈ D(i)} exp s_ij )
//!
//! InfoNCE, NT-Xent, the ranking loss with mined negatives, MoCo's queue, DCL, DCLW and SupCon are [`Settings`] of it: who is
//! positive, who is left out, whether the positive stands in the denominator, and the weights w and v.

mod cosine;
#[cfg(test)]
mod tests;

use crate::lists::Lists;
use crate::product;
use crate::simd::Row;
use cosine::{Unit, unit_rows, unit_rows_backward};
use rayon::prelude::*;
use std::borrow::Cow;

/// Which loss: see the module's formula.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// P(i): the positives of each anchor among the candidates. An empty list leaves only the log-denominator.
    pub positives: Lists<'a>,
    /// Candidates that are left out of the denominator of each anchor: itself, known positives. Of a candidate that is also in
    /// P(i), `positive_in_denominator` decides alone.
    pub excluded: Lists<'a>,
    /// Candidates before this one are nobody's negatives: they serve as positives of their anchors only (keys beside a queue).
    pub first_negative: usize,
    /// 1/τ.
    pub scale: f64,
    /// Divide every row by max(‖row‖, 1e-12) first; the gradients are those of the rows as given.
    pub cosine: bool,
    /// Whether P(i) ⊂ D(i): true for InfoNCE, false for the decoupled losses.
    pub positive_in_denominator: bool,
    /// w, one for each anchor; all 1 when absent. Taken as constants.
    pub positive_weight: Option<&'a [f64]>,
    /// v, one for each anchor; all 1/n when absent.
    pub anchor_weight: Option<&'a [f64]>,
    /// Compute the gradient of the anchors.
    pub grad_anchors: bool,
    /// Compute the gradient of the candidates.
    pub grad_candidates: bool,
}

impl<'a> Settings<'a> {
    /// InfoNCE by cosine with both gradients: the positive is in the denominator, nothing is excluded, every weight is equal.
    pub fn new(positives: Lists<'a>, scale: f64) -> Self {
        Self {
            positives,
            excluded: Lists::EMPTY,
            first_negative: 0,
            scale,
            cosine: true,
            positive_in_denominator: true,
            positive_weight: None,
            anchor_weight: None,
            grad_anchors: true,
            grad_candidates: true,
        }
    }
}

/// What one anchor contributes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// The mean logit of its positives; 0 without any.
    pub positive: f64,
    /// log Σ exp over its denominator; −∞ when that is empty.
    pub log_denominator: f64,
    /// The largest logit of a candidate that is neither positive nor left out; −∞ when there is none.
    pub hardest_negative: f64,
}

/// The loss with its parts and gradients.
#[derive(Clone, Debug)]
pub struct Contrast<T> {
    /// L.
    pub loss: f64,
    /// By anchor.
    pub terms: Vec<Term>,
    /// ∂L/∂anchors `[n, d]`; empty when not asked for.
    pub grad_anchors: Vec<T>,
    /// ∂L/∂candidates `[m, d]`; empty when not asked for.
    pub grad_candidates: Vec<T>,
}

/// The logits of a block of anchors are kept below this many values (4 MB of f32), so that they stay in the processor's cache.
const BLOCK_VALUES: usize = 1 << 20;
/// A block has no fewer anchors than this: products of fewer rows would wait for memory.
const FEWEST_ROWS: usize = 16;
/// Nor more than this.
const MOST_ROWS: usize = 128;

/// The loss of anchors `[n, dim]` against candidates `[m, dim]`, row-major.
///
/// Time O(n·m·dim); memory O((n + threads · m) · dim) beside the logits of one block of anchors a thread. The same input and
/// thread count give the same bits.
///
/// # Panics
/// When `dim` is 0, a slice does not hold whole rows, lists or weights are not one for each anchor, or an index is not below `m`.
pub fn contrast<T: Row>(anchors: &[T], candidates: &[T], dim: usize, settings: &Settings) -> Contrast<T> {
    let (n, m) = check(anchors, candidates, dim, settings);
    let (a, c) = (prepared(anchors, dim, settings), prepared(candidates, dim, settings));
    let job = Job { a: &a.rows, c: &c.rows, dim, m, n, settings };

    let mut terms = vec![Term { positive: 0.0, log_denominator: 0.0, hardest_negative: 0.0 }; n];
    let mut grad_anchors = vec![T::ZERO; if settings.grad_anchors { n * dim } else { 0 }];
    // One contiguous share of the anchors for each thread, not more when threads are idle: which rows are summed into which
    // accumulator decides the rounding of the candidates' gradient.
    let share = n.div_ceil(rayon::current_num_threads()).max(FEWEST_ROWS);
    let grad_shares: Vec<&mut [T]> = if settings.grad_anchors {
        grad_anchors.chunks_mut(share * dim).collect()
    } else {
        (0..n.div_ceil(share)).map(|_| <&mut [T]>::default()).collect()
    };
    let accumulators: Vec<Vec<T>> =
        terms.par_chunks_mut(share).zip(grad_shares).enumerate().map(|(s, (terms, grad))| job.rows(s * share, terms, grad)).collect();
    let mut grad_candidates = sum(accumulators, if settings.grad_candidates { m * dim } else { 0 });

    if settings.grad_anchors {
        unit_rows_backward(&mut grad_anchors, &a, dim);
    }
    if settings.grad_candidates {
        unit_rows_backward(&mut grad_candidates, &c, dim);
    }
    let loss = terms.iter().enumerate().map(|(i, t)| job.loss(i, t)).sum();
    Contrast { loss, terms, grad_anchors, grad_candidates }
}

/// The mean logit of each anchor's positives, without the rest: what weights that depend on it (DCLW) are made of.
///
/// # Panics
/// As [`contrast`].
pub fn positive_logits<T: Row>(anchors: &[T], candidates: &[T], dim: usize, settings: &Settings) -> Vec<f64> {
    check(anchors, candidates, dim, settings);
    let (a, c) = (prepared(anchors, dim, settings), prepared(candidates, dim, settings));
    let row = |i: usize, a: &[T]| {
        let positives = settings.positives.get(i);
        let sum: f64 = positives.iter().map(|&p| T::dot(a, &c.rows[p as usize * dim..][..dim])).sum();
        settings.scale * sum / positives.len().max(1) as f64
    };
    a.rows.par_chunks(dim).enumerate().map(|(i, a)| row(i, a)).collect()
}

fn check<T>(anchors: &[T], candidates: &[T], dim: usize, settings: &Settings) -> (usize, usize) {
    assert!(dim > 0, "rows of width 0");
    assert!(anchors.len().is_multiple_of(dim) && candidates.len().is_multiple_of(dim), "ragged rows");
    let (n, m) = (anchors.len() / dim, candidates.len() / dim);
    settings.positives.check(n, m, "positives");
    settings.excluded.check(n, m, "excluded");
    assert!(settings.first_negative <= m, "first_negative {} of {m} candidates", settings.first_negative);
    for weights in [settings.positive_weight, settings.anchor_weight].into_iter().flatten() {
        assert_eq!(weights.len(), n, "one weight for each anchor");
    }
    (n, m)
}

fn prepared<'a, T: Row>(rows: &'a [T], dim: usize, settings: &Settings) -> Unit<'a, T> {
    if settings.cosine { unit_rows(rows, dim) } else { Unit { rows: Cow::Borrowed(rows), norms: Vec::new() } }
}

/// Adds the accumulators up, entry by entry in their order.
fn sum<T: Row>(accumulators: Vec<Vec<T>>, len: usize) -> Vec<T> {
    let mut accumulators = accumulators.into_iter();
    let Some(mut total) = accumulators.next() else { return vec![T::ZERO; len] };
    let rest: Vec<Vec<T>> = accumulators.collect();
    const CHUNK: usize = 1 << 14;
    total.par_chunks_mut(CHUNK).enumerate().for_each(|(c, total)| {
        for other in &rest {
            T::add(total, &other[c * CHUNK..][..total.len()]);
        }
    });
    total
}

struct Job<'a, T> {
    a: &'a [T],
    c: &'a [T],
    dim: usize,
    n: usize,
    m: usize,
    settings: &'a Settings<'a>,
}

impl<T: Row> Job<'_, T> {
    fn anchor_weight(&self, i: usize) -> f64 {
        self.settings.anchor_weight.map_or(1.0 / self.n as f64, |v| v[i])
    }

    fn positive_weight(&self, i: usize) -> f64 {
        self.settings.positive_weight.map_or(1.0, |w| w[i])
    }

    fn loss(&self, i: usize, term: &Term) -> f64 {
        // An anchor of weight 0 may have an empty denominator, and 0 · −∞ is not 0.
        let v = self.anchor_weight(i);
        if v == 0.0 { 0.0 } else { v * (term.log_denominator - self.positive_weight(i) * term.positive) }
    }

    /// The anchors from `first`, one for each term, block by block; returns their share of the candidates' gradient.
    fn rows(&self, first: usize, terms: &mut [Term], grad_anchors: &mut [T]) -> Vec<T> {
        let (d, m, settings) = (self.dim, self.m, self.settings);
        let most = (BLOCK_VALUES / m.max(1)).clamp(FEWEST_ROWS, MOST_ROWS).min(terms.len());
        let mut logits = vec![T::ZERO; most * m];
        let mut grad_candidates = vec![T::ZERO; if settings.grad_candidates { m * d } else { 0 }];
        let mut saved = Vec::new();
        for (block, terms) in terms.chunks_mut(most).enumerate() {
            let (at, r) = (first + block * most, terms.len());
            let a = &self.a[at * d..][..r * d];
            let logits = &mut logits[..r * m];
            product(logits, (r, m, d), a, (d, 1), self.c, (1, d), false, T::from_f64(settings.scale));
            if m > 0 {
                for (i, (row, term)) in logits.chunks_mut(m).zip(terms.iter_mut()).enumerate() {
                    *term = self.softmax(at + i, row, &mut saved);
                }
            } else {
                terms.fill(Term { positive: 0.0, log_denominator: f64::NEG_INFINITY, hardest_negative: f64::NEG_INFINITY });
            }
            if settings.grad_anchors {
                let grad = &mut grad_anchors[block * most * d..][..r * d];
                product(grad, (r, d, m), logits, (m, 1), self.c, (d, 1), false, T::ONE);
            }
            if settings.grad_candidates {
                product(&mut grad_candidates, (m, d, r), logits, (1, m), a, (d, 1), true, T::ONE);
            }
        }
        grad_candidates
    }

    /// Turns the logits of anchor `i` into its term and, in place, into ∂L/∂⟨a_i, c_j⟩.
    fn softmax(&self, i: usize, row: &mut [T], saved: &mut Vec<T>) -> Term {
        let settings = self.settings;
        let masked = T::from_f64(f64::NEG_INFINITY);
        let positives = settings.positives.get(i);
        saved.clear();
        saved.extend(positives.iter().map(|&p| row[p as usize]));
        let positive = saved.iter().map(|s| s.to_f64()).sum::<f64>() / positives.len().max(1) as f64;

        row[..settings.first_negative].fill(masked);
        for &j in settings.excluded.get(i).iter().chain(positives) {
            row[j as usize] = masked;
        }
        let hardest = T::largest(row);
        let mut shift = hardest;
        if settings.positive_in_denominator {
            for (&p, &s) in positives.iter().zip(saved.iter()) {
                row[p as usize] = s;
                shift = if s > shift { s } else { shift };
            }
        }

        let sum = if shift > masked {
            T::exp_sum(row, shift)
        } else {
            row.fill(T::ZERO);
            0.0
        };
        if settings.grad_anchors || settings.grad_candidates {
            let weight = self.anchor_weight(i) * settings.scale;
            T::scale(row, T::from_f64(if sum > 0.0 { weight / sum } else { 0.0 }));
            let pull = weight * self.positive_weight(i) / positives.len().max(1) as f64;
            for &p in positives {
                row[p as usize] = T::from_f64(row[p as usize].to_f64() - pull);
            }
        }
        Term { positive, log_denominator: sum.ln() + shift.to_f64(), hardest_negative: hardest.to_f64() }
    }
}
