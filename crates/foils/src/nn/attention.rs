//! Scaled dot-product attention with several heads.

use super::kernels::LayerKernels;
use super::{constant, on_kernels, softmax};
use burn::backend::Dispatch;
use burn::tensor::Tensor;
use foils_kernels::layers::Attention;

/// The shape of a self-attention: how rows of queries, keys and values fall into texts, and columns into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Texts.
    pub batch: usize,
    /// Tokens of each text, padding included.
    pub tokens: usize,
    /// Heads; head h has columns h · width to (h + 1) · width.
    pub heads: usize,
}

/// `softmax(Q Kᵀ / √width + mask) V` of every head and text (Vaswani et al. 2017). Queries, keys and values are `[batch · tokens,
/// columns]`, as linear layers make them, and so is the result. `mask`, `[batch, tokens]`, holds constants that are added to the
/// scores of a text's keys: 0 for tokens, −∞ for padding. A text of nothing but padding attends to nothing: zeros.
///
/// On the CPU neither the heads are copied together nor the scores kept: memory beyond the result does not grow with
/// `batch · heads · tokens²`.
///
/// # Panics
/// When the shapes do not fit, or the heads do not divide the columns.
pub fn attention(queries: Tensor<2>, keys: Tensor<2>, values: Tensor<2>, heads: Heads, mask: Option<Tensor<2>>) -> Tensor<2> {
    let Heads { batch, tokens, heads: count } = heads;
    let shape = queries.dims();
    assert!(keys.dims() == shape && values.dims() == shape && shape[0] == batch * tokens, "{shape:?} is not {heads:?}");
    assert!(count > 0 && shape[1] > 0 && shape[1].is_multiple_of(count), "{count} heads of {} columns", shape[1]);
    assert!(mask.as_ref().is_none_or(|m| m.dims() == [batch, tokens]), "a mask of {heads:?}");
    if !on_kernels(&queries) {
        return plain(queries, keys, values, heads, mask);
    }
    let attention = Attention { batch, tokens, heads: count, width: shape[1] / count };
    let (q, k, v) = (queries.into_dispatch(), keys.into_dispatch(), values.into_dispatch());
    Tensor::from_dispatch(Dispatch::attention(q, k, v, attention, mask.map(constant)))
}

pub(super) fn plain(queries: Tensor<2>, keys: Tensor<2>, values: Tensor<2>, heads: Heads, mask: Option<Tensor<2>>) -> Tensor<2> {
    let Heads { batch, tokens, heads: count } = heads;
    let shape = queries.dims();
    let width = shape[1] / count;
    let split = |x: Tensor<2>| x.reshape([batch, tokens, count, width]).swap_dims(1, 2);
    let scores = split(queries).matmul(split(keys).transpose());
    let attended = softmax::plain(scores, 1.0 / (width as f64).sqrt(), mask).matmul(split(values));
    attended.swap_dims(1, 2).reshape(shape)
}
