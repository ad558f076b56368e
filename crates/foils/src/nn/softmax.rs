//! Softmax.

use super::kernels::LayerKernels;
use super::{constant, on_kernels};
use burn::backend::Dispatch;
use burn::tensor::Tensor;

/// `softmax(scale · x + mask)` over the last dimension of `x`, `[…, width]`. `mask` is `[groups, width]` of constants: the rows
/// fall into so many equal groups of consecutive rows, and each group's mask is added to its rows. A row of nothing but −∞ becomes
/// zeros, and has no gradient.
///
/// # Panics
/// When the shapes do not fit.
pub fn softmax<const D: usize>(x: Tensor<D>, scale: f64, mask: Option<Tensor<2>>) -> Tensor<D> {
    let (shape, groups) = (x.dims(), mask.as_ref().map_or(1, |m| m.dims()[0]));
    let rows: usize = shape[..D - 1].iter().product();
    assert!(
        shape[D - 1] > 0 && mask.as_ref().is_none_or(|m| m.dims()[1] == shape[D - 1] && groups > 0 && rows.is_multiple_of(groups)),
        "{shape:?} and a mask of {:?}",
        mask.map(|m| m.dims())
    );
    if !on_kernels(&x) {
        return plain(x, scale, mask);
    }
    Tensor::from_dispatch(Dispatch::softmax(x.into_dispatch(), scale, mask.map(constant)))
}

pub(super) fn plain<const D: usize>(x: Tensor<D>, scale: f64, mask: Option<Tensor<2>>) -> Tensor<D> {
    let shape = x.dims();
    let width = shape[D - 1];
    let groups = mask.as_ref().map_or(1, |m| m.dims()[0]);
    let mut scores = x.mul_scalar(scale).reshape([groups, shape[..D - 1].iter().product::<usize>() / groups, width]);
    if let Some(mask) = mask {
        scores = scores + mask.detach().reshape([groups, 1, width]);
    }
    let largest = scores.clone().detach().max_dim(2);
    let hidden = largest.clone().equal_scalar(f64::NEG_INFINITY);
    let powers = (scores - largest.mask_fill(hidden, 0.0)).exp();
    let total = powers.clone().sum_dim(2);
    let nothing = total.clone().equal_scalar(0.0);
    (powers / total.mask_fill(nothing, 1.0)).reshape(shape)
}
