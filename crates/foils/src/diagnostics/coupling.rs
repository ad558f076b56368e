//! Negative-positive coupling: by how much InfoNCE mutes an anchor's gradient.

use crate::{Error, Result, check};
use burn::tensor::Tensor;
use foils_kernels::Lists;
use foils_kernels::contrastive::{Settings, contrast};

/// q of each sample's two views.
#[derive(Clone, Debug, PartialEq)]
pub struct Coupling {
    /// Of anchors in the first view.
    pub q1: Vec<f64>,
    /// Of anchors in the second view.
    pub q2: Vec<f64>,
}

impl Coupling {
    /// The mean over all anchors.
    pub fn mean(&self) -> f64 {
        self.q1.iter().chain(&self.q2).sum::<f64>() / (self.q1.len() + self.q2.len()) as f64
    }
}

/// q_i = 1 − P(positive) = sigmoid(log Neg(i) − s⁺) of two views `[n, d]`, where Neg(i) sums exp s over both views of all other
/// samples (dcl). InfoNCE's gradient is q_i times that of the decoupled loss: near 0, the anchor learns nothing. Computed in f64;
/// a zero row is taken as it is.
///
/// # Errors
/// When the shapes differ, n < 2, a value is not finite, or `temperature` is not above 0.
pub fn npc_multiplier(z1: &Tensor<2>, z2: &Tensor<2>, temperature: f64, normalize: bool) -> Result<Coupling> {
    let temperature = check::positive("temperature", temperature)?;
    check::same_shape(("z1", z1), ("z2", z2))?;
    check::rows("z1", z1, 2)?;
    let [n, dim] = z1.dims();
    let mut rows = Vec::with_capacity(2 * n * dim);
    for (name, z) in [("z1", z1), ("z2", z2)] {
        check::values(name, z, false)?;
        rows.extend(z.clone().inner().into_data().iter::<f64>());
    }
    let offsets: Vec<usize> = (0..=2 * n).collect();
    let partners: Vec<u32> = (n..2 * n).chain(0..n).map(|i| i as u32).collect();
    let selves: Vec<u32> = (0..2 * n as u32).collect();
    let settings = Settings {
        excluded: Lists::new(&offsets, &selves),
        cosine: normalize,
        positive_in_denominator: false,
        grad_anchors: false,
        grad_candidates: false,
        ..Settings::new(Lists::new(&offsets, &partners), 1.0 / temperature)
    };
    let mut q: Vec<f64> = contrast(&rows, &rows, dim, &settings)
        .terms
        .iter()
        .map(|t| {
            let x = t.log_denominator - t.positive;
            // Each form only where its exponential is at most 1.
            if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
        })
        .collect();
    if q.iter().any(|q| q.is_nan()) {
        return Err(Error::invalid("the logits are too large; normalise the rows or raise the temperature"));
    }
    let q2 = q.split_off(n);
    Ok(Coupling { q1: q, q2 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn easy_positives_are_muted_and_hard_ones_are_not() {
        let device = Device::flex();
        let z = Tensor::<2>::from_floats([[1.0, 0.0], [-1.0, 0.0]], &device);
        let easy = npc_multiplier(&z, &z, 0.01, true).unwrap();
        // s⁺ = 100 against two negatives at −100: q = 2 e^-200, which 1 − P would round to 0.
        assert!((easy.mean() / (2.0 * (-200.0f64).exp()) - 1.0).abs() < 1e-9);
        let hard = npc_multiplier(&z, &z.clone().neg(), 0.01, true).unwrap();
        assert_eq!(hard.q1, [1.0, 1.0]);
        // Everything equal: one positive among 2n − 1.
        let same = Tensor::<2>::from_floats([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], &device);
        let q = npc_multiplier(&same, &same, 0.5, true).unwrap();
        assert!(q.q1.iter().chain(&q.q2).all(|q| (q - 0.8).abs() < 1e-12));
    }

    #[test]
    fn refuses_bad_input() {
        let device = Device::flex();
        let z = Tensor::<2>::from_floats([[1.0, 0.0], [-1.0, 0.0]], &device);
        assert!(npc_multiplier(&z, &z, 0.0, true).is_err());
        assert!(npc_multiplier(&z, &z.clone().narrow(0, 0, 1), 0.1, true).is_err());
        let one = z.clone().narrow(0, 0, 1);
        assert!(npc_multiplier(&one, &one, 0.1, true).unwrap_err().to_string().contains("no negatives"));
        let nan = z.clone().mul_scalar(f32::NAN);
        assert!(npc_multiplier(&z, &nan, 0.1, true).unwrap_err().to_string().contains("z2: row 0"));
        // Zero rows have similarity 0 to everything: one positive among three.
        let zero = z.mul_scalar(0.0);
        assert!((npc_multiplier(&zero, &zero, 0.1, true).unwrap().mean() - 2.0 / 3.0).abs() < 1e-12);
    }
}
