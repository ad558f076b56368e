//! A number whose gradient is already known, as a step of automatic differentiation: how the kernels' results enter it.
//!
//! A kernel returns a loss and its gradients in one pass; [`attach`] hangs one of them on the loss. When the graph is walked
//! back, the stored gradient is multiplied by the loss's own and handed to the input.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

#[backend_extension(Autodiff, Flex)]
pub(crate) trait KnownGradient: Backend {
    /// `loss`, with ∂loss/∂x = `gradient` from here on.
    fn attach(loss: FloatTensor<Self>, x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl KnownGradient for Flex {
    fn attach(loss: FloatTensor<Self>, _: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        loss
    }
}

#[derive(Debug)]
struct Attach;

impl<B: Backend> Backward<B, 2> for Attach {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [loss, x] = ops.parents;
        let above = grads.consume::<B>(&ops.node);
        if let Some(x) = x {
            let ones = vec![1; ops.state.shape().num_dims()];
            let scale = B::float_reshape(above.clone(), ones.into());
            grads.register::<B>(x.id, B::float_mul(ops.state, scale));
        }
        if let Some(loss) = loss {
            grads.register::<B>(loss.id, above);
        }
    }
}

impl<B: KnownGradient, C: CheckpointStrategy> KnownGradient for Autodiff<B, C> {
    fn attach(loss: FloatTensor<Self>, x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        match Backward::<B, 2>::prepare::<C>(Attach, [loss.node(), x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gradient.into_primitive(), loss.into_primitive()),
            OpsKind::UnTracked(prep) => prep.finish(loss.into_primitive()),
        }
    }
}

/// `loss` of shape `[1]` with its value unchanged, to whose gradient with respect to `x` the constant `gradient` (of x's shape)
/// is added. On tensors of the Flex device.
pub(crate) fn attach<const D: usize>(loss: Tensor<1>, x: Tensor<D>, gradient: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as KnownGradient>::attach(loss.into_dispatch(), x.into_dispatch(), gradient.into_dispatch()))
}
