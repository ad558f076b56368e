//! Two views of each sample laid under each other, for the losses that compare within and across views.

use super::contrast::Ragged;
use crate::{Result, check};
use burn::tensor::Tensor;

/// `[2n, d]` rows: first view, second view.
pub(super) struct TwoViews {
    pub rows: Tensor<2>,
    pub n: usize,
}

impl TwoViews {
    pub fn new(z1: Tensor<2>, z2: Tensor<2>) -> Result<Self> {
        check::same_shape(("z1", &z1), ("z2", &z2))?;
        check::rows("z1", &z1, 2)?;
        let n = z1.dims()[0];
        Ok(Self { rows: Tensor::cat(vec![z1, z2], 0), n })
    }

    /// For the first `anchors` rows (n: the first view; 2n: both) the row of the other view.
    pub fn partners(&self, anchors: usize) -> Ragged {
        let n = self.n as u32;
        Ragged::new((0..anchors as u32).map(|i| [if i < n { i + n } else { i - n }]))
    }

    /// For the first `anchors` rows themselves.
    pub fn selves(&self, anchors: usize) -> Ragged {
        Ragged::new((0..anchors as u32).map(|i| [i]))
    }
}
