//! The contrast by tensor operations, for devices without the kernel. What is chosen (who counts as a negative) is chosen on the host.

use super::{Closeness, Contrast, Contrasted, Keep, Negatives, PositiveMean, PositiveWeight};
use burn::tensor::{Bool, Tensor, TensorData, activation};
use foils_kernels::contrastive::Term;

/// Of each pair `[n, m]`, row-major.
struct Masks {
    /// The anchor's share in its positives, 0 elsewhere.
    positive_share: Vec<f64>,
    not_negative: Vec<bool>,
    /// Nor a negative whose bias takes it out.
    not_weighed: Vec<bool>,
    not_in_denominator: Vec<bool>,
}

impl Contrast {
    pub(super) fn tensor_ops(&self, a: Tensor<2>, c: Tensor<2>) -> Contrasted {
        let ([n, _], [m, _]) = (a.dims(), c.dims());
        let (device, dtype) = (a.device().without_autodiff(), a.dtype());
        let mask = |mask: &[bool]| Tensor::<2, Bool>::from_data(TensorData::new(mask.to_vec(), [n, m]), &device);
        let matrix = |values: Vec<f64>| {
            let columns = values.len() / n;
            Tensor::<2>::from_data(TensorData::new(values, [n, columns]), (&device, dtype))
        };
        let host = |t: &Tensor<2>| t.clone().inner().into_data().iter::<f64>().collect::<Vec<_>>();

        let (a, c) = if self.normalize { (normalize_rows(a), normalize_rows(c)) } else { (a, c) };
        let products = a.clone().matmul(c.clone().transpose());
        let similarities = match self.similarity {
            Closeness::Inner => products,
            Closeness::NegativeSquaredDistance => {
                products.mul_scalar(2.0) - a.powi_scalar(2).sum_dim(1) - c.powi_scalar(2).sum_dim(1).transpose()
            }
        };
        let logits = similarities.mul_scalar(self.scale);
        let masks = self.masks(&host(&logits), n, m);
        let hardest = logits.clone().inner().mask_fill(mask(&masks.not_negative), f64::NEG_INFINITY).max_dim(1);
        let positive = self.positive(logits.clone(), matrix(masks.positive_share.clone()));
        let biased = match &self.bias {
            None => logits.clone(),
            Some(bias) => {
                // What −∞ takes out is masked; positives have no bias.
                let bias = bias.iter().zip(&masks.not_weighed).map(|(&b, &out)| if out { 0.0 } else { b }).collect();
                logits.clone() + matrix(bias)
            }
        };

        // Of a row without any, something finite is computed and thrown away: its weight is 0, or it adds nothing.
        let with_none = |out: &[bool]| out.chunks(m).map(|row| row.iter().all(|&out| out)).collect::<Vec<_>>();
        let filled = |out: &[bool], none: &[bool]| {
            let none = none.iter().flat_map(|&none| std::iter::repeat_n(none, m));
            out.iter().zip(none).map(|(&out, none)| out && !none).collect::<Vec<_>>()
        };
        let zero_where = |none: &[bool], x: Tensor<2>| x * matrix(none.iter().map(|&none| f64::from(u8::from(!none))).collect());
        let without_negatives = with_none(&masks.not_weighed);
        let empty = with_none(&masks.not_in_denominator);
        let inside = biased.clone().mask_fill(mask(&filled(&masks.not_in_denominator, &empty)), f64::NEG_INFINITY);
        let shift = inside.clone().inner().max_dim(1);
        let exponentials = (inside.clone() - shift.clone()).exp();
        let sum = exponentials.clone().sum_dim(1);
        let log_denominator = sum.clone().log() + shift;

        let own = self.weighted_positive(&positive, n);
        let (mut of_negatives, mut row_loss) = (log_denominator.clone(), None);
        match &self.negatives {
            Negatives::LogSumExp => {}
            Negatives::Sum { weight } => {
                of_negatives = logits.mask_fill(mask(&masks.not_negative), 0.0).sum_dim(1).mul_scalar(*weight);
            }
            Negatives::WeightedMean { weight, sharpness, constant_before } => {
                let constant: Vec<bool> = (0..n * m).map(|at| at % m < *constant_before).collect();
                let sharp = logits.clone().mask_where(mask(&constant), logits.clone().detach()).mul_scalar(*sharpness);
                let sharp = sharp + (biased - logits.clone());
                let outside = mask(&filled(&masks.not_weighed, &without_negatives));
                let weights = activation::softmax(sharp.mask_fill(outside, f64::NEG_INFINITY), 1);
                of_negatives = zero_where(&without_negatives, (weights * logits).sum_dim(1)).mul_scalar(*weight);
            }
            Negatives::CrossEntropy { targets } => {
                let out = mask(&masks.not_in_denominator);
                let logarithm = (inside - log_denominator.clone()).mask_fill(out.clone(), 0.0);
                let logarithm = if self.floor > 0.0 { (logarithm.exp() + self.floor).log() } else { logarithm };
                let targets = matrix(targets.clone()).mask_fill(out, 0.0);
                row_loss = Some((targets * logarithm).sum_dim(1).neg());
            }
            Negatives::BinaryCrossEntropy { targets } => {
                let out = mask(&masks.not_in_denominator);
                let p = (exponentials / sum).mask_fill(out.clone(), 0.0);
                let targets = matrix(targets.clone()).mask_fill(out, 0.0);
                let here = p.clone().inner();
                let rest = here.clone().neg().add_scalar(1.0);
                let value = targets.clone() * here.clone().log().clamp_min(-100.0)
                    + targets.clone().neg().add_scalar(1.0) * rest.clone().log().clamp_min(-100.0);
                // PyTorch's slope, which does not end where the logarithms do.
                let slope = (here.clone() - targets) / (here.clone() * rest).clamp_min(1e-12);
                row_loss = Some((slope * (p - here) - value).sum_dim(1));
            }
            Negatives::None => of_negatives = of_negatives.zeros_like(),
        }
        let rows = row_loss.unwrap_or_else(|| {
            let rows = of_negatives.clone() - own;
            if self.floor > 0.0 { (rows.neg().exp() + self.floor).log().neg() } else { rows }
        });
        let shares = self.anchor_weight.clone().unwrap_or_else(|| vec![1.0 / n as f64; n]);
        let loss = (rows * matrix(shares)).sum();
        let has_denominator = self.negatives.targets().is_some() || self.negatives == Negatives::LogSumExp;
        let (positive, hardest) = (host(&positive), host(&hardest));
        let of_negatives = host(&of_negatives);
        let term = |i: usize| Term {
            positive: positive[i],
            log_denominator: if has_denominator && empty[i] { f64::NEG_INFINITY } else { of_negatives[i] },
            hardest_negative: hardest[i],
        };
        Contrasted { loss, terms: (0..n).map(term).collect() }
    }

