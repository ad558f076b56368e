//! The one softmax contrast behind InfoNCE, NT-Xent, MoCo, the ranking loss, DCL, DCLW and SupCon, on tensors. Two paths with
//! one answer: the tiled kernel of [`foils_kernels::contrastive`], and tensor operations. The formula stands there.

use super::{Compute, Options, Targets, ZeroRows, gradient};
use crate::{Error, Result, check};
use burn::tensor::{Bool, DType, Element, Tensor, TensorData, activation};
use foils_kernels::contrastive::{self as kernel, Settings, Term};
use foils_kernels::{Lists, simd::Row};

/// Ragged lists of indices that own their memory.
#[derive(Clone, Debug)]
pub(crate) struct Ragged {
    offsets: Vec<usize>,
    indices: Vec<u32>,
}

impl Ragged {
    /// A list for each row; an empty iterator stands for no lists at all.
    pub fn new<L: IntoIterator<Item = u32>>(lists: impl IntoIterator<Item = L>) -> Self {
        let (mut offsets, mut indices) = (vec![0], Vec::new());
        for list in lists {
            indices.extend(list);
            offsets.push(indices.len());
        }
        Self { offsets, indices }
    }

    pub fn none() -> Self {
        Self::new(std::iter::empty::<[u32; 0]>())
    }

    fn lists(&self) -> Lists<'_> {
        if self.offsets.len() == 1 { Lists::EMPTY } else { Lists::new(&self.offsets, &self.indices) }
    }
}

/// The weight w of the positive logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum PositiveWeight {
    One,
    /// DCLW: w_i = 2 − n · softmax_i(similarity of the positive / σ).
    Decoupled {
        sigma: f64,
        detach: bool,
    },
}

/// Which loss: see [`Settings`].
#[derive(Clone, Debug)]
pub(crate) struct Contrast {
    pub positives: Ragged,
    pub excluded: Ragged,
    pub first_negative: usize,
    pub scale: f64,
    pub normalize: bool,
    pub positive_in_denominator: bool,
    pub positive_weight: PositiveWeight,
    /// All 1/n when absent.
    pub anchor_weight: Option<Vec<f64>>,
    /// The average with the loss of the candidates that look for their anchors: by the kernel only ([`Contrast::is_fused`]).
    pub both_directions: bool,
    pub options: Options,
}

/// A loss and its parts.
pub(crate) struct Contrasted {
    /// Shape `[1]`, on the graph.
    pub loss: Tensor<1>,
    /// By anchor.
    pub terms: Vec<Term>,
}

impl Contrast {
    pub fn new(positives: Ragged, temperature: f64, normalize: bool, options: Options) -> Self {
        Self {
            positives,
            excluded: Ragged::none(),
            first_negative: 0,
            scale: 1.0 / temperature,
            normalize,
            positive_in_denominator: true,
            positive_weight: PositiveWeight::One,
            anchor_weight: None,
            both_directions: false,
            options,
        }
    }

    /// Whether the kernel will compute it.
    pub fn is_fused(&self, anchors: &Tensor<2>) -> bool {
        self.options.compute == Compute::Auto && check::fusable(anchors)
    }

    /// The positives and exclusions of `targets`, checked against `n` anchors and `m` candidates.
    pub fn with_targets(targets: &Targets, n: usize, m: usize) -> Result<(Ragged, Ragged)> {
        if targets.positive.len() != n {
            return Err(Error::invalid(format!("{} positives for {n} anchors", targets.positive.len())));
        }
        if !targets.excluded.is_empty() && targets.excluded.len() != n {
            return Err(Error::invalid(format!("{} exclusion lists for {n} anchors", targets.excluded.len())));
        }
        let outside = |j: &&u32| **j as usize >= m;
        if let Some((i, j)) = targets.positive.iter().enumerate().find(|(_, j)| outside(j)) {
            return Err(Error::invalid(format!("the positive of anchor {i} is candidate {j} of {m}")));
        }
        if let Some((i, j)) = targets.excluded.iter().enumerate().find_map(|(i, l)| l.iter().find(outside).map(|j| (i, j))) {
            return Err(Error::invalid(format!("anchor {i} excludes candidate {j} of {m}")));
        }
        let excluded = targets.excluded.iter().map(|l| l.iter().copied());
        Ok((Ragged::new(targets.positive.iter().map(|&p| [p])), Ragged::new(excluded)))
    }

