//! How a kernel's forward and backward enter automatic differentiation.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Element, TensorData};
use std::fmt::Debug;
use std::marker::PhantomData;

/// A tensor of the CPU, off the graph.
pub(super) type Host = FloatTensor<Flex>;

/// What is kept of a step with `N` inputs, and how their gradients come from it.
pub(super) trait Rule<const N: usize>: Clone + Debug + Send + 'static {
    /// The gradients of the inputs that are `wanted`, from that of the output (contiguous).
    fn gradients(self, above: Host, wanted: [bool; N]) -> [Option<Host>; N];
}

/// `y`, on the graph as the result of `nodes` by this rule.
pub(super) fn track<R: Rule<N>, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    rule: R,
    y: Host,
) -> FloatTensor<Autodiff<Flex, C>> {
    match Step::<R>(PhantomData).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(rule, y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

struct Step<R>(PhantomData<fn() -> R>);

impl<R> Debug for Step<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::any::type_name::<R>())
    }
}

impl<R: Rule<N>, const N: usize> Backward<Flex, N> for Step<R> {
    type State = R;

    fn backward(self, ops: Ops<R, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let above = contiguous(grads.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let nodes: [Option<NodeId>; N] = ops.parents.map(|p| p.map(|node| node.id));
        for (node, gradient) in nodes.into_iter().zip(ops.state.gradients(above, wanted)) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<Flex>(node, gradient);
            }
        }
    }
}

/// The same numbers, one after the other. Consumes its argument, so that numbers that nobody else holds can be written to.
pub(super) fn contiguous(x: Host) -> Host {
    let contiguous = x.to_contiguous();
    drop(x);
    contiguous
}

pub(super) fn host<T: bytemuck::Pod + Element>(values: Vec<T>, shape: impl Into<Vec<usize>>) -> Host {
    Host::from_data(TensorData::new(values, shape.into()))
}

pub(super) fn shape(x: &Host) -> Vec<usize> {
    x.layout().shape().to_vec()
}

/// Runs `$body` with `$T` as the type of the numbers of `$x`.
macro_rules! typed {
    ($x:expr, $T:ident => $body:expr) => {
        match $x.dtype() {
            burn::tensor::DType::F64 => {
                type $T = f64;
                $body
            }
            _ => {
                type $T = f32;
                $body
            }
        }
    };
}
pub(super) use typed;
