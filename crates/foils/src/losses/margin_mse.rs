//! Margin-MSE: the student's margins should be the teacher's.

use super::distilled::Distilled;
use super::{Options, RankingLoss, Similarity, Targets};
use crate::{Result, check};
use burn::tensor::Tensor;

/// Margin-MSE (Hofstätter et al. 2020, arXiv 2010.02666): the mean over anchors i and their candidates j, other than the positive p
/// and those excluded, of ((s_ip − s_ij) − (t_ip − t_ij)/τ)², with s the student's similarities, t the teacher's scores
/// ([`Targets::teacher`]) and τ the teacher's temperature. With inner products and τ = 1 it is `MarginMSELoss` of
/// sentence-transformers. An anchor whose positive stands alone adds nothing; when all do, the loss is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MarginMse {
    teacher_temperature: f64,
    similarity: Similarity,
    options: Options,
}

impl MarginMse {
    /// With cosine similarity. `teacher_temperature` divides the teacher's scores, to bring those of another range (the logits of
    /// a cross-encoder) to that of the student; 1 leaves them as they are.
    ///
    /// # Errors
    /// When `teacher_temperature` is not a finite number above 0.
    pub fn new(teacher_temperature: f64) -> Result<Self> {
        let teacher_temperature = check::positive("teacher_temperature", teacher_temperature)?;
        Ok(Self { teacher_temperature, similarity: Similarity::Cosine, options: Options::default() })
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
}

impl RankingLoss for MarginMse {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let all = Distilled::new("margin-mse", anchors, candidates, targets, self.similarity, self.options)?;
        let m = all.student.dims()[1];
        let (mut positive, mut margins, mut share) = (vec![0.0; all.teacher.len()], vec![0.0; all.teacher.len()], all.counts.clone());
        for (i, &p) in targets.positive.iter().enumerate() {
            let p = i * m + p as usize;
            positive[p] = 1.0;
            share[p] = false;
            for at in (i * m..(i + 1) * m).filter(|&at| all.counts[at]) {
                margins[at] = (all.teacher[p] - all.teacher[at]) / self.teacher_temperature;
            }
        }
        let pairs = share.iter().filter(|counts| **counts).count().max(1);
        let share = share.into_iter().map(|counts| if counts { 1.0 / pairs as f64 } else { 0.0 }).collect();
        let positive = (all.student.clone() * all.constant(positive)).sum_dim(1);
        let error = positive - all.student.clone() - all.constant(margins);
        let loss = (error.powi_scalar(2) * all.constant(share)).sum();
        check::loss(loss.clone().inner().into_scalar())?;
        Ok(loss)
    }

    fn needs_teacher(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("MarginMSE(teacher temperature {}, {})", self.teacher_temperature, self.similarity)
    }
}
