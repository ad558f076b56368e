//! Gradient descent, with momentum or with steps of one length.

use crate::{Result, check};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

/// Gradient descent over all parameters together: v ← (1 − γ) v + γ ∇ (the first v is ∇), θ ← θ − η v (meco, momentum), or
/// θ ← θ − η v/‖v‖₂ with one norm over everything (Liu et al. 2022, for losses whose gradients grow or vanish exponentially).
///
/// The numbers go through the host in f64: meant for small models.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientDescent {
    gamma: f64,
    normalized: bool,
    velocity: Vec<f64>,
}

impl GradientDescent {
    /// Plain for `gamma` = 1; below, each step is a running mean of gradients with this share of the newest.
    ///
    /// # Errors
    /// When `gamma` is not in (0, 1].
    pub fn new(gamma: f64) -> Result<Self> {
        Ok(Self { gamma: check::share("gamma", gamma)?, normalized: false, velocity: Vec::new() })
    }

    /// Whether every step is as long as the learning rate. A zero gradient moves nothing all the same.
    #[must_use]
    pub fn normalized(mut self, normalized: bool) -> Self {
        self.normalized = normalized;
        self
    }

    /// Moves `numbers` by one step along their gradient.
    ///
    /// # Panics
    /// When there are not as many gradients as numbers, in this step and in those before.
    pub fn step_numbers(&mut self, learning_rate: f64, numbers: &mut [f64], gradient: &[f64]) {
        assert_eq!(numbers.len(), gradient.len(), "a gradient for each number");
        if self.velocity.is_empty() {
            self.velocity = gradient.to_vec();
        } else {
            assert_eq!(self.velocity.len(), gradient.len(), "as many numbers as in the steps before");
            self.velocity.iter_mut().zip(gradient).for_each(|(v, g)| *v = (1.0 - self.gamma) * *v + self.gamma * g);
        }
        let norm = self.velocity.iter().fold(0.0, |norm: f64, v| norm.hypot(*v));
        let rate = if self.normalized && norm != 0.0 { learning_rate / norm } else { learning_rate };
        numbers.iter_mut().zip(&self.velocity).for_each(|(x, v)| *x -= rate * v);
    }

    /// `module` after one step with its gradients; a parameter without one counts as having a gradient of 0.
    pub fn step<M: Module>(&mut self, learning_rate: f64, module: M, gradients: GradientsParams) -> M {
        let mut flat = Flat { gradients, numbers: Vec::new(), gradient: Vec::new() };
        module.visit(&mut flat);
        self.step_numbers(learning_rate, &mut flat.numbers, &flat.gradient);
        module.map(&mut Place(flat.numbers.into_iter()))
    }
}

/// All numbers of a module and their gradients, in the module's order.
struct Flat {
    gradients: GradientsParams,
    numbers: Vec<f64>,
    gradient: Vec<f64>,
}

impl ModuleVisitor for Flat {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.numbers.extend(param.val().inner().into_data().iter::<f64>());
        match self.gradients.remove::<D>(param.id) {
            Some(gradient) => self.gradient.extend(gradient.into_data().iter::<f64>()),
            None => self.gradient.resize(self.numbers.len(), 0.0),
        }
    }
}

struct Place(std::vec::IntoIter<f64>);

impl ModuleMapper for Place {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let numbers: Vec<f64> = self.0.by_ref().take(tensor.shape().num_elements()).collect();
        let moved = Tensor::from_data(TensorData::new(numbers, tensor.shape()), (&tensor.device(), tensor.dtype()));
        Param::from_mapped_value(id, if tensor.is_require_grad() { moved.require_grad() } else { moved }, mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::{DType, Device};

    #[test]
    fn momentum_and_normalised_steps_are_as_defined() {
        let gradients = [[3.0, 4.0], [1.0, 0.0]];
        let run = |mut descent: GradientDescent| {
            let mut x = [1.0, 1.0];
            gradients.iter().for_each(|g| descent.step_numbers(0.5, &mut x, g));
            x
        };
        // Steps of 0.5 · (3, 4), then 0.5 · (0.75 · (3, 4) + 0.25 · (1, 0)).
        assert_eq!(run(GradientDescent::new(0.25).unwrap()), [1.0 - 1.5 - 1.25, 1.0 - 2.0 - 1.5]);
        // Steps of 0.5 along (0.6, 0.8), then along (1, 0).
        let normalized = run(GradientDescent::new(1.0).unwrap().normalized(true));
        assert!((normalized[0] - 0.2).abs() < 1e-15 && (normalized[1] - 0.6).abs() < 1e-15, "{normalized:?}");

        let mut still = [2.0];
        GradientDescent::new(1.0).unwrap().normalized(true).step_numbers(0.5, &mut still, &[0.0]);
        assert_eq!(still, [2.0]);
        GradientDescent::new(1.0).unwrap().normalized(true).step_numbers(0.5, &mut still, &[f64::NAN]);
        assert!(still[0].is_nan());
        for bad in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(GradientDescent::new(bad).unwrap_err().to_string().contains(&format!("gamma = {bad}")));
        }
    }

    #[test]
    fn a_module_moves_as_its_numbers_do() {
        let device = Device::flex().autodiff();
        device.seed(4);
        let layer = LinearConfig::new(3, 2).init(&device);
        let flat = |layer: &burn::nn::Linear| -> Vec<f64> {
            let values = |x: TensorData| x.iter::<f64>().collect::<Vec<_>>();
            [values(layer.weight.val().into_data()), values(layer.bias.as_ref().unwrap().val().into_data())].concat()
        };
        let mut numbers = flat(&layer);
        let (mut ours, mut by_numbers) =
            (GradientDescent::new(0.5).unwrap().normalized(true), GradientDescent::new(0.5).unwrap().normalized(true));
        let mut moved = layer.clone();
        for step in 1..4 {
            // The bias has no gradient in the second step.
            let g: Vec<f64> = (0..8).map(|i| if step == 2 && i >= 6 { 0.0 } else { f64::from(step * i) - 3.0 }).collect();
            let mut gradients = GradientsParams::new();
            let tensor = |values: &[f64]| TensorData::new(values.to_vec(), [values.len()]);
            gradients.register(layer.weight.id, Tensor::<1>::from_data(tensor(&g[..6]), &Device::flex()).reshape([3, 2]));
            if step != 2 {
                gradients.register(layer.bias.as_ref().unwrap().id, Tensor::<1>::from_data(tensor(&g[6..]), &Device::flex()));
            }
            moved = ours.step(0.1, moved, gradients);
            by_numbers.step_numbers(0.1, &mut numbers, &g);
        }
        assert!(flat(&moved).iter().zip(&numbers).all(|(a, b)| (a - b).abs() < 1e-6));
        assert!(moved.weight.val().is_require_grad());
        assert_eq!(moved.weight.val().dtype(), DType::F32);
    }
}
