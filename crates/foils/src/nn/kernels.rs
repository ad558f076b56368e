//! The kernels of [`foils_kernels::layers`] as operations of Burn: forward, and the rules of their gradients.

use super::rule::{Host, Rule, contiguous, host, shape, track, typed};
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use foils_kernels::layers::{self, Attention};

/// An additive mask of constants.
pub(super) type Mask = Option<Host>;

/// All tensors are contiguous after [`contiguous`]; shapes are checked by the callers.
#[backend_extension(Autodiff, Flex)]
pub(crate) trait LayerKernels: Backend {
    /// `[rows, from]` by `[from, to]`.
    fn linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    /// The same, plus `[to]`.
    fn linear_with_bias(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Over the last dimension.
    fn layer_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, beta: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self>;
    /// Layer norm of a sum.
    fn add_layer_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
    /// Of the scaled last dimension, plus a mask `[groups, width]`.
    fn softmax(x: FloatTensor<Self>, scale: f64, mask: Mask) -> FloatTensor<Self>;
    /// x Φ(x).
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// max(x, 0).
    fn relu(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// `[batch · tokens, heads · width]` each, and a mask `[batch, tokens]`.
    fn attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        shape: Attention,
        mask: Mask,
    ) -> FloatTensor<Self>;
    /// Of logits `[rows, classes]`: `[1]`.
    fn cross_entropy(logits: FloatTensor<Self>, targets: Vec<u32>) -> FloatTensor<Self>;
}

impl LayerKernels for Flex {
    fn linear(x: Host, weight: Host) -> Host {
        linear(x, weight, None)
    }

    fn linear_with_bias(x: Host, weight: Host, bias: Host) -> Host {
        linear(x, weight, Some(bias))
    }

    fn layer_norm(x: Host, gamma: Host, beta: Host, epsilon: f64) -> Host {
        let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
        typed!(x, T => host(layers::layer_norm::<T>(x.storage(), gamma.storage(), beta.storage(), epsilon), shape(&x)))
    }

    fn add_layer_norm(x: Host, residual: Host, gamma: Host, beta: Host, epsilon: f64) -> Host {
        Self::layer_norm(sum(x, residual), gamma, beta, epsilon)
    }

    fn softmax(x: Host, scale: f64, mask: Mask) -> Host {
        let mut x = contiguous(x);
        let width = width(&x);
        typed!(x, T => layers::softmax::<T>(x.storage_mut(), width, scale, mask.as_ref().map(|m| m.storage())));
        x
    }

    fn gelu(x: Host) -> Host {
        let x = contiguous(x);
        typed!(x, T => host(layers::gelu::<T>(x.storage()), shape(&x)))
    }

    fn relu(x: Host) -> Host {
        let mut x = contiguous(x);
        typed!(x, T => layers::relu::<T>(x.storage_mut()));
        x
    }

    fn attention(queries: Host, keys: Host, values: Host, attention: Attention, mask: Mask) -> Host {
        let (q, k, v) = (contiguous(queries), contiguous(keys), contiguous(values));
        typed!(q, T => {
            let out = attention.forward::<T>(q.storage(), k.storage(), v.storage(), mask.as_ref().map(|m| m.storage()));
            host(out, shape(&q))
        })
    }

