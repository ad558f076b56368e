//! AdamW for an embedding table of which a step touches few rows.

use foils_kernels::Touched;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// AdamW (Loshchilov & Hutter 2019) on the touched rows only.
///
/// *Lazy* means: a row is changed in the steps that touch it and in no others, and its moments, its bias correction and its
/// decoupled weight decay count those steps alone. So every row goes exactly as dense AdamW would take it through the sequence
/// of its own gradients, and a step costs in proportion to the touched rows, not to the vocabulary. (Dense AdamW would go on
/// moving a row by its momentum in the steps that do not touch it; PyTorch's `SparseAdam` counts all steps in the bias
/// correction, which makes a rare row's first update too long.)
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LazyAdamW {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay; 0 by default: rows that are seldom touched should not be the ones that keep their length.
    pub weight_decay: f32,
    first: Vec<f32>,
    second: Vec<f32>,
    steps: Vec<u32>,
}

impl Default for LazyAdamW {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.0, first: Vec::new(), second: Vec::new(), steps: Vec::new() }
    }
}

impl LazyAdamW {
    /// Forgets the moments, as at the start of a run.
    pub fn reset(&mut self) {
        (self.first, self.second, self.steps) = Default::default();
    }

    /// One step on the rows in `touched`: `table` is `[_, dim]`, `pooled_gradient` the gradient of the pooled vectors that
    /// `touched` was made for. Threaded; the result does not depend on the number of threads.
    pub fn step(&mut self, table: &mut [f32], dim: usize, touched: &Touched, pooled_gradient: &[f32], learning_rate: f64) {
        if self.first.len() != table.len() {
            self.first = vec![0.0; table.len()];
            self.second = vec![0.0; table.len()];
            self.steps = vec![0; table.len() / dim];
        }
        let (beta_1, beta_2) = (f64::from(self.beta_1), f64::from(self.beta_2));
        let (b1, b2, epsilon) = (self.beta_1, self.beta_2, self.epsilon);
        let keep = (1.0 - learning_rate * f64::from(self.weight_decay)) as f32;
        let parts = Part::split(touched.rows(), table, &mut self.first, &mut self.second, &mut self.steps, dim);
        parts.into_par_iter().for_each(|part| {
            let mut gradient = vec![0f32; dim];
            for (i, &row) in part.rows.iter().enumerate() {
                touched.row_gradient(part.begin + i, pooled_gradient, dim, &mut gradient);
                let at = row as usize - part.base;
                part.steps[at] += 1;
                let t = part.steps[at] as i32;
                let rate = (learning_rate / (1.0 - beta_1.powi(t))) as f32;
                let root = (1.0 / (1.0 - beta_2.powi(t))).sqrt() as f32;
                let range = at * dim..(at + 1) * dim;
                let (table, first, second) = (&mut part.table[range.clone()], &mut part.first[range.clone()], &mut part.second[range]);
                // Zipped, so that the compiler sees equal lengths and vectorises.
                for (((weight, m), v), &g) in table.iter_mut().zip(first).zip(second).zip(&gradient) {
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    *weight = keep * *weight - rate * *m / (v.sqrt() * root + epsilon);
                }
            }
        });
    }
}

/// The touched rows of one contiguous stretch of the table: stretches are disjoint, so that threads can write to them at once.
struct Part<'a> {
    begin: usize,
    rows: &'a [u32],
    base: usize,
    table: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    steps: &'a mut [u32],
}

impl<'a> Part<'a> {
    /// Cuts after every 256 touched rows.
    fn split(
        rows: &'a [u32],
        mut table: &'a mut [f32],
        mut first: &'a mut [f32],
        mut second: &'a mut [f32],
        mut steps: &'a mut [u32],
        dim: usize,
    ) -> Vec<Self> {
        let (mut parts, mut base) = (Vec::new(), 0);
        for (chunk, rows) in rows.chunks(256).enumerate() {
            let len = rows[rows.len() - 1] as usize + 1 - base;
            let part = Self {
                begin: chunk * 256,
                rows,
                base,
                table: table.split_off_mut(..len * dim).expect("rows are inside the table"),
                first: first.split_off_mut(..len * dim).expect("moments are as long as the table"),
                second: second.split_off_mut(..len * dim).expect("moments are as long as the table"),
                steps: steps.split_off_mut(..len).expect("one count a row"),
            };
            base += len;
            parts.push(part);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::optim::{AdamWConfig, GradientsParams};
    use burn::tensor::{Device, Tensor, TensorData};
    use foils_kernels::Bags;

    /// Burn's dense AdamW, run over one row's own gradients only, is what the lazy one does to that row.
    #[test]
    fn a_row_goes_as_dense_adamw_takes_it_through_its_own_gradients() {
        #[derive(burn::module::Module, Debug)]
        struct Row {
            weight: burn::module::Param<Tensor<1>>,
        }
        const DIM: usize = 4;
        const ROWS: usize = 700; // more than one part
        let device = Device::flex().autodiff();
        let mut table: Vec<f32> = (0..ROWS * DIM).map(|i| (i as f32 * 0.37).sin()).collect();
        let start = table.clone();
        let mut lazy = LazyAdamW { weight_decay: 0.1, ..LazyAdamW::default() };
        let mut bags = Bags::default();
        for r in 0..ROWS as u32 {
            bags.push_mean(&mut [r]);
        }
        let gradient = |step: usize, row: usize, c: usize| ((step * 31 + row * 7 + c) as f32 * 0.61).cos();
        // Row r is touched in the steps that r + 1 divides.
        let touches = |step: usize, row: usize| step.is_multiple_of(row % 3 + 1);
        for step in 1..=9 {
            let rows: Vec<u32> = (0..ROWS).filter(|&r| touches(step, r)).map(|r| r as u32).collect();
            let pooled: Vec<f32> = rows.iter().flat_map(|&r| (0..DIM).map(move |c| gradient(step, r as usize, c))).collect();
            lazy.step(&mut table, DIM, &bags.touched(&rows), &pooled, 0.05);
        }
        for row in [0, 1, 2, 350, ROWS - 1] {
            let values = start[row * DIM..][..DIM].to_vec();
            let mut module = Row { weight: burn::module::Param::from_tensor(Tensor::from_data(TensorData::new(values, [DIM]), &device)) };
            let mut dense = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.1).init();
            for step in (1..=9).filter(|&s| touches(s, row)) {
                let g: Vec<f32> = (0..DIM).map(|c| gradient(step, row, c)).collect();
                let mut gradients = GradientsParams::new();
                gradients.register(module.weight.id, Tensor::<1>::from_data(TensorData::new(g, [DIM]), &Device::flex()));
                module = dense.step(0.05, module, gradients);
            }
            let expected: Vec<f32> = module.weight.val().into_data().try_to_vec().unwrap();
            for (c, e) in expected.iter().enumerate() {
                assert!((table[row * DIM + c] - e).abs() < 2e-6, "row {row}: {} against {e}", table[row * DIM + c]);
            }
        }
    }
}
