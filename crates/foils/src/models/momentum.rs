//! A slowly moving copy of a model (MoCo's key encoder, mean teachers).

use crate::{Error, Result, check};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// momentum · target + (1 − momentum) · online, entry by entry, without a graph (baselines-contrastive, 3). 0.999 is usual.
///
/// # Errors
/// When `momentum` is not in [0, 1], the shapes or types differ, or a value is not finite.
pub fn momentum_update<const D: usize>(target: Tensor<D>, online: Tensor<D>, momentum: f64) -> Result<Tensor<D>> {
    check_momentum(momentum)?;
    check::same_shape(("target", &target), ("online", &online))?;
    check::values("target", &target, false)?;
    check::values("online", &online, false)?;
    Ok(target.inner().mul_scalar(momentum) + online.inner().mul_scalar(1.0 - momentum))
}

fn check_momentum(momentum: f64) -> Result<()> {
    if (0.0..=1.0).contains(&momentum) { Ok(()) } else { Err(Error::invalid(format!("momentum = {momentum}, must be from 0 to 1"))) }
}

/// A copy of a module that follows it slowly: MoCo's key encoder. It takes no part in any graph; batch norm in it uses the batch's
/// statistics, as in the module that it follows, and keeps running statistics of its own.
#[derive(Debug)]
pub struct MomentumCopy<M> {
    copy: M,
    momentum: f64,
}

impl<M: Module> MomentumCopy<M> {
    /// A copy of `online` as it is now, on its device.
    ///
    /// # Errors
    /// When `momentum` is not in [0, 1].
    pub fn new(online: &M, momentum: f64) -> Result<Self> {
        check_momentum(momentum)?;
        // Through `valid`, because a clone shares the running statistics of batch norm.
        Ok(Self { copy: online.valid().train().no_grad(), momentum })
    }

    /// The copy.
    pub fn get(&self) -> &M {
        &self.copy
    }

    /// Moves every trained parameter of the copy towards that of `online` by [`momentum_update`]. Running statistics are not moved.
    ///
    /// # Errors
    /// When `online` is a module of another form or holds a value that is not finite.
    pub fn follow(&mut self, online: &M) -> Result<()> {
        struct Trained(Vec<Option<Tensor<1>>>);
        impl ModuleVisitor for Trained {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let value = param.val();
                self.0.push(value.is_require_grad().then(|| value.inner().reshape([-1])));
            }
        }
        struct Move {
            online: std::vec::IntoIter<Option<Tensor<1>>>,
            momentum: f64,
            moved: Result<()>,
        }
        impl ModuleMapper for Move {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let Some(online) = self.online.next().flatten() else { return param };
                let (id, value, mapper) = param.consume();
                let flat = momentum_update(value.clone().inner().reshape([-1]), online, self.momentum);
                let value = match flat {
                    Ok(flat) => Tensor::from_inner(flat.reshape(value.dims())),
                    Err(error) => {
                        self.moved = Err(error);
                        value
                    }
                };
                Param::from_mapped_value(id, value, mapper)
            }
        }
        let mut trained = Trained(Vec::new());
        online.visit(&mut trained);
        let mut step = Move { online: trained.0.into_iter(), momentum: self.momentum, moved: Ok(()) };
        self.copy = self.copy.clone().map(&mut step);
        step.moved
    }
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
    #[test]
    fn a_copy_follows_what_is_trained_and_keeps_statistics_of_its_own() {
        use crate::models::image::{Body, ImageEncoder};
        use burn::optim::{AdamConfig, GradientsParams};
        use burn::tensor::Distribution;
        let device = Device::flex().autodiff();
        let mut online = ImageEncoder::new(Body::Conv, [1, 8, 8], 4, 1, &device).unwrap();
        let mut copy = MomentumCopy::new(&online, 0.75).unwrap();
        let start = values(&online);
        assert_eq!(values(copy.get()).into_iter().map(|v| v.1).collect::<Vec<_>>(), start.iter().map(|v| v.1.clone()).collect::<Vec<_>>());
        let x = Tensor::<4>::random([6, 1, 8, 8], Distribution::Normal(2.0, 1.0), &device);
        let loss = online.forward(x).projections.powi_scalar(2).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &online);
        online = AdamConfig::new().init().step(0.1, online, gradients);
        copy.follow(&online).unwrap();
        let now = values(&online);
        let statistics = values(&online.valid());
        for (((trained, a), (_, b)), ((_, statistics), (_, moved))) in start.iter().zip(&now).zip(statistics.iter().zip(values(copy.get())))
        {
            if *trained {
                assert!(a.iter().zip(b).zip(&moved).all(|((a, b), m)| (0.75 * a + 0.25 * b - m).abs() < 1e-6) && a != b);
            } else {
                // What the online encoder saw is in its running statistics and not in the copy's.
                assert!(a == &moved && a != statistics);
            }
        }
        assert_eq!(start.iter().filter(|(trained, _)| !trained).count(), 8, "mean and variance of four norms");
        let other = ImageEncoder::new(Body::Mlp(8), [1, 8, 8], 4, 1, &device).unwrap();
        assert!(copy.follow(&other).is_err());
    }

    /// Every tensor of a module, and whether it is trained.
    fn values(module: &impl Module) -> Vec<(bool, Vec<f32>)> {
        struct Values(Vec<(bool, Vec<f32>)>);
        impl ModuleVisitor for Values {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.push((param.val().is_require_grad(), param.val().into_data().iter().collect()));
            }
        }
        let mut values = Values(Vec::new());
        module.visit(&mut values);
        values.0
    }
}
