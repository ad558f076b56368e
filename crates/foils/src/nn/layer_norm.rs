//! Layer norm.

use super::kernels::LayerKernels;
use super::on_kernels;
use burn::backend::Dispatch;
use burn::tensor::Tensor;

/// `γ (x − mean) / √(variance + ε) + β` over the last dimension, with its own mean and biased variance (Ba et al. 2016). `x` is
/// `[…, width]`, γ and β are `[width]`.
///
/// # Panics
/// When the shapes do not fit.
pub fn layer_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<D> {
    check(&x, &gamma, &beta);
    if !on_kernels(&x) {
        return plain(x, gamma, beta, epsilon);
    }
    Tensor::from_dispatch(Dispatch::layer_norm(x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch(), epsilon))
}

/// [`layer_norm`] of `x + residual`, which are of one shape: the end of each half of a transformer block, in one pass.
///
/// # Panics
/// When the shapes do not fit.
pub fn add_layer_norm<const D: usize>(x: Tensor<D>, residual: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<D> {
    check(&x, &gamma, &beta);
    assert_eq!(x.dims(), residual.dims(), "what is added to each other");
    if !on_kernels(&x) {
        return plain(x + residual, gamma, beta, epsilon);
    }
    let (gamma, beta) = (gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(Dispatch::add_layer_norm(x.into_dispatch(), residual.into_dispatch(), gamma, beta, epsilon))
}

fn check<const D: usize>(x: &Tensor<D>, gamma: &Tensor<1>, beta: &Tensor<1>) {
    let (shape, gamma, beta) = (x.dims(), gamma.dims(), beta.dims());
    assert!(shape[D - 1] > 0 && gamma == [shape[D - 1]] && beta == gamma, "{shape:?} by γ {gamma:?} and β {beta:?}");
}

pub(super) fn plain<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = centred.clone().powi_scalar(2).mean_dim(D - 1);
    centred / (variance + epsilon).sqrt() * gamma.unsqueeze() + beta.unsqueeze()
}
