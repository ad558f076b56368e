//! Differentiable sorting networks (groco): each comparator moves two values only as far as it is sure of their order.
//!
//! A network is a fixed list of layers of comparators on n wires. A comparator with v = steepness · (b − a) is sure by α(v), 1 when its
//! wires are far apart in order, ½ when they are equal; the lower wire gets α a + (1 − α) b, the upper one (1 − α) a + α b, and the rows of
//! the permutation matrix X, which begins as the identity, are mixed alike: X_ir is how much of input i ends at rank r.
//!
//! The whole of X costs O(n²) a layer. Where only X·u of one vector is wanted, as the share of each input that ends above a rank
//! ([`Sorter::judge_above`]), u is taken backwards through the layers, which costs O(n) a layer, and so do its gradients.

use crate::Real;
use rayon::prelude::*;
use std::f64::consts::PI;

/// Which wires are compared when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// n layers of neighbours, odd and even pairs in turn.
    OddEven,
    /// m(m + 1)/2 layers, m = ⌈log₂ n⌉. Of the 2^m wires the first 2^m − n are absent.
    Bitonic,
}

/// How sure a comparator is of v = steepness · (b − a): the distribution function α of this.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// ½ + atan(v)/π.
    Cauchy,
    /// 1/(1 + e^−v).
    Logistic,
    /// The logistic function of v/(|b − a| + 1e-10)^λ.
    LogisticPhi {
        /// λ.
        lambda: f64,
    },
    /// ½ (v/(2 + |v|) + 1).
    Reciprocal,
    /// v + ½ for |v| ≤ ¼, beyond it 1 − 1/(16 v) and its mirror image.
    Optimal,
}

impl Distribution {
    /// α and its derivative by b − a.
    fn of(self, difference: f64, steepness: f64) -> (f64, f64) {
        let v = steepness * difference;
        let logistic = |v: f64| 1.0 / (1.0 + (-v).exp());
        match self {
            Self::Cauchy => (0.5 + v.atan() / PI, steepness / (PI * (1.0 + v * v))),
            Self::Logistic => {
                let alpha = logistic(v);
                (alpha, steepness * alpha * (1.0 - alpha))
            }
            Self::LogisticPhi { lambda } => {
                let size = difference.abs() + 1e-10;
                let alpha = logistic(v * size.powf(-lambda));
                let slope = steepness * (size.powf(-lambda) - lambda * difference.abs() * size.powf(-lambda - 1.0));
                (alpha, alpha * (1.0 - alpha) * slope)
            }
            Self::Reciprocal => {
                let size = 2.0 + v.abs();
                (0.5 * (v / size + 1.0), steepness / (size * size))
            }
            Self::Optimal => {
                let size = v.abs() + 1e-10;
                if v.abs() <= 0.25 {
                    (v + 0.5, steepness)
                } else {
                    let beyond = 0.25 - 1.0 / (16.0 * size);
                    (v.clamp(-0.25, 0.25) + 0.5 + beyond * v.signum(), steepness / (16.0 * size * size))
                }
            }
        }
    }
}

/// Two wires; the smaller value goes to the first of them unless it is `descending`.
#[derive(Clone, Copy, Debug)]
pub struct Comparator {
    /// The first wire.
    pub a: usize,
    /// The second wire.
    pub b: usize,
    /// Whether the smaller value goes to the second.
    pub descending: bool,
}

/// A network for rows of one length.
#[derive(Clone, Debug)]
pub struct Sorter {
    width: usize,
    /// Layer after layer.
    comparators: Vec<Comparator>,
    distribution: Distribution,
    steepness: f64,
}

/// A row's way through the network.
struct Passed {
    /// The values after the last layer.
    sorted: Vec<f64>,
    /// By comparator, in order.
    kept: Vec<Kept>,
}

/// What a comparator did.
#[derive(Clone, Copy)]
struct Kept {
    /// How much of its first wire's value stays there.
    stays: f64,
    /// The derivative of that by the second wire's value.
    slope: f64,
    /// The first wire's value less the second's, before it.
    apart: f64,
}

