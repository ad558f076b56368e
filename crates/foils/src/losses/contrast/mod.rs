//! The one contrast behind InfoNCE and its kin, on tensors. Two paths with one answer: the tiled kernel of
//! [`foils_kernels::contrastive`], and tensor operations. The formula stands there, and which paper's loss is which setting.

mod tensor_ops;

use super::{Compute, Options, Targets, ZeroRows, gradient};
use crate::{Error, Result, check};
use burn::tensor::{DType, Element, Tensor, TensorData};
use foils_kernels::contrastive::{self as kernel, Bias, Pairs, Settings, Term};
pub(crate) use foils_kernels::contrastive::{Keep, PositiveMean, Similarity as Closeness};
use foils_kernels::{Lists, simd::Row};
pub(crate) use tensor_ops::normalize_rows;

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
    /// The same of each anchor.
    Constant(f64),
    /// DCLW: w_i = 2 − n · softmax_i(similarity of the positive / σ).
    Decoupled {
        sigma: f64,
        detach: bool,
    },
}

/// What the negatives add, as [`kernel::Negatives`], with matrices `[n, m]` that own their memory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Negatives {
    LogSumExp,
    Sum { weight: f64 },
    WeightedMean { weight: f64, sharpness: f64, constant_before: usize },
    CrossEntropy { targets: Vec<f64> },
    BinaryCrossEntropy { targets: Vec<f64> },
    None,
}

impl Negatives {
    fn targets(&self) -> Option<&Vec<f64>> {
        match self {
            Self::CrossEntropy { targets } | Self::BinaryCrossEntropy { targets } => Some(targets),
            _ => None,
        }
    }
}

/// Which loss: see [`Settings`].
#[derive(Clone, Debug)]
pub(crate) struct Contrast {
    pub positives: Ragged,
    pub excluded: Ragged,
    pub first_negative: usize,
    pub scale: f64,
    pub normalize: bool,
    pub similarity: Closeness,
    pub positive_in_denominator: bool,
    pub positive_mean: PositiveMean,
    pub positive_weight: PositiveWeight,
    /// All 1/n when absent.
    pub anchor_weight: Option<Vec<f64>>,
    /// Added to the negatives' logits in exponents, `[n, m]`; −∞ takes one out.
    pub bias: Option<Vec<f64>>,
    pub keep: Keep,
    pub negatives: Negatives,
    pub floor: f64,
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
            similarity: Closeness::Inner,
            positive_in_denominator: true,
            positive_mean: PositiveMean::Uniform,
            positive_weight: PositiveWeight::One,
            anchor_weight: None,
            bias: None,
            keep: Keep::All,
            negatives: Negatives::LogSumExp,
            floor: 0.0,
            both_directions: false,
            options,
        }
    }

    /// Whether the kernel will compute it.
    pub fn is_fused(&self, anchors: &Tensor<2>) -> bool {
        self.options.compute == Compute::Auto && check::fusable(anchors)
    }

    /// With the positives, exclusions and weights of `targets`, checked against `n` anchors and `m` candidates.
    pub fn of_targets(targets: &Targets, (n, m): (usize, usize), temperature: f64, normalize: bool, options: Options) -> Result<Self> {
        targets.check(n, m)?;
        let positives = Ragged::new(targets.positive.iter().map(|&p| [p]));
        let excluded = Ragged::new(targets.excluded.iter().map(|l| l.iter().copied()));
        let bias = (!targets.weights.is_empty()).then(|| targets.weights.iter().map(|w| w.ln()).collect());
        Ok(Self { excluded, bias, ..Self::new(positives, temperature, normalize, options) })
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

        let (none, row) = (Vec::new(), |all: &[f64], i: usize, row: &mut [f64]| row.copy_from_slice(&all[i * m..][..m]));
        let (bias, targets) = (self.bias.as_ref().unwrap_or(&none), self.negatives.targets().unwrap_or(&none));
        let (bias_row, target_row) = (|i: usize, to: &mut [f64]| row(bias, i, to), |i: usize, to: &mut [f64]| row(targets, i, to));
        let narrow: Vec<f32> = if T::dtype() == DType::F32 { bias.iter().map(|&b| b as f32).collect() } else { Vec::new() };
        let bias = self.bias.as_ref().map(|_| if narrow.is_empty() { Bias::Rows(Pairs(&bias_row)) } else { Bias::Matrix(&narrow) });
        let targets = Pairs(&target_row);
        let mut settings = Settings {
            excluded: self.excluded.lists(),
            first_negative: self.first_negative,
            cosine: self.normalize,
            similarity: self.similarity,
            positive_in_denominator: self.positive_in_denominator,
            positive_mean: self.positive_mean,
            bias,
            keep: self.keep,
            negatives: match self.negatives {
                Negatives::LogSumExp => kernel::Negatives::LogSumExp,
                Negatives::Sum { weight } => kernel::Negatives::Sum { weight },
                Negatives::WeightedMean { weight, sharpness, constant_before } => {
                    kernel::Negatives::WeightedMean { weight, sharpness, constant_before }
                }
                Negatives::CrossEntropy { .. } => kernel::Negatives::CrossEntropy { targets },
                Negatives::BinaryCrossEntropy { .. } => kernel::Negatives::BinaryCrossEntropy { targets },
                Negatives::None => kernel::Negatives::None,
            },
            floor: self.floor,
            anchor_weight: self.anchor_weight.as_deref(),
            both_directions: self.both_directions,
            grad_anchors: a.is_autodiff(),
            grad_candidates: c.is_autodiff(),
            ..Settings::new(self.positives.lists(), self.scale)
        };
        // The weights that the value is made with, and those that give its gradient when the weights themselves have one.
        let weights = match self.positive_weight {
            PositiveWeight::One => None,
            PositiveWeight::Constant(w) => Some((vec![w; n], vec![w; n])),
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
