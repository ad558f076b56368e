//! AdamW.

use super::{constant, on_kernels};
use crate::{Error, Result};
use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use foils_kernels::layers;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// AdamW (Loshchilov & Hutter 2019) with PyTorch's formula and defaults. On the CPU one pass over each parameter, its gradient
/// and its moments, in place where nobody else holds the parameter; Burn's takes about twelve.
#[derive(Clone, Debug, Default)]
pub struct AdamW {
    /// β₁, β₂, ε and the decoupled weight decay; PyTorch's defaults 0.9, 0.999, 1e-8 and 0.01.
    pub settings: layers::AdamW,
    /// Decays only parameters of two axes and more: no biases, and no factors and offsets of norms.
    pub decay_matrices_only: bool,
    states: HashMap<ParamId, State>,
}

/// The moments of a parameter, and the steps that it has taken.
#[derive(Clone, Debug)]
struct State {
    steps: i32,
    moments: Moments,
}

/// What an [`AdamW`] knows of the parameters of a module, in the module's order; none of those that took no step.
pub type AdamWState = Vec<Option<ParameterState>>;

/// The steps of a parameter and its moments, on the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParameterState {
    steps: i32,
    moments: HostMoments,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum HostMoments {
    Single([Vec<f32>; 2]),
    Double([Vec<f64>; 2]),
}

#[derive(Clone, Debug)]
enum Moments {
    Single([Vec<f32>; 2]),
    Double([Vec<f64>; 2]),
    /// Flat, on the parameter's device.
    Device(Box<[Tensor<1>; 2]>),
}

impl AdamW {
    /// With these settings.
    pub fn new(settings: layers::AdamW) -> Self {
        Self { settings, decay_matrices_only: false, states: HashMap::new() }
    }

    /// `module` after one step with its gradients. A parameter without a gradient stays as it is, and its steps do not count.
    pub fn step<M: Module>(&mut self, learning_rate: f64, module: M, gradients: GradientsParams) -> M {
        module.map(&mut Step { optimizer: self, gradients, learning_rate })
    }
}

impl AdamW {
    /// What it knows of the parameters of `module`, to go on with in another process.
    pub fn state<M: Module>(&self, module: &M) -> AdamWState {
        struct Collect<'a>(&'a AdamW, AdamWState);
        impl ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.1.push(self.0.states.get(&param.id).map(State::on_host));
            }
        }
        let mut collect = Collect(self, Vec::new());
        module.visit(&mut collect);
        collect.1
    }

    /// Goes on from the [`AdamW::state`] of a module of the same form.
    ///
    /// # Errors
    /// When the numbers of parameters or their sizes differ.
    pub fn set_state<M: Module>(&mut self, module: &M, state: AdamWState) -> Result<()> {
        struct Place<'a>(&'a mut AdamW, std::vec::IntoIter<Option<ParameterState>>, Result<()>);
        impl ModuleVisitor for Place<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let tensor = param.val().inner();
                match self.1.next() {
                    Some(Some(state)) if state.len() == tensor.shape().num_elements() => {
                        self.0.states.insert(param.id, State::from_host(state, &tensor));
                    }
                    Some(None) => {}
                    _ => self.2 = Err(Error::invalid("the optimiser's state is that of a model of another form")),
                }
            }
        }
        self.states.clear();
        let mut place = Place(self, state.into_iter(), Ok(()));
        module.visit(&mut place);
        let Place(_, mut rest, placed) = place;
        placed?;
        if rest.next().is_some() { Err(Error::invalid("the optimiser's state is that of a model with more parameters")) } else { Ok(()) }
    }
}

impl ParameterState {
    fn len(&self) -> usize {
        match &self.moments {
            HostMoments::Single([first, second]) if first.len() == second.len() => first.len(),
            HostMoments::Double([first, second]) if first.len() == second.len() => first.len(),
            _ => usize::MAX,
        }
    }
}

struct Step<'a> {
    optimizer: &'a mut AdamW,
    gradients: GradientsParams,
    learning_rate: f64,
}

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let Some(gradient) = self.gradients.remove::<D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let (tracked, strategy) = (tensor.is_require_grad(), tensor.gradient_checkpointing_strategy());
        let state = self.optimizer.states.entry(id).or_insert_with(|| State::new(&gradient, on_kernels(&gradient)));
        let mut settings = self.optimizer.settings;
        if D < 2 && self.optimizer.decay_matrices_only {
            settings.weight_decay = 0.0;
        }
        let mut moved = Tensor::from_inner(state.step(&settings, self.learning_rate, tensor.inner(), gradient));
        if let Some(strategy) = strategy {
            moved = moved.with_gradient_checkpointing_strategy(strategy);
        }
        Param::from_mapped_value(id, if tracked { moved.require_grad() } else { moved }, mapper)
    }
}

impl State {
    fn on_host(&self) -> ParameterState {
        let moments = match &self.moments {
            Moments::Single(moments) => HostMoments::Single(moments.clone()),
            Moments::Double(moments) => HostMoments::Double(moments.clone()),
            Moments::Device(moments) if moments[0].dtype() == DType::F64 => {
                HostMoments::Double(moments.each_ref().map(|m| m.to_data().iter::<f64>().collect()))
            }
            Moments::Device(moments) => HostMoments::Single(moments.each_ref().map(|m| m.to_data().iter::<f32>().collect())),
        };
        ParameterState { steps: self.steps, moments }
    }

