//! Embedding bags: texts as weighted sets of table rows, their pooled vectors, and the gradient of the rows they touch.
//!
//! The table is f32 because that is how it is stored and trained; a pooled row is a linear function of it, so one sparse
//! product forward and its transpose backward are all that mean pooling needs.

use rayon::prelude::*;

/// Bags in compressed sparse rows: bag `i` is Σ weight · table row over its entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Bags {
    offsets: Vec<usize>,
    rows: Vec<u32>,
    weights: Vec<f32>,
}

impl Default for Bags {
    fn default() -> Self {
        Self { offsets: vec![0], rows: Vec::new(), weights: Vec::new() }
    }
}

impl Bags {
    /// Appends the mean over `tokens` as a bag: every distinct row once, weighted by its share. `tokens` is sorted in place.
    /// An empty list makes an empty bag, whose pooled vector is 0.
    pub fn push_mean(&mut self, tokens: &mut [u32]) {
        tokens.sort_unstable();
        let total = tokens.len() as f32;
        for run in tokens.chunk_by(|a, b| a == b) {
            self.rows.push(run[0]);
            self.weights.push(run.len() as f32 / total);
        }
        self.offsets.push(self.rows.len());
    }

    /// Appends bag `i` of `other`.
    pub fn push_from(&mut self, other: &Self, i: usize) {
        let (rows, weights) = other.entries(i);
        self.rows.extend_from_slice(rows);
        self.weights.extend_from_slice(weights);
        self.offsets.push(self.rows.len());
    }

    /// How many entries all bags have together.
    pub fn total_entries(&self) -> usize {
        self.rows.len()
    }

    /// Appends all bags of `other`.
    pub fn append(&mut self, other: &Self) {
        let base = self.rows.len();
        self.rows.extend_from_slice(&other.rows);
        self.weights.extend_from_slice(&other.weights);
        self.offsets.extend(other.offsets[1..].iter().map(|o| o + base));
    }

    /// How many bags.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table rows of bag `i`, ascending, and their weights.
    pub fn entries(&self, i: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[i]..self.offsets[i + 1];
        (&self.rows[range.clone()], &self.weights[range])
    }

    /// `out[p] = Σ weight · table[row]` over the entries of bag `selected[p]`; `table` is `[_, dim]`, `out` `[selected.len(), dim]`,
    /// both row-major. Threaded; the result does not depend on the number of threads.
    ///
    /// # Panics
    /// When `out` has another length, or a bag or a table row does not exist.
    pub fn pool(&self, table: &[f32], dim: usize, selected: &[u32], out: &mut [f32]) {
        assert_eq!(out.len(), selected.len() * dim, "the output holds {} values, needs {} × {dim}", out.len(), selected.len());
        out.par_chunks_exact_mut(dim).zip(selected).for_each(|(out, &bag)| {
            let (rows, weights) = self.entries(bag as usize);
            weighted_sum(table, dim, rows.len(), |i| (rows[i], weights[i]), out);
        });
    }

    /// The transpose of the bags at `selected`: which table rows they touch, and from where.
    pub fn touched(&self, selected: &[u32]) -> Touched {
        let rows_of = |position: usize| self.entries(selected[position] as usize).0;
        let Some(last) = (0..selected.len()).filter_map(|position| rows_of(position).last()).max() else {
            return Touched { rows: Vec::new(), offsets: vec![0], sources: Vec::new() };
        };
        // Counted, then placed: within a row, positions ascend, so that sums have the same bits in every run.
        let mut next = vec![0usize; *last as usize + 1];
        (0..selected.len()).flat_map(rows_of).for_each(|&row| next[row as usize] += 1);
        let mut out = Touched { rows: Vec::new(), offsets: vec![0], sources: Vec::new() };
        let mut total = 0;
        for (row, count) in (0u32..).zip(&mut next).filter(|(_, count)| **count > 0) {
            let begin = total;
            total += std::mem::replace(count, begin);
            out.rows.push(row);
            out.offsets.push(total);
        }
        out.sources.resize(total, (0, 0.0));
        for (position, &bag) in (0u32..).zip(selected) {
            let (rows, weights) = self.entries(bag as usize);
            for (&row, &weight) in rows.iter().zip(weights) {
                let at = &mut next[row as usize];
                out.sources[*at] = (position, weight);
                *at += 1;
            }
        }
        out
    }
}

/// The table rows that a selection of bags touches, ascending, each with the positions in the selection that it feeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Touched {
    rows: Vec<u32>,
    offsets: Vec<usize>,
    sources: Vec<(u32, f32)>,
}

impl Touched {
    /// The touched rows, ascending, each once.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The gradient of the `i`-th touched row: `out = Σ weight · pooled_gradient[position]`, `pooled_gradient` being
    /// `[selected.len(), dim]` row-major.
    ///
    /// # Panics
    /// When `i` or a position is out of range.
    pub fn row_gradient(&self, i: usize, pooled_gradient: &[f32], dim: usize, out: &mut [f32]) {
        let sources = &self.sources[self.offsets[i]..self.offsets[i + 1]];
        weighted_sum(pooled_gradient, dim, sources.len(), |i| sources[i], out);
    }
}

