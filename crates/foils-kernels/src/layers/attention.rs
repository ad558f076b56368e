//! Scaled dot-product attention with several heads, without copies into a layout of heads and without keeping the scores.

use crate::product;
use crate::simd::{self, Float, fill_pieces};
use rayon::prelude::*;

/// The shape of a self-attention. Queries, keys and values are `[batch · tokens, heads · width]`, row-major, as linear layers
/// make them: head h has columns h · width to (h + 1) · width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Texts.
    pub batch: usize,
    /// Tokens of each text, padding included.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Columns of a head.
    pub width: usize,
}

/// The gradients of [`Attention::forward`], each of its input's shape.
#[derive(Clone, Debug)]
pub struct AttentionGradients<T> {
    /// With respect to the queries.
    pub queries: Vec<T>,
    /// With respect to the keys.
    pub keys: Vec<T>,
    /// With respect to the values.
    pub values: Vec<T>,
}

impl Attention {
    fn columns(&self) -> usize {
        self.heads * self.width
    }

    /// Numbers of one text.
    fn text(&self) -> usize {
        self.tokens * self.columns()
    }

    fn scale<T: Float>(&self) -> T {
        T::from_f64(1.0 / (self.width as f64).sqrt())
    }

    fn check<T>(&self, inputs: &[&[T]], mask: Option<&[T]>) {
        let len = self.batch * self.text();
        assert!(inputs.iter().all(|x| x.len() == len), "every input of {self:?} has {len} numbers");
        assert!(mask.is_none_or(|m| m.len() == self.batch * self.tokens), "mask of {self:?}");
    }

    /// `softmax(Q Kᵀ / √width + mask) V` of every head and text. `mask` is `[batch, tokens]` and is added to the scores of its
    /// text's keys: 0 for tokens, −∞ for padding. A text of nothing but padding attends to nothing: zeros. Threaded over texts.
    ///
    /// # Panics
    /// When a slice does not have its shape.
    pub fn forward<T: Float>(&self, queries: &[T], keys: &[T], values: &[T], mask: Option<&[T]>) -> Vec<T> {
        self.check(&[queries, keys, values], mask);
        let (text, columns, t, w) = (self.text(), self.columns(), self.tokens, self.width);
        if queries.is_empty() {
            return Vec::new();
        }
        fill_pieces(queries.len(), text, |i, out| {
            let here = i * text..i * text + out.len();
            let (queries, keys, values) = (&queries[here.clone()], &keys[here.clone()], &values[here]);
            let mask = mask.map(|m| &m[i * t..(i + 1) * t]);
            let (mut scores, mut head_out) = (vec![T::ZERO; t * t], vec![T::ZERO; t * w]);
            for start in (0..columns).step_by(w) {
                self.probabilities(&queries[start..], &keys[start..], mask, &mut scores);
                product(&mut head_out, (t, w, t), &scores, (t, 1), &values[start..], (columns, 1), false, T::ONE);
                write_columns(&head_out, w, out, columns, start);
            }
        })
    }

    /// The gradients of [`Attention::forward`] from that of its result. The scores are computed again, head by head.
    ///
    /// # Panics
    /// As [`Attention::forward`].
    pub fn backward<T: Float>(&self, queries: &[T], keys: &[T], values: &[T], mask: Option<&[T]>, g: &[T]) -> AttentionGradients<T> {
        self.check(&[queries, keys, values, g], mask);
        let (text, columns, t, w) = (self.text(), self.columns(), self.tokens, self.width);
        let empty = || fill_pieces(g.len(), super::PIECE, |_, _| {});
        let mut all = AttentionGradients { queries: empty(), keys: empty(), values: empty() };
        let texts = all.queries.par_chunks_mut(text.max(1)).zip(all.keys.par_chunks_mut(text.max(1)));
        texts.zip(all.values.par_chunks_mut(text.max(1))).enumerate().for_each(|(i, ((grad_q, grad_k), grad_v))| {
            let here = i * text..(i + 1) * text;
            let (queries, keys, values, g) = (&queries[here.clone()], &keys[here.clone()], &values[here.clone()], &g[here]);
            let mask = mask.map(|m| &m[i * t..(i + 1) * t]);
            let (mut scores, mut grad_scores, mut head) = (vec![T::ZERO; t * t], vec![T::ZERO; t * t], vec![T::ZERO; t * w]);
            for start in (0..columns).step_by(w) {
                let (queries, keys, values, g) = (&queries[start..], &keys[start..], &values[start..], &g[start..]);
                self.probabilities(queries, keys, mask, &mut scores);
                product(&mut head, (t, w, t), &scores, (1, t), g, (columns, 1), false, T::ONE);
                write_columns(&head, w, grad_v, columns, start);
                product(&mut grad_scores, (t, t, w), g, (columns, 1), values, (1, columns), false, T::ONE);
                simd::softmax_backward(&scores, &mut grad_scores, t, self.scale());
                product(&mut head, (t, w, t), &grad_scores, (t, 1), keys, (columns, 1), false, T::ONE);
                write_columns(&head, w, grad_q, columns, start);
                product(&mut head, (t, w, t), &grad_scores, (1, t), queries, (columns, 1), false, T::ONE);
                write_columns(&head, w, grad_k, columns, start);
            }
        });
        all
    }

    /// The attention of one head of one text, `[tokens, tokens]`; queries and keys start at the head's first column.
    fn probabilities<T: Float>(&self, queries: &[T], keys: &[T], mask: Option<&[T]>, scores: &mut [T]) {
        let (columns, t) = (self.columns(), self.tokens);
        product(scores, (t, t, self.width), queries, (columns, 1), keys, (1, columns), false, T::ONE);
        simd::softmax(scores, t, self.scale(), mask);
    }
}

/// Writes rows of `width` into the columns from `start` of rows of `columns`.
fn write_columns<T: Copy>(from: &[T], width: usize, to: &mut [T], columns: usize, start: usize) {
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(columns)) {
        to[start..start + width].copy_from_slice(from);
    }
}
