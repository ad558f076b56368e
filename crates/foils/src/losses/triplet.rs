//! Triplet margin: the negative must be farther than the positive, by a margin.

use super::contrast::normalize_rows;
use super::{Options, RankingLoss, Targets, ZeroRows};
use crate::{Result, check};
use burn::tensor::{Bool, Tensor, TensorData, activation};
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
        self.of_squares((x - y).powi_scalar(2).sum_dim(1))
    }

    /// Each row of `x` against each of `y`, `[n, m]`.
    fn among(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        let products = x.clone().matmul(y.clone().transpose());
        if self.distance == Distance::Cosine {
            return products.neg().add_scalar(1.0);
        }
        let squares = |z: Tensor<2>| z.powi_scalar(2).sum_dim(1);
        self.of_squares((squares(x) + squares(y).transpose() - products.mul_scalar(2.0)).clamp_min(0.0))
    }

    fn of_squares(&self, squared: Tensor<2>) -> Tensor<2> {
        if self.distance == Distance::SquaredEuclidean {
            return squared;
        }
        // The root has no gradient at 0: those rows go around it.
        let zero = squared.clone().inner().equal_elem(0.0);
        squared.mask_fill(zero.clone(), 1.0).sqrt().mask_fill(zero, 0.0)
    }
}

/// The mean over all anchors and all candidates that are negatives for them: max(0, d(a_i, p_i) − d(a_i, c_j) + margin).
impl RankingLoss for TripletMargin {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        check::rows("anchors", &anchors, 1)?;
        check::same_width(("anchors", &anchors), ("candidates", &candidates))?;
        let (n, m) = (anchors.dims()[0], candidates.dims()[0]);
        targets.check(n, m)?;
        targets.refuse_weights("the triplet loss")?;
        let negatives = targets.negatives(m)?;
        let cosine = self.distance == Distance::Cosine;
        let refuse_zeros = cosine && self.options.zero_rows == ZeroRows::Refuse;
        check::values("anchors", &anchors, refuse_zeros)?;
        check::values("candidates", &candidates, refuse_zeros)?;
        let unit = |x| if cosine { normalize_rows(x) } else { x };
        let (a, c) = (unit(anchors), unit(candidates));
        let mut left_out = vec![true; n * m];
        negatives.iter().enumerate().for_each(|(i, row)| row.iter().for_each(|j| left_out[i * m + j] = false));
        let left_out = Tensor::<2, Bool>::from_data(TensorData::new(left_out, [n, m]), &a.device().without_autodiff());
        let triplets: usize = negatives.iter().map(Vec::len).sum();
        let violation = self.between(a.clone(), targets.positives_of(&c)) - self.among(a, c) + self.margin;
        let loss = activation::relu(violation).mask_fill(left_out, 0.0).sum().mul_scalar(1.0 / triplets as f64);
        check::loss(loss.clone().inner().into_scalar())?;
        Ok(loss)
    }

    fn describe(&self) -> String {
        let distance = match self.distance {
            Distance::Euclidean => "Euclidean",
            Distance::SquaredEuclidean => "squared Euclidean",
            Distance::Cosine => "cosine",
        };
        format!("TripletMargin(margin {}, {distance} distance)", self.margin)
    }
}