impl Sorter {
    /// For rows of `width` values.
    ///
    /// # Panics
    /// When `width` is below 2, or `steepness` not a finite number above 0.
    pub fn new(network: Network, distribution: Distribution, steepness: f64, width: usize) -> Self {
        assert!(width >= 2, "{width} values need no sorting");
        assert!(steepness.is_finite() && steepness > 0.0, "steepness {steepness}");
        let comparators = match network {
            Network::OddEven => odd_even(width),
            Network::Bitonic => bitonic(width),
        };
        Self { width, comparators, distribution, steepness }
    }

    /// Values in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The comparators, layer after layer.
    pub fn comparators(&self) -> &[Comparator] {
        &self.comparators
    }

    fn pass(&self, row: impl Iterator<Item = f64>) -> Passed {
        let mut x: Vec<f64> = row.collect();
        let mut kept = Vec::with_capacity(self.comparators.len());
        for c in &self.comparators {
            let (a, b) = (x[c.a], x[c.b]);
            let (alpha, slope) = self.distribution.of(b - a, self.steepness);
            let (stays, slope) = if c.descending { (1.0 - alpha, -slope) } else { (alpha, slope) };
            x[c.a] = stays * a + (1.0 - stays) * b;
            x[c.b] = (1.0 - stays) * a + stays * b;
            kept.push(Kept { stays, slope, apart: a - b });
        }
        Passed { sorted: x, kept }
    }

    /// The gradient of a row from that of its sorted values and of how much the comparators keep.
    fn back(&self, kept: &[Kept], of_kept: &[f64], mut g: Vec<f64>) -> Vec<f64> {
        for (c, (&Kept { stays, slope, apart }, of_kept)) in self.comparators.iter().zip(kept.iter().zip(of_kept)).rev() {
            let (ga, gb) = (g[c.a], g[c.b]);
            let steered = slope * (of_kept + (ga - gb) * apart);
            g[c.a] = stays * ga + (1.0 - stays) * gb - steered;
            g[c.b] = (1.0 - stays) * ga + stays * gb + steered;
        }
        g
    }

    /// The sorted rows `[rows, width]` and the permutations `[rows, width, width]` (input, rank) of `values` `[rows, width]`.
    ///
    /// # Panics
    /// When the values are no whole rows.
    pub fn sort<T: Real>(&self, values: &[T]) -> (Vec<T>, Vec<T>) {
        let (n, rows) = (self.width, values.len() / self.width);
        assert_eq!(values.len(), rows * n, "rows of {n} values");
        let (mut sorted, mut permutation) = (vec![T::ZERO; rows * n], vec![T::ZERO; rows * n * n]);
        let chunks = sorted.par_chunks_mut(n).zip(permutation.par_chunks_mut(n * n)).zip(values.par_chunks(n));
        chunks.for_each(|((sorted, permutation), row)| {
            let passed = self.pass(row.iter().map(|v| v.to_f64()));
            narrow(&passed.sorted, sorted);
            let mut x = vec![0.0; n];
            for (i, out) in permutation.chunks_exact_mut(n).enumerate() {
                x.fill(0.0);
                x[i] = 1.0;
                for (c, &Kept { stays, .. }) in self.comparators.iter().zip(&passed.kept) {
                    mix(&mut x, c, stays);
                }
                narrow(&x, out);
            }
        });
        (sorted, permutation)
    }

