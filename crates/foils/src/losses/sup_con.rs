//! Supervised contrast: everything of the same label is a positive.

use super::Options;
use super::contrast::{Contrast, Ragged};
use crate::{Error, Result, check};
use burn::tensor::Tensor;
use std::collections::HashMap;

/// SupCon (baselines-contrastive, 5; the sum stands outside the log): over all n·v features, with A(i) all others and P(i) those of
/// the same label, ℓ_i = −(τ/τ_base) · 1/|P(i)| Σ_{p ∈ P(i)} [ s_ip − log Σ_{a ∈ A(i)} exp s_ia ]. Anchors without a positive add 0 and
/// count in the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SupCon {
    temperature: f64,
    base_temperature: f64,
    normalize: bool,
    options: Options,
}

impl SupCon {
    /// On normalised rows, with the base temperature equal to `temperature`. 0.07 and 0.1 are usual.
    ///
    /// # Errors
    /// When `temperature` is not a finite number above 0.
    pub fn new(temperature: f64) -> Result<Self> {
        let temperature = check::positive("temperature", temperature)?;
        Ok(Self { temperature, base_temperature: temperature, normalize: true, options: Options::default() })
    }

    /// Sets τ_base, which only scales the loss.
    ///
    /// # Errors
    /// When it is not a finite number above 0.
    pub fn base_temperature(mut self, base_temperature: f64) -> Result<Self> {
        self.base_temperature = check::positive("base_temperature", base_temperature)?;
        Ok(self)
    }

    /// Whether rows are divided by their norms.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// Sets how it is computed.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The loss of features `[n, v, d]` (v views of each sample) with n labels; 0 when no two features share a label.
    ///
    /// # Errors
    /// When n or v is 0, there are not n labels, a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, features: Tensor<3>, labels: &[i64]) -> Result<Tensor<1>> {
        check::rows("features", &features, 1)?;
        let [n, v, d] = features.dims();
        if labels.len() != n {
            return Err(Error::invalid(format!("{} labels for features of shape {:?}", labels.len(), [n, v, d])));
        }
        // View by view: feature r is view r / n of sample r % n.
        let rows = features.swap_dims(0, 1).reshape([v * n, d]);
        let mut of_label: HashMap<i64, Vec<u32>> = HashMap::new();
        for r in 0..v * n {
            of_label.entry(labels[r % n]).or_default().push(r as u32);
        }
        let positives = (0..v * n).map(|r| of_label[&labels[r % n]].iter().copied().filter(move |&p| p as usize != r));
        let share = self.temperature / self.base_temperature / (v * n) as f64;
        let alone = |r: usize| of_label[&labels[r % n]].len() == 1;
        let contrast = Contrast {
            excluded: Ragged::new((0..(v * n) as u32).map(|r| [r])),
            anchor_weight: Some((0..v * n).map(|r| if alone(r) { 0.0 } else { share }).collect()),
            ..Contrast::new(Ragged::new(positives), self.temperature, self.normalize, self.options)
        };
        Ok(contrast.forward(("features", rows.clone()), ("features", rows))?.loss)
    }
}
