//! One layer of a BERT encoder (Vaswani et al. 2017, Devlin et al. 2019), forward and backward, over texts of any lengths without padding.
//!
//! The tokens of all texts lie one after the other. Each thread takes whole texts, about [`GROUP`] tokens together, through all steps of
//! the layer before it takes the next, so that what one step writes the next reads from the cache, and nothing waits between
//! the steps. Only attention sees which tokens belong together. With h the heads and LN layer norm,
//!
//! > y₁ = LN(x + concat_h softmax(Q_h K_hᵀ / √w) V_h · W_out + b_out), y = LN(y₁ + GELU(y₁ W_wide + b_wide) W_narrow + b_narrow)

mod attention;
mod backward;
#[cfg(test)]
mod tests;

use crate::matrix::{Kernel, Matrix, MatrixMut, Part, Precision, Right, Write};
use crate::simd::{self, Float};
use attention::Heads;
pub use backward::EncoderGradients;
use rayon::prelude::*;
use std::ops::Range;

/// About so many tokens are taken through the layer together: enough that reading the weights costs little, few enough that what
/// lies between two steps stays in the second cache.
const GROUP: usize = 128;

/// A linear layer: `x · weight + bias`.
#[derive(Clone, Debug)]
pub struct Affine<S> {
    /// `[from, to]`, row-major.
    pub weight: S,
    /// `[to]`.
    pub bias: S,
}

/// A layer norm: `gamma · (x − mean) / √(variance + ε) + beta`.
#[derive(Clone, Debug)]
pub struct Norm<S> {
    /// `[width]`.
    pub gamma: S,
    /// `[width]`.
    pub beta: S,
}

/// The weights of a layer, or their gradients; `S` is a slice or a vector of numbers.
#[derive(Clone, Debug)]
pub struct EncoderWeights<S> {
    /// `[width, width]`, as the next three.
    pub query: Affine<S>,
    /// Of the keys.
    pub key: Affine<S>,
    /// Of the values.
    pub value: Affine<S>,
    /// After attention.
    pub out: Affine<S>,
    /// After attention and its residual.
    pub attention_norm: Norm<S>,
    /// `[width, hidden]`.
    pub wide: Affine<S>,
    /// `[hidden, width]`.
    pub narrow: Affine<S>,
    /// At the end.
    pub output_norm: Norm<S>,
}

impl<T> EncoderWeights<Vec<T>> {
    /// The same, borrowed.
    pub fn as_slices(&self) -> EncoderWeights<&[T]> {
        fn dense<T>(layer: &Affine<Vec<T>>) -> Affine<&[T]> {
            Affine { weight: &layer.weight, bias: &layer.bias }
        }
        fn norm<T>(layer: &Norm<Vec<T>>) -> Norm<&[T]> {
            Norm { gamma: &layer.gamma, beta: &layer.beta }
        }
        EncoderWeights {
            query: dense(&self.query),
            key: dense(&self.key),
            value: dense(&self.value),
            out: dense(&self.out),
            attention_norm: norm(&self.attention_norm),
            wide: dense(&self.wide),
            narrow: dense(&self.narrow),
            output_norm: norm(&self.output_norm),
        }
    }
}

/// The shape of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncoderLayer {
    /// Numbers of a token.
    pub width: usize,
    /// Heads, each of `width / heads` numbers.
    pub heads: usize,
    /// Numbers of a token between [`EncoderWeights::wide`] and [`EncoderWeights::narrow`].
    pub hidden: usize,
    /// ε of the layer norms.
    pub epsilon: f64,
    /// Of the products.
    pub precision: Precision,
}

/// What [`EncoderLayer::backward`] needs of the forward pass: 9 · width + hidden numbers a token.
#[derive(Clone, Debug)]
pub struct Kept<T> {
    groups: Vec<Group<T>>,
}

/// Tokens, counted from the first of all texts, and those of each of their texts, counted from the first of these.
type Texts = (Range<usize>, Vec<Range<usize>>);

