//! Both directions at once: the softmax of each anchor over the candidates and of each candidate over the anchors, from the same
//! logits. A first pass finds the log-denominators of both, a second computes the logits again and turns them into the gradient.

use super::blocks::{Block, Job, Packed};
use super::{Contrast, Term};
use crate::simd::Row;
use rayon::prelude::*;

/// What a share of the anchors knows of each candidate: as if it were all.
struct Columns<T> {
    /// The largest logit in the denominator.
    shift: Vec<T>,
    /// Σ exp(s − shift).
    sum: Vec<f64>,
    /// The largest logit of a negative.
    hardest: Vec<T>,
    /// The sum of the positives' logits.
    positive: Vec<f64>,
}

/// As [`super::blocks::contrast`], seen from the candidates too.
pub(super) fn contrast<T: Row>(job: &Job<T>) -> Contrast<T> {
    let settings = job.settings;
    let mut terms = vec![Term { positive: 0.0, log_denominator: f64::NEG_INFINITY, hardest_negative: f64::NEG_INFINITY }; job.n];
    let (share, packed) = (job.share(), Packed::new(job));
    let parts: Vec<Columns<T>> =
        terms.par_chunks_mut(share).enumerate().map(|(s, terms)| Pass::new(job, &packed).denominators(s * share, terms)).collect();
    let mut columns = Columns::new(job.m);
    parts.iter().for_each(|part| columns.join(part));

    let mut counts = vec![0u32; job.m];
    (0..job.n).for_each(|i| settings.positives.get(i).iter().for_each(|&p| counts[p as usize] += 1));
    let with_positives = counts.iter().filter(|&&c| c > 0).count().max(1) as f64;
    let weights: Vec<f64> = counts.iter().map(|&c| if c > 0 { 0.5 / with_positives } else { 0.0 }).collect();
    let candidate_terms: Vec<Term> = (0..job.m)
        .map(|j| Term {
            positive: columns.positive[j] / f64::from(counts[j].max(1)),
            log_denominator: columns.sum[j].ln() + columns.shift[j].to_f64(),
            hardest_negative: columns.hardest[j].to_f64(),
        })
        .collect();

    // An anchor or candidate of weight 0 may have an empty denominator, and 0 · −∞ is not 0.
    let loss = |v: f64, t: &Term| if v == 0.0 { 0.0 } else { v * (t.log_denominator - t.positive) };
    let loss = terms.iter().enumerate().map(|(i, t)| loss(0.5 * settings.weight_of(i, job.n), t)).sum::<f64>()
        + candidate_terms.iter().zip(&weights).map(|(t, &u)| loss(u, t)).sum::<f64>();
    let mut result = Contrast {
        loss,
        terms,
        candidate_terms,
        grad_anchors: Vec::new(),
        grad_candidates: Vec::new(),
        grad_positive_logits: Vec::new(),
        grad_extra_denominator: Vec::new(),
    };
    if settings.grad_anchors || settings.grad_candidates {
        let columns = Softmax {
            log: result.candidate_terms.iter().map(|t| finite(T::from_f64(t.log_denominator))).collect(),
            weight: weights.iter().map(|&u| T::from_f64(u)).collect(),
            pull: weights.iter().zip(&counts).map(|(u, &c)| u / f64::from(c.max(1))).collect(),
        };
        (result.grad_anchors, result.grad_candidates) =
            job.shares(&mut result.terms, |first, terms, grad| Pass::new(job, &packed).gradients(first, terms, &columns, grad));
    }
    result
}

/// The candidates' side of the gradient.
struct Softmax<T> {
    log: Vec<T>,
    weight: Vec<T>,
    /// u over the number of positives.
    pull: Vec<f64>,
}

/// A shift that can be subtracted from −∞.
fn finite<T: Row>(shift: T) -> T {
    if shift.to_f64() == f64::NEG_INFINITY { T::ZERO } else { shift }
}

impl<T: Row> Columns<T> {
    fn new(m: usize) -> Self {
        let none = vec![T::from_f64(f64::NEG_INFINITY); m];
        Self { shift: none.clone(), sum: vec![0.0; m], hardest: none, positive: vec![0.0; m] }
    }

    fn join(&mut self, part: &Self) {
        self.raise(&part.shift);
        for (j, sum) in self.sum.iter_mut().enumerate() {
            *sum += part.sum[j] * (part.shift[j].to_f64() - finite(self.shift[j]).to_f64()).exp();
            self.positive[j] += part.positive[j];
        }
        largest(&mut self.hardest, &part.hardest);
    }

    /// Moves to shifts that are no smaller than these either.
    fn raise(&mut self, shift: &[T]) {
        for ((old, &new), sum) in self.shift.iter_mut().zip(shift).zip(&mut self.sum) {
            if new > *old {
                *sum *= (old.to_f64() - new.to_f64()).exp();
                *old = new;
            }
        }
    }
}

/// Entry by entry.
fn largest<T: Row>(to: &mut [T], row: &[T]) {
    to.iter_mut().zip(row).for_each(|(l, &x)| *l = if x > *l { x } else { *l });
}

