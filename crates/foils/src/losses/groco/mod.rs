//! Learning by sorting (groco): positives must rank above an anchor's nearest negatives, by a differentiable sorting network.

mod group;
mod sort;
#[cfg(test)]
mod tests;
mod top_k;
mod views;

pub use foils_kernels::sorting::{Distribution, Network};
pub use group::GroupOrdering;
pub use sort::{Sorted, SortingNetwork};
pub use top_k::NtXentTopK;
pub use views::Groco;
