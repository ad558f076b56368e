//! Which loss.

use crate::lists::Lists;
use crate::simd::Row;

/// A value for each pair of an anchor and a candidate, made row by row, so that no `[n, m]` need exist: the function is given an
/// anchor and its row of `m` zeros to fill. A matrix that does exist is `&|i, row| row.copy_from_slice(&matrix[i * m..][..m])`.
#[derive(Clone, Copy)]
pub struct Pairs<'a>(pub &'a (dyn Fn(usize, &mut [f64]) + Sync));

impl std::fmt::Debug for Pairs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Pairs(..)")
    }
}

/// b of [`Settings::bias`].
#[derive(Clone, Copy, Debug)]
pub enum Bias<'a> {
    /// Made row by row.
    Rows(Pairs<'a>),
    /// `[n, m]`, row-major. This is the faster one where no finite value is far from 0: then no row has to be seen as a whole
    /// before its exponentials are computed.
    Matrix(&'a [f32]),
}

impl Bias<'_> {
    /// Adds the row of anchor `i`; `wide` is room for it.
    pub(super) fn add<T: Row>(&self, i: usize, row: &mut [T], wide: &mut Vec<f64>) {
        match self {
            Self::Rows(_) => {
                self.fill(i, row.len(), wide);
                row.iter_mut().zip(wide).for_each(|(s, b)| *s = T::from_f64(s.to_f64() + *b));
            }
            Self::Matrix(values) => T::add_f32(row, &values[i * row.len()..][..row.len()]),
        }
    }

    /// Sets `wide` to the row of anchor `i`, `m` long.
    pub(super) fn fill(&self, i: usize, m: usize, wide: &mut Vec<f64>) {
        wide.clear();
        match self {
            Self::Rows(pairs) => {
                wide.resize(m, 0.0);
                (pairs.0)(i, wide);
            }
            Self::Matrix(values) => wide.extend(values[i * m..][..m].iter().map(|&b| f64::from(b))),
        }
    }
}

/// sim(a, c), of rows as given or of length one ([`Settings::cosine`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Similarity {
    /// ⟨a, c⟩.
    #[default]
    Inner,
    /// −‖a − c‖².
    NegativeSquaredDistance,
}

/// Which of an anchor's negatives count; the others have no part in value and gradient. The choice itself has no gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Keep {
    /// All.
    #[default]
    All,
    /// The share α of the hardest: with M negatives those not below the k-th largest logit, k = ⌈αM⌉ within 1..=M; ties are kept
    /// (contrastive-behaviour).
    Hardest(f64),
    /// Those with `lower` ≤ logit ≤ `upper` (unpg).
    Within {
        /// The smallest logit that is kept.
        lower: f64,
        /// The largest.
        upper: f64,
    },
}

/// s̄: how the logits of several positives become one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum PositiveMean {
    /// Their mean.
    #[default]
    Uniform,
    /// Σ_p π_p s_p with π = softmax(sharpness · s) over the positives (cacr: sharpness −τ₊ pulls the farther ones harder).
    Softmax {
        /// Multiplies the logits in the weights.
        sharpness: f64,
        /// Take the weights as constants.
        constant: bool,
    },
}

/// R: what the negatives add to an anchor's loss. N(i) are the kept negatives, D(i) the same with the positives if
/// [`Settings::positive_in_denominator`].
#[derive(Clone, Copy, Debug, Default)]
pub enum Negatives<'a> {
    /// log( Σ_{j ∈ D} exp(s_j + b_j) + exp(extra) ).
    #[default]
    LogSumExp,
    /// weight · Σ_{j ∈ N} s_j, without the bias.
    Sum {
        /// λ.
        weight: f64,
    },
    /// weight · Σ_{j ∈ N} π_j s_j with π = softmax(sharpness · s + b) over N; 0 when N is empty (cacr).
    WeightedMean {
        /// Multiplies the mean.
        weight: f64,
        /// Multiplies the logits in the weights: 0 is the plain mean.
        sharpness: f64,
        /// The weights of candidates before this one are constants; the gradient flows through the others.
        constant_before: usize,
    },
    /// −Σ_{j ∈ D} t_j ln(p_j + ε) with p the softmax that [`Negatives::LogSumExp`] makes, in place of the whole L_i (soft-infonce).
    /// The divergence from t is this less the entropy of t.
    CrossEntropy {
        /// t, any numbers.
        targets: Pairs<'a>,
    },
    /// −Σ_{j ∈ D} t_j ln p_j + (1 − t_j) ln(1 − p_j), each logarithm at least −100, in place of the whole L_i (soft-infonce).
    BinaryCrossEntropy {
        /// t, from 0 to 1.
        targets: Pairs<'a>,
    },
    /// Nothing: no logits but those of the positives are computed.
    None,
}

