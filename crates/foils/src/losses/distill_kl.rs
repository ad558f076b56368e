//! KL divergence of the student's ranking from the teacher's.

use super::distilled::Distilled;
use super::{Options, RankingLoss, Similarity, Targets};
use crate::{Result, check};
use burn::tensor::Tensor;

/// Distillation by KL divergence: τ² times the mean over anchors i of Σ_j P_ij (log P_ij − log Q_ij), Q_i = softmax_j(s_ij/τ) of the
/// student's similarities and P_i = softmax_j(t_ij/τ_t) of the teacher's scores ([`Targets::teacher`]), over all candidates that are
/// not excluded, the positive among them. The factor τ² is that of `DistillKLDivLoss` of sentence-transformers (after Hinton et
/// al. 2015), which this is with inner products. An anchor whose positive stands alone adds 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DistillKl {
    temperature: f64,
    teacher_temperature: f64,
    similarity: Similarity,
    options: Options,
}

impl DistillKl {
    /// With cosine similarity; `temperature` is τ, the student's.
    ///
    /// # Errors
    /// When a temperature is not a finite number above 0.
    pub fn new(temperature: f64, teacher_temperature: f64) -> Result<Self> {
        let temperature = check::positive("temperature", temperature)?;
        let teacher_temperature = check::positive("teacher_temperature", teacher_temperature)?;
        Ok(Self { temperature, teacher_temperature, similarity: Similarity::Cosine, options: Options::default() })
    }

    /// Sets the student's similarity.
    #[must_use]
    pub fn similarity(mut self, similarity: Similarity) -> Self {
        self.similarity = similarity;
        self
    }

    /// Sets what is done with zero rows (cosine).
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// P, row by row, 0 where a candidate does not count; and Σ P log P over all of it.
    fn teacher(&self, all: &Distilled) -> (Vec<f64>, f64) {
        let (m, mut sum) = (all.student.dims()[1], 0.0);
        let mut out = vec![0.0; all.teacher.len()];
        for ((p, t), counts) in out.chunks_mut(m).zip(all.teacher.chunks(m)).zip(all.counts.chunks(m)) {
            let scores = || (0..m).filter(|&j| counts[j]).map(|j| (j, t[j] / self.teacher_temperature));
            let highest = scores().map(|(_, t)| t).fold(f64::NEG_INFINITY, f64::max);
            scores().for_each(|(j, t)| p[j] = (t - highest).exp());
            let total: f64 = p.iter().sum();
            p.iter_mut().for_each(|p| *p /= total);
            sum += scores().map(|(j, t)| p[j] * (t - highest - total.ln())).sum::<f64>();
        }
        (out, sum)
    }
}

impl RankingLoss for DistillKl {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let all = Distilled::new("kl", anchors, candidates, targets, self.similarity, self.options)?;
        let (teacher, negative_entropy) = self.teacher(&all);
        let logits = all.student.clone().mul_scalar(1.0 / self.temperature);
        let expected = (logits.clone() * all.constant(teacher)).sum();
        let inside = logits.mask_fill(all.mask(), f64::NEG_INFINITY);
        let shift = inside.clone().inner().max_dim(1);
        let log_denominator = (inside - shift.clone()).exp().sum_dim(1).log() + shift;
        let divergence = (log_denominator.sum() - expected).add_scalar(negative_entropy);
        let loss = divergence.mul_scalar(self.temperature * self.temperature / targets.positive.len() as f64);
        check::loss(loss.clone().inner().into_scalar())?;
        Ok(loss)
    }

    fn needs_teacher(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("DistillKL(temperature {}, teacher temperature {}, {})", self.temperature, self.teacher_temperature, self.similarity)
    }
}
