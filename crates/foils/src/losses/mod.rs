//! How do positives and foils become one number? One objective a file; those of energy-based models, which take log densities, are
//! in [`energy`], those of several heads with a temperature for each pair in [`amcl`], those that sort in
//! [`groco`].

mod alignment;
mod alignment_uniformity;
pub mod amcl;
mod barlow_twins;
mod by_name;
mod cacr;
mod contrast;
mod dcl;
mod dcl_queue;
mod distill_kl;
mod distilled;
pub mod energy;
mod gradient;
pub mod groco;
mod hard_contrastive;
mod info_nce;
mod margin_heads;
mod margin_mse;
mod moco;
mod nt_xent;
mod options;
mod ranking;
mod setters;
mod soft_info_nce;
mod sup_con;
#[cfg(test)]
pub(crate) mod tests;
mod triplet;
mod two_views;
mod uniformity;
mod unpg;

pub use crate::search::Similarity;
pub use alignment::Alignment;
pub use alignment_uniformity::AlignmentUniformity;
pub use barlow_twins::{BarlowTwins, BarlowTwinsOutput};
pub use by_name::{ELSEWHERE, LossSettings, NAMES, by_name};
pub use cacr::{Cacr, CacrOutput, CacrWeights, RepulsionCost};
pub use dcl::{Dcl, Dclw};
pub use dcl_queue::DclQueue;
pub use distill_kl::DistillKl;
pub use hard_contrastive::{HardContrastive, SimpleContrastive};
pub use info_nce::InfoNce;
pub use margin_heads::{MagFace, MarginHead, MarginLogits};
pub use margin_mse::MarginMse;
pub use moco::{MocoInfoNce, MocoOutput};
pub use nt_xent::NtXent;
pub use options::{Compute, Options, ZeroRows};
pub use ranking::MultipleNegativesRanking;
pub use soft_info_nce::{RelevanceInfoNce, SoftInfoNce};
pub use sup_con::SupCon;
pub use triplet::{Distance, TripletMargin};
pub use uniformity::Uniformity;
pub use unpg::{Unpg, UnpgOutput};

use crate::{Error, Result, weighting};
use burn::tensor::{Int, Tensor};

/// Which candidate is right for which anchor, and which must not count against it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// For each anchor the index of its positive among the candidates.
    pub positive: Vec<u32>,
    /// For each anchor the candidates that are left out of its denominator (known or suspected positives), ascending; may be
    /// empty as a whole when there are none.
    pub excluded: Vec<Vec<u32>>,
    /// A teacher's score of each anchor and candidate, row-major `[anchors, candidates]`; empty when there is no teacher. Scores of
    /// excluded candidates are not looked at.
    pub teacher: Vec<f64>,
    /// What each candidate's exponential is multiplied by in each anchor's denominator, row-major `[anchors, candidates]`, where it is a
    /// negative: 1 for a full negative, less for one that may be a positive, 0 for none. Empty when all are 1.
    pub weights: Vec<f64>,
}

impl Targets {
    /// Without a teacher or weights.
    pub fn new(positive: Vec<u32>, excluded: Vec<Vec<u32>>) -> Self {
        Self { positive, excluded, ..Self::default() }
    }

    /// Checks all against `n` anchors and `m` candidates, but for the teacher.
    pub(crate) fn check(&self, n: usize, m: usize) -> Result<()> {
        let invalid = |message: String| Err(Error::invalid(message));
        if self.positive.len() != n {
            return invalid(format!("{} positives for {n} anchors", self.positive.len()));
        }
        if !self.excluded.is_empty() && self.excluded.len() != n {
            return invalid(format!("{} exclusion lists for {n} anchors", self.excluded.len()));
        }
        let outside = |j: &&u32| **j as usize >= m;
        if let Some((i, j)) = self.positive.iter().enumerate().find(|(_, j)| outside(j)) {
            return invalid(format!("the positive of anchor {i} is candidate {j} of {m}"));
        }
        if let Some((i, j)) = self.excluded.iter().enumerate().find_map(|(i, l)| l.iter().find(outside).map(|j| (i, j))) {
            return invalid(format!("anchor {i} excludes candidate {j} of {m}"));
        }
        if !self.weights.is_empty() && self.weights.len() != n * m {
            return invalid(format!("{} weights for {n} anchors and {m} candidates", self.weights.len()));
        }
        match self.weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            Some(at) => {
                invalid(format!("the weight of candidate {} for anchor {} is {}: it must be at least 0", at % m, at / m, self.weights[at]))
            }
            None => Ok(()),
        }
    }

    /// The anchors' positives among `candidates`, `[n, d]`; in the graph.
    pub(crate) fn positives_of(&self, candidates: &Tensor<2>) -> Tensor<2> {
        let rows: Vec<i64> = self.positive.iter().map(|&p| p.into()).collect();
        candidates.clone().select(0, Tensor::<1, Int>::from_data(rows.as_slice(), &candidates.device().without_autodiff()))
    }

    /// For each anchor the candidates, of `m`, that are negatives for it, ascending.
    pub(crate) fn negatives(&self, m: usize) -> Result<Vec<Vec<usize>>> {
        let of_anchor = |(i, &positive): (usize, &u32)| {
            let found = weighting::negatives(m, positive, self.excluded.get(i).map_or(&[], Vec::as_slice))?;
            if found.is_empty() {
                return Err(Error::invalid(format!("anchor {i} has no negatives: every candidate is its positive or excluded")));
            }
            Ok(found)
        };
        self.positive.iter().enumerate().map(of_anchor).collect()
    }

    /// For a loss that has no place for them.
    pub(crate) fn refuse_weights(&self, loss: &str) -> Result<()> {
        if self.weights.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(format!("{loss} has no denominator in which negatives could have weights")))
    }
}

/// An objective over anchors `[n, d]` and candidates `[m, d]`: in-batch positives first, then mined or queued negatives.
/// This is the form that [`crate::train`] takes; a loss with other inputs has its own `forward`.
pub trait RankingLoss: Send + Sync {
    /// The scalar loss, shape `[1]`, on the autodiff graph of its inputs.
    ///
    /// # Errors
    /// On shapes that do not fit, too few candidates, or values that are not finite.
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>>;

    /// Whether it learns from [`Targets::teacher`].
    fn needs_teacher(&self) -> bool {
        false
    }

    /// Whether it has a use for [`Targets::weights`].
    fn takes_weights(&self) -> bool {
        false
    }

    /// Whether candidates count that are no anchor's positive, such as mined and queued ones. Where they do not, they are refused.
    fn takes_negatives(&self) -> bool {
        true
    }

    /// Whether [`Targets::excluded`] has a meaning for it.
    fn takes_exclusions(&self) -> bool {
        true
    }

    /// The loss's name and hyper-parameters, for logs.
    fn describe(&self) -> String;
}
