//! Golden arrays as f64 tensors on the graph and back.

use super::{Array, Case, Outputs};
use burn::tensor::{DType, Device, Tensor, TensorData};
use foils::losses::{Compute, Options, ZeroRows};
use foils::{Error, Result};

/// An input as a leaf whose gradient is kept.
pub fn leaf<const D: usize>(case: &Case, name: &str) -> Result<Tensor<D>> {
    Ok(constant(case, name)?.autodiff().require_grad())
}

/// An input without gradient.
pub fn constant<const D: usize>(case: &Case, name: &str) -> Result<Tensor<D>> {
    let array = case.input(name)?;
    let dims: [usize; D] = array.dims()?;
    Ok(Tensor::from_data(TensorData::new(array.data.clone(), dims), (&Device::flex(), DType::F64)))
}

/// An array's values as one axis.
pub fn flat(array: &Array) -> Tensor<1> {
    Tensor::from_data(TensorData::new(array.data.clone(), [array.data.len()]), (&Device::flex(), DType::F64))
}

/// A tensor's shape and values.
pub fn array<const D: usize>(x: Tensor<D>) -> Array {
    Array::new(x.dims(), x.inner().into_data().iter::<f64>().collect::<Vec<_>>())
}

/// `loss` as a scalar, and the gradient `grad_NAME` of each of `inputs`.
pub fn loss_and_gradients<const D: usize>(loss: Tensor<1>, inputs: &[(&str, &Tensor<D>)]) -> Result<Outputs> {
    let value = Array::scalar(loss.clone().inner().into_scalar());
    let gradients = loss.backward();
    let mut outputs = Outputs::new().with("loss", value);
    for (name, input) in inputs {
        let gradient = input.grad(&gradients).ok_or_else(|| Error::invalid(format!("the loss does not depend on `{name}`")))?;
        outputs = outputs.with(&format!("grad_{name}"), array(gradient));
    }
    Ok(outputs)
}

/// Runs `f` by the kernels and by tensor operations, and returns what the kernels gave if both say the same to the case's
/// tolerance.
pub fn by_both_paths(case: &Case, f: impl Fn(Options) -> Result<Outputs>) -> Result<Outputs> {
    let by = |compute| f(Options { compute, zero_rows: ZeroRows::Allow });
    let (kernel, plain) = (by(Compute::Auto)?, by(Compute::TensorOps)?);
    for (name, ours) in kernel.iter() {
        let other = plain.get(name).ok_or_else(|| Error::invalid(format!("tensor operations do not return `{name}`")))?;
        let size = other.data.iter().fold(0.0, |l: f64, v| l.max(v.abs()));
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= case.atol + case.rtol * size;
        if ours.shape != other.shape || !ours.data.iter().zip(&other.data).all(near) {
            return Err(Error::invalid(format!("`{name}`: the kernel and tensor operations differ: {ours:?} and {other:?}")));
        }
    }
    Ok(kernel)
}
