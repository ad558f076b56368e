//! Functions of each number by itself.

use super::kernels::LayerKernels;
use super::on_kernels;
use burn::backend::Dispatch;
use burn::tensor::{Tensor, activation};

/// GELU (Hendrycks & Gimpel 2016) in its exact form, `x Φ(x)`: PyTorch's default.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if on_kernels(&x) { Tensor::from_dispatch(Dispatch::gelu(x.into_dispatch())) } else { activation::gelu(x) }
}

/// `max(x, 0)`.
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if on_kernels(&x) { Tensor::from_dispatch(Dispatch::relu(x.into_dispatch())) } else { activation::relu(x) }
}
