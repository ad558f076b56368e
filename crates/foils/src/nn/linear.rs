//! The linear layer.

use super::kernels::LayerKernels;
use super::on_kernels;
use burn::backend::Dispatch;
use burn::tensor::Tensor;

/// `x W + b` over the last dimension: `x` is `[…, from]`, `weight` `[from, to]` (as Burn's `Linear` has it), `bias` `[to]`.
///
/// All dimensions before the last become one first: a product of a batch of matrices with one weight matrix is slower, and its
/// gradient makes a weight gradient for each matrix of the batch and adds them up.
///
/// # Panics
/// When the shapes do not fit.
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let kernels = on_kernels(&x);
    on(kernels, x, weight, bias)
}

pub(super) fn on<const D: usize>(kernels: bool, x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    let (mut shape, [from, to]) = (x.dims(), weight.dims());
    assert_eq!(shape[D - 1], from, "the last dimension of {shape:?} meets weights [{from}, {to}]");
    assert!(bias.as_ref().is_none_or(|b| b.dims() == [to]), "a bias of {to} values for weights [{from}, {to}]");
    let rows: usize = shape[..D - 1].iter().product();
    shape[D - 1] = to;
    let x = x.reshape([rows, from]);
    let y: Tensor<2> = match (kernels, bias) {
        (false, bias) => {
            let y = x.matmul(weight);
            bias.map_or(y.clone(), |b| y + b.unsqueeze())
        }
        (true, None) => Tensor::from_dispatch(Dispatch::linear(x.into_dispatch(), weight.into_dispatch())),
        (true, Some(b)) => Tensor::from_dispatch(Dispatch::linear_with_bias(x.into_dispatch(), weight.into_dispatch(), b.into_dispatch())),
    };
    y.reshape(shape)
}