    fn cross_entropy(logits: Host, targets: Vec<u32>) -> Host {
        cross_entropy(logits, &targets).0
    }
}

fn linear(x: Host, weight: Host, bias: Option<Host>) -> Host {
    let (x, weight, bias) = (contiguous(x), contiguous(weight), bias.map(contiguous));
    let (rows, [from, to]) = (shape(&x)[0], [shape(&weight)[0], shape(&weight)[1]]);
    typed!(x, T => host(layers::linear::<T>(x.storage(), weight.storage(), bias.as_ref().map(|b| b.storage()), from), [rows, to]))
}

/// x + residual, in place of x when nobody else holds it.
fn sum(x: Host, residual: Host) -> Host {
    let (mut x, residual) = (contiguous(x), contiguous(residual));
    typed!(x, T => layers::add::<T>(x.storage_mut(), residual.storage()));
    x
}

/// The loss, `[1]`, and its gradient.
fn cross_entropy(logits: Host, targets: &[u32]) -> (Host, Host) {
    let mut logits = contiguous(logits);
    let classes = width(&logits);
    let loss = typed!(logits, T => host(vec![layers::cross_entropy::<T>(logits.storage_mut(), classes, targets) as T], [1]));
    (loss, logits)
}

/// The last dimension.
fn width(x: &Host) -> usize {
    x.layout().shape().to_vec().last().copied().unwrap_or(1)
}

#[derive(Clone, Debug)]
struct Linear {
    x: Host,
    weight: Host,
}

impl Linear {
    fn gradients(self, above: &Host, want_x: bool) -> [Option<Host>; 3] {
        let (x, weight) = (contiguous(self.x), contiguous(self.weight));
        let from = width(&x);
        typed!(x, T => {
            let grads = layers::linear_backward::<T>(x.storage(), weight.storage(), above.storage(), from, want_x);
            let to = grads.bias.len();
            [grads.x.map(|g| host(g, shape(&x))), Some(host(grads.weight, [from, to])), Some(host(grads.bias, [to]))]
        })
    }
}

impl Rule<2> for Linear {
    fn gradients(self, above: Host, [want_x, _]: [bool; 2]) -> [Option<Host>; 2] {
        let [x, weight, _] = Linear::gradients(self, &above, want_x);
        [x, weight]
    }
}

impl Rule<3> for Linear {
    fn gradients(self, above: Host, [want_x, _, _]: [bool; 3]) -> [Option<Host>; 3] {
        Linear::gradients(self, &above, want_x)
    }
}

/// `x` is what was normalised: the input, or the sum of two.
#[derive(Clone, Debug)]
struct LayerNorm {
    x: Host,
    gamma: Host,
    epsilon: f64,
}

impl Rule<3> for LayerNorm {
    fn gradients(self, mut above: Host, _: [bool; 3]) -> [Option<Host>; 3] {
        let (x, gamma) = (contiguous(self.x), contiguous(self.gamma));
        let (gamma, beta) = typed!(x, T => {
            let grads = layers::layer_norm_backward::<T>(x.storage(), gamma.storage(), self.epsilon, above.storage_mut());
            let width = grads.gamma.len();
            (host(grads.gamma, [width]), host(grads.beta, [width]))
        });
        [Some(above), Some(gamma), Some(beta)]
    }
}

impl Rule<4> for LayerNorm {
    fn gradients(self, above: Host, [x, residual, gamma, beta]: [bool; 4]) -> [Option<Host>; 4] {
        let [sum, grad_gamma, grad_beta] = Rule::<3>::gradients(self, above, [x || residual, gamma, beta]);
        [sum.clone(), sum, grad_gamma, grad_beta]
    }
}

#[derive(Clone, Debug)]
struct Softmax {
    y: Host,
    scale: f64,
}

impl Rule<1> for Softmax {
    fn gradients(self, mut above: Host, _: [bool; 1]) -> [Option<Host>; 1] {
        let width = width(&self.y);
        typed!(self.y, T => layers::softmax_backward::<T>(self.y.storage(), above.storage_mut(), width, self.scale));
        [Some(above)]
    }
}

#[derive(Clone, Debug)]
struct Gelu {
    x: Host,
}

impl Rule<1> for Gelu {
    fn gradients(self, mut above: Host, _: [bool; 1]) -> [Option<Host>; 1] {
        let x = contiguous(self.x);
        typed!(x, T => layers::gelu_backward::<T>(x.storage(), above.storage_mut()));
        [Some(above)]
    }
}

#[derive(Clone, Debug)]
struct Relu {
    y: Host,
}

impl Rule<1> for Relu {
    fn gradients(self, mut above: Host, _: [bool; 1]) -> [Option<Host>; 1] {
        typed!(self.y, T => layers::relu_backward::<T>(self.y.storage(), above.storage_mut()));
        [Some(above)]
    }
}

#[derive(Clone, Debug)]
struct Attend {
    queries: Host,
    keys: Host,
    values: Host,
    attention: Attention,
    mask: Mask,
}

impl Rule<3> for Attend {
    fn gradients(self, above: Host, _: [bool; 3]) -> [Option<Host>; 3] {
        let (q, k, v) = (contiguous(self.queries), contiguous(self.keys), contiguous(self.values));
        typed!(q, T => {
            let mask = self.mask.as_ref().map(|m| m.storage());
            let grads = self.attention.backward::<T>(q.storage(), k.storage(), v.storage(), mask, above.storage());
            [grads.queries, grads.keys, grads.values].map(|g| Some(host(g, shape(&q))))
        })
    }
}

#[derive(Clone, Debug)]
struct CrossEntropy {
    gradient: Host,
}

impl Rule<1> for CrossEntropy {
    fn gradients(self, above: Host, _: [bool; 1]) -> [Option<Host>; 1] {
        let mut gradient = self.gradient;
        typed!(above, T => {
            let factor = above.storage::<T>()[0];
            if factor != 1.0 {
                gradient.storage_mut::<T>().iter_mut().for_each(|g| *g *= factor);
            }
        });
        [Some(gradient)]
    }
}

impl<C: CheckpointStrategy> LayerKernels for Autodiff<Flex, C> {
    fn linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let rule = Linear { x: x.into_primitive(), weight: weight.into_primitive() };
        let y = linear(rule.x.clone(), rule.weight.clone(), None);
        track::<_, C, _>(nodes, rule, y)
    }

