//! Candidates from products in the numbers' own precision, for when there is nothing cheaper.

use super::shortlist::{Rows, Shortlist};
use crate::matrix::{Kernel, Left, Matrix, MatrixMut, Precision, Write};
use crate::{Real, simd};
use rayon::prelude::*;
use std::ops::Range;

/// Queries and documents in one product: a block of scores, and what it is made of, stay in the second-level cache.
const QUERIES: usize = 144;
const COLUMNS: usize = 512;
/// Fewer queries do not make up for packing documents.
const FEWEST_PACKED: usize = 3;
/// Scores that are looked at one by one where one of them reaches the bar.
const STRIDE: usize = 32;

/// ‖row‖₂ in f64.
pub(super) fn norm<T: Real>(row: &[T]) -> f64 {
    row.iter().map(|v| v.to_f64().powi(2)).sum::<f64>().sqrt()
}

/// The largest norm of the rows; infinite when one is not finite.
pub(super) fn largest_norm<T: Real>(rows: &[T], dim: usize) -> f64 {
    let largest = |a: f64, b: f64| if b <= a { a } else { b };
    let norms = rows.par_chunks_exact(dim).map(norm).map(|n| if n.is_finite() { n } else { f64::INFINITY });
    norms.reduce(|| 0.0, largest)
}

/// How far a blocked product of a query with any row of at most that norm can be from [`super::dot`]: infinitely when it can overflow.
///
/// Both sums of n products are within (n + 1)·u·‖q‖‖d‖ of the truth to first order, u = ε/2 (Higham, *Accuracy and Stability*,
/// 3.1), and rounding the result and the limit adds 2u; together with room for the higher orders. That holds for every order of
/// the additions and with fused ones, so for packed operands cut in depth too, as long as every product and sum is made in `T`:
/// [`Precision::Highest`], which for f64 is f64. The last term covers products that underflow.
fn error_bound<T: Real>(query: &[T], largest_norm: f64) -> f64 {
    let n = query.len() as f64;
    let norms = norm(query) * largest_norm;
    if !T::from_f64(2.0 * norms).to_f64().is_finite() {
        return f64::INFINITY;
    }
    (n + 8.0) * T::EPSILON.to_f64() * norms + n * f64::from(f32::MIN_POSITIVE)
}

/// Finds what may be among the best of some queries.
pub(super) struct Scan<'a, T, F> {
    pub(super) rows: Rows<'a, T>,
    /// Of the documents.
    pub(super) largest_norm: f64,
    /// Takes the row of a query here and a document's index.
    pub(super) excluded: F,
}

impl<'a, T: Real, F: Fn(usize, u32) -> bool> Scan<'a, T, F> {
    /// Notes in the shortlists, one for each query, what of a range of documents may be among the best.
    pub(super) fn range(&self, range: Range<usize>, shortlists: &mut [Shortlist<T>]) {
        let Rows { dim, queries, documents, .. } = self.rows;
        let errors: Vec<f64> = queries.chunks_exact(dim).map(|q| error_bound(q, self.largest_norm)).collect();
        let mut scores = vec![T::ZERO; QUERIES.min(shortlists.len()) * COLUMNS.min(range.len())];
        let kernel = Kernel::new(Precision::Highest);
        let matrix = |rows: &'a [T]| Matrix::row_major(rows, rows.len() / dim, dim);
        let packs = shortlists.len() >= FEWEST_PACKED;
        let lefts: Vec<Left<T>> = queries.chunks(QUERIES * dim).filter(|_| packs).map(|q| kernel.left_packed(matrix(q))).collect();
        let mut right = kernel.right(matrix(&[]).transposed());
        for start in range.clone().step_by(COLUMNS) {
            let columns = COLUMNS.min(range.end - start);
            let documents = matrix(&documents[start * dim..(start + columns) * dim]).transposed();
            if packs {
                right.replace(documents);
            }
            for (at, (queries, shortlists)) in queries.chunks(QUERIES * dim).zip(shortlists.chunks_mut(QUERIES)).enumerate() {
                let scores = &mut scores[..shortlists.len() * columns];
                let into = MatrixMut::row_major(scores, shortlists.len(), columns);
                match lefts.get(at) {
                    Some(left) => kernel.multiply(left, right.all(), into, Write::set(T::ONE)),
                    None => kernel.product(matrix(queries), documents, into, Write::set(T::ONE)),
                }
                for (row, (scores, shortlist)) in scores.chunks_exact(columns).zip(shortlists).enumerate() {
                    let row = at * QUERIES + row;
                    self.row(row, start, scores, errors[row], shortlist);
                }
            }
        }
    }

    fn row(&self, row: usize, start: usize, scores: &[T], error: f64, shortlist: &mut Shortlist<T>) {
        let mut at = 0;
        loop {
            let bar = T::from_f64(shortlist.bar().to_f64() - error);
            at += simd::below(&scores[at..], bar);
            if at == scores.len() {
                break;
            }
            let end = (at + STRIDE).min(scores.len());
            for (j, &score) in (at..end).zip(&scores[at..end]) {
                let document = self.rows.first + (start + j) as u32;
                if score < bar || (self.excluded)(row, document) {
                    continue;
                }
                let score = score.to_f64();
                shortlist.push(document, (score - error, score + error), &self.rows, row);
            }
            at = end;
        }
    }
}
