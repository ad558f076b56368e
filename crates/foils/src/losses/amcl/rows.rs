//! What anchors add, of the similarities and temperatures of all pairs.

use super::{mask, omega};
use crate::check;
use crate::losses::gradient::attach;
use burn::tensor::{Bool, DType, Element, Tensor, TensorData};
use foils_kernels::adaptive::{Adaptive, Columns};
use foils_kernels::simd::Row;

/// The sum over all heads and anchors, of `[heads, rows, m]` each; `columns` says of each row who is what.
pub(super) fn sum(loss: Adaptive, similarity: Tensor<3>, tau: Tensor<3>, columns: impl Fn(usize) -> Columns + Sync) -> Tensor<1> {
    match similarity.dtype() {
        _ if !check::on_flex(&similarity.device()) || similarity.dtype() != tau.dtype() => plain(loss, similarity, tau, columns),
        DType::F32 => fused::<f32>(loss, similarity, tau, columns),
        DType::F64 => fused::<f64>(loss, similarity, tau, columns),
        _ => plain(loss, similarity, tau, columns),
    }
}

fn fused<T: Row + Element>(loss: Adaptive, similarity: Tensor<3>, tau: Tensor<3>, columns: impl Fn(usize) -> Columns + Sync) -> Tensor<1> {
    let (dims, device) = (similarity.dims(), similarity.device().without_autodiff());
    let [mut by_similarity, mut by_tau] =
        [&similarity, &tau].map(|x| x.clone().inner().into_data().into_vec::<T>().expect("numbers of the type that was asked for"));
    let value = loss.loss_and_gradients(&mut by_similarity, &mut by_tau, dims[2], |i| columns(i % dims[1]));
    let mut sum = Tensor::<1>::from_data(TensorData::new(vec![T::from_f64(value)], [1]), (&device, T::dtype()));
    for (x, gradient) in [(similarity, by_similarity), (tau, by_tau)] {
        if x.is_autodiff() {
            sum = attach(sum, x, Tensor::from_data(TensorData::new(gradient, dims), (&device, T::dtype())));
        }
    }
    sum
}

/// The same by tensor operations, on any device.
pub(super) fn plain(loss: Adaptive, similarity: Tensor<3>, tau: Tensor<3>, columns: impl Fn(usize) -> Columns) -> Tensor<1> {
    let Adaptive { beta, dim, nearest } = loss;
    let [heads, rows, m] = similarity.dims();
    let not_positive = mask(heads, [rows, m], &similarity, |i, j| columns(i).positive != Some(j));
    // Temperatures that are not read are 1 from here on, so that none of them can make a gradient infinite.
    let own = tau.clone().mask_fill(not_positive.clone(), 1.0);
    let pulled = omega(own.clone(), dim).mul_scalar(beta) - similarity.clone() / own;
    let others = mask(heads, [rows, m], &similarity, |i, j| [columns(i).positive, columns(i).own].contains(&Some(j)));
    let unread = if nearest { first_largest(similarity.clone().inner().mask_fill(others, f64::NEG_INFINITY)).bool_not() } else { others };
    let tau = tau.mask_fill(unread.clone(), 1.0);
    let logits = similarity / tau.clone() - omega(tau, dim).mul_scalar(beta);
    let pushed = if nearest {
        logits.mask_fill(unread, 0.0).sum()
    } else {
        let logits = logits.mask_fill(unread, f64::NEG_INFINITY);
        let shift = logits.clone().inner().max_dim(2);
        ((logits - shift.clone()).exp().sum_dim(2).log() + shift).sum()
    };
    pulled.mask_fill(not_positive, 0.0).sum() + pushed
}

/// Where the largest value of each row is, the first of equals.
fn first_largest(values: Tensor<3>) -> Tensor<3, Bool> {
    let (dims, device) = (values.dims(), values.device().without_autodiff());
    let mut largest = vec![false; dims.iter().product()];
    for (row, at) in largest.chunks_exact_mut(dims[2]).zip(first_largest_of_rows(values)) {
        row[at] = true;
    }
    Tensor::from_data(TensorData::new(largest, dims), &device)
}

/// For each row of `[heads, rows, columns]` the column of its largest value, the first of equals.
pub(super) fn first_largest_of_rows(values: Tensor<3>) -> Vec<usize> {
    fn of<T: PartialOrd>(values: &[T], columns: usize) -> Vec<usize> {
        let first = |row: &[T]| (1..row.len()).fold(0, |best, j| if row[j] > row[best] { j } else { best });
        values.chunks_exact(columns).map(first).collect()
    }
    let (columns, data) = (values.dims()[2], values.into_data());
    match data.as_slice::<f32>() {
        Ok(values) => of(values, columns),
        Err(_) => of(&data.iter::<f64>().collect::<Vec<_>>(), columns),
    }
}