    /// For a parameter `like`.
    fn from_host<const D: usize>(state: ParameterState, like: &Tensor<D>) -> Self {
        let device = like.device();
        let moments = match state.moments {
            HostMoments::Single(moments) if on_kernels(like) => Moments::Single(moments),
            HostMoments::Double(moments) if on_kernels(like) => Moments::Double(moments),
            HostMoments::Single(moments) => {
                Moments::Device(Box::new(moments.map(|m| Tensor::from_data(m.as_slice(), (&device, like.dtype())))))
            }
            HostMoments::Double(moments) => {
                Moments::Device(Box::new(moments.map(|m| Tensor::from_data(m.as_slice(), (&device, like.dtype())))))
            }
        };
        Self { steps: state.steps, moments }
    }

    fn new<const D: usize>(gradient: &Tensor<D>, kernels: bool) -> Self {
        let n = gradient.dims().iter().product();
        let moments = match gradient.dtype() {
            DType::F32 if kernels => Moments::Single([vec![0.0; n], vec![0.0; n]]),
            DType::F64 if kernels => Moments::Double([vec![0.0; n], vec![0.0; n]]),
            _ => {
                let zeros = || gradient.zeros_like().reshape([n]);
                Moments::Device(Box::new([zeros(), zeros()]))
            }
        };
        Self { steps: 0, moments }
    }

    fn step<const D: usize>(&mut self, settings: &layers::AdamW, rate: f64, tensor: Tensor<D>, gradient: Tensor<D>) -> Tensor<D> {
        self.steps += 1;
        let t = self.steps;
        if let Moments::Device(moments) = &mut self.moments {
            let [first, second] = moments.as_mut();
            let gradient = gradient.reshape([-1]);
            *first = first.clone().mul_scalar(settings.beta_1) + gradient.clone().mul_scalar(1.0 - settings.beta_1);
            *second = second.clone().mul_scalar(settings.beta_2) + gradient.powi_scalar(2).mul_scalar(1.0 - settings.beta_2);
            let root = second.clone().div_scalar(1.0 - settings.beta_2.powi(t)).sqrt() + settings.epsilon;
            let update = first.clone().mul_scalar(rate / (1.0 - settings.beta_1.powi(t))) / root;
            let shape = tensor.dims();
            return tensor.mul_scalar(1.0 - rate * settings.weight_decay) - update.reshape(shape);
        }
        let gradient = constant(gradient);
        let mut numbers = constant(tensor);
        match &mut self.moments {
            Moments::Single([first, second]) => settings.step(t, rate, numbers.storage_mut(), gradient.storage(), first, second),
            Moments::Double([first, second]) => settings.step(t, rate, numbers.storage_mut(), gradient.storage(), first, second),
            Moments::Device(_) => unreachable!("returned above"),
        }
        Tensor::from_primitive::<Flex>(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::AdamWConfig;
    use burn::tensor::{Device, Distribution};

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    fn gradients(layer: &Linear, step: usize, device: &Device) -> GradientsParams {
        let x = Tensor::<2>::random([5, 7], Distribution::Uniform(-1.0, 1.0), device) * (step + 1) as f64;
        GradientsParams::from_grads(layer.forward(x).powi_scalar(2).mean().backward(), layer)
    }

    /// Ours, Burn's, and the operations for other devices, over the same gradients.
    #[test]
    fn the_paths_and_burn_agree() {
        let device = Device::flex().autodiff();
        device.seed(3);
        let start = LinearConfig::new(7, 6).init(&device);
        let settings = layers::AdamW { weight_decay: 0.1, ..layers::AdamW::default() };
        let (mut ours, mut fused) = (start.clone(), AdamW::new(settings));
        let (mut theirs, mut burns) = (start.clone(), AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.1).init());
        let (mut weight, mut state) = (start.weight.val().inner(), None);
        for step in 0..6 {
            let g = gradients(&start, step, &device);
            let own = g.get::<2>(start.weight.id).unwrap();
            weight = state.get_or_insert_with(|| State::new(&own, false)).step(&settings, 0.05, weight, own);
            let mut copy = GradientsParams::new();
            copy.register(start.weight.id, g.get::<2>(start.weight.id).unwrap());
            copy.register(start.bias.as_ref().unwrap().id, g.get::<1>(start.bias.as_ref().unwrap().id).unwrap());
            (ours, theirs) = (fused.step(0.05, ours, g), burns.step(0.05, theirs, copy));
        }
        let close = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 2e-6) && a.len() == b.len();
        assert!(close(values(ours.weight.val()), values(theirs.weight.val())));
        assert!(close(values(ours.weight.val()), values(weight)));
        assert!(close(values(ours.bias.as_ref().unwrap().val()), values(theirs.bias.unwrap().val())));
        assert!(!close(values(ours.weight.val()), values(start.weight.val())), "it moved");
        assert!(ours.weight.val().is_require_grad());
    }

    #[test]
    fn without_a_gradient_nothing_moves_and_no_step_counts() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(3, 2).init(&device);
        let mut optimizer = AdamW::default();
        let mut only_weight = GradientsParams::new();
        only_weight.register(layer.weight.id, Tensor::<2>::ones([3, 2], &Device::flex()));
        let before = values(layer.bias.as_ref().unwrap().val());
        let moved = optimizer.step(0.1, layer.clone(), only_weight);
        assert_eq!(values(moved.bias.as_ref().unwrap().val()), before);
        assert_eq!(optimizer.states.len(), 1);
        // The parameter was shared with `layer`, which keeps its values.
        assert_ne!(values(moved.weight.val()), values(layer.weight.val()));
    }
}
