//! A network of one hidden layer on all pairs of rows.

use super::on_kernels;
use super::rule::{Host, Rule, contiguous, host, shape, track, typed};
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, activation};
use foils_kernels::layers;

/// The kernels of [`foils_kernels::layers::pair_scores`].
#[backend_extension(Autodiff, Flex)]
pub(crate) trait Pairs: Backend {
    /// `[n, width]`, `[m, width]` and `[1, width]` to `[n, m]`.
    fn pair_scores(left: FloatTensor<Self>, right: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Pairs for Flex {
    fn pair_scores(left: Host, right: Host, w: Host) -> Host {
        let [left, right, w] = [left, right, w].map(contiguous);
        let dims = [shape(&left)[0], shape(&right)[0]];
        typed!(left, T => host(layers::pair_scores::<T>(left.storage(), right.storage(), w.storage()), dims))
    }
}

impl<C: CheckpointStrategy> Pairs for Autodiff<Flex, C> {
    fn pair_scores(left: FloatTensor<Self>, right: FloatTensor<Self>, w: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [left.node(), right.node(), w.node()];
        let [left, right, w] = [left, right, w].map(|x| contiguous(x.into_primitive()));
        let y = Flex::pair_scores(left.clone(), right.clone(), w.clone());
        track::<_, C, 3>(nodes, Scores { left, right, w }, y)
    }
}

#[derive(Clone, Debug)]
struct Scores {
    left: Host,
    right: Host,
    w: Host,
}

impl Rule<3> for Scores {
    fn gradients(self, above: Host, _: [bool; 3]) -> [Option<Host>; 3] {
        let Self { left, right, w } = self;
        typed!(left, T => {
            let grads = layers::pair_scores_backward::<T>(left.storage(), right.storage(), w.storage(), above.storage());
            [Some(host(grads.left, shape(&left))), Some(host(grads.right, shape(&right))), Some(host(grads.w, shape(&w)))]
        })
    }
}

/// `[n, m]`: `Σ_k w_k max(left_ik + right_jk, 0)` of every row of `left` `[n, width]` with every row of `right` `[m, width]`, `w` being
/// `[1, width]`: a network whose first layer has been applied to each side by itself.
///
/// # Panics
/// When the widths differ.
pub(crate) fn pair_scores(left: Tensor<2>, right: Tensor<2>, w: Tensor<2>) -> Tensor<2> {
    let width = w.dims()[1];
    assert!(left.dims()[1] == width && right.dims()[1] == width, "{:?} and {:?} meet {width} weights", left.dims(), right.dims());
    if !on_kernels(&left) {
        return plain(left, right, w);
    }
    Tensor::from_dispatch(<Dispatch as Pairs>::pair_scores(left.into_dispatch(), right.into_dispatch(), w.into_dispatch()))
}

/// A block of rows at a time, because the hidden units of all pairs are in memory.
pub(super) fn plain(left: Tensor<2>, right: Tensor<2>, w: Tensor<2>) -> Tensor<2> {
    let ([n, width], [m, _]) = (left.dims(), right.dims());
    let (right, w) = (right.reshape([1, m, width]), w.reshape([1, 1, width]));
    let of = |rows: Tensor<2>| {
        let k = rows.dims()[0];
        (activation::relu(rows.reshape([k, 1, width]) + right.clone()) * w.clone()).sum_dim(2).reshape([k, m])
    };
    let block = (1_usize << 22).div_ceil((m * width).max(1));
    Tensor::cat((0..n).step_by(block).map(|i| of(left.clone().slice(i..(i + block).min(n)))).collect(), 0)
}