    fn linear_with_bias(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let rule = Linear { x: x.into_primitive(), weight: weight.into_primitive() };
        let y = linear(rule.x.clone(), rule.weight.clone(), Some(bias.into_primitive()));
        track::<_, C, _>(nodes, rule, y)
    }

    fn layer_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, beta: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        let rule = LayerNorm { x: x.into_primitive(), gamma: gamma.into_primitive(), epsilon };
        let y = Flex::layer_norm(rule.x.clone(), rule.gamma.clone(), beta.into_primitive(), epsilon);
        track::<_, C, _>(nodes, rule, y)
    }

    fn add_layer_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), residual.node(), gamma.node(), beta.node()];
        let rule = LayerNorm { x: sum(x.into_primitive(), residual.into_primitive()), gamma: gamma.into_primitive(), epsilon };
        let y = Flex::layer_norm(rule.x.clone(), rule.gamma.clone(), beta.into_primitive(), epsilon);
        track::<_, C, _>(nodes, rule, y)
    }

    fn softmax(x: FloatTensor<Self>, scale: f64, mask: Mask) -> FloatTensor<Self> {
        let node = x.node();
        let y = Flex::softmax(x.into_primitive(), scale, mask);
        track::<_, C, _>([node], Softmax { y: y.clone(), scale }, y)
    }

    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let node = x.node();
        let x = x.into_primitive();
        let y = Flex::gelu(x.clone());
        track::<_, C, _>([node], Gelu { x }, y)
    }

    fn relu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let node = x.node();
        let y = Flex::relu(x.into_primitive());
        track::<_, C, _>([node], Relu { y: y.clone() }, y)
    }

    fn attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        attention: Attention,
        mask: Mask,
    ) -> FloatTensor<Self> {
        let nodes = [queries.node(), keys.node(), values.node()];
        let (queries, keys, values) = (queries.into_primitive(), keys.into_primitive(), values.into_primitive());
        let y = Flex::attention(queries.clone(), keys.clone(), values.clone(), attention, mask.clone());
        track::<_, C, _>(nodes, Attend { queries, keys, values, attention, mask }, y)
    }

    fn cross_entropy(logits: FloatTensor<Self>, targets: Vec<u32>) -> FloatTensor<Self> {
        let node = logits.node();
        let (loss, gradient) = cross_entropy(logits.into_primitive(), &targets);
        track::<_, C, _>([node], CrossEntropy { gradient }, loss)
    }
}
