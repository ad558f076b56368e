//! Sorting with gradients.

use super::Network;
use crate::nn;
use crate::{Error, Result, check};
use burn::tensor::Tensor;
use foils_kernels::sorting::{Certainty, Sorter};
use serde::{Deserialize, Serialize};

/// The shape of a comparator's certainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// [`Certainty::Cauchy`].
    #[default]
    Cauchy,
    /// [`Certainty::Logistic`].
    Logistic,
    /// [`Certainty::LogisticPhi`].
    LogisticPhi,
    /// [`Certainty::Reciprocal`].
    Reciprocal,
    /// [`Certainty::Optimal`].
    Optimal,
}

/// A differentiable sorting network (groco): comparators that move values only as far as they are sure of their order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SortingNetwork {
    network: Network,
    distribution: Distribution,
    steepness: f64,
    art_lambda: f64,
}

/// What [`SortingNetwork::sort`] returns.
#[derive(Clone, Debug)]
pub struct Sorted {
    /// `[rows, n]`, ascending as far as the comparators are sure.
    pub sorted: Tensor<2>,
    /// `[rows, n, n]`: how much of each input (second axis) ends at each rank (third axis). Rows and columns add up to 1.
    pub permutation: Tensor<3>,
}

impl Default for SortingNetwork {
    /// The paper's: odd-even, Cauchy, steepness 1.
    fn default() -> Self {
        Self { network: Network::OddEven, distribution: Distribution::Cauchy, steepness: 1.0, art_lambda: 0.25 }
    }
}

impl SortingNetwork {
    /// With λ = 0.25, which logistic-phi alone has.
    ///
    /// # Errors
    /// When `steepness` is not a finite number above 0.
    pub fn new(network: Network, distribution: Distribution, steepness: f64) -> Result<Self> {
        Ok(Self { network, distribution, steepness: check::positive("steepness", steepness)?, art_lambda: 0.25 })
    }

    /// Sets λ of logistic-phi.
    ///
    /// # Errors
    /// When it is negative or not finite.
    pub fn art_lambda(mut self, art_lambda: f64) -> Result<Self> {
        self.art_lambda = check::not_negative("art_lambda", art_lambda)?;
        Ok(self)
    }

    /// The network for rows of `n` values.
    pub(super) fn of_width(&self, n: usize) -> Result<Sorter> {
        if n < 2 {
            return Err(Error::invalid(format!("rows of {n} values: at least 2 are needed to sort")));
        }
        let certainty = match self.distribution {
            Distribution::Cauchy => Certainty::Cauchy,
            Distribution::Logistic => Certainty::Logistic,
            Distribution::LogisticPhi => Certainty::LogisticPhi { lambda: self.art_lambda },
            Distribution::Reciprocal => Certainty::Reciprocal,
            Distribution::Optimal => Certainty::Optimal,
        };
        Ok(Sorter::new(self.network, certainty, self.steepness, n))
    }

    /// Sorts rows of `scores` `[rows, n]`, with gradients through values and permutation. On the CPU; tensors of another device are refused.
    ///
    /// # Errors
    /// When there are no rows or n < 2, a score is not finite, or the tensor is not on the CPU in f32 or f64.
    pub fn sort(&self, scores: Tensor<2>) -> Result<Sorted> {
        check::rows("scores", &scores, 1)?;
        check::values("scores", &scores, false)?;
        let [rows, n] = scores.dims();
        let sorter = self.of_width(n)?;
        if !check::fusable(&scores) {
            return Err(Error::invalid("scores must be f32 or f64 on the CPU to be sorted"));
        }
        let both = nn::sort(scores, sorter);
        Ok(Sorted { sorted: both.clone().slice([0..rows, 0..n]), permutation: both.slice([0..rows, n..n + n * n]).reshape([rows, n, n]) })
    }

    pub(super) fn describe(&self) -> String {
        format!("{:?} network, {:?}, steepness {}", self.network, self.distribution, self.steepness)
    }
}
