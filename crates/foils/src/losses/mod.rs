//! How do positives and foils become one number? One objective a file; those of energy-based models, which take log densities, are
//! in [`energy`].

mod alignment;
mod barlow_twins;
mod by_name;
mod contrast;
mod dcl;
mod dcl_queue;
mod distill_kl;
mod distilled;
pub mod energy;
mod gradient;
mod info_nce;
mod margin_mse;
mod moco;
mod nt_xent;
mod options;
mod ranking;
mod sup_con;
#[cfg(test)]
pub(crate) mod tests;
mod triplet;
mod two_views;
mod uniformity;

pub use crate::search::Similarity;
pub use alignment::Alignment;
pub use barlow_twins::{BarlowTwins, BarlowTwinsOutput};
pub use by_name::{LossSettings, NAMES, by_name};
pub use dcl::{Dcl, Dclw};
pub use dcl_queue::DclQueue;
pub use distill_kl::DistillKl;
pub use info_nce::InfoNce;
pub use margin_mse::MarginMse;
pub use moco::{MocoInfoNce, MocoOutput};
pub use nt_xent::NtXent;
pub use options::{Compute, Options, ZeroRows};
pub use ranking::MultipleNegativesRanking;
pub use sup_con::SupCon;
pub use triplet::{Distance, TripletMargin};
pub use uniformity::Uniformity;

use crate::Result;
use burn::tensor::Tensor;

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
    pub teacher: Vec<f32>,
}

impl Targets {
    /// Without a teacher.
    pub fn new(positive: Vec<u32>, excluded: Vec<Vec<u32>>) -> Self {
        Self { positive, excluded, teacher: Vec::new() }
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

    /// The loss's name and hyper-parameters, for logs.
    fn describe(&self) -> String;
}
