//! A slowly moving copy of a model (MoCo's key encoder, mean teachers).

use crate::Error;
use crate::{Result, check};
use burn::tensor::Tensor;

/// momentum · target + (1 − momentum) · online, entry by entry, without a graph (baselines-contrastive, 3). 0.999 is usual.
///
/// # Errors
/// When `momentum` is not in [0, 1], the shapes or types differ, or a value is not finite.
pub fn momentum_update<const D: usize>(target: Tensor<D>, online: Tensor<D>, momentum: f64) -> Result<Tensor<D>> {
    if !(0.0..=1.0).contains(&momentum) {
        return Err(Error::invalid(format!("momentum = {momentum}, must be from 0 to 1")));
    }
    check::same_shape(("target", &target), ("online", &online))?;
    check::values("target", &target, false)?;
    check::values("online", &online, false)?;
    Ok(target.inner().mul_scalar(momentum) + online.inner().mul_scalar(1.0 - momentum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn both_ends_and_between() {
        let device = Device::flex();
        let (target, online) = (Tensor::<1>::from_floats([1.0, -2.0], &device), Tensor::<1>::from_floats([3.0, 6.0], &device));
        let at = |m| momentum_update(target.clone(), online.clone(), m).map(|x| x.into_data().iter::<f32>().collect::<Vec<_>>());
        assert_eq!(at(1.0).unwrap(), [1.0, -2.0]);
        assert_eq!(at(0.0).unwrap(), [3.0, 6.0]);
        assert_eq!(at(0.75).unwrap(), [1.5, 0.0]);
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(at(bad).unwrap_err().to_string().contains("momentum"));
        }
        assert!(momentum_update(target.clone(), target.clone().narrow(0, 0, 1), 0.5).is_err());
        assert!(momentum_update(target, Tensor::from_floats([f32::NAN, 1.0], &device), 0.5).unwrap_err().to_string().contains("online"));
    }
}
