//! Contrastive losses in which every pair has a temperature of its own (amcl), and their gradients, in one pass.

use crate::simd::Row;
use rayon::prelude::*;

/// What an anchor adds, of its similarities s and temperatures τ: −s/τ + βΩ(τ) for its positive, and for its negatives
/// s/τ − βΩ(τ) of the most similar or ln Σ exp(s/τ − βΩ(τ)) of all, where Ω(τ) = (dim/2) ln τ + 1/τ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// β.
    pub beta: f64,
    /// Numbers of a projection.
    pub dim: usize,
    /// Only the most similar negative, the first of equals, instead of all.
    pub nearest: bool,
}

/// Who is what in an anchor's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The column of its positive, if it is in the row.
    pub positive: Option<usize>,
    /// A column that is neither positive nor negative: the anchor's own.
    pub own: Option<usize>,
}

impl Adaptive {
    /// The sum of what all anchors add; `similarity` and `tau`, both `[rows, m]`, become the gradients of that sum by them. `columns`
    /// says of each row who is what. Temperatures that are not read have a gradient of 0, whatever they are.
    ///
    /// # Panics
    /// When the two differ in length or are not rows of `m`.
    pub fn loss_and_gradients<T: Row>(
        &self,
        similarity: &mut [T],
        tau: &mut [T],
        m: usize,
        columns: impl Fn(usize) -> Columns + Sync,
    ) -> f64 {
        assert!(m > 0 && similarity.len() == tau.len() && tau.len().is_multiple_of(m), "{} and {} in {m}", similarity.len(), tau.len());
        let rows = similarity.par_chunks_exact_mut(m).zip(tau.par_chunks_exact_mut(m)).enumerate();
        let losses: Vec<f64> = rows.map_init(|| vec![T::ZERO; m], |logits, (i, (s, tau))| self.row(s, tau, columns(i), logits)).collect();
        losses.iter().sum()
    }

    fn row<T: Row>(&self, s: &mut [T], tau: &mut [T], columns: Columns, logits: &mut [T]) -> f64 {
        let none = T::from_f64(f64::NEG_INFINITY);
        let is_negative = |j: usize| Some(j) != columns.positive && Some(j) != columns.own;
        let positive = columns.positive.map(|at| (at, self.logit(s[at], tau[at]), self.gradients(s[at], tau[at])));
        let pushed = if self.nearest {
            let nearest = |best: Option<usize>, j: usize| if best.is_none_or(|b| s[j] > s[b]) { Some(j) } else { best };
            let nearest = (0..s.len()).filter(|&j| is_negative(j)).fold(None, nearest);
            let found = nearest.map(|at| (at, self.logit(s[at], tau[at]), self.gradients(s[at], tau[at])));
            s.fill(T::ZERO);
            tau.fill(T::ZERO);
            found.map_or(0.0, |(at, logit, by)| {
                [s[at], tau[at]] = by.map(T::from_f64);
                logit
            })
        } else {
            for (j, logit) in logits.iter_mut().enumerate() {
                *logit = if is_negative(j) { T::from_f64(self.logit(s[j], tau[j])) } else { none };
            }
            let shift = T::largest(logits);
            let sum = T::exp_sum(logits, shift);
            for (j, share) in logits.iter().enumerate() {
                let by = if is_negative(j) { self.gradients(s[j], tau[j]) } else { [0.0; 2] };
                [s[j], tau[j]] = by.map(|g| T::from_f64(g * share.to_f64() / sum));
            }
            shift.to_f64() + sum.ln()
        };
        positive.map_or(pushed, |(at, logit, by)| {
            [s[at], tau[at]] = by.map(|g| T::from_f64(-g));
            pushed - logit
        })
    }

    /// s/τ − βΩ(τ).
    fn logit<T: Row>(&self, s: T, tau: T) -> f64 {
        let (s, tau) = (s.to_f64(), tau.to_f64());
        (s - self.beta) / tau - self.beta * 0.5 * self.dim as f64 * tau.ln()
    }

    /// Its derivatives by s and τ.
    fn gradients<T: Row>(&self, s: T, tau: T) -> [f64; 2] {
        let (s, by) = (s.to_f64(), tau.to_f64().recip());
        [by, by * ((self.beta - s) * by - self.beta * 0.5 * self.dim as f64)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, step: f64) -> Vec<f64> {
        (0..n).map(|i| (i as f64 * step + step).sin()).collect()
    }

    #[test]
    fn gradients_are_those_of_the_loss() {
        let m = 6;
        let columns =
            |i: usize| [Columns { positive: Some(4), own: Some(i) }, Columns::default(), Columns { positive: Some(0), own: None }][i];
        let (s, tau) = (numbers(3 * m, 0.7), numbers(3 * m, 0.3).iter().map(|t| t.abs() + 0.2).collect::<Vec<_>>());
        for nearest in [false, true] {
            let loss = Adaptive { beta: 0.3, dim: 5, nearest };
            let of = |s: &[f64], tau: &[f64]| loss.loss_and_gradients(&mut s.to_vec(), &mut tau.to_vec(), m, columns);
            let (mut by_s, mut by_tau) = (s.clone(), tau.clone());
            let value = loss.loss_and_gradients(&mut by_s, &mut by_tau, m, columns);
            for k in 0..3 * m {
                let moved = |x: &[f64], h: f64| x.iter().enumerate().map(|(i, v)| if i == k { v + h } else { *v }).collect::<Vec<_>>();
                let slope = |f: &dyn Fn(f64) -> f64| (f(1e-6) - f(-1e-6)) / 2e-6;
                let expected = [slope(&|h| of(&moved(&s, h), &tau)), slope(&|h| of(&s, &moved(&tau, h)))];
                for (got, expected) in [by_s[k], by_tau[k]].into_iter().zip(expected) {
                    assert!((got - expected).abs() < 1e-7 * (1.0 + expected.abs()), "nearest {nearest}, {k}: {got} and {expected}");
                }
            }
            // In f32.
            let single = |x: &[f64]| x.iter().map(|v| *v as f32).collect::<Vec<_>>();
            let (mut rough_s, mut rough_tau) = (single(&s), single(&tau));
            assert!((loss.loss_and_gradients(&mut rough_s, &mut rough_tau, m, columns) - value).abs() < 1e-4);
            assert!(rough_tau.iter().zip(&by_tau).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4 * (1.0 + b.abs())));
        }
    }
}