/// What is kept of some texts.
#[derive(Clone, Debug)]
struct Group<T> {
    /// The tokens, counted from the first of all texts.
    tokens: Range<usize>,
    /// Those of each text, counted from the first of the group.
    texts: Vec<Range<usize>>,
    /// Queries, keys and values `[tokens, width]`.
    qkv: [Vec<T>; 3],
    /// What attention made of them.
    context: Vec<T>,
    /// What the first norm normalised,
    first_sum: Vec<T>,
    /// and what it made of it.
    middle: Vec<T>,
    /// What GELU was taken of, `[tokens, hidden]`.
    wide: Vec<T>,
    /// What the second norm normalised.
    second_sum: Vec<T>,
}

impl EncoderLayer {
    /// The layer's result `[tokens, width]` for texts of these lengths, whose tokens are the rows of `x` one after the other.
    /// The bits are the same, whatever the number of threads.
    ///
    /// # Panics
    /// When a slice is not of its shape, the heads do not divide the width, or the lengths do not add up to the tokens.
    pub fn forward<T: Float>(&self, weights: &EncoderWeights<&[T]>, x: &[T], lengths: &[usize]) -> Vec<T> {
        self.run(weights, x, lengths, |_| ()).0
    }

    /// [`EncoderLayer::forward`], and what it takes to go back.
    ///
    /// # Panics
    /// As [`EncoderLayer::forward`].
    pub fn forward_kept<T: Float>(&self, weights: &EncoderWeights<&[T]>, x: &[T], lengths: &[usize]) -> (Vec<T>, Kept<T>) {
        let (y, groups) = self.run(weights, x, lengths, |group| group);
        (y, Kept { groups })
    }

    fn run<T: Float, K: Send>(
        &self,
        weights: &EncoderWeights<&[T]>,
        x: &[T],
        lengths: &[usize],
        keep: impl Fn(Group<T>) -> K + Sync,
    ) -> (Vec<T>, Vec<K>) {
        self.check(weights, x, lengths);
        let groups = groups(lengths);
        let packed = Packed::new(self.precision, weights, |w, from, to| Matrix::row_major(w, from, to));
        let mut y = vec![T::ZERO; x.len()];
        let parts = split(&mut y, self.width, groups.iter().map(|(tokens, _)| tokens.len()));
        let work = |((tokens, texts), y): (Texts, &mut [T])| {
            let x = &x[tokens.start * self.width..tokens.end * self.width];
            keep(self.group(weights, &packed, x, tokens, texts, y))
        };
        let kept = groups.into_par_iter().zip(parts).map(work).collect();
        (y, kept)
    }

    fn group<T: Float>(
        &self,
        weights: &EncoderWeights<&[T]>,
        packed: &Packed<T>,
        x: &[T],
        tokens: Range<usize>,
        texts: Vec<Range<usize>>,
        y: &mut [T],
    ) -> Group<T> {
        let (width, hidden) = (self.width, self.hidden);
        let product = |x: &[T], from: usize, weight: &Right<T>, mut y: Vec<T>| {
            packed.add(x, from, weight.all(), &mut y);
            y
        };
        let dense = [&weights.query, &weights.key, &weights.value].map(|layer| layer.bias.repeat(tokens.len()));
        let mut rights = [&packed.query, &packed.key, &packed.value].into_iter();
        let qkv = dense.map(|bias| product(x, width, rights.next().expect("three"), bias));
        let mut context = vec![T::ZERO; x.len()];
        let mut heads = Heads::new(packed.kernel, self.heads, width / self.heads);
        texts.iter().for_each(|text| heads.forward(&qkv, text, &mut context));
        let first_sum = product(&context, width, &packed.out, plus_row(x, weights.out.bias));
        let mut middle = vec![T::ZERO; x.len()];
        simd::layer_norm(&first_sum, weights.attention_norm.gamma, weights.attention_norm.beta, self.epsilon, &mut middle);
        let wide = product(&middle, width, &packed.wide, weights.wide.bias.repeat(tokens.len()));
        let mut active = vec![T::ZERO; wide.len()];
        simd::gelu(&wide, &mut active);
        let second_sum = product(&active, hidden, &packed.narrow, plus_row(&middle, weights.narrow.bias));
        simd::layer_norm(&second_sum, weights.output_norm.gamma, weights.output_norm.beta, self.epsilon, y);
        Group { tokens, texts, qkv, context, first_sum, middle, wide, second_sum }
    }

