//! What the losses share that learn from a teacher's scores.

use super::contrast::normalize_rows;
use super::{Options, Similarity, Targets, ZeroRows};
use crate::{Error, Result, check};
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};

/// The student's scores beside the teacher's, over the candidates that count.
pub(super) struct Distilled {
    /// `[n, m]` similarities, on the graph.
    pub student: Tensor<2>,
    /// The teacher's scores, row-major; of candidates that do not count, anything.
    pub teacher: Vec<f64>,
    /// Which entries count: the positive, and what is not excluded.
    pub counts: Vec<bool>,
    dims: [usize; 2],
    place: (Device, DType),
}

impl Distilled {
    /// Checks everything. `loss` is named where the teacher is missing.
    pub fn new(
        loss: &str,
        anchors: Tensor<2>,
        candidates: Tensor<2>,
        targets: &Targets,
        similarity: Similarity,
        options: Options,
    ) -> Result<Self> {
        check::rows("anchors", &anchors, 1)?;
        check::rows("candidates", &candidates, 1)?;
        check::same_width(("anchors", &anchors), ("candidates", &candidates))?;
        let cosine = similarity.normalizes();
        for (name, x) in [("anchors", &anchors), ("candidates", &candidates)] {
            check::values(name, x, cosine && options.zero_rows == ZeroRows::Refuse)?;
        }
        let dims @ [n, m] = [anchors.dims()[0], candidates.dims()[0]];
        targets.check(n, m)?;
        targets.refuse_weights(loss)?;
        if targets.teacher.is_empty() {
            return Err(Error::invalid(format!("{loss} learns from a teacher's scores, and there are none")));
        }
        if targets.teacher.len() != n * m {
            let found = targets.teacher.len();
            return Err(Error::invalid(format!("the teacher gave {found} scores for {n} anchors and {m} candidates")));
        }
        let mut counts = vec![true; n * m];
        for (i, row) in targets.excluded.iter().enumerate() {
            row.iter().for_each(|&j| counts[i * m + j as usize] = false);
        }
        targets.positive.iter().enumerate().for_each(|(i, &p)| counts[i * m + p as usize] = true);
        if let Some(at) = (0..n * m).find(|&at| counts[at] && !targets.teacher[at].is_finite()) {
            let (i, j, score) = (at / m, at % m, targets.teacher[at]);
            return Err(Error::invalid(format!("the teacher's score of anchor {i} and candidate {j} is {score}")));
        }
        let place = (anchors.device().without_autodiff(), anchors.dtype());
        let [anchors, candidates] = [anchors, candidates].map(|x| if cosine { normalize_rows(x) } else { x });
        let teacher = targets.teacher.clone();
        Ok(Self { student: anchors.matmul(candidates.transpose()), teacher, counts, dims, place })
    }

    /// `[n, m]` numbers as a constant.
    pub fn constant(&self, values: Vec<f64>) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, self.dims), (&self.place.0, self.place.1))
    }

    /// True where a candidate does not count.
    pub fn mask(&self) -> Tensor<2, Bool> {
        Tensor::from_data(TensorData::new(self.counts.iter().map(|c| !c).collect(), self.dims), &self.place.0)
    }
}