    /// Checks, computes and checks again. An input without autodiff is a constant.
    pub fn forward(&self, anchors: (&str, Tensor<2>), candidates: (&str, Tensor<2>)) -> Result<Contrasted> {
        let (a_name, a) = anchors;
        let (c_name, c) = candidates;
        check::rows(a_name, &a, 1)?;
        check::rows(c_name, &c, 1)?;
        check::same_width((a_name, &a), (c_name, &c))?;
        let result = if self.is_fused(&a) {
            match a.dtype() {
                DType::F64 => self.fused::<f64>(a_name, a, c_name, c)?,
                _ => self.fused::<f32>(a_name, a, c_name, c)?,
            }
        } else {
            check::values(a_name, &a, self.nonzero())?;
            check::values(c_name, &c, self.nonzero())?;
            assert!(!self.both_directions, "tensor operations take one direction at a time");
            self.tensor_ops(a, c)
        };
        if let Some(i) = (0..result.terms.len()).find(|&i| self.weight(i) != 0.0 && result.terms[i].log_denominator == f64::NEG_INFINITY) {
            return Err(Error::invalid(format!("anchor {i} has no negatives: every candidate is its positive or excluded")));
        }
        check::loss(result.loss.clone().inner().into_scalar())?;
        Ok(result)
    }

    fn nonzero(&self) -> bool {
        self.normalize && self.options.zero_rows == ZeroRows::Refuse
    }

    fn weight(&self, i: usize) -> f64 {
        self.anchor_weight.as_ref().map_or(1.0, |v| v[i])
    }

    fn fused<T: Row + Element>(&self, a_name: &str, a: Tensor<2>, c_name: &str, c: Tensor<2>) -> Result<Contrasted> {
        let ([n, dim], [m, _]) = (a.dims(), c.dims());
        let (a_data, c_data) = (a.clone().inner().into_data(), c.clone().inner().into_data());
        let read = |name, data| TensorData::as_slice::<T>(data).map_err(|e| Error::invalid(format!("{name} cannot be read: {e}")));
        let (a_rows, c_rows) = (read(a_name, &a_data)?, read(c_name, &c_data)?);
        check::slice(a_name, a_rows, dim, self.nonzero())?;
        check::slice(c_name, c_rows, dim, self.nonzero())?;

        let mut settings = Settings {
            excluded: self.excluded.lists(),
            first_negative: self.first_negative,
            cosine: self.normalize,
            positive_in_denominator: self.positive_in_denominator,
            anchor_weight: self.anchor_weight.as_deref(),
            both_directions: self.both_directions,
            grad_anchors: a.is_autodiff(),
            grad_candidates: c.is_autodiff(),
            ..Settings::new(self.positives.lists(), self.scale)
        };
        // The weights that the value is made with, and those that give its gradient when the weights themselves have one.
        let weights = match self.positive_weight {
            PositiveWeight::One => None,
            PositiveWeight::Decoupled { sigma, detach } => {
                let logits = kernel::positive_logits(a_rows, c_rows, dim, &settings);
                Some(decoupled_weights(&logits, self.scale, sigma, detach))
            }
        };
        settings.positive_weight = weights.as_ref().map(|(_, gradient)| gradient.as_slice());
        let result = kernel::contrast(a_rows, c_rows, dim, &settings);
        let value = match &weights {
            None => result.loss,
            Some((value, gradient)) => {
                let share = |i: usize| self.anchor_weight.as_ref().map_or(1.0 / n as f64, |v| v[i]);
                result.loss + (0..n).map(|i| share(i) * (gradient[i] - value[i]) * result.terms[i].positive).sum::<f64>()
            }
        };

        let device = a.device().without_autodiff();
        let mut loss = Tensor::<1>::from_data(TensorData::new(vec![T::from_f64(value)], [1]), (&device, a.dtype()));
        let matrix = |rows: Vec<T>, n| Tensor::<2>::from_data(TensorData::new(rows, [n, dim]), (&device, T::dtype()));
        if a.is_autodiff() {
            loss = gradient::attach(loss, a, matrix(result.grad_anchors, n));
        }
        if c.is_autodiff() {
            loss = gradient::attach(loss, c, matrix(result.grad_candidates, m));
        }
        Ok(Contrasted { loss, terms: result.terms })
    }