    /// The gradient of `values` from those of what [`Sorter::sort`] returned.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn sort_gradient<T: Real>(&self, values: &[T], of_sorted: &[T], of_permutation: &[T]) -> Vec<T> {
        let n = self.width;
        assert!(values.len() == of_sorted.len() && of_permutation.len() == values.len() * n, "gradients of rows of {n} values");
        let mut gradient = vec![T::ZERO; values.len()];
        let inputs = values.par_chunks(n).zip(of_sorted.par_chunks(n)).zip(of_permutation.par_chunks(n * n));
        gradient.par_chunks_mut(n).zip(inputs).for_each(|(out, ((row, of_sorted), of_permutation))| {
            let wide = |values: &[T]| values.iter().map(|v| v.to_f64()).collect::<Vec<f64>>();
            let row = wide(row);
            let passed = self.pass(row.iter().copied());
            let mut of_kept = vec![0.0; passed.kept.len()];
            let mut differences = vec![0.0; passed.kept.len()];
            for (i, above) in of_permutation.chunks_exact(n).enumerate().filter(|(_, g)| g.iter().any(|g| *g != T::ZERO)) {
                // The way of input i, and back.
                let (mut x, mut g) = (vec![0.0; n], wide(above));
                x[i] = 1.0;
                for ((c, &Kept { stays, .. }), difference) in self.comparators.iter().zip(&passed.kept).zip(&mut differences) {
                    *difference = x[c.a] - x[c.b];
                    mix(&mut x, c, stays);
                }
                for (k, c) in self.comparators.iter().enumerate().rev() {
                    of_kept[k] += (g[c.a] - g[c.b]) * differences[k];
                    mix(&mut g, c, passed.kept[k].stays);
                }
            }
            narrow(&self.back(&passed.kept, &of_kept, wide(of_sorted)), out);
        });
        gradient
    }

    /// For each row of `values` `[rows, width]` how much of each value ends at the ranks from `first` on (`above`), and how much below
    /// (`below`, which is 1 − above but for rounding) goes to `judge(row, above, below, gradient)`, which returns a number and writes its
    /// gradient by `above`, less that by `below`. The sum of the numbers, and its gradient by the values.
    ///
    /// # Panics
    /// When the values are no whole rows.
    pub fn judge_above<T: Real>(
        &self,
        values: &[T],
        first: usize,
        judge: impl Fn(usize, &[f64], &[f64], &mut [f64]) -> f64 + Sync,
    ) -> (f64, Vec<T>) {
        let n = self.width;
        assert!(values.len().is_multiple_of(n), "rows of {n} values");
        let (mut numbers, mut gradient) = (vec![0.0; values.len() / n], vec![T::ZERO; values.len()]);
        let rows = gradient.par_chunks_mut(n).zip(values.par_chunks(n)).zip(&mut numbers).with_min_len(8).enumerate();
        rows.for_each(|(row, ((out, values), number))| {
            let passed = self.pass(values.iter().map(|v| v.to_f64()));
            // What the layers from each comparator on make of the ranks …
            let upper = |high: bool| (0..n).map(|r| f64::from(u8::from((r >= first) == high))).collect::<Vec<f64>>();
            let (mut above, mut below) = (upper(true), upper(false));
            let mut of_kept = vec![0.0; passed.kept.len()];
            for ((c, &Kept { stays, .. }), of_kept) in self.comparators.iter().zip(&passed.kept).zip(&mut of_kept).rev() {
                *of_kept = above[c.a] - above[c.b];
                mix(&mut above, c, stays);
                mix(&mut below, c, stays);
            }
            let mut h = vec![0.0; n];
            *number = judge(row, &above, &below, &mut h);
            // … and what those before it make of the gradient.
            for ((c, &Kept { stays, .. }), of_kept) in self.comparators.iter().zip(&passed.kept).zip(&mut of_kept) {
                *of_kept *= h[c.a] - h[c.b];
                mix(&mut h, c, stays);
            }
            narrow(&self.back(&passed.kept, &of_kept, vec![0.0; n]), out);
        });
        (numbers.iter().sum(), gradient)
    }
}

/// A comparator's mixture of two entries.
fn mix(x: &mut [f64], c: &Comparator, stays: f64) {
    let (a, b) = (x[c.a], x[c.b]);
    x[c.a] = stays * a + (1.0 - stays) * b;
    x[c.b] = (1.0 - stays) * a + stays * b;
}