/// `out = Σ weight · matrix[row]` over the entries 0 to `count`, added in that order.
fn weighted_sum(matrix: &[f32], dim: usize, count: usize, entry: impl Fn(usize) -> (u32, f32), out: &mut [f32]) {
    out.fill(0.0);
    let row = |i: usize| {
        let (row, weight) = entry(i);
        (&matrix[row as usize * dim..][..dim], weight)
    };
    // Four rows in one pass: memory answers several questions at once, and `out` is read and written less. The sums are those of one by one.
    let fours = count - count % 4;
    for i in (0..fours).step_by(4) {
        let [(a, wa), (b, wb), (c, wc), (d, wd)] = [row(i), row(i + 1), row(i + 2), row(i + 3)];
        for ((((o, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *o = *o + wa * a + wb * b + wc * c + wd * d;
        }
    }
    for (row, weight) in (fours..count).map(row) {
        for (o, x) in out.iter_mut().zip(row) {
            *o += weight * x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the definition: the mean of the tokens' rows, and the transpose of that linear map.
        #[test]
        fn pooling_is_the_mean_and_the_row_gradient_its_transpose(
            texts in prop::collection::vec(prop::collection::vec(0u32..7, 1..9), 1..6),
            numbers in prop::collection::vec(-1f32..1.0, 7 * 3 + 12 * 3),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        ) {
            const DIM: usize = 3;
            let (table, gradient) = numbers.split_at(7 * DIM);
            let mut bags = Bags::default();
            for text in &texts {
                bags.push_mean(&mut text.clone());
            }
            let selected: Vec<u32> = picks.iter().map(|p| p.index(texts.len()) as u32).collect();
            let gradient = &gradient[..selected.len() * DIM];
            let mut pooled = vec![9.0; selected.len() * DIM];
            bags.pool(table, DIM, &selected, &mut pooled);
            let mut expected = [0f64; 7 * DIM];
            for (p, &bag) in selected.iter().enumerate() {
                let tokens = &texts[bag as usize];
                for c in 0..DIM {
                    let mean = tokens.iter().map(|&t| f64::from(table[t as usize * DIM + c])).sum::<f64>() / tokens.len() as f64;
                    prop_assert!((f64::from(pooled[p * DIM + c]) - mean).abs() < 1e-6);
                    for &t in tokens {
                        expected[t as usize * DIM + c] += f64::from(gradient[p * DIM + c]) / tokens.len() as f64;
                    }
                }
            }
            let touched = bags.touched(&selected);
            prop_assert!(touched.rows().windows(2).all(|w| w[0] < w[1]));
            let mut found = [0f64; 7 * DIM];
            let mut row = [0f32; DIM];
            for (i, &r) in touched.rows().iter().enumerate() {
                touched.row_gradient(i, gradient, DIM, &mut row);
                (0..DIM).for_each(|c| found[r as usize * DIM + c] = row[c].into());
            }
            for (f, e) in found.iter().zip(&expected) {
                prop_assert!((f - e).abs() < 1e-5, "{f} {e}");
            }
        }
    }

    /// Numbers of entries around those that are summed at once: the same bits as the plain loop.
    #[test]
    fn sums_are_those_of_the_plain_loop() {
        let mut bags = Bags::default();
        let mut state = 1u32;
        let mut draw = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        (0..3000).for_each(|_| bags.push_mean(&mut (0..draw(9)).map(|_| draw(50)).collect::<Vec<_>>()));
        let selected: Vec<u32> = (0..3000).map(|_| draw(3000)).collect();
        for dim in [1, 3, 16, 33] {
            let table: Vec<f32> = (0..50 * dim).map(|_| draw(1000) as f32 * 0.013 - 6.0).collect();
            let mut pooled = vec![f32::NAN; selected.len() * dim];
            bags.pool(&table, dim, &selected, &mut pooled);
            for (out, &bag) in pooled.chunks(dim).zip(&selected) {
                let mut expected = vec![0f32; dim];
                let (rows, weights) = bags.entries(bag as usize);
                for (&row, weight) in rows.iter().zip(weights) {
                    expected.iter_mut().zip(&table[row as usize * dim..]).for_each(|(e, x)| *e += weight * x);
                }
                assert_eq!(out, expected);
            }
            let touched = bags.touched(&selected);
            for (i, &row) in touched.rows().iter().enumerate() {
                let (mut out, mut expected) = (vec![f32::NAN; dim], vec![0f32; dim]);
                touched.row_gradient(i, &pooled, dim, &mut out);
                for (position, &bag) in selected.iter().enumerate() {
                    let (rows, weights) = bags.entries(bag as usize);
                    if let Ok(at) = rows.binary_search(&row) {
                        expected.iter_mut().zip(&pooled[position * dim..]).for_each(|(e, x)| *e += weights[at] * x);
                    }
                }
                assert_eq!(out, expected);
            }
        }
        assert!(bags.touched(&[]).rows().is_empty());
    }

    #[test]
    fn appended_bags_are_the_same_bags() {
        let (mut one, mut two, mut both) = (Bags::default(), Bags::default(), Bags::default());
        for (target, tokens) in [(&mut one, [3, 1, 3]), (&mut two, [2, 2, 2])] {
            target.push_mean(&mut tokens.clone());
            both.push_mean(&mut tokens.clone());
        }
        two.push_mean(&mut []);
        both.push_mean(&mut []);
        one.append(&two);
        assert_eq!(one, both);
        let mut copied = Bags::default();
        (0..both.len()).for_each(|i| copied.push_from(&both, i));
        assert_eq!((&copied, copied.total_entries()), (&both, 3));
        assert_eq!(one.entries(0), (&[1, 3][..], &[1.0 / 3.0, 2.0 / 3.0][..]));
        assert_eq!(one.entries(2), (&[][..], &[][..]));
    }
}
