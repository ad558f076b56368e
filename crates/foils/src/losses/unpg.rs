//! UNPG: the batch's own negative pairs beside the class weights, in every denominator.

use super::contrast::normalize_rows;
use super::margin_heads::{MarginHead, own_class};
use crate::weighting::BoxWhisker;
use crate::{Result, check};
use burn::tensor::{Bool, Tensor, TensorData};

/// Unified negative pair generation (unpg): cross-entropy of a margin head's logits, times `scale`, with the similarities u of all pairs
/// of rows of two classes, outliers left out, appended to the denominator of every row:
/// L = −mean_i log[ e^{s·logit_iy} / (Σ_c e^{s·logit_ic} + Σ_u e^{s·u}) ], plus the norms' loss of MagFace. Takes memory for `[n, n]` and
/// `[n, classes]`, not for a list of pairs a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unpg {
    head: MarginHead,
    scale: f64,
    pairs: Option<BoxWhisker>,
}

/// What [`Unpg::forward`] returns.
#[derive(Clone, Debug)]
pub struct UnpgOutput {
    /// Shape `[1]`, on the graph.
    pub loss: Tensor<1>,
    /// How many pairs of rows were appended.
    pub kept: usize,
    /// The least and the largest similarity of a pair that was appended; none when none was.
    pub bounds: Option<(f64, f64)>,
}

impl Unpg {
    /// With a whisker of 1.5. 64 is a usual scale for faces.
    ///
    /// # Errors
    /// When `scale` is not a finite number above 0, and as [`MarginHead::validate`].
    pub fn new(head: MarginHead, scale: f64) -> Result<Self> {
        head.validate()?;
        Ok(Self { head, scale: check::positive("scale", scale)?, pairs: Some(BoxWhisker::default()) })
    }

    /// Which pairs are appended; none: the head alone, which is the baseline.
    #[must_use]
    pub fn pairs(mut self, filter: Option<BoxWhisker>) -> Self {
        self.pairs = filter;
        self
    }

    /// The loss of `features` `[n, d]` for `class_weights` `[classes, d]`; `labels` are the rows' classes. Where all rows are of one class
    /// there are no pairs, and the head's loss is left.
    ///
    /// # Errors
    /// As [`MarginHead::logits`], and when the loss is not finite.
    pub fn forward(&self, features: Tensor<2>, class_weights: Tensor<2>, labels: &[i64]) -> Result<UnpgOutput> {
        let found = self.head.logits(features.clone(), class_weights, labels)?;
        let logits = found.logits.mul_scalar(self.scale);
        let classes = logits.dims()[1];
        let own = own_class(labels, classes, &logits);
        let positive = logits.clone().mask_fill(own.bool_not(), 0.0).sum_dim(1);
        let mut denominator = log_sum_exp(logits);
        let (mut kept, mut bounds) = (0, None);
        if let Some((pairs, lower, upper, count)) = self.appended(features, labels)? {
            // One number for all rows.
            let n = labels.len();
            let pairs = log_sum_exp(pairs.reshape([1, n * n])).repeat_dim(0, n);
            denominator = log_sum_exp(Tensor::cat(vec![denominator, pairs], 1));
            (kept, bounds) = (count, Some((lower, upper)));
        }
        let loss = (denominator - positive).mean() + found.magnitude_loss;
        check::loss(loss.clone().inner().into_scalar())?;
        Ok(UnpgOutput { loss, kept, bounds })
    }

    /// The scaled similarities `[n, n]` with −∞ where nothing is appended, the least and largest that are, and how many they are.
    fn appended(&self, features: Tensor<2>, labels: &[i64]) -> Result<Option<(Tensor<2>, f64, f64, usize)>> {
        let (Some(filter), n) = (self.pairs, labels.len()) else { return Ok(None) };
        let unit = normalize_rows(features);
        let similarities = unit.clone().matmul(unit.transpose());
        let values: Vec<f64> = similarities.clone().inner().into_data().iter::<f64>().collect();
        let negative = |k: &usize| k / n < k % n && labels[k / n] != labels[k % n];
        let negatives: Vec<f64> = (0..n * n).filter(negative).map(|k| values[k]).collect();
        if negatives.is_empty() {
            return Ok(None);
        }
        let found = filter.filter(&negatives)?;
        let left_out = (0..n * n).map(|k| !(negative(&k) && (found.lower..=found.upper).contains(&values[k]))).collect::<Vec<_>>();
        let device = similarities.device().without_autodiff();
        let left_out = Tensor::<2, Bool>::from_data(TensorData::new(left_out, [n, n]), &device);
        let scaled = similarities.mul_scalar(self.scale).mask_fill(left_out, f64::NEG_INFINITY);
        Ok(found.kept.first().zip(found.kept.last()).map(|(&least, &most)| (scaled, least, most, found.kept.len())))
    }
}