/// Which loss: see the module's formula.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// P(i): the positives of each anchor among the candidates. An empty list leaves only R.
    pub positives: Lists<'a>,
    /// Candidates that are no negatives of an anchor: itself, known positives. Of a candidate that is also in P(i),
    /// `positive_in_denominator` decides alone.
    pub excluded: Lists<'a>,
    /// Candidates before this one are nobody's negatives: they serve as positives of their anchors only (keys beside a queue).
    pub first_negative: usize,
    /// σ = 1/τ.
    pub scale: f64,
    /// σ_i, one for each anchor, in place of `scale`.
    pub anchor_scale: Option<&'a [f64]>,
    /// Divide every row by max(‖row‖, 1e-12) first; the gradients are those of the rows as given.
    pub cosine: bool,
    /// Of the rows, as given or divided.
    pub similarity: Similarity,
    /// Whether P(i) ⊂ D(i): true for InfoNCE, false for the decoupled losses.
    pub positive_in_denominator: bool,
    /// How several positives become one logit.
    pub positive_mean: PositiveMean,
    /// Logits that stand in for those of the positives, one for each anchor: with a margin, for one. P(i) then only names candidates that are
    /// no negatives. In units of s, that is, σ is in them.
    pub positive_logits: Option<&'a [f64]>,
    /// w, one for each anchor; all 1 when absent. Taken as constants.
    pub positive_weight: Option<&'a [f64]>,
    /// v, one for each anchor; all 1/n when absent.
    pub anchor_weight: Option<&'a [f64]>,
    /// b: added to the logits of negatives in exponents. −∞ takes a candidate out of them.
    pub bias: Option<Bias<'a>>,
    /// Which negatives count.
    pub keep: Keep,
    /// R.
    pub negatives: Negatives<'a>,
    /// The logarithm of what else stands in each anchor's denominator; −∞ for nothing.
    pub extra_denominator: Option<&'a [f64]>,
    /// ε: with [`Negatives::LogSumExp`], L_i becomes −ln(exp(−L_i) + ε), which for one positive bounds −ln of its probability.
    pub floor: f64,
    /// L = ½ (Σ_i v_i L_i + Σ_j u_j L'_j): the other half sees the same pairs from the candidates, whose positives are the anchors that they are positives
    /// of. u is the same for each candidate that is somebody's positive, 0 for the others, and sums to 1. Only with
    /// [`Negatives::LogSumExp`] of all negatives, uniform positives, and neither positive weights, given positive logits, extra denominators nor a floor.
    pub both_directions: bool,
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
            anchor_scale: None,
            cosine: true,
            similarity: Similarity::Inner,
            positive_in_denominator: true,
            positive_mean: PositiveMean::Uniform,
            positive_logits: None,
            positive_weight: None,
            anchor_weight: None,
            bias: None,
            keep: Keep::All,
            negatives: Negatives::LogSumExp,
            extra_denominator: None,
            floor: 0.0,
            both_directions: false,
            grad_anchors: true,
            grad_candidates: true,
        }
    }

    pub(super) fn scale_of(&self, i: usize) -> f64 {
        self.anchor_scale.map_or(self.scale, |s| s[i])
    }

    /// v_i of `n` anchors.
    pub(super) fn weight_of(&self, i: usize, n: usize) -> f64 {
        self.anchor_weight.map_or(1.0 / n as f64, |v| v[i])
    }

    pub(super) fn positive_weight_of(&self, i: usize) -> f64 {
        self.positive_weight.map_or(1.0, |w| w[i])
    }

    /// The numbers of anchors and candidates, from the lengths of their slices.
    pub(super) fn check(&self, anchors: usize, candidates: usize, dim: usize) -> (usize, usize) {
        assert!(dim > 0, "rows of width 0");
        assert!(anchors.is_multiple_of(dim) && candidates.is_multiple_of(dim), "ragged rows");
        let (n, m) = (anchors / dim, candidates / dim);
        self.positives.check(n, m, "positives");
        self.excluded.check(n, m, "excluded");
        assert!(self.first_negative <= m, "first_negative {} of {m} candidates", self.first_negative);
        let one_each = [self.anchor_scale, self.positive_weight, self.anchor_weight, self.positive_logits, self.extra_denominator];
        for values in one_each.into_iter().flatten() {
            assert_eq!(values.len(), n, "one value for each anchor");
        }
        if let Some(Bias::Matrix(values)) = self.bias {
            assert_eq!(Some(values.len()), n.checked_mul(m), "a bias for each of {n} × {m} pairs");
        }
        if self.both_directions {
            let plain = matches!(self.negatives, Negatives::LogSumExp)
                && self.keep == Keep::All
                && self.positive_mean == PositiveMean::Uniform
                && self.floor == 0.0
                && [self.positive_weight, self.positive_logits, self.extra_denominator].iter().all(Option::is_none);
            assert!(plain, "both directions go with plain log-sum-exp only");
        }
        (n, m)
    }
}