    /// s̄, `[n, 1]`.
    fn positive(&self, logits: Tensor<2>, share: Tensor<2>) -> Tensor<2> {
        match self.positive_mean {
            PositiveMean::Uniform => (logits * share).sum_dim(1),
            PositiveMean::Softmax { sharpness, constant } => {
                let at = if constant { logits.clone().detach() } else { logits.clone() };
                let sharp = at.mul_scalar(sharpness).mask_fill(share.equal_elem(0.0), f64::NEG_INFINITY);
                (activation::softmax(sharp, 1) * logits).sum_dim(1)
            }
        }
    }

    /// w s̄.
    fn weighted_positive(&self, positive: &Tensor<2>, n: usize) -> Tensor<2> {
        match self.positive_weight {
            PositiveWeight::One => positive.clone(),
            PositiveWeight::Constant(w) => positive.clone().mul_scalar(w),
            PositiveWeight::Decoupled { sigma, detach } => {
                let at = if detach { positive.clone().detach() } else { positive.clone() };
                // Not `div_scalar`, whose gradient is rounded to f32 even in f64.
                let w = activation::softmax(at.mul_scalar(1.0 / (self.scale * sigma)), 0).mul_scalar(-(n as f64)).add_scalar(2.0);
                w * positive.clone()
            }
        }
    }

    fn masks(&self, logits: &[f64], n: usize, m: usize) -> Masks {
        let (positives, excluded) = (self.positives.lists(), self.excluded.lists());
        let (mut positive_share, mut not_negative) = (vec![0.0; n * m], vec![false; n * m]);
        for (i, row) in not_negative.chunks_mut(m).enumerate() {
            row[..self.first_negative].fill(true);
            let own = positives.get(i);
            for &j in excluded.get(i).iter().chain(own) {
                row[j as usize] = true;
            }
            for &p in own {
                positive_share[i * m + p as usize] += 1.0 / own.len() as f64;
            }
            keep(row, &logits[i * m..][..m], self.keep);
        }
        let mut not_weighed = not_negative.clone();
        for (out, &bias) in not_weighed.iter_mut().zip(self.bias.iter().flatten()) {
            *out |= bias == f64::NEG_INFINITY;
        }
        let mut not_in_denominator = not_weighed.clone();
        if self.positive_in_denominator {
            for (i, row) in not_in_denominator.chunks_mut(m).enumerate() {
                positives.get(i).iter().for_each(|&p| row[p as usize] = false);
            }
        }
        Masks { positive_share, not_negative, not_weighed, not_in_denominator }
    }
}

/// Takes out the negatives that do not count.
fn keep(out: &mut [bool], logits: &[f64], which: Keep) {
    let (lower, upper) = match which {
        Keep::All => return,
        Keep::Within { lower, upper } => (lower, upper),
        Keep::Hardest(share) => {
            let mut all: Vec<f64> = logits.iter().zip(&*out).filter(|(_, out)| !**out).map(|(s, _)| *s).collect();
            if all.is_empty() {
                return;
            }
            all.sort_unstable_by(f64::total_cmp);
            // 0.3 · 10 is a little more than 3.
            let k = ((share * all.len() as f64 - 1e-12).ceil() as usize).clamp(1, all.len());
            (all[all.len() - k], f64::INFINITY)
        }
    };
    out.iter_mut().zip(logits).for_each(|(out, s)| *out |= *s < lower || *s > upper);
}

/// Every row divided by max(‖row‖₂, 1e-12), on the graph.
pub(crate) fn normalize_rows(x: Tensor<2>) -> Tensor<2> {
    // The floor is applied to the square: the root of zero has no gradient.
    let norm = x.clone().powi_scalar(2).sum_dim(1).clamp_min(1e-24).sqrt();
    x / norm
}