fn narrow<T: Real>(from: &[f64], to: &mut [T]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = T::from_f64(*from));
}

fn odd_even(width: usize) -> Vec<Comparator> {
    let layer = |layer: usize| (layer % 2..width - 1).step_by(2).map(|a| Comparator { a, b: a + 1, descending: false });
    (0..width).flat_map(layer).collect()
}

fn bitonic(width: usize) -> Vec<Comparator> {
    let blocks = width.next_power_of_two().trailing_zeros();
    let (wires, absent) = (1_usize << blocks, (1_usize << blocks) - width);
    let mut comparators = Vec::new();
    for block in 0..blocks {
        for layer in 0..=block {
            let apart = 1_usize << (block - layer);
            let first = (0..wires).filter(|wire| wire & apart == 0 && *wire >= absent);
            let pair = |wire: usize| Comparator { a: wire - absent, b: wire + apart - absent, descending: (wire >> (block + 1)) % 2 == 1 };
            comparators.extend(first.map(pair));
        }
    }
    comparators
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISTRIBUTIONS: [Distribution; 5] = [
        Distribution::Cauchy,
        Distribution::Logistic,
        Distribution::LogisticPhi { lambda: 0.25 },
        Distribution::Reciprocal,
        Distribution::Optimal,
    ];
    const NETWORKS: [Network; 2] = [Network::OddEven, Network::Bitonic];

    fn wave(len: usize, step: f64) -> Vec<f64> {
        (0..len).map(|i| (i as f64 * step + step).sin()).collect()
    }

    /// Above and below by row.
    fn split<T: Real>(sorter: &Sorter, values: &[T], first: usize) -> (Vec<f64>, Vec<f64>) {
        let both = std::sync::Mutex::new(std::collections::BTreeMap::new());
        sorter.judge_above(values, first, |row, above, below, _| {
            both.lock().unwrap().insert(row, (above.to_vec(), below.to_vec()));
            0.0
        });
        let (above, below): (Vec<_>, Vec<_>) = both.into_inner().unwrap().into_values().unzip();
        (above.concat(), below.concat())
    }

    /// The gradient of Σ above · weights.
    fn of_sum(sorter: &Sorter, values: &[f64], first: usize, weights: &[f64]) -> Vec<f64> {
        let judge = |_: usize, _: &[f64], _: &[f64], gradient: &mut [f64]| {
            gradient.copy_from_slice(weights);
            0.0
        };
        sorter.judge_above(values, first, judge).1
    }

    fn each(widths: &[usize], test: impl Fn(&Sorter, &str)) {
        for &width in widths {
            for network in NETWORKS {
                for distribution in DISTRIBUTIONS {
                    for steepness in [0.7, 20.0] {
                        let name = format!("{network:?} {distribution:?} {width} {steepness}");
                        test(&Sorter::new(network, distribution, steepness, width), &name);
                    }
                }
            }
        }
    }

    #[test]
    fn permutations_are_doubly_stochastic_and_their_upper_ranks_are_what_above_says() {
        each(&[2, 3, 5, 8, 13, 33, 128], |sorter, name| {
            let (n, values) = (sorter.width(), wave(2 * sorter.width(), 0.7));
            let (sorted, x) = sorter.sort(&values);
            for row in 0..2 {
                let (x, values) = (&x[row * n * n..][..n * n], &values[row * n..][..n]);
                for r in 0..n {
                    let column: f64 = (0..n).map(|i| x[i * n + r]).sum();
                    let line: f64 = x[r * n..][..n].iter().sum();
                    assert!((column - 1.0).abs() < 1e-12 && (line - 1.0).abs() < 1e-12, "{name}");
                    let at: f64 = (0..n).map(|i| x[i * n + r] * values[i]).sum();
                    assert!((at - sorted[row * n + r]).abs() < 1e-12, "{name}: rank {r}");
                }
                for first in [1, n / 2, n - 1] {
                    let (above_of, below_of) = split(sorter, values, first);
                    for i in 0..n {
                        let above: f64 = x[i * n + first..(i + 1) * n].iter().sum();
                        assert!((above_of[i] - above).abs() < 1e-12 && (above_of[i] + below_of[i] - 1.0).abs() < 1e-12, "{name}");
                    }
                }
            }
        });
    }

    #[test]
    fn gradients_are_right() {
        each(&[2, 3, 7, 16, 21], |sorter, name| {
            // A short step: of logistic-phi the slope is not bounded where values are equal.
            let (n, values, h) = (sorter.width(), wave(sorter.width(), 0.7), 3e-8);
            let (g_sorted, g_x, g_above) = (wave(n, 1.1), wave(n * n, 0.37), wave(n, 2.3));
            let whole = |values: &[f64]| {
                let (sorted, x) = sorter.sort(values);
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                dot(&sorted, &g_sorted) + dot(&x, &g_x)
            };
            let upper = |values: &[f64]| split(sorter, values, n / 2).0.iter().zip(&g_above).map(|(a, b)| a * b).sum::<f64>();
            let ours = sorter.sort_gradient(&values, &g_sorted, &g_x);
            let of_above = of_sum(sorter, &values, n / 2, &g_above);
            for k in 0..n {
                let at = |f: &dyn Fn(&[f64]) -> f64, by: f64| {
                    let mut moved = values.clone();
                    moved[k] += by;
                    f(&moved)
                };
                for (f, ours) in [(&whole as &dyn Fn(&[f64]) -> f64, ours[k]), (&upper, of_above[k])] {
                    let expected = (at(f, h) - at(f, -h)) / (2.0 * h);
                    assert!((ours - expected).abs() < 2e-5 * (1.0 + expected.abs()), "{name}, input {k}: {ours} and {expected}");
                }
            }
        });
    }

    #[test]
    fn steep_networks_sort_anything_up_to_1024_values() {
        for network in NETWORKS {
            for width in [2, 3, 4, 31, 64, 100, 1000, 1024] {
                let values: Vec<f64> = (0..width).map(|i| ((i * 7919) % width) as f64 + (i / width) as f64).collect();
                let sorter = Sorter::new(network, Distribution::Logistic, 1e4, width);
                let sorted = split(&sorter, &values, width / 2).0;
                let mut order = values.clone();
                order.sort_by(f64::total_cmp);
                for (value, above) in values.iter().zip(&sorted) {
                    let expected = f64::from(u8::from(*value >= order[width / 2]));
                    assert!((above - expected).abs() < 1e-9, "{network:?}, {width} values");
                }
                let gradient = of_sum(&sorter, &values, width / 2, &vec![1.0; width]);
                assert!(gradient.iter().all(|g| g.abs() < 1e-9), "the sum of all is the number of ranks");
            }
            let (sorted, _) = Sorter::new(network, Distribution::Logistic, 1e4, 6).sort(&[3.0, 1.0, 2.0, 6.0, 5.0, 4.0]);
            assert!(sorted.iter().zip(1..).all(|(v, r)| (v - f64::from(r)).abs() < 1e-9), "{network:?}: {sorted:?}");
        }
    }

    #[test]
    fn equal_values_are_shared_out_and_f32_is_near() {
        each(&[2, 5, 8], |sorter, name| {
            let n = sorter.width();
            let (sorted, x) = sorter.sort(&vec![0.3; n]);
            assert!(sorted.iter().all(|v: &f64| (v - 0.3).abs() < 1e-15) && x.iter().all(|v| (0.0..=1.0).contains(v)), "{name}");
            let values = wave(n, 0.9);
            let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let (wide, thin) = (split(sorter, &values, 1).0, split(sorter, &narrow, 1).0);
            assert!(wide.iter().zip(&thin).all(|(a, b)| (a - b).abs() < 1e-5), "{name}");
        });
    }
}