/// A share of the anchors on its way through its blocks.
struct Pass<'a, T: Clone> {
    job: &'a Job<'a, T>,
    packed: &'a Packed<T>,
    saved: Vec<T>,
    wide: Vec<f64>,
    exps: Vec<T>,
}

impl<'a, T: Row> Pass<'a, T> {
    fn new(job: &'a Job<'a, T>, packed: &'a Packed<T>) -> Self {
        Self { job, packed, saved: Vec::new(), wide: Vec::new(), exps: vec![T::ZERO; job.m] }
    }

    /// Logits as exponents: −∞ outside D(i), the bias added. `negatives` sees the row before the positives are put back.
    fn mask(&mut self, i: usize, row: &mut [T], negatives: impl FnOnce(&[T])) {
        let settings = self.job.settings;
        let masked = T::from_f64(f64::NEG_INFINITY);
        let positives = settings.positives.get(i);
        self.saved.clear();
        self.saved.extend(positives.iter().map(|&p| row[p as usize]));
        row[..settings.first_negative].fill(masked);
        for &j in settings.excluded.get(i).iter().chain(positives) {
            row[j as usize] = masked;
        }
        negatives(row);
        if let Some(bias) = settings.bias {
            bias.add(i, row, &mut self.wide);
        }
        if settings.positive_in_denominator {
            positives.iter().zip(&self.saved).for_each(|(&p, &s)| row[p as usize] = s);
        }
    }

    /// Sets `self.exps` to exp(row − shift), entry by entry, and returns their sum.
    fn exps(&mut self, row: &[T], shift: impl Iterator<Item = T>) -> f64 {
        let minus = T::from_f64(-1.0);
        self.exps.iter_mut().zip(row).zip(shift).for_each(|((e, &s), by)| {
            *e = minus * by;
            *e += s;
        });
        T::exp_sum(&mut self.exps, T::ZERO)
    }

    fn denominators(mut self, first: usize, terms: &mut [Term]) -> Columns<T> {
        let m = self.job.m;
        let (mut block, most) = Block::new(self.job, self.packed, terms.len());
        let (mut columns, mut sums) = (Columns::new(m), vec![T::ZERO; m]);
        for (b, terms) in terms.chunks_mut(most).enumerate() {
            let (at, r) = (first + b * most, terms.len());
            block.fill(at..at + r, |_, _, _| ());
            let mut shift = columns.shift.clone();
            for (k, term) in terms.iter_mut().enumerate() {
                let row = block.row(k);
                self.mask(at + k, row, |row| {
                    term.hardest_negative = T::largest(row).to_f64();
                    largest(&mut columns.hardest, row);
                });
                let positives = self.job.settings.positives.get(at + k);
                positives.iter().zip(&self.saved).for_each(|(&p, s)| columns.positive[p as usize] += s.to_f64());
                term.positive = self.saved.iter().map(|s| s.to_f64()).sum::<f64>() / positives.len().max(1) as f64;
                largest(&mut shift, row);
                let own = finite(T::largest(row));
                term.log_denominator = self.exps(row, std::iter::repeat(own)).ln() + own.to_f64();
            }
            columns.raise(&shift);
            sums.fill(T::ZERO);
            for k in 0..r {
                self.exps(block.row(k), columns.shift.iter().map(|&s| finite(s)));
                T::add(&mut sums, &self.exps);
            }
            columns.sum.iter_mut().zip(&sums).for_each(|(total, s)| *total += s.to_f64());
        }
        columns
    }

    fn gradients(mut self, first: usize, terms: &[Term], columns: &Softmax<T>, grad_anchors: &mut [T]) -> Vec<T> {
        let (job, width) = (self.job, self.job.a.width);
        let settings = job.settings;
        let (mut block, most) = Block::new(job, self.packed, terms.len());
        let mut grad_candidates = vec![T::ZERO; if settings.grad_candidates { job.m * width } else { 0 }];
        let mut factors = Vec::new();
        let grads = grad_anchors.chunks_mut(most * width).map(Some).chain(std::iter::repeat_with(|| None));
        for ((b, terms), grad) in terms.chunks(most).enumerate().zip(grads) {
            let (at, r) = (first + b * most, terms.len());
            block.fill(at..at + r, |_, _, _| ());
            for (k, term) in terms.iter().enumerate() {
                let (i, row) = (at + k, block.row(k));
                self.mask(i, row, |_| ());
                let v = 0.5 * settings.weight_of(i, job.n);
                self.exps(row, columns.log.iter().copied());
                T::exp_sum(row, finite(T::from_f64(term.log_denominator)));
                let (own, others) = (T::from_f64(v), self.exps.iter().zip(&columns.weight));
                row.iter_mut().zip(others).for_each(|(p, (&q, &u))| {
                    *p = own * *p;
                    *p += u * q;
                });
                let positives = settings.positives.get(i);
                let pull = v / positives.len().max(1) as f64;
                for &p in positives {
                    let entry = &mut row[p as usize];
                    *entry = T::from_f64(entry.to_f64() - pull - columns.pull[p as usize]);
                }
            }
            factors.clear();
            factors.extend((at..at + r).map(|i| settings.scale_of(i)));
            block.gradients(&factors, grad.unwrap_or_default(), &mut grad_candidates);
        }
        grad_candidates
    }
}