    fn check<T>(&self, weights: &EncoderWeights<&[T]>, x: &[T], lengths: &[usize]) {
        let (width, hidden) = (self.width, self.hidden);
        assert!(width > 0 && self.heads > 0 && width.is_multiple_of(self.heads), "{} heads of {width} numbers", self.heads);
        assert!(hidden > 0, "no hidden numbers");
        assert_eq!(x.len(), lengths.iter().sum::<usize>() * width, "numbers of {} texts", lengths.len());
        let EncoderWeights { query, key, value, out, attention_norm, wide, narrow, output_norm } = weights;
        for (layer, from, to) in
            [query, key, value, out].into_iter().map(|l| (l, width, width)).chain([(wide, width, hidden), (narrow, hidden, width)])
        {
            assert_eq!((layer.weight.len(), layer.bias.len()), (from * to, to), "weights and biases of a layer from {from} to {to}");
        }
        for norm in [attention_norm, output_norm] {
            assert_eq!((norm.gamma.len(), norm.beta.len()), (width, width), "γ and β of a norm");
        }
    }
}

/// The weights as right-hand operands: as they are, or transposed.
struct Packed<T> {
    kernel: Kernel<T>,
    query: Right<T>,
    key: Right<T>,
    value: Right<T>,
    out: Right<T>,
    wide: Right<T>,
    narrow: Right<T>,
}

impl<T: Float> Packed<T> {
    /// `view` makes the matrix to be packed of a weight, its rows and its columns.
    fn new(precision: Precision, weights: &EncoderWeights<&[T]>, view: for<'a> fn(&'a [T], usize, usize) -> Matrix<'a, T>) -> Self {
        let kernel = kernel(precision);
        let EncoderWeights { query, key, value, out, wide, narrow, .. } = weights;
        let pack = |layer: &&Affine<&[T]>| {
            let to = layer.bias.len();
            kernel.right(view(layer.weight, layer.weight.len().checked_div(to).unwrap_or(0), to))
        };
        let packed: Vec<Right<T>> = [query, key, value, out, wide, narrow].par_iter().map(pack).collect();
        let [query, key, value, out, wide, narrow] = packed.try_into().expect("as many as there were weights");
        Self { kernel, query, key, value, out, wide, narrow }
    }

    /// `y += x · weight` for rows `x` of `from` numbers.
    fn add(&self, x: &[T], from: usize, weight: Part<T>, y: &mut [T]) {
        let ((_, to), rows) = (weight.shape(), x.len().checked_div(from).unwrap_or(0));
        let left = self.kernel.left(Matrix::row_major(x, rows, from));
        self.kernel.multiply(&left, weight, MatrixMut::row_major(y, rows, to), Write::add(T::ONE));
    }
}

/// How products are computed. Tests can have the instructions that the processor lacks carried out in software.
fn kernel<T: Float>(precision: Precision) -> Kernel<T> {
    #[cfg(test)]
    if let Some(features) = tests::EMULATED.get() {
        return Kernel::among(features, precision);
    }
    Kernel::new(precision)
}

/// Consecutive texts, about [`GROUP`] tokens together; those without tokens are nowhere.
fn groups(lengths: &[usize]) -> Vec<Texts> {
    let mut groups: Vec<Texts> = Vec::new();
    let mut end = 0;
    for &length in lengths.iter().filter(|&&length| length > 0) {
        if groups.last().is_none_or(|(tokens, _)| tokens.len() + length > GROUP) {
            groups.push((end..end, Vec::new()));
        }
        let (tokens, texts) = groups.last_mut().expect("just made");
        texts.push(tokens.len()..tokens.len() + length);
        end += length;
        tokens.end = end;
    }
    groups
}

/// Consecutive parts of so many rows each.
fn split<T>(mut values: &mut [T], width: usize, rows: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    rows.map(|rows| values.split_off_mut(..rows * width).expect("rows that add up")).collect()
}

/// A row added to each row.
fn plus_row<T: Float>(x: &[T], row: &[T]) -> Vec<T> {
    x.chunks_exact(row.len()).flat_map(|x| x.iter().zip(row).map(|(&x, &r)| x + r)).collect()
}
