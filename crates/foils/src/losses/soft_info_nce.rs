//! InfoNCE whose negatives weigh less the more they are related to the anchor, and the paper's other ways to use a relation.

use super::contrast::{Contrast, Negatives};
use super::setters::setters;
use super::{Options, RankingLoss, Similarity, Targets};
use crate::{Error, Result, check};
use burn::tensor::Tensor;

/// What is added to probabilities before their logarithm (the official code).
const FLOOR: f64 = 1e-15;

/// Soft-InfoNCE (soft-infonce): L = −mean_i ln( e^{s_ii} / (e^{s_ii} + Σ_{j≠i} w_ij e^{s_ij}) + 1e-15 ), s = ⟨q, c⟩/τ, with the
/// weights of [`Targets::weights`], of which the gradient knows nothing. [`crate::weighting::SoftNegatives`] makes them of any
/// relevance. With weights of 1 it is InfoNCE, bounded by 34.5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftInfoNce {
    temperature: f64,
    normalize: bool,
    options: Options,
}

impl SoftInfoNce {
    /// On normalised rows; the paper's code takes inner products and a temperature of 1.
    ///
    /// # Errors
    /// When `temperature` is not a finite number above 0.
    pub fn new(temperature: f64) -> Result<Self> {
        Ok(Self { temperature: check::positive("temperature", temperature)?, normalize: true, options: Options::default() })
    }

    setters!(normalize, options);
}

impl RankingLoss for SoftInfoNce {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let shape = shape(&anchors, &candidates)?;
        let contrast = Contrast { floor: FLOOR, ..Contrast::of_targets(targets, shape, self.temperature, self.normalize, self.options)? };
        Ok(contrast.forward(("anchors", anchors), ("candidates", candidates))?.loss)
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("SoftInfoNCE(temperature {}, {})", self.temperature, Similarity::from_normalize(self.normalize))
    }
}

/// What is made of the relevance.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    Weighted,
    Bce,
    Kl { info_nce_weight: f64, kl_weight: f64 },
}

/// Losses that learn how related the negatives are (soft-infonce, the alternatives of the paper). With p_ij the softmax of s = ⟨q, c⟩/τ over
/// an anchor's candidates and sim_ij that of their relevance ([`Targets::teacher`]) over t, over the negatives alone:
///
/// - weighted: −mean_i [ ln p_ii + Σ_{j≠i} sim_ij ln p_ij ], each probability + 1e-15;
/// - BCE: the mean over all pairs of the binary cross-entropy of p_ij from [1, sim_i·], logarithms at least −100;
/// - KL: v · InfoNCE + w · mean_i KL( sim_i· ‖ softmax_{j≠i} s_ij ).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RelevanceInfoNce {
    used: Use,
    temperature: f64,
    weight_temperature: f64,
    normalize: bool,
    options: Options,
}

impl RelevanceInfoNce {
    /// Weighted InfoNCE on normalised rows; `weight_temperature` is t.
    ///
    /// # Errors
    /// When a temperature is not a finite number above 0.
    pub fn weighted(temperature: f64, weight_temperature: f64) -> Result<Self> {
        Self::new(Use::Weighted, temperature, weight_temperature)
    }

    /// BCE on normalised rows.
    ///
    /// # Errors
    /// As [`RelevanceInfoNce::weighted`].
    pub fn bce(temperature: f64, weight_temperature: f64) -> Result<Self> {
        Self::new(Use::Bce, temperature, weight_temperature)
    }

    /// KL-regularised InfoNCE on normalised rows: v and w.
    ///
    /// # Errors
    /// As [`RelevanceInfoNce::weighted`], and when v or w is not a finite number of at least 0.
    pub fn kl(temperature: f64, weight_temperature: f64, info_nce_weight: f64, kl_weight: f64) -> Result<Self> {
        let info_nce_weight = check::not_negative("info_nce_weight", info_nce_weight)?;
        let kl_weight = check::not_negative("kl_weight", kl_weight)?;
        Self::new(Use::Kl { info_nce_weight, kl_weight }, temperature, weight_temperature)
    }

    fn new(used: Use, temperature: f64, weight_temperature: f64) -> Result<Self> {
        let temperature = check::positive("temperature", temperature)?;
        let weight_temperature = check::positive("weight_temperature", weight_temperature)?;
        Ok(Self { used, temperature, weight_temperature, normalize: true, options: Options::default() })
    }