    fn tensor_ops(&self, a: Tensor<2>, c: Tensor<2>) -> Contrasted {
        let ([n, _], [m, _]) = (a.dims(), c.dims());
        let (device, dtype) = (a.device().without_autodiff(), a.dtype());
        let masks = self.masks(n, m);
        let mask = |m_: Vec<bool>| Tensor::<2, Bool>::from_data(TensorData::new(m_, [n, m]), &device);
        let matrix = |values: Vec<f64>, columns: usize| Tensor::<2>::from_data(TensorData::new(values, [n, columns]), (&device, dtype));

        let (a, c) = if self.normalize { (normalize_rows(a), normalize_rows(c)) } else { (a, c) };
        let logits = a.matmul(c.transpose()).mul_scalar(self.scale);
        let hardest = logits.clone().inner().mask_fill(mask(masks.not_negative), f64::NEG_INFINITY).max_dim(1);
        let positive = (logits.clone() * matrix(masks.positive_share, m)).sum_dim(1);
        let inside = logits.mask_fill(mask(masks.not_in_denominator), f64::NEG_INFINITY);
        let shift = inside.clone().inner().max_dim(1);
        let log_denominator = (inside - shift.clone()).exp().sum_dim(1).log() + shift;

        let weighted = match self.positive_weight {
            PositiveWeight::One => positive.clone(),
            PositiveWeight::Decoupled { sigma, detach } => {
                let at = if detach { positive.clone().inner() } else { positive.clone() };
                // Not `div_scalar`, whose gradient is rounded to f32 even in f64.
                let w = activation::softmax(at.mul_scalar(1.0 / (self.scale * sigma)), 0).mul_scalar(-(n as f64)).add_scalar(2.0);
                w * positive.clone()
            }
        };
        let shares = self.anchor_weight.clone().unwrap_or_else(|| vec![1.0 / n as f64; n]);
        let loss = ((log_denominator.clone() - weighted) * matrix(shares, 1)).sum();
        let host = |t: Tensor<2>| t.inner().into_data().iter::<f64>().collect::<Vec<_>>();
        let (positive, log_denominator, hardest) = (host(positive), host(log_denominator), host(hardest));
        let term = |i: usize| Term {
            positive: positive[i],
            log_denominator: if masks.empty[i] { f64::NEG_INFINITY } else { log_denominator[i] },
            hardest_negative: hardest[i],
        };
        Contrasted { loss, terms: (0..n).map(term).collect() }
    }

    fn masks(&self, n: usize, m: usize) -> Masks {
        let (positives, excluded) = (self.positives.lists(), self.excluded.lists());
        let mut masks = Masks {
            not_negative: vec![false; n * m],
            not_in_denominator: Vec::new(),
            positive_share: vec![0.0; n * m],
            empty: vec![false; n],
        };
        for (i, row) in masks.not_negative.chunks_mut(m).enumerate() {
            row[..self.first_negative].fill(true);
            let own = positives.get(i);
            for &j in excluded.get(i).iter().chain(own) {
                row[j as usize] = true;
            }
            for &p in own {
                masks.positive_share[i * m + p as usize] = 1.0 / own.len() as f64;
            }
        }
        masks.not_in_denominator = masks.not_negative.clone();
        for (i, row) in masks.not_in_denominator.chunks_mut(m).enumerate() {
            if self.positive_in_denominator {
                positives.get(i).iter().for_each(|&p| row[p as usize] = false);
            }
            if row.iter().all(|&out| out) {
                // Log of nothing: the row gets some finite value, and its weight is 0 or the loss is refused.
                masks.empty[i] = true;
                row.fill(false);
            }
        }
        masks
    }
}

struct Masks {
    not_negative: Vec<bool>,
    not_in_denominator: Vec<bool>,
    positive_share: Vec<f64>,
    empty: Vec<bool>,
}

/// Every row divided by max(‖row‖₂, 1e-12), on the graph.
pub(crate) fn normalize_rows(x: Tensor<2>) -> Tensor<2> {
    // The floor is applied to the square: the root of zero has no gradient.
    let norm = x.clone().powi_scalar(2).sum_dim(1).clamp_min(1e-24).sqrt();
    x / norm
}

/// DCLW's w_i = 2 − n p_i with p = softmax(c/σ) over the positives' similarities c = logit/scale; and the weights whose
/// constant multiples give the gradient: w_k − (n/σ) p_k (c_k − Σ_i p_i c_i), or w itself when detached.
fn decoupled_weights(logits: &[f64], scale: f64, sigma: f64, detach: bool) -> (Vec<f64>, Vec<f64>) {
    let n = logits.len() as f64;
    let c: Vec<f64> = logits.iter().map(|s| s / scale).collect();
    let shift = c.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = c.iter().map(|c| ((c - shift) / sigma).exp()).collect();
    let sum: f64 = e.iter().sum();
    let mean: f64 = e.iter().zip(&c).map(|(e, c)| e / sum * c).sum();
    let value: Vec<f64> = e.iter().map(|e| 2.0 - n * (e / sum)).collect();
    if detach {
        return (value.clone(), value);
    }
    let gradient = (0..c.len()).map(|k| value[k] - n / sigma * (e[k] / sum) * (c[k] - mean)).collect();
    (value, gradient)
}
