//! Cross-entropy of a classifier.

use super::kernels::LayerKernels;
use super::on_kernels;
use crate::{Error, Result};
use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};

/// The mean over rows of `−log softmax(row)[target]`, of logits `[rows, classes]` and a class for each row.
///
/// # Errors
/// When there are no rows, not as many targets as rows, or a target that is not below `classes`.
pub fn cross_entropy(logits: Tensor<2>, targets: &[u32]) -> Result<Tensor<1>> {
    let [rows, classes] = logits.dims();
    if rows == 0 || rows != targets.len() {
        return Err(Error::invalid(format!("cross-entropy of {rows} rows of logits with {} targets", targets.len())));
    }
    if let Some(target) = targets.iter().find(|&&t| t as usize >= classes) {
        return Err(Error::invalid(format!("target {target} is not one of {classes} classes")));
    }
    if !on_kernels(&logits) {
        return Ok(plain(logits, targets));
    }
    Ok(Tensor::from_dispatch(Dispatch::cross_entropy(logits.into_dispatch(), targets.to_vec())))
}

pub(super) fn plain(logits: Tensor<2>, targets: &[u32]) -> Tensor<1> {
    let targets: Vec<i64> = targets.iter().map(|&t| t.into()).collect();
    let data = TensorData::new(targets, [logits.dims()[0], 1]);
    let targets = Tensor::<2, Int>::from_data(data, &logits.device());
    log_softmax(logits, 1).gather(1, targets).mean().neg()
}