    setters!(normalize, options);

    fn name(&self) -> &'static str {
        match self.used {
            Use::Weighted => "WeightedInfoNCE",
            Use::Bce => "BceInfoNCE",
            Use::Kl { .. } => "KlInfoNCE",
        }
    }

    /// sim `[n, m]`: 0 for positives and what is excluded; and how many candidates each anchor has.
    fn similarities(&self, targets: &Targets, (n, m): (usize, usize)) -> Result<(Vec<f64>, Vec<usize>)> {
        let relevance = &targets.teacher;
        if relevance.len() != n * m {
            let found = relevance.len();
            return Err(Error::invalid(format!("{} learns a relevance of {n} × {m} pairs, and {found} are given", self.name())));
        }
        let (mut all, mut counts) = (vec![0.0; n * m], Vec::with_capacity(n));
        for i in 0..n {
            let (own, excluded) = (targets.positive[i] as usize, targets.excluded.get(i).map_or(&[][..], Vec::as_slice));
            let mut negative = vec![true; m];
            excluded.iter().for_each(|&j| negative[j as usize] = false);
            negative[own] = false;
            let negatives: Vec<usize> = (0..m).filter(|&j| negative[j]).collect();
            if let Some(j) = negatives.iter().copied().chain([own]).find(|&j| !relevance[i * m + j].is_finite()) {
                return Err(Error::invalid(format!("the relevance of candidate {j} for anchor {i} is {}", relevance[i * m + j])));
            }
            let logits = || negatives.iter().map(|&j| relevance[i * m + j] / self.weight_temperature);
            let shift = logits().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits().map(|s| (s - shift).exp()).sum();
            negatives.iter().zip(logits()).for_each(|(&j, s)| all[i * m + j] = (s - shift).exp() / sum);
            counts.push(negatives.len() + 1);
        }
        Ok((all, counts))
    }
}

impl RankingLoss for RelevanceInfoNce {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let (n, m) = shape(&anchors, &candidates)?;
        targets.check(n, m)?;
        targets.refuse_weights(self.name())?;
        let (similarities, counts) = self.similarities(targets, (n, m))?;
        let plain = Contrast::of_targets(targets, (n, m), self.temperature, self.normalize, self.options)?;
        let with_positives = || {
            let mut all = similarities.clone();
            targets.positive.iter().enumerate().for_each(|(i, &p)| all[i * m + p as usize] = 1.0);
            all
        };
        let of =
            |contrast: Contrast| Ok::<_, Error>(contrast.forward(("anchors", anchors.clone()), ("candidates", candidates.clone()))?.loss);
        match self.used {
            Use::Weighted => of(Contrast { negatives: Negatives::CrossEntropy { targets: with_positives() }, floor: FLOOR, ..plain }),
            Use::Bce => {
                let pairs: usize = counts.iter().sum();
                of(Contrast {
                    negatives: Negatives::BinaryCrossEntropy { targets: with_positives() },
                    anchor_weight: Some(vec![1.0 / pairs as f64; n]),
                    ..plain
                })
            }
            Use::Kl { info_nce_weight, kl_weight } => {
                let entropy = similarities.iter().filter(|t| **t > 0.0).map(|t| -t * t.ln()).sum::<f64>() / n as f64;
                let cross = Contrast {
                    positive_in_denominator: false,
                    negatives: Negatives::CrossEntropy { targets: similarities },
                    ..plain.clone()
                };
                Ok(of(plain)?.mul_scalar(info_nce_weight) + of(cross)?.sub_scalar(entropy).mul_scalar(kl_weight))
            }
        }
    }

    fn needs_teacher(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        let more = match self.used {
            Use::Kl { info_nce_weight, kl_weight } => format!(", weights {info_nce_weight} and {kl_weight}"),
            _ => String::new(),
        };
        let similarity = Similarity::from_normalize(self.normalize);
        format!("{}(temperature {}, of the relevance {}{more}, {similarity})", self.name(), self.temperature, self.weight_temperature)
    }
}

fn shape(anchors: &Tensor<2>, candidates: &Tensor<2>) -> Result<(usize, usize)> {
    let m = candidates.dims()[0];
    if m < 2 {
        return Err(Error::invalid(format!("{m} candidates: there are no negatives")));
    }
    Ok((anchors.dims()[0], m))
}
