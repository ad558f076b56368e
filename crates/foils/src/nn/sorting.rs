//! Sorting networks as an operation of Burn.

use super::rule::{Host, Rule, contiguous, host, shape, track, typed};
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use foils_kernels::sorting::Sorter;

/// Values in, sorted values and then the permutation of each row out.
#[backend_extension(Autodiff, Flex)]
pub(crate) trait Sorting: Backend {
    /// `[rows, n]` to `[rows, n + n²]`.
    fn sort_softly(x: FloatTensor<Self>, sorter: Sorter) -> FloatTensor<Self>;
}

impl Sorting for Flex {
    fn sort_softly(x: Host, sorter: Sorter) -> Host {
        let x = contiguous(x);
        let (n, rows) = (sorter.width(), shape(&x)[0]);
        typed!(x, T => {
            let (sorted, permutation) = sorter.sort::<T>(x.storage());
            let both = sorted.chunks(n).zip(permutation.chunks(n * n)).flat_map(|(s, p)| [s, p].concat()).collect::<Vec<T>>();
            host(both, [rows, n + n * n])
        })
    }
}

impl<C: CheckpointStrategy> Sorting for Autodiff<Flex, C> {
    fn sort_softly(x: FloatTensor<Self>, sorter: Sorter) -> FloatTensor<Self> {
        let node = x.node();
        let x = contiguous(x.into_primitive());
        let y = Flex::sort_softly(x.clone(), sorter.clone());
        track::<_, C, 1>([node], Way { x, sorter }, y)
    }
}

#[derive(Clone, Debug)]
struct Way {
    x: Host,
    sorter: Sorter,
}

impl Rule<1> for Way {
    fn gradients(self, above: Host, _: [bool; 1]) -> [Option<Host>; 1] {
        let n = self.sorter.width();
        let gradient = typed!(self.x, T => {
            let rows = || above.storage::<T>().chunks(n + n * n);
            let of_sorted = rows().flat_map(|row| &row[..n]).copied().collect::<Vec<T>>();
            let of_permutation = rows().flat_map(|row| &row[n..]).copied().collect::<Vec<T>>();
            host(self.sorter.sort_gradient::<T>(self.x.storage(), &of_sorted, &of_permutation), shape(&self.x))
        });
        [Some(gradient)]
    }
}

/// Sorted values and permutations of rows, side by side: `[rows, n + n²]`, for f32 and f64 on the CPU.
pub(crate) fn sort(x: Tensor<2>, sorter: Sorter) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Sorting>::sort_softly(x.into_dispatch(), sorter))
}
