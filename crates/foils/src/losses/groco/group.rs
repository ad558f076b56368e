//! Positives above negatives, for groups of scores.

use super::SortingNetwork;
use crate::{Error, Result, check};
use burn::tensor::{Tensor, TensorData};

/// The group ordering loss (groco): scores of K negatives and P positives of an anchor, each group in its own order, go through the
/// network. With p⁺_i the share of score i that ends at the upper P ranks, p⁻_i at the lower K, and t = 1 for positives,
/// L = ½ [ BCE(p⁺, t) + BCE(p⁻, 1 − t) ], the mean over anchors and scores, logarithms of at least −100. It does not reach 0 where scores
/// are as near to each other as cosines are to the network's steepness: look at [`GroupOrdering::floor`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupOrdering {
    network: SortingNetwork,
}

impl GroupOrdering {
    /// By this network.
    pub fn new(network: SortingNetwork) -> Self {
        Self { network }
    }

    /// The loss of `positives` `[anchors, p]` and `negatives` `[anchors, k]`, on any device; the network itself runs on the host.
    ///
    /// # Errors
    /// When there are no anchors, positives or negatives, shapes differ, or a score is not finite.
    pub fn forward(&self, positives: Tensor<2>, negatives: Tensor<2>) -> Result<Tensor<1>> {
        check::same_kind(("positives", &positives), ("negatives", &negatives))?;
        let ([rows, p], [others, k]) = (positives.dims(), negatives.dims());
        if rows == 0 || rows != others || p == 0 || k == 0 {
            return Err(Error::invalid(format!(
                "positives [{rows}, {p}] and negatives [{others}, {k}]: each anchor needs at least one of both"
            )));
        }
        check::values("positives", &positives, false)?;
        check::values("negatives", &negatives, false)?;
        let read = |x: &Tensor<2>| x.clone().inner().into_data().iter::<f64>().collect::<Vec<f64>>();
        let (high, low) = (read(&positives), read(&negatives));
        // Where each score of a row stands among the positives or negatives.
        let (mut sorted, mut from) = (Vec::with_capacity(rows * (p + k)), Vec::with_capacity(rows * (p + k)));
        for row in 0..rows {
            for (values, width) in [(&low, k), (&high, p)] {
                let mut order: Vec<usize> = (row * width..(row + 1) * width).collect();
                // + 0: both zeros tie.
                order.sort_by(|&a, &b| (values[a] + 0.0).total_cmp(&(values[b] + 0.0)));
                sorted.extend(order.iter().map(|&at| values[at]));
                from.extend(order);
            }
        }
        let (value, of_sorted) = self.loss(&sorted, p, k)?;
        let (mut of_high, mut of_low) = (vec![0.0; high.len()], vec![0.0; low.len()]);
        for (at, (&from, gradient)) in from.iter().zip(of_sorted).enumerate() {
            let gradients = if at % (p + k) < k { &mut of_low } else { &mut of_high };
            gradients[from] = gradient;
        }
        let device = positives.device().without_autodiff();
        let mut loss = Tensor::<1>::from_data(TensorData::new(vec![value], [1]), (&device, positives.dtype()));
        for (scores, gradient) in [(positives, of_high), (negatives, of_low)] {
            let gradient = Tensor::<2>::from_data(TensorData::new(gradient, scores.dims()), (&device, scores.dtype()));
            // A zero whose gradient is the one that is known.
            loss = loss + ((scores.clone() - scores.detach()) * gradient).sum();
        }
        Ok(loss)
    }

    /// The loss of one anchor whose `positives` positives all score 1 and whose `negatives` negatives all score −1: with cosines it cannot
    /// be less.
    ///
    /// # Errors
    /// When one of the two numbers is 0.
    pub fn floor(&self, positives: usize, negatives: usize) -> Result<f64> {
        let scores: Vec<f64> = [vec![-1.0; negatives], vec![1.0; positives]].concat();
        if positives == 0 || negatives == 0 {
            return Err(Error::invalid(format!("{positives} positives and {negatives} negatives: at least one of both is needed")));
        }
        Ok(self.loss(&scores, positives, negatives)?.0)
    }

    /// The value, and the gradient of rows of k ascending negatives and p ascending positives.
    fn loss(&self, sorted: &[f64], p: usize, k: usize) -> Result<(f64, Vec<f64>)> {
        let sorter = self.network.of_width(p + k)?;
        let entries = sorted.len() as f64;
        let judge = |_: usize, above: &[f64], below: &[f64], gradient: &mut [f64]| {
            let mut value = 0.0;
            for (at, ((&above, &below), gradient)) in above.iter().zip(below).zip(gradient).enumerate() {
                let target = if at < k { 0.0 } else { 1.0 };
                let (upper, by_above) = binary_cross_entropy(above, target);
                let (lower, by_below) = binary_cross_entropy(below, 1.0 - target);
                value += 0.5 * (upper + lower) / entries;
                *gradient = 0.5 * (by_above - by_below) / entries;
            }
            value
        };
        Ok(sorter.judge_above(sorted, k, judge))
    }

    pub(super) fn describe(&self) -> String {
        self.network.describe()
    }
}

/// Of a share that rounding may have put outside 0 to 1, and its derivative.
fn binary_cross_entropy(share: f64, target: f64) -> (f64, f64) {
    let p = share.clamp(0.0, 1.0);
    let value = -(target * p.ln().max(-100.0) + (1.0 - target) * (-p).ln_1p().max(-100.0));
    let slope = if share == p { (p - target) / (p * (1.0 - p)).max(1e-12) } else { 0.0 };
    (value, slope)
}
