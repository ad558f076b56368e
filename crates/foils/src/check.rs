//! What losses and their kin ask of tensors and hyper-parameters, and say when it is not so.

use crate::{Error, Result};
use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};

/// A hyper-parameter that must be above 0.
pub(crate) fn positive(name: &str, value: f64) -> Result<f64> {
    // The reciprocal too: a temperature of 1e-320 is no temperature.
    if value > 0.0 && value.is_finite() && value.recip().is_finite() {
        Ok(value)
    } else {
        Err(Error::invalid(format!("{name} = {value}, must be a finite number above 0")))
    }
}

/// A hyper-parameter that must not be below 0.
pub(crate) fn not_negative(name: &str, value: f64) -> Result<f64> {
    if value >= 0.0 && value.is_finite() {
        Ok(value)
    } else {
        Err(Error::invalid(format!("{name} = {value}, must be a finite number of at least 0")))
    }
}

/// A hyper-parameter that is the share of the newest in a running mean: above 0 and at most 1.
pub(crate) fn share(name: &str, value: f64) -> Result<f64> {
    if value > 0.0 && value <= 1.0 { Ok(value) } else { Err(Error::invalid(format!("{name} = {value}, must be above 0 and at most 1"))) }
}

/// Two inputs whose rows correspond.
pub(crate) fn same_shape<const D: usize>(a: (&str, &Tensor<D>), b: (&str, &Tensor<D>)) -> Result<()> {
    if a.1.dims() != b.1.dims() {
        return Err(Error::invalid(format!("{} has shape {:?}, {} has {:?}", a.0, a.1.dims(), b.0, b.1.dims())));
    }
    same_kind(a, b)
}

/// Two inputs that are multiplied with each other: as wide, of one type, on one device.
pub(crate) fn same_width(a: (&str, &Tensor<2>), b: (&str, &Tensor<2>)) -> Result<()> {
    if a.1.dims()[1] != b.1.dims()[1] {
        return Err(Error::invalid(format!("{} has shape {:?}, {} has {:?}: the widths differ", a.0, a.1.dims(), b.0, b.1.dims())));
    }
    same_kind(a, b)
}

/// Two inputs of one type, on one device.
pub(crate) fn same_kind<const D: usize>(a: (&str, &Tensor<D>), b: (&str, &Tensor<D>)) -> Result<()> {
    if a.1.dtype() != b.1.dtype() {
        return Err(Error::invalid(format!("{} is {:?}, {} is {:?}", a.0, a.1.dtype(), b.0, b.1.dtype())));
    }
    if a.1.device() != b.1.device() {
        return Err(Error::invalid(format!("{} is on {:?}, {} on {:?}", a.0, a.1.device(), b.0, b.1.device())));
    }
    Ok(())
}

/// At least `fewest` rows, and rows that are not empty.
pub(crate) fn rows<const D: usize>(name: &str, x: &Tensor<D>, fewest: usize) -> Result<()> {
    let dims = x.dims();
    if dims[0] < fewest {
        let why = if fewest == 2 { ": one row alone has no negatives" } else { "" };
        return Err(Error::invalid(format!("{name} has {} rows, needs at least {fewest}{why}", dims[0])));
    }
    if dims[1..].contains(&0) {
        return Err(Error::invalid(format!("{name} has shape {dims:?}: its rows are empty")));
    }
    Ok(())
}

/// No NaN and no infinity; if `nonzero`, no row of norm ≤ 1e-12 either. `x` is read as rows of its last axis.
pub(crate) fn values<const D: usize>(name: &str, x: &Tensor<D>, nonzero: bool) -> Result<()> {
    // On other devices than the CPU, one number is fetched; the values only when something is wrong.
    if !on_flex(&x.device()) {
        let x = x.clone().inner();
        let mut good = x.clone().is_finite().all();
        if nonzero {
            good = good.bool_and(x.powi_scalar(2).sum_dim(D - 1).greater_elem(0.0).all());
        }
        if good.into_scalar::<bool>() {
            return Ok(());
        }
    }
    let data = x.clone().inner().into_data();
    let width = x.dims()[D - 1];
    if let Ok(values) = data.as_slice::<f32>() {
        return slice(name, values, width, nonzero);
    }
    slice(name, &data.iter::<f64>().collect::<Vec<_>>(), width, nonzero)
}

/// [`values`] of numbers in memory.
pub(crate) fn slice<T: foils_kernels::Real>(name: &str, values: &[T], width: usize, nonzero: bool) -> Result<()> {
    // Row by row without an early end, so that the compiler can vectorise the test.
    for (r, row) in values.chunks(width.max(1)).enumerate() {
        if !row.iter().fold(true, |good, v| good & v.to_f64().is_finite()) {
            let column = row.iter().position(|v| !v.to_f64().is_finite()).unwrap_or(0);
            return Err(Error::invalid(format!("{name}: row {r}, column {column} is {:?}", row[column])));
        }
        if nonzero && row.iter().fold(0.0, |l: f64, v| l.max(v.to_f64().abs())) <= 1e-12 / (width as f64).sqrt() {
            return Err(Error::invalid(format!("{name}: row {r} is a zero vector, which has no direction and no cosine")));
        }
    }
    Ok(())
}

/// The loss itself, which overflows when logits are huge.
pub(crate) fn loss(value: f64) -> Result<()> {
    if value.is_finite() {
        Ok(())
    } else {
        Err(Error::invalid(format!("the loss is {value}: the logits are too large; normalise the rows or raise the temperature")))
    }
}

/// Whether tensors of this device lie in this process's memory and the kernels can read them.
pub(crate) fn on_flex(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
}

/// Whether there is a kernel for this device and type.
pub(crate) fn fusable(x: &Tensor<2>) -> bool {
    on_flex(&x.device()) && matches!(x.dtype(), DType::F32 | DType::F64)
}
