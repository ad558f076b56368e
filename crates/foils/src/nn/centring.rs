//! The end of heads that must not drift into a cone.

use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::Device;

/// A batch norm of rows of `width` numbers that has neither scale nor offset.
pub(crate) fn centring(width: usize, device: &Device) -> BatchNorm {
    let mut norm = BatchNormConfig::new(width).init(device);
    // Without a gradient the optimiser leaves them at 1 and 0.
    norm.gamma = norm.gamma.set_require_grad(false);
    norm.beta = norm.beta.set_require_grad(false);
    norm
}
