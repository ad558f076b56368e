//! Heads with a weight row for each class, whose own class must win by a margin.

use super::contrast::normalize_rows;
use crate::{Error, Result, check};
use burn::tensor::{Bool, DType, Tensor, TensorData};

/// How far ArcFace's cosines are kept from ±1, where the angle has no gradient.
const EDGE: f64 = 1e-7;

/// What is done to the cosine of a row and its own class's weights (unpg).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MarginHead {
    /// cos θ − m.
    CosFace {
        /// m.
        margin: f64,
    },
    /// cos(θ + m), also where θ + m passes π.
    ArcFace {
        /// m, in radians.
        margin: f64,
    },
    /// cos(θ + m(a)) where cos θ > 0, else cos θ, with a the row's norm.
    MagFace(MagFace),
}

/// The margin of MagFace, which grows with the norm a = clamp(‖x‖, l_a, u_a): m(a) = l_margin + (u_margin − l_margin)(a − l_a)/(u_a − l_a). With it
/// comes a loss that rewards large norms, λ_g · mean(a/u_a² + 1/a).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MagFace {
    /// The margin at the lower norm.
    pub l_margin: f64,
    /// The margin at the upper norm.
    pub u_margin: f64,
    /// The lower norm.
    pub l_a: f64,
    /// The upper norm.
    pub u_a: f64,
    /// How much the norms' loss counts.
    pub lambda_g: f64,
}

impl Default for MagFace {
    /// Those of the public code, for faces.
    fn default() -> Self {
        Self { l_margin: 0.45, u_margin: 0.8, l_a: 10.0, u_a: 110.0, lambda_g: 35.0 }
    }
}

/// What [`MarginHead::logits`] returns.
#[derive(Clone, Debug)]
pub struct MarginLogits {
    /// Cosines with the margin applied, `[n, classes]`.
    pub logits: Tensor<2>,
    /// The norms' loss of MagFace, else 0; shape `[1]`.
    pub magnitude_loss: Tensor<1>,
}

impl MarginHead {
    /// Checks the hyper-parameters.
    ///
    /// # Errors
    /// When a margin is negative, a value is not finite, or MagFace's norms are not 0 < `l_a` < `u_a`.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::CosFace { margin } | Self::ArcFace { margin } => check::not_negative("margin", margin).map(drop),
            Self::MagFace(MagFace { l_margin, u_margin, l_a, u_a, lambda_g }) => {
                check::not_negative("l_margin", l_margin)?;
                check::not_negative("u_margin", u_margin)?;
                check::not_negative("lambda_g", lambda_g)?;
                check::positive("l_a", l_a)?;
                if check::positive("u_a", u_a)? <= l_a {
                    return Err(Error::invalid(format!("l_a = {l_a} must be below u_a = {u_a}")));
                }
                Ok(())
            }
        }
    }

    /// The logits of `features` `[n, d]` for `class_weights` `[classes, d]`; `labels` are the rows' classes.
    ///
    /// # Errors
    /// On hyper-parameters as [`MarginHead::validate`]; when there are no rows or fewer than 2 classes, a label is none of them, shapes differ, a
    /// value is not finite, or a row is zero.
    pub fn logits(&self, features: Tensor<2>, class_weights: Tensor<2>, labels: &[i64]) -> Result<MarginLogits> {
        self.validate()?;
        check::rows("features", &features, 1)?;
        check::rows("class_weights", &class_weights, 2)?;
        check::same_width(("features", &features), ("class_weights", &class_weights))?;
        let ([n, _], [classes, _]) = (features.dims(), class_weights.dims());
        if labels.len() != n {
            return Err(Error::invalid(format!("{} labels for {n} rows", labels.len())));
        }
        if let Some((i, label)) = labels.iter().enumerate().find(|(_, l)| !(0..classes as i64).contains(l)) {
            return Err(Error::invalid(format!("the label of row {i} is {label}, and there are {classes} classes")));
        }
        check::values("features", &features, true)?;
        check::values("class_weights", &class_weights, true)?;

        let cosines = normalize_rows(features.clone()).matmul(normalize_rows(class_weights).transpose());
        let own = own_class(labels, classes, &cosines);
        let cosine = cosines.clone().mask_fill(own.clone().bool_not(), 0.0).sum_dim(1);
        let zero = Tensor::<1>::zeros([1], (&cosines.device().without_autodiff(), cosines.dtype()));
        let (margined, magnitude_loss) = match *self {
            Self::CosFace { margin } => (cosine - margin, zero),
            Self::ArcFace { margin } => {
                let cosine = cosine.clamp(-1.0 + EDGE, 1.0 - EDGE);
                (cosine.clone().mul_scalar(margin.cos()) - sine(&cosine).mul_scalar(margin.sin()), zero)
            }
            Self::MagFace(mag) => {
                let norm = features.powi_scalar(2).sum_dim(1).sqrt().clamp(mag.l_a, mag.u_a);
                let slope = (mag.u_margin - mag.l_margin) / (mag.u_a - mag.l_a);
                let margin = norm.clone().sub_scalar(mag.l_a).mul_scalar(slope).add_scalar(mag.l_margin);
                let easy = cosine.clone().inner().lower_equal_elem(0.0);
                let turned = cosine.clone() * margin.clone().cos() - sine(&cosine) * margin.sin();
                let rewarded = norm.clone().mul_scalar(1.0 / (mag.u_a * mag.u_a)) + norm.recip();
                (turned.mask_where(easy, cosine), rewarded.mean().mul_scalar(mag.lambda_g))
            }
        };
        let margined = margined.repeat_dim(1, classes);
        Ok(MarginLogits { logits: cosines.mask_where(own, margined), magnitude_loss })
    }
}

/// √(1 − cos²), without gradient where rounding makes it 0 or worse.
fn sine(cosine: &Tensor<2>) -> Tensor<2> {
    let squared = cosine.clone().powi_scalar(2).neg().add_scalar(1.0);
    let none = squared.clone().inner().lower_equal_elem(0.0);
    squared.mask_fill(none.clone(), 1.0).sqrt().mask_fill(none, 0.0)
}

/// `[n, classes]`: where a column is the row's own class.
pub(super) fn own_class(labels: &[i64], classes: usize, beside: &Tensor<2>) -> Tensor<2, Bool> {
    let own = labels.iter().flat_map(|&l| (0..classes as i64).map(move |c| c == l)).collect::<Vec<_>>();
    let device = beside.device().without_autodiff();
    Tensor::from_data(TensorData::new(own, [labels.len(), classes]), (&device, DType::Bool(burn::tensor::BoolStore::Native)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// A row in its class's direction: the angle is 0, and the margin all there is.
    #[test]
    fn magface_has_its_value_and_a_finite_gradient_at_the_end() {
        let on = |values: &[f64], rows| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, 2]), (&Device::flex().autodiff(), DType::F64))
        };
        let head = MarginHead::MagFace(MagFace { l_margin: 0.5, u_margin: 0.5, l_a: 1.0, u_a: 2.0, lambda_g: 0.0 });
        for (x, expected) in [([3.0, 4.0], 0.5f64.cos()), ([-3.0, -4.0], -1.0)] {
            let features = on(&x, 1).require_grad();
            let found = head.logits(features.clone(), on(&[3.0, 4.0, 1.0, 0.0], 2), &[0]).unwrap().logits.slice([0..1, 0..1]);
            assert!((found.clone().into_scalar::<f64>() - expected).abs() < 1e-7);
            let gradient: Vec<f64> = features.grad(&found.sum().backward()).unwrap().into_data().iter::<f64>().collect();
            assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
        }
    }
}
