//! NT-Xent over the nearest negatives: the baseline of learning by sorting; and how the nearest are chosen.

use crate::{Error, Result, check};
use burn::tensor::{Int, Tensor, TensorData};

/// NT-Xent over both views (groco, the baseline): each of the 2n rows has its positive and the `topk_neg` most similar of its 2n − 2 negatives in
/// the cross-entropy. Similarities are cosines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NtXentTopK {
    temperature: f64,
    topk_neg: usize,
    stop_grad: bool,
}

impl NtXentTopK {
    /// Without gradient through what anchors are compared with, as in the paper.
    ///
    /// # Errors
    /// When `temperature` is not a finite number above 0, or `topk_neg` is 0.
    pub fn new(temperature: f64, topk_neg: usize) -> Result<Self> {
        if topk_neg == 0 {
            return Err(Error::invalid("topk_neg = 0: an anchor needs negatives"));
        }
        Ok(Self { temperature: check::positive("temperature", temperature)?, topk_neg, stop_grad: true })
    }

    /// Whether what anchors are compared with has no gradient.
    #[must_use]
    pub fn stop_grad(mut self, stop_grad: bool) -> Self {
        self.stop_grad = stop_grad;
        self
    }

    /// The loss of two views `[n, d]`.
    ///
    /// # Errors
    /// When the shapes differ, 2n − 2 is below `topk_neg`, or a value is not finite.
    pub fn forward(&self, z1: Tensor<2>, z2: Tensor<2>) -> Result<Tensor<1>> {
        check::same_shape(("z1", &z1), ("z2", &z2))?;
        check::rows("z1", &z1, 2)?;
        let n = z1.dims()[0];
        if 2 * n - 2 < self.topk_neg {
            return Err(Error::invalid(format!("{n} rows in two views have {} negatives, and topk_neg is {}", 2 * n - 2, self.topk_neg)));
        }
        check::values("z1", &z1, false)?;
        check::values("z2", &z2, false)?;
        let anchors = unit(Tensor::cat(vec![z1, z2], 0));
        let others = if self.stop_grad { anchors.clone().detach() } else { anchors.clone() };
        let logits = anchors.matmul(others.transpose()).mul_scalar(1.0 / self.temperature);
        let partner = |i: usize| (i + n) % (2 * n);
        let mut chosen = nearest(&logits, self.topk_neg, |i| (0..2 * n).filter(|&j| j != i && j != partner(i)).collect())?;
        chosen.iter_mut().enumerate().for_each(|(i, list)| list.push(partner(i)));
        let logits = pick(logits, &chosen);
        let positive = logits.clone().slice([0..2 * n, self.topk_neg..self.topk_neg + 1]);
        let shift = logits.clone().inner().max_dim(1);
        let loss = ((logits - shift.clone()).exp().sum_dim(1).log() + shift - positive).mean();
        check::loss(loss.clone().inner().into_scalar())?;
        Ok(loss)
    }
}

/// Rows divided by their norms, of at least 1e-8.
pub(super) fn unit(x: Tensor<2>) -> Tensor<2> {
    let squared = x.clone().powi_scalar(2).sum_dim(1);
    // The root has no gradient at 0.
    let small = squared.clone().inner().lower_elem(1e-16);
    x / squared.mask_fill(small, 1e-16).sqrt()
}

/// By row the columns of the `k` largest values among the `candidates`, ascending by value; of equals the first columns.
pub(super) fn nearest(values: &Tensor<2>, k: usize, candidates: impl Fn(usize) -> Vec<usize>) -> Result<Vec<Vec<usize>>> {
    let [_, columns] = values.dims();
    let data: Vec<f64> = values.clone().inner().into_data().iter::<f64>().collect();
    let of_row = |(i, row): (usize, &[f64])| {
        let mut order = candidates(i);
        if order.len() < k {
            return Err(Error::invalid(format!("anchor {i} has {} negatives, and {k} are asked for", order.len())));
        }
        // + 0: both zeros tie.
        let larger_first = |a: &usize, b: &usize| (row[*b] + 0.0).total_cmp(&(row[*a] + 0.0)).then(a.cmp(b));
        if order.len() > k {
            order.select_nth_unstable_by(k - 1, larger_first);
            order.truncate(k);
        }
        order.sort_unstable_by(|a, b| larger_first(b, a));
        Ok(order)
    };
    data.chunks_exact(columns).enumerate().map(of_row).collect()
}

/// The chosen columns of each row, `[rows, k]`.
pub(super) fn pick(values: Tensor<2>, chosen: &[Vec<usize>]) -> Tensor<2> {
    let indices: Vec<i64> = chosen.iter().flatten().map(|&j| j as i64).collect();
    let shape = [chosen.len(), indices.len() / chosen.len()];
    let indices = Tensor::<2, Int>::from_data(TensorData::new(indices, shape), &values.device().without_autodiff());
    values.gather(1, indices)
}
