//! Layers, activations and the optimisers that networks are made of, and that Burn's own cost too much time for when a network is
//! *trained* on the CPU. No models here.
//!
//! On the CPU, in f32 and f64, each is one kernel forward and one backward ([`foils_kernels::layers`], [`foils_kernels::conv`]);
//! on other devices and in other types it is Burn's operations, with the same answer. Wrong shapes panic, as in Burn.

mod activation;
mod adamw;
mod attention;
mod centring;
mod conv_block;
mod cross_entropy;
mod encoder_kernel;
mod encoder_layer;
mod gradient_descent;
mod kernels;
mod layer_norm;
mod lengths;
mod linear;
mod pairs;
mod rule;
mod softmax;
mod sorting;
#[cfg(test)]
mod tests;

pub use activation::{gelu, relu};
pub use adamw::{AdamW, AdamWState, ParameterState};
pub use attention::{Heads, attention};
pub(crate) use centring::centring;
pub use conv_block::{ConvBlock, Planes};
pub use cross_entropy::cross_entropy;
pub use encoder_layer::{Affine, AffineParams, EncoderLayer, LayerSettings, LayerWeights, Norm, NormParams, encoder_layer};
pub use foils_kernels::matrix::Precision;
pub use gradient_descent::GradientDescent;
pub use layer_norm::{add_layer_norm, layer_norm};
pub use lengths::Lengths;
pub use linear::linear;
pub(crate) use pairs::pair_scores;
pub use softmax::softmax;
pub(crate) use sorting::sort;

use burn::backend::{DispatchDevice, Flex, tensor::FloatTensor};
use burn::tensor::{DType, Tensor};

/// Whether the kernels run on this tensor's device and type.
fn on_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device().without_autodiff();
    matches!(device.as_dispatch(), DispatchDevice::Flex(_)) && matches!(x.dtype(), DType::F32 | DType::F64)
}

/// A constant for the kernels: off the graph.
fn constant<const D: usize>(x: Tensor<D>) -> FloatTensor<Flex> {
    let x = if x.device().is_autodiff() { x.inner() } else { x };
    rule::contiguous(x.try_into_primitive::<Flex>().expect("a tensor on the device of the kernels"))
}
