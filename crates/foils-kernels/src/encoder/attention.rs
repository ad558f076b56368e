//! Attention within one text.

use crate::matrix::{Kernel, Matrix, MatrixMut, Right, Write};
use crate::simd::{self, Float};
use std::ops::Range;

/// Room to compute the heads of one text after the other.
pub(super) struct Heads<T> {
    kernel: Kernel<T>,
    heads: usize,
    /// Numbers of a head.
    width: usize,
    scores: Vec<T>,
    grad_scores: Vec<T>,
    right: Right<T>,
}

impl<T: Float> Heads<T> {
    pub fn new(kernel: Kernel<T>, heads: usize, width: usize) -> Self {
        let right = kernel.right(Matrix::row_major(&[], 0, 0));
        Self { kernel, heads, width, scores: Vec::new(), grad_scores: Vec::new(), right }
    }

    /// Sets the context of the tokens of `text`: softmax(Q Kᵀ / √width) V.
    pub fn forward(&mut self, qkv: &[Vec<T>; 3], text: &Range<usize>, context: &mut [T]) {
        let t = text.len();
        self.scores.resize(t * t, T::ZERO);
        for head in 0..self.heads {
            let [q, k, v] = qkv.each_ref().map(|x| self.matrix(x, text, head));
            self.probabilities(q, k);
            let to = part(context, text, self.heads, self.width, head);
            multiply(&self.kernel, &mut self.right, Matrix::row_major(&self.scores, t, t), v, to);
        }
    }

    /// Sets the gradients of queries, keys and values of the tokens of `text` from that of their context.
    pub fn backward(&mut self, qkv: &[Vec<T>; 3], text: &Range<usize>, above: &[T], grads: &mut [Vec<T>; 3]) {
        let t = text.len();
        self.scores.resize(t * t, T::ZERO);
        self.grad_scores.resize(t * t, T::ZERO);
        let [grad_q, grad_k, grad_v] = grads;
        for head in 0..self.heads {
            let [q, k, v] = qkv.each_ref().map(|x| self.matrix(x, text, head));
            let above = self.matrix(above, text, head);
            self.probabilities(q, k);
            let (kernel, right, width) = (&self.kernel, &mut self.right, self.width);
            let p = Matrix::row_major(&self.scores, t, t);
            multiply(kernel, right, p.transposed(), above, part(grad_v, text, self.heads, width, head));
            multiply(kernel, right, above, v.transposed(), MatrixMut::row_major(&mut self.grad_scores, t, t));
            simd::softmax_backward(&self.scores, &mut self.grad_scores, t, scale(width));
            let s = Matrix::row_major(&self.grad_scores, t, t);
            multiply(kernel, right, s, k, part(grad_q, text, self.heads, width, head));
            multiply(kernel, right, s.transposed(), q, part(grad_k, text, self.heads, width, head));
        }
    }

    fn probabilities(&mut self, q: Matrix<T>, k: Matrix<T>) {
        let t = q.shape().0;
        multiply(&self.kernel, &mut self.right, q, k.transposed(), MatrixMut::row_major(&mut self.scores, t, t));
        simd::softmax(&mut self.scores, t, scale(self.width), None);
    }

    /// The rows of a text and the columns of a head.
    fn matrix<'a>(&self, x: &'a [T], text: &Range<usize>, head: usize) -> Matrix<'a, T> {
        let columns = self.heads * self.width;
        Matrix::row_major(&x[text.start * columns..], text.len(), columns).part(0..text.len(), head * self.width..(head + 1) * self.width)
    }
}

fn scale<T: Float>(width: usize) -> T {
    T::from_f64(1.0 / (width as f64).sqrt())
}

/// The same, to write.
fn part<'a, T>(x: &'a mut [T], text: &Range<usize>, heads: usize, width: usize, head: usize) -> MatrixMut<'a, T> {
    let columns = heads * width;
    MatrixMut::new(&mut x[text.start * columns + head * width..], (text.len(), width), columns)
}

/// `c = a · b`.
fn multiply<T: Float>(kernel: &Kernel<T>, right: &mut Right<T>, a: Matrix<T>, b: Matrix<T>, c: MatrixMut<T>) {
    right.replace(b);
    kernel.multiply(&kernel.left(a), right.all(), c, Write::set(T::ONE));
}
