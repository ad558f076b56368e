//! Triplet margin: the negative must be farther than the positive, by a margin.

use super::contrast::normalize_rows;
use super::{Options, ZeroRows};
use crate::{Result, check};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// How far two rows are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// ‖x − y‖₂; its gradient at 0 is 0.
    #[default]
    Euclidean,
    /// ‖x − y‖₂².
    SquaredEuclidean,
    /// 1 − cos(x, y).
    Cosine,
}

/// Triplet margin loss (baselines-contrastive, 4): mean_i max(0, d(a_i, p_i) − d(a_i, n_i) + margin), with gradient 0 at the corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TripletMargin {
    margin: f64,
    distance: Distance,
    options: Options,
}

impl TripletMargin {
    /// With Euclidean distance.
    ///
    /// # Errors
    /// When `margin` is negative or not finite.
    pub fn new(margin: f64) -> Result<Self> {
        Ok(Self { margin: check::not_negative("margin", margin)?, distance: Distance::Euclidean, options: Options::default() })
    }

    /// Sets the distance.
    #[must_use]
    pub fn distance(mut self, distance: Distance) -> Self {
        self.distance = distance;
        self
    }

    /// Sets what is done with zero rows (cosine).
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The loss of rows `[n, d]` that belong together.
    ///
    /// # Errors
    /// When n is 0, shapes differ, a value is not finite, or a row is zero under cosine.
    pub fn forward(&self, anchor: Tensor<2>, positive: Tensor<2>, negative: Tensor<2>) -> Result<Tensor<1>> {
        check::rows("anchor", &anchor, 1)?;
        let cosine = self.distance == Distance::Cosine;
        for (name, x) in [("anchor", &anchor), ("positive", &positive), ("negative", &negative)] {
            check::same_shape(("anchor", &anchor), (name, x))?;
            check::values(name, x, cosine && self.options.zero_rows == ZeroRows::Refuse)?;
        }
        let unit = |x| if cosine { normalize_rows(x) } else { x };
        let (a, p, n) = (unit(anchor), unit(positive), unit(negative));
        let violation = self.between(a.clone(), p) - self.between(a, n) + self.margin;
        let loss = activation::relu(violation).mean();
        check::loss(loss.clone().inner().into_scalar())?;
        Ok(loss)
    }

    fn between(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        if self.distance == Distance::Cosine {
            return (x * y).sum_dim(1).neg().add_scalar(1.0);
        }
        let squared = (x - y).powi_scalar(2).sum_dim(1);
        if self.distance == Distance::SquaredEuclidean {
            return squared;
        }
        // The root has no gradient at 0: those rows go around it.
        let zero = squared.clone().inner().equal_elem(0.0);
        squared.mask_fill(zero.clone(), 1.0).sqrt().mask_fill(zero, 0.0)
    }
}
