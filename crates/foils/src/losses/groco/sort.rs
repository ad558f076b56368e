//! Sorting with gradients.

use super::{Distribution, Network};
use crate::nn;
use crate::{Error, Result, check};
use burn::tensor::{Tensor, activation};
use foils_kernels::sorting::Sorter;
use std::f64::consts::PI;

/// A differentiable sorting network (groco): comparators that move values only as far as they are sure of their order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SortingNetwork {
    network: Network,
    distribution: Distribution,
    steepness: f64,
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
        Self { network: Network::OddEven, distribution: Distribution::Cauchy, steepness: 1.0 }
    }
}

impl SortingNetwork {
    /// Steeper comparators sort more strictly, and have less gradient where values are far apart. λ of logistic-phi is 0.25 in the paper.
    ///
    /// # Errors
    /// When `steepness` is not a finite number above 0, or λ is negative or not finite.
    pub fn new(network: Network, distribution: Distribution, steepness: f64) -> Result<Self> {
        if let Distribution::LogisticPhi { lambda } = distribution {
            check::not_negative("art_lambda", lambda)?;
        }
        Ok(Self { network, distribution, steepness: check::positive("steepness", steepness)? })
    }

    /// The network for rows of `n` values.
    pub(super) fn of_width(&self, n: usize) -> Result<Sorter> {
        if n < 2 {
            return Err(Error::invalid(format!("rows of {n} values: at least 2 are needed to sort")));
        }
        Ok(Sorter::new(self.network, self.distribution, self.steepness, n))
    }

    /// Sorts rows of `scores` `[rows, n]`, with gradients through values and permutation. One kernel on the CPU; elsewhere some twenty
    /// operations for each of about n²/2 (odd-even) or n log² n / 4 (bitonic) comparators.
    ///
    /// # Errors
    /// When there are no rows or n < 2, or a score is not finite.
    pub fn sort(&self, scores: Tensor<2>) -> Result<Sorted> {
        check::rows("scores", &scores, 1)?;
        check::values("scores", &scores, false)?;
        let [rows, n] = scores.dims();
        let sorter = self.of_width(n)?;
        if !check::fusable(&scores) {
            return Ok(self.by_tensors(scores, &sorter));
        }
        let both = nn::sort(scores, sorter);
        let permutation = both.clone().slice([0..rows, n..n + n * n]).reshape([rows, n, n]);
        Ok(Sorted { sorted: both.slice([0..rows, 0..n]), permutation })
    }

    /// The same by tensor operations.
    pub(super) fn by_tensors(&self, scores: Tensor<2>, sorter: &Sorter) -> Sorted {
        let [rows, n] = scores.dims();
        let mut values: Vec<Tensor<2>> = (0..n).map(|i| scores.clone().slice([0..rows, i..i + 1])).collect();
        let identity = Tensor::<2>::eye(n, &scores.device().without_autodiff()).cast(scores.dtype());
        let mut shares: Vec<Tensor<2>> = (0..n).map(|rank| identity.clone().slice(rank..rank + 1).repeat_dim(0, rows)).collect();
        for c in sorter.comparators() {
            let sure = self.certainty(values[c.b].clone() - values[c.a].clone());
            let stays = if c.descending { sure.neg().add_scalar(1.0) } else { sure };
            let goes = stays.clone().neg().add_scalar(1.0);
            for wires in [&mut values, &mut shares] {
                let (a, b) = (wires[c.a].clone(), wires[c.b].clone());
                wires[c.a] = stays.clone() * a.clone() + goes.clone() * b.clone();
                wires[c.b] = goes.clone() * a + stays.clone() * b;
            }
        }
        Sorted { sorted: Tensor::cat(values, 1), permutation: Tensor::stack(shares, 2) }
    }

    /// α of differences b − a.
    fn certainty(&self, differences: Tensor<2>) -> Tensor<2> {
        let v = differences.clone().mul_scalar(self.steepness);
        match self.distribution {
            Distribution::Cauchy => v.atan().mul_scalar(1.0 / PI).add_scalar(0.5),
            Distribution::Logistic => activation::sigmoid(v),
            Distribution::LogisticPhi { lambda } => {
                activation::sigmoid(v * differences.abs().add_scalar(1e-10).log().mul_scalar(-lambda).exp())
            }
            Distribution::Reciprocal => (v.clone() / v.abs().add_scalar(2.0)).mul_scalar(0.5).add_scalar(0.5),
            Distribution::Optimal => {
                let side = v.clone().detach().sign().mask_fill(v.clone().detach().abs().lower_equal_elem(0.25), 0.0);
                let beyond = v.clone().abs().add_scalar(1e-10).recip().mul_scalar(-1.0 / 16.0).add_scalar(0.25);
                v.clamp(-0.25, 0.25).add_scalar(0.5) + beyond * side
            }
        }
    }

    pub(super) fn describe(&self) -> String {
        format!("{:?} network, {:?}, steepness {}", self.network, self.distribution, self.steepness)
    }
}
