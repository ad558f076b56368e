//! Contrastive losses, forward and backward in one pass and without the `[n, m]` matrix of logits.
//!
//! With logits s_ij = σ_i · sim(a_i, c_j), positives P(i) and a denominator D(i), every loss here is Σ_i v_i L_i with
//!
//! > L_i = −w_i · s̄_i + R_i
//!
//! s̄_i is the (weighted) mean logit of the positives. R_i is what the negatives add: log Σ_{j ∈ D(i)} exp(s_ij + b_ij) of InfoNCE
//! and its kin, or another form of [`Negatives`]. Who is positive, who is left out, whether the positive stands in the denominator, which
//! negatives are kept, and the weights are [`Settings`]:
//!
//! | loss | settings beside positives and σ = 1/τ |
//! |---|---|
//! | InfoNCE, MNRL with mined negatives | none; symmetric InfoNCE: `both_directions` |
//! | NT-Xent | anchors = candidates = both views, each excludes itself |
//! | MoCo's queue | candidates = keys, then the queue; `first_negative` = number of keys |
//! | SupCon | as NT-Xent, positives = the same label; `anchor_weight` = τ/(τ_base n), 0 without positives |
//! | DCL | `positive_in_denominator` = false; DCLW: `positive_weight` too |
//! | Soft-InfoNCE | `bias` = ln of the weights, `floor` = 1e-15 |
//! | Weighted InfoNCE, KL, BCE | [`Negatives::CrossEntropy`] and [`Negatives::BinaryCrossEntropy`] of the relevances |
//! | false-negative cancellation | `excluded` |
//! | hard contrastive | `keep` = [`Keep::Hardest`] |
//! | simple, hard-simple contrastive | [`Negatives::Sum`] of weight λ, σ = 1 |
//! | uniformity | [`Similarity::NegativeSquaredDistance`], no positives; twice: `anchor_weight` = softmax of the first log-denominators |
//! | CACR attraction | [`Negatives::None`], `positive_mean` = [`PositiveMean::Softmax`] of sharpness −τ₊ |
//! | CACR repulsion | [`Negatives::WeightedMean`] on [`Similarity::NegativeSquaredDistance`] |
//! | CosFace, ArcFace, MagFace | `positive_logits` with the margin |
//! | UNPG | those, `extra_denominator` = LSE of the kept pairs; those pairs: `keep` = [`Keep::Within`] |
//! | MoCHi | as MoCo, `extra_denominator` = LSE of each anchor's synthetic points |

mod blocks;
mod both;
mod early;
mod prepared;
mod rows;
mod settings;
#[cfg(test)]
mod tests;

use crate::simd::Row;
use blocks::Job;
use prepared::{Prepared, Side};
use rayon::prelude::*;
pub use settings::{Bias, Keep, Negatives, Pairs, PositiveMean, Settings, Similarity};

/// What one anchor contributes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// s̄: the mean logit of its positives; 0 without any.
    pub positive: f64,
    /// log Σ exp over its denominator; −∞ when that is empty. Of [`Negatives::Sum`], [`Negatives::WeightedMean`] and
    /// [`Negatives::None`], which have no denominator: R.
    pub log_denominator: f64,
    /// The largest logit (without bias) of a kept negative; −∞ when there is none.
    pub hardest_negative: f64,
}

/// The loss with its parts and gradients.
#[derive(Clone, Debug)]
pub struct Contrast<T> {
    /// L.
    pub loss: f64,
    /// By anchor.
    pub terms: Vec<Term>,
    /// By candidate, when [`Settings::both_directions`]; empty otherwise.
    pub candidate_terms: Vec<Term>,
    /// ∂L/∂anchors `[n, d]`; empty when not asked for.
    pub grad_anchors: Vec<T>,
    /// ∂L/∂candidates `[m, d]`; empty when not asked for.
    pub grad_candidates: Vec<T>,
    /// ∂L/∂[`Settings::positive_logits`] `[n]`; empty when they are not given.
    pub grad_positive_logits: Vec<f64>,
    /// ∂L/∂[`Settings::extra_denominator`] `[n]`; empty when it is not given.
    pub grad_extra_denominator: Vec<f64>,
}

/// The loss of anchors `[n, dim]` against candidates `[m, dim]`, row-major.
///
/// Three products of 2·n·m·dim operations each (one when no gradient is asked for, four in both directions), and n·m exponentials.
/// Memory: the gradients, the rows divided by their lengths, two packed copies of the candidates, a candidates' gradient for each
/// thread, and for each thread the logits of a block of at most 128 anchors: O((n + threads · m) · dim + threads · 128 · m), 38 MB
/// with two threads for n = m = 8,192 and dim = 128 in f32. The same input and thread count give the same bits.
///
/// # Panics
/// When `dim` is 0, a slice does not hold whole rows, lists or weights are not one for each anchor, an index is not below `m`, or
/// settings exclude each other (see [`Settings::both_directions`]).
pub fn contrast<T: Row>(anchors: &[T], candidates: &[T], dim: usize, settings: &Settings) -> Contrast<T> {
    let (n, m) = settings.check(anchors.len(), candidates.len(), dim);
    let a = Prepared::new(anchors, dim, Side::Anchors, settings);
    let c = Prepared::new(candidates, dim, Side::Candidates, settings);
    let job = Job { a: &a, c: &c, n, m, settings };
    let mut result = if settings.both_directions { both::contrast(&job) } else { blocks::contrast(&job) };
    result.grad_anchors = a.backward(result.grad_anchors);
    result.grad_candidates = c.backward(result.grad_candidates);
    result
}

/// The mean logit of each anchor's positives, without the rest: what weights that depend on it (DCLW) are made of.
///
/// # Panics
/// As [`contrast`].
pub fn positive_logits<T: Row>(anchors: &[T], candidates: &[T], dim: usize, settings: &Settings) -> Vec<f64> {
    let (n, m) = settings.check(anchors.len(), candidates.len(), dim);
    let a = Prepared::new(anchors, dim, Side::Anchors, settings);
    let c = Prepared::new(candidates, dim, Side::Candidates, settings);
    let job = Job { a: &a, c: &c, n, m, settings };
    let mean = |i: usize| {
        let positives = settings.positives.get(i);
        positives.iter().map(|&p| job.logit(i, p as usize)).sum::<f64>() / positives.len().max(1) as f64
    };
    (0..n).into_par_iter().map(mean).collect()
}
