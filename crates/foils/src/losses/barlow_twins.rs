//! Barlow Twins: two views agree in each dimension, and dimensions do not repeat each other. No negatives at all.

use super::{RankingLoss, Targets};
use crate::{Error, Result, check};
use burn::tensor::Tensor;

/// Barlow Twins (baselines-contrastive, 7): ẑ = (z − mean)/√(biased variance + ε) by dimension over the batch, C = ẑ1ᵀẑ2/n,
/// L = Σ_l (C_ll − 1)² + λ Σ_{l≠m} C_lm². The gradient flows through the batch statistics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BarlowTwins {
    lambda_offdiag: f64,
    eps: f64,
}

/// What [`BarlowTwins::forward`] returns.
#[derive(Clone, Debug)]
pub struct BarlowTwinsOutput {
    /// Shape `[1]`, on the graph.
    pub loss: Tensor<1>,
    /// C, `[d, d]`.
    pub cross_correlation: Tensor<2>,
}

impl BarlowTwins {
    /// With ε = 1e-5. λ = 0.0051 is usual.
    ///
    /// # Errors
    /// When `lambda_offdiag` is negative or not finite.
    pub fn new(lambda_offdiag: f64) -> Result<Self> {
        Ok(Self { lambda_offdiag: check::not_negative("lambda_offdiag", lambda_offdiag)?, eps: 1e-5 })
    }

    /// Sets ε. Without it (0) no column may be constant.
    ///
    /// # Errors
    /// When it is negative or not finite.
    pub fn eps(mut self, eps: f64) -> Result<Self> {
        self.eps = check::not_negative("eps", eps)?;
        Ok(self)
    }

    /// The loss of two views `[n, d]`.
    ///
    /// # Errors
    /// When n is 0, the shapes differ, a value is not finite, or a column is constant while ε is 0.
    pub fn forward(&self, z1: Tensor<2>, z2: Tensor<2>) -> Result<BarlowTwinsOutput> {
        check::rows("z1", &z1, 1)?;
        check::same_shape(("z1", &z1), ("z2", &z2))?;
        let [n, d] = z1.dims();
        let device = z1.device().without_autodiff();
        let dtype = z1.dtype();
        let c = standardize("z1", z1, self.eps)?.transpose().matmul(standardize("z2", z2, self.eps)?).mul_scalar(1.0 / n as f64);
        let identity = Tensor::<2>::eye(d, &device).cast(dtype);
        let on = (c.clone() * identity.clone()).sum_dim(1).sub_scalar(1.0).powi_scalar(2).sum();
        let off = (c.clone() * (identity.neg().add_scalar(1.0))).powi_scalar(2).sum();
        let loss = on + off.mul_scalar(self.lambda_offdiag);
        check::loss(loss.clone().inner().into_scalar())?;
        Ok(BarlowTwinsOutput { loss, cross_correlation: c })
    }
}

/// Columns (of each head, where there are heads) less their mean, divided by √(biased variance + ε).
pub(super) fn standardize<const D: usize>(name: &str, z: Tensor<D>, eps: f64) -> Result<Tensor<D>> {
    check::values(name, &z, false)?;
    let rows = D - 2;
    if eps == 0.0 {
        let constant = z.clone().inner().max_dim(rows).equal(z.clone().inner().min_dim(rows));
        if let Some(at) = constant.into_data().iter::<bool>().position(|c| c) {
            let column = at % z.dims()[D - 1];
            return Err(Error::invalid(format!("{name}: column {column} is constant and eps is 0: its variance divides by 0")));
        }
    }
    let centred = z.clone() - z.mean_dim(rows);
    let deviation = centred.clone().powi_scalar(2).mean_dim(rows).add_scalar(eps).sqrt();
    Ok(centred / deviation)
}

/// Anchors and their positives are the two views; there are no negatives, so that nothing can be left out either.
impl RankingLoss for BarlowTwins {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let (n, m) = (anchors.dims()[0], candidates.dims()[0]);
        targets.check(n, m)?;
        targets.refuse_weights("Barlow Twins")?;
        let mut own = vec![false; m];
        targets.positive.iter().for_each(|&p| own[p as usize] = true);
        if let Some(candidate) = own.iter().position(|own| !own) {
            return Err(Error::invalid(format!("candidate {candidate} is no anchor's positive: Barlow Twins has no place for negatives")));
        }
        let positives = targets.positives_of(&candidates);
        Ok(BarlowTwins::forward(self, anchors, positives)?.loss)
    }

    fn takes_negatives(&self) -> bool {
        false
    }

    fn takes_exclusions(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        format!("BarlowTwins(lambda_offdiag {}, eps {})", self.lambda_offdiag, self.eps)
    }
}
