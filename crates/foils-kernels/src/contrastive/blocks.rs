//! Blocks of anchors: their logits, their rows turned, and the products that make the gradients, on all threads.
//!
//! A block goes over the candidates panel by panel, so that what it works on stays in the second cache: first the products
//! (and, where the exponentials need no look at the whole row, those too), then row by row what is left to do, then both
//! gradients of each panel.

use super::Contrast;
use super::prepared::Prepared;
use super::rows::{Outcome, Turner, mean};
use super::settings::{Negatives, Settings};
use crate::matrix::{Kernel, Matrix, MatrixMut, Precision, Right, Write};
use crate::simd::{Row, transpose};
use rayon::prelude::*;
use std::ops::Range;

/// The logits of a block of anchors are kept below this many values (16 MB of f32).
const BLOCK_VALUES: usize = 1 << 22;
/// A block has no fewer anchors than this: each block reads all candidates.
pub(super) const FEWEST_ROWS: usize = 16;
/// Nor more than this.
const MOST_ROWS: usize = 128;
/// So many candidates at once. A multiple of [`crate::matrix::STEP`].
const PANEL: usize = 1024;

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
    let (grad_anchors, grad_candidates) = if matches!(settings.negatives, Negatives::None) {
        job.shares(&mut outcomes, |first, outcomes, grad| job.positives_only(first, outcomes, grad))
    } else {
        let packed = Packed::new(job);
        job.shares(&mut outcomes, |first, outcomes, grad| job.rows(&packed, first, outcomes, grad))
    };
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

/// The candidates, packed once for all blocks.
pub(super) struct Packed<T> {
    kernel: Kernel<T>,
    /// `[width, m]`.
    forward: Right<T>,
    /// `[m, width]`; empty when the anchors' gradient is not asked for.
    backward: Right<T>,
}

impl<T: Row> Packed<T> {
    pub fn new(job: &Job<T>) -> Self {
        let kernel = Kernel::new(Precision::default());
        let c = Matrix::row_major(&job.c.rows, job.m, job.c.width);
        let rows = if job.settings.grad_anchors { job.m } else { 0 };
        let (forward, backward) = rayon::join(|| kernel.right(c.transposed()), || kernel.right(c.part(0..rows, 0..job.c.width)));
        Self { kernel, forward, backward }
    }
}

/// The logits of a block of anchors, and what it takes to make gradients of them.
pub(super) struct Block<'a, T: Clone> {
    job: &'a Job<'a, T>,
    packed: &'a Packed<T>,
    /// Row by row.
    values: Vec<T>,
    /// From one row to the next: not a power of two, whose rows would all fall into the same places of a cache.
    stride: usize,
    /// The anchors of the block.
    anchors: Range<usize>,
    /// Those, each times its factor.
    scaled: Vec<T>,
    /// A panel of the turned rows.
    right: Right<T>,
}

impl<'a, T: Row> Block<'a, T> {
    /// Room for blocks of as many anchors as is good among `rows`; and how many that is.
    pub fn new(job: &'a Job<'a, T>, packed: &'a Packed<T>, rows: usize) -> (Self, usize) {
        let stride = job.m.next_multiple_of(16) + 16;
        let most = (BLOCK_VALUES / stride).clamp(FEWEST_ROWS, MOST_ROWS).min(rows);
        let right = packed.kernel.right(Matrix::row_major(&[], 0, 0));
        let block = Self { job, packed, values: vec![T::ZERO; most * stride], stride, anchors: 0..0, scaled: Vec::new(), right };
        (block, most)
    }

    /// The row of the k-th anchor of the block.
    pub fn row(&mut self, k: usize) -> &mut [T] {
        &mut self.values[k * self.stride..][..self.job.m]
    }

    /// Computes the logits of these anchors. `panel` is called after each panel of candidates while it is in the cache, with
    /// the panel and, one after the other, each anchor's number in the block and its part of the row.
    pub fn fill(&mut self, anchors: Range<usize>, mut panel: impl FnMut(&Range<usize>, usize, &mut [T])) {
        let (job, stride) = (self.job, self.stride);
        let (r, width) = (anchors.len(), job.a.width);
        let a = Matrix::row_major(&job.a.rows[anchors.start * width..], r, width);
        let left = self.packed.kernel.left(a);
        let scale = if job.settings.anchor_scale.is_some() { 1.0 } else { job.settings.scale };
        for columns in panels(job.m) {
            let to = MatrixMut::new(&mut self.values[columns.start..], (r, columns.len()), stride);
            self.packed.kernel.multiply(&left, self.packed.forward.columns(columns.clone()), to, Write::set(T::from_f64(scale)));
            for k in 0..r {
                let row = &mut self.values[k * stride..][columns.clone()];
                if let Some(scale) = job.settings.anchor_scale {
                    T::scale(row, T::from_f64(scale[anchors.start + k]));
                }
                panel(&columns, k, row);
            }
        }
        self.anchors = anchors;
    }

