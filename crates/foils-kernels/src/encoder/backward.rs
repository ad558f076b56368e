//! The gradients of a layer.

use super::attention::Heads;
use super::{Affine, EncoderLayer, EncoderWeights, Group, Kept, Norm, Packed, split};
use crate::matrix::{Kernel, Matrix, MatrixMut, Write};
use crate::simd::{self, Float};
use rayon::prelude::*;
use std::ops::Range;

/// So many rows and columns of a weight's gradient are one piece of work: they stay in the second cache.
const PIECE: usize = 384;

/// The gradients of [`EncoderLayer::forward`].
#[derive(Clone, Debug)]
pub struct EncoderGradients<T> {
    /// `[tokens, width]`.
    pub x: Vec<T>,
    /// Each of its weight's shape.
    pub weights: EncoderWeights<Vec<T>>,
}

/// What the gradients of the weights are made of, for some texts: the input of each linear layer and the gradient of its result.
struct Back<'a, T> {
    x: &'a [T],
    context: Vec<T>,
    middle: Vec<T>,
    active: Vec<T>,
    grad_qkv: [Vec<T>; 3],
    grad_first_sum: Vec<T>,
    grad_wide: Vec<T>,
    grad_second_sum: Vec<T>,
    /// Complete for these texts.
    norms: [Norm<Vec<T>>; 2],
}

impl EncoderLayer {
    /// The gradients from that of the result, `g`, `[tokens, width]`, and what [`EncoderLayer::forward_kept`] kept of `x`.
    /// The bits are the same, whatever the number of threads.
    ///
    /// # Panics
    /// When a slice is not of its shape.
    pub fn backward<T: Float>(&self, weights: &EncoderWeights<&[T]>, x: &[T], kept: Kept<T>, g: Vec<T>) -> EncoderGradients<T> {
        let lengths: Vec<usize> = kept.groups.iter().map(|group| group.tokens.len()).collect();
        self.check(weights, x, &lengths);
        assert_eq!(g.len(), x.len(), "gradient of the result");
        let packed = Packed::new(self.precision, weights, |w, from, to| Matrix::row_major(w, from, to).transposed());
        let mut grad_x = g;
        let parts = split(&mut grad_x, self.width, lengths.into_iter());
        let work = |(group, g): (Group<T>, &mut [T])| self.group_back(weights, &packed, x, group, g);
        let back: Vec<Back<T>> = kept.groups.into_par_iter().zip(parts).map(work).collect();
        let weights = self.weights(packed.kernel, &back);
        EncoderGradients { x: grad_x, weights }
    }