/// By row, `[rows, 1]`.
fn log_sum_exp(x: Tensor<2>) -> Tensor<2> {
    let shift = x.clone().inner().max_dim(1);
    (x - shift.clone()).exp().sum_dim(1).log() + shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::MagFace;
    use burn::tensor::{DType, Device};
    use proptest::prelude::*;

    const HEADS: [MarginHead; 3] = [
        MarginHead::CosFace { margin: 0.35 },
        MarginHead::ArcFace { margin: 0.5 },
        MarginHead::MagFace(MagFace { l_margin: 0.45, u_margin: 0.8, l_a: 0.5, u_a: 3.0, lambda_g: 1.5 }),
    ];

    fn leaf(rows: &[f64], dim: usize) -> Tensor<2> {
        let data = TensorData::new(rows.to_vec(), [rows.len() / dim, dim]);
        Tensor::from_data(data, (&Device::flex().autodiff(), DType::F64)).require_grad()
    }

    fn value(loss: &Unpg, x: &[f64], w: &[f64], labels: &[i64]) -> f64 {
        loss.forward(leaf(x, 3), leaf(w, 3), labels).unwrap().loss.into_scalar()
    }

    fn own_cosines(x: &[f64], w: &[f64], labels: &[i64]) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = |a: &[f64], b: &[f64]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        x.chunks(3).zip(labels).map(|(row, &label)| cosine(row, &w[3 * label as usize..3 * label as usize + 3])).collect()
    }

    #[test]
    fn a_norm_outside_magfaces_bounds_has_no_gradient_along_its_row() {
        let (x, w) = ([0.1, 0.2, 0.1, 3.0, -2.0, 1.0], [0.3, 0.2, 1.0, -1.0, 0.1, 0.4]);
        let loss = Unpg::new(HEADS[2], 8.0).unwrap();
        let features = leaf(&x, 3);
        let gradients = loss.forward(features.clone(), leaf(&w, 3), &[0, 1]).unwrap().loss.backward();
        let gradient: Vec<f64> = features.grad(&gradients).unwrap().into_data().iter::<f64>().collect();
        for (row, gradient) in x.chunks(3).zip(gradient.chunks(3)) {
            let along: f64 = row.iter().zip(gradient).map(|(x, g)| x * g).sum();
            assert!(along.abs() < 1e-12 && gradient.iter().any(|g| g.abs() > 1e-6), "{gradient:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn gradients_are_right_and_pairs_never_lower_the_loss(
            // Norms from 0.7 to 2.6, inside MagFace's bounds.
            x in prop::collection::vec(0.4..1.5f64, 15),
            w in prop::collection::vec(-1.0..-0.1f64, 12),
            labels in prop::collection::vec(0..4i64, 5),
            head in 0..3usize,
            flip in prop::collection::vec(any::<bool>(), 15),
        ) {
            let x: Vec<f64> = x.iter().zip(flip).map(|(x, f)| if f { -x } else { *x }).collect();
            let loss = Unpg::new(HEADS[head], 8.0).unwrap();
            let found = loss.forward(leaf(&x, 3), leaf(&w, 3), &labels).unwrap();
            prop_assert!(found.loss.into_scalar::<f64>() >= value(&loss.pairs(None), &x, &w, &labels));
            let negatives = (0..25).filter(|k| k / 5 < k % 5 && labels[k / 5] != labels[k % 5]).count();
            prop_assert!(found.kept <= negatives && 2 * found.kept >= negatives);
            // The loss jumps where a pair is left out and where MagFace's margin ends: no pair is left out here, and no row at a right angle.
            let loss = loss.pairs(Some(BoxWhisker::new(1e6).unwrap()));
            prop_assume!(own_cosines(&x, &w, &labels).iter().all(|c| c.abs() > 1e-4));
            let (features, weights) = (leaf(&x, 3), leaf(&w, 3));
            let found = loss.forward(features.clone(), weights.clone(), &labels).unwrap();
            let gradients = found.loss.backward();
            for (input, values, of_features) in [(features, &x, true), (weights, &w, false)] {
                let gradient: Vec<f64> = input.grad(&gradients).unwrap().into_data().iter::<f64>().collect();
                let h = 1e-6;
                for k in 0..values.len() {
                    let at = |by: f64| {
                        let mut moved = values.clone();
                        moved[k] += by;
                        if of_features { value(&loss, &moved, &w, &labels) } else { value(&loss, &x, &moved, &labels) }
                    };
                    let expected = (at(h) - at(-h)) / (2.0 * h);
                    let near = (gradient[k] - expected).abs() < 1e-5 * (1.0 + expected.abs());
                    prop_assert!(near, "gradient {k} is {}, and {expected} by differences", gradient[k]);
                }
            }
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let (x, w) = ([1.0, 0.2, 0.3, -0.5, 1.0, 0.1], [0.3, 0.2, 1.0, -1.0, 0.1, 0.4]);
        let loss = Unpg::new(HEADS[0], 16.0).unwrap();
        let says = |x: &[f64], w: &[f64], labels: &[i64], words: &str| {
            let message = loss.forward(leaf(x, 3), leaf(w, 3), labels).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        says(&x, &w, &[0, 2], "label of row 1 is 2, and there are 2 classes");
        says(&x, &w, &[0, -1], "label of row 1 is -1");
        says(&x, &w, &[0], "1 labels for 2 rows");
        says(&x, &w[..3], &[0, 0], "class_weights");
        says(&[], &w, &[], "features");
        says(&[0.0; 6], &w, &[0, 1], "row 0");
        says(&x, &[0.0; 6], &[0, 1], "row 0");
        says(&[f64::NAN; 6], &w, &[0, 1], "features");
        for (head, scale, words) in [
            (HEADS[0], 0.0, "scale"),
            (MarginHead::ArcFace { margin: -0.1 }, 1.0, "margin"),
            (MarginHead::MagFace(MagFace { l_a: 3.0, u_a: 3.0, ..MagFace::default() }), 1.0, "l_a = 3"),
            (MarginHead::MagFace(MagFace { lambda_g: f64::NAN, ..MagFace::default() }), 1.0, "lambda_g"),
        ] {
            assert!(Unpg::new(head, scale).unwrap_err().to_string().contains(words));
        }
        let one_class = loss.forward(leaf(&x, 3), leaf(&w, 3), &[1, 1]).unwrap();
        assert!(one_class.kept == 0 && one_class.bounds.is_none());
        let alone = loss.pairs(None).forward(leaf(&x, 3), leaf(&w, 3), &[1, 1]).unwrap().loss.into_scalar::<f64>();
        assert_eq!(one_class.loss.into_scalar::<f64>(), alone);
    }
}
