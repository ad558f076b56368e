//! GroCo over views, and over anchors and candidates.

use super::top_k::{nearest, pick, unit};
use super::{GroupOrdering, SortingNetwork};
use crate::losses::{RankingLoss, Targets};
use crate::{Error, Result, check};
use burn::tensor::Tensor;

/// GroCo (groco): each view's rows take a turn as anchors. Positives of row i are row i of the other full views, negatives the `topk_neg` most
/// similar other rows of the anchors' own view; the loss is [`GroupOrdering`]'s, the mean over views. Similarities are cosines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Groco {
    topk_neg: usize,
    stop_grad: bool,
    group: GroupOrdering,
}

impl Groco {
    /// With the paper's network, and no gradient through what anchors are compared with. 10 negatives are usual.
    ///
    /// # Errors
    /// When `topk_neg` is 0.
    pub fn new(topk_neg: usize) -> Result<Self> {
        if topk_neg == 0 {
            return Err(Error::invalid("topk_neg = 0: an anchor needs negatives"));
        }
        Ok(Self { topk_neg, stop_grad: true, group: GroupOrdering::default() })
    }

    /// Sets the network.
    #[must_use]
    pub fn network(mut self, network: SortingNetwork) -> Self {
        self.group = GroupOrdering::new(network);
        self
    }

    /// Whether what anchors are compared with has no gradient.
    #[must_use]
    pub fn stop_grad(mut self, stop_grad: bool) -> Self {
        self.stop_grad = stop_grad;
        self
    }

    /// The loss of `views` `[views, n, d]`. The first `n_pos_views` are full views; those after them (small crops) are only anchors.
    ///
    /// # Errors
    /// When there are fewer than 2 views, `n_pos_views` is not 2 to their number, n − 1 is below `topk_neg`, rows are empty, or a value is not finite.
    pub fn forward(&self, views: Tensor<3>, n_pos_views: usize) -> Result<Tensor<1>> {
        let [count, n, dim] = views.dims();
        if count < 2 || !(2..=count).contains(&n_pos_views) {
            return Err(Error::invalid(format!("{n_pos_views} full views of {count}: at least 2 are needed, and no more than there are")));
        }
        if n <= self.topk_neg {
            return Err(Error::invalid(format!("{n} rows have {} negatives, and topk_neg is {}", n.saturating_sub(1), self.topk_neg)));
        }
        check::rows("views", &views, 1)?;
        check::values("views", &views, false)?;
        let rows: Vec<Tensor<2>> = (0..count).map(|v| unit(views.clone().slice(v..v + 1).reshape([n, dim]))).collect();
        let others: Vec<Tensor<2>> = rows.iter().map(|r| if self.stop_grad { r.clone().detach() } else { r.clone() }).collect();
        let mut losses = Vec::with_capacity(count);
        for (v, anchors) in rows.iter().enumerate() {
            let positives = (0..n_pos_views).filter(|u| *u != v).map(|u| (anchors.clone() * others[u].clone()).sum_dim(1)).collect();
            let similarity = anchors.clone().matmul(others[v].clone().transpose());
            let chosen = nearest(&similarity, self.topk_neg, |i| (0..n).filter(|&j| j != i).collect())?;
            losses.push(self.group.forward(Tensor::cat(positives, 1), pick(similarity, &chosen))?);
        }
        Ok(Tensor::cat(losses, 0).mean())
    }
}

/// An anchor's positive against its nearest candidates. With `stop_grad` candidates learn nothing.
impl RankingLoss for Groco {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        check::rows("anchors", &anchors, 1)?;
        check::same_width(("anchors", &anchors), ("candidates", &candidates))?;
        let (n, m) = (anchors.dims()[0], candidates.dims()[0]);
        targets.check(n, m)?;
        targets.refuse_weights("GroCo")?;
        check::values("anchors", &anchors, false)?;
        check::values("candidates", &candidates, false)?;
        let others = if self.stop_grad { candidates.detach() } else { candidates };
        let similarity = unit(anchors).matmul(unit(others).transpose());
        let negatives = targets.negatives(m)?;
        // Groups are of one size.
        let fewest = negatives.iter().map(Vec::len).min().unwrap_or(0).min(self.topk_neg);
        let chosen = nearest(&similarity, fewest, |i| negatives[i].clone())?;
        let own: Vec<Vec<usize>> = targets.positive.iter().map(|&p| vec![p as usize]).collect();
        self.group.forward(pick(similarity.clone(), &own), pick(similarity, &chosen))
    }

    fn describe(&self) -> String {
        format!("GroCo({} negatives, {})", self.topk_neg, self.group.describe())
    }
}