    /// Sets the anchors' gradient, and adds to the candidates', what the turned rows, each times its factor, make of them. The
    /// candidates' is `[width, panel]` for one panel after the other: so the turned rows are the right-hand operand, which is
    /// packed without being transposed.
    pub fn gradients(&mut self, factors: &[f64], grad_anchors: &mut [T], grad_candidates: &mut [T]) {
        let (job, kernel, r, width) = (self.job, &self.packed.kernel, self.anchors.len(), self.job.a.width);
        self.scaled.clear();
        self.scaled.extend_from_slice(&job.a.rows[self.anchors.start * width..][..r * width]);
        self.scaled.chunks_mut(width).zip(factors).for_each(|(a, &f)| T::scale(a, T::from_f64(f)));
        let scaled = kernel.left_packed(Matrix::row_major(&self.scaled, r, width).transposed());
        for columns in panels(job.m) {
            let rows = Matrix::new(&self.values[columns.start..], (r, columns.len()), (self.stride, 1));
            // First, because packing fetches the rows into the cache.
            if job.settings.grad_candidates {
                self.right.replace(rows);
                let to = MatrixMut::row_major(&mut grad_candidates[columns.start * width..], width, columns.len());
                kernel.multiply(&scaled, self.right.all(), to, Write::add(T::ONE));
            }
            if job.settings.grad_anchors {
                let to = MatrixMut::row_major(grad_anchors, r, width);
                let write = Write { accumulate: columns.start > 0, alpha: T::ONE };
                kernel.multiply(&kernel.left(rows), self.packed.backward.rows(columns.clone()), to, write);
            }
        }
        grad_anchors.chunks_mut(width).zip(factors).for_each(|(g, &f)| T::scale(g, T::from_f64(f)));
    }
}

/// The candidates, a panel at a time.
fn panels(m: usize) -> impl Iterator<Item = Range<usize>> {
    (0..m).step_by(PANEL).map(move |first| first..(first + PANEL).min(m))
}

impl<T: Row> Job<'_, T> {
    /// s_ij, alone.
    pub fn logit(&self, i: usize, j: usize) -> f64 {
        self.settings.scale_of(i) * T::dot(self.a.row(i), self.c.row(j))
    }

    /// How many anchors one thread takes: one contiguous share, not more when threads are idle, because which rows are summed
    /// into which accumulator decides the rounding of the candidates' gradient.
    pub fn share(&self) -> usize {
        self.n.div_ceil(rayon::current_num_threads()).max(FEWEST_ROWS)
    }

    /// Runs `work` on each share of the anchors: the first one's number, a value for each to be set, and the rows of their
    /// gradient (none when it is not asked for). It returns its part of the candidates' gradient, panel by panel. Both
    /// gradients, of the prepared rows.
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
        (grad_anchors, untransposed(&grad_candidates, width))
    }

    /// A share of the anchors, block by block.
    fn rows(&self, packed: &Packed<T>, first: usize, outcomes: &mut [Outcome], grad_anchors: &mut [T]) -> Vec<T> {
        let (width, settings) = (self.a.width, self.settings);
        let (mut block, most) = Block::new(self, packed, outcomes.len());
        let mut grad_candidates = vec![T::ZERO; if settings.grad_candidates { self.m * width } else { 0 }];
        let (mut turner, mut factors) = (Turner::new(self), Vec::new());
        let grads = grad_anchors.chunks_mut(most * width).map(Some).chain(std::iter::repeat_with(|| None));
        for ((b, outcomes), grad) in outcomes.chunks_mut(most).enumerate().zip(grads) {
            let at = first + b * most;
            let anchors = at..at + outcomes.len();
            turner.start(anchors.clone());
            block.fill(anchors, |columns, k, row| turner.panel(columns, k, row));
            for (k, out) in outcomes.iter_mut().enumerate() {
                *out = turner.turn(k, block.row(k));
            }
            if settings.grad_anchors || settings.grad_candidates {
                factors.clear();
                factors.extend(outcomes.iter().map(|o| o.factor));
                block.gradients(&factors, grad.unwrap_or_default(), &mut grad_candidates);
            }
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
                    let columns = p / PANEL * PANEL..(p / PANEL * PANEL + PANEL).min(self.m);
                    let panel = grad_candidates[columns.start * width..].chunks_mut(columns.len());
                    panel.zip(self.a.row(i)).for_each(|(to, &a)| to[p - columns.start] += a * by);
                }
            }
        }
        grad_candidates
    }
}

/// `[m, width]` from `[width, panel]` for each panel.
fn untransposed<T: Row>(grad: &[T], width: usize) -> Vec<T> {
    let mut rows = vec![T::ZERO; grad.len()];
    if !grad.is_empty() {
        rows.par_chunks_mut(PANEL * width).zip(grad.par_chunks(PANEL * width)).for_each(|(rows, panel)| {
            let panel = Matrix::row_major(panel, width, panel.len() / width);
            transpose(panel.transposed(), rows, width);
        });
    }
    rows
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