    /// `g` becomes the gradient of the texts' part of `x`.
    fn group_back<'a, T: Float>(
        &self,
        weights: &EncoderWeights<&[T]>,
        packed: &Packed<T>,
        x: &'a [T],
        group: Group<T>,
        g: &mut [T],
    ) -> Back<'a, T> {
        let width = self.width;
        let Group { tokens, texts, qkv, context, first_sum, middle, wide, second_sum } = group;
        let norm_back = |sum: &[T], norm: &Norm<&[T]>, g: &mut [T]| {
            let mut grads = Norm { gamma: vec![T::ZERO; width], beta: vec![T::ZERO; width] };
            simd::layer_norm_backward(sum, norm.gamma, self.epsilon, g, &mut grads.gamma, &mut grads.beta);
            grads
        };
        let output_norm = norm_back(&second_sum, &weights.output_norm, g);
        let mut grad_second_sum = second_sum;
        grad_second_sum.copy_from_slice(g);
        let mut grad_wide = vec![T::ZERO; wide.len()];
        packed.add(g, width, packed.narrow.all(), &mut grad_wide);
        let mut active = wide;
        simd::gelu_and_backward(&mut active, &mut grad_wide);
        packed.add(&grad_wide, self.hidden, packed.wide.all(), g);
        let attention_norm = norm_back(&first_sum, &weights.attention_norm, g);
        let mut grad_first_sum = first_sum;
        grad_first_sum.copy_from_slice(g);
        let mut grad_context = vec![T::ZERO; g.len()];
        packed.add(g, width, packed.out.all(), &mut grad_context);
        let mut grad_qkv = [(); 3].map(|()| vec![T::ZERO; g.len()]);
        let mut heads = Heads::new(packed.kernel, self.heads, width / self.heads);
        texts.iter().for_each(|text| heads.backward(&qkv, text, &grad_context, &mut grad_qkv));
        for (grad, weight) in grad_qkv.iter().zip([&packed.query, &packed.key, &packed.value]) {
            packed.add(grad, width, weight.all(), g);
        }
        let x = &x[tokens.start * width..tokens.end * width];
        let norms = [attention_norm, output_norm];
        Back { x, context, middle, active, grad_qkv, grad_first_sum, grad_wide, grad_second_sum, norms }
    }

    fn weights<T: Float>(&self, kernel: Kernel<T>, back: &[Back<T>]) -> EncoderWeights<Vec<T>> {
        let (width, hidden) = (self.width, self.hidden);
        /// The input of a linear layer and the gradient of its result.
        type Pair<'a, T> = (&'a [T], &'a [T]);
        fn of<'a, T>(back: &'a [Back<T>], pair: impl Fn(&'a Back<T>) -> Pair<'a, T>) -> Vec<Pair<'a, T>> {
            back.iter().map(pair).collect()
        }
        let layers: [(Vec<Pair<T>>, usize, usize); 6] = [
            (of(back, |b| (b.x, &b.grad_qkv[0])), width, width),
            (of(back, |b| (b.x, &b.grad_qkv[1])), width, width),
            (of(back, |b| (b.x, &b.grad_qkv[2])), width, width),
            (of(back, |b| (&b.context, &b.grad_first_sum)), width, width),
            (of(back, |b| (&b.middle, &b.grad_wide)), width, hidden),
            (of(back, |b| (&b.active, &b.grad_second_sum)), hidden, width),
        ];
        let mut grads = layers.each_ref().map(|&(_, from, to)| vec![T::ZERO; from * to]);
        let work: Vec<_> = layers
            .iter()
            .zip(&mut grads)
            .flat_map(|((pairs, from, to), grad)| {
                let grad = MatrixMut::row_major(grad, *from, *to);
                pieces(grad).into_iter().map(move |(rows, columns, grad)| (pairs, (*from, rows), (*to, columns), grad))
            })
            .collect();
        work.into_par_iter().for_each(|(pairs, (from, rows), (to, columns), mut grad)| {
            let mut right = kernel.right(Matrix::row_major(&[], 0, 0));
            for (x, g) in pairs {
                let tokens = x.len() / from;
                right.replace(Matrix::row_major(g, tokens, to).part(0..tokens, columns.clone()));
                let left = kernel.left(Matrix::row_major(x, tokens, from).part(0..tokens, rows.clone()).transposed());
                kernel.multiply(&left, right.all(), grad.part(0..rows.len(), 0..columns.len()), Write::add(T::ONE));
            }
        });
        let mut dense = layers
            .iter()
            .zip(grads)
            .map(|((pairs, _, to), weight)| Affine { weight, bias: column_sums(pairs.iter().map(|(_, g)| *g), *to) });
        let mut next = || dense.next().expect("six layers");
        let norm = |which: usize| Norm {
            gamma: column_sums(back.iter().map(|b| &*b.norms[which].gamma), width),
            beta: column_sums(back.iter().map(|b| &*b.norms[which].beta), width),
        };
        EncoderWeights {
            query: next(),
            key: next(),
            value: next(),
            out: next(),
            attention_norm: norm(0),
            wide: next(),
            narrow: next(),
            output_norm: norm(1),
        }
    }
}

/// Squares of at most [`PIECE`] rows and columns, and which these are.
fn pieces<T>(mut matrix: MatrixMut<T>) -> Vec<(Range<usize>, Range<usize>, MatrixMut<T>)> {
    let (mut pieces, (rows, columns)) = (Vec::new(), matrix.shape());
    for row in (0..rows).step_by(PIECE) {
        let height = PIECE.min(rows - row);
        let (mut strip, below) = matrix.split_at_row(height);
        for column in (0..columns).step_by(PIECE) {
            let width = PIECE.min(columns - column);
            let (piece, right) = strip.split_at_column(width);
            pieces.push((row..row + height, column..column + width, piece));
            strip = right;
        }
        matrix = below;
    }
    pieces
}

/// The sum of all rows of `width` of all parts.
fn column_sums<'a, T: Float>(parts: impl Iterator<Item = &'a [T]>, width: usize) -> Vec<T> {
    let mut total = vec![0.0; width];
    for part in parts {
        let mut sums = vec![T::ZERO; width];
        for row in part.chunks_exact(width) {
            sums.iter_mut().zip(row).for_each(|(s, &v)| *s += v);
        }
        total.iter_mut().zip(&sums).for_each(|(t, v)| *t += v.to_f64());
    }
    total.into_iter().map(T::from_f64).collect()
}
