//! InfoNCE: which candidate is mine?

use super::contrast::{Contrast, Ragged};
use super::{Options, RankingLoss, Similarity, Targets};
use crate::{Error, Result, check};
use burn::tensor::Tensor;
use std::collections::{HashMap, HashSet};

/// InfoNCE (baselines-contrastive, 1): s_ij = ⟨a_i, b_j⟩/τ, L = mean_i [ −s_ii + log Σ_j exp s_ij ]; symmetric: the average with
/// the roles exchanged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InfoNce {
    temperature: f64,
    normalize: bool,
    symmetric: bool,
    options: Options,
}

impl InfoNce {
    /// On normalised rows, in one direction.
    ///
    /// # Errors
    /// When `temperature` is not a finite number above 0.
    pub fn new(temperature: f64) -> Result<Self> {
        let temperature = check::positive("temperature", temperature)?;
        Ok(Self { temperature, normalize: true, symmetric: false, options: Options::default() })
    }

    /// Whether rows are divided by their norms.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// Whether candidates look for their anchors too.
    #[must_use]
    pub fn symmetric(mut self, symmetric: bool) -> Self {
        self.symmetric = symmetric;
        self
    }

    /// Sets how it is computed.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The loss of two views `[n, d]`: row i of one belongs to row i of the other.
    ///
    /// # Errors
    /// When the shapes differ, n < 2, a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, z1: Tensor<2>, z2: Tensor<2>) -> Result<Tensor<1>> {
        check::same_shape(("z1", &z1), ("z2", &z2))?;
        check::rows("z1", &z1, 2)?;
        let targets = Targets::new((0..z1.dims()[0] as u32).collect(), Vec::new());
        self.contrast(("z1", z1), ("z2", z2), &targets)
    }

    fn contrast(&self, anchors: (&str, Tensor<2>), candidates: (&str, Tensor<2>), targets: &Targets) -> Result<Tensor<1>> {
        let [n, m] = [anchors.1.dims()[0], candidates.1.dims()[0]];
        let there = Contrast::of_targets(targets, (n, m), self.temperature, self.normalize, self.options)?;
        if !self.symmetric {
            return Ok(there.forward(anchors, candidates)?.loss);
        }
        if there.bias.is_some() {
            return Err(Error::invalid(
                "symmetric InfoNCE has no weights for the anchors that a positive looks among: take it in one direction",
            ));
        }
        // One pass serves both directions when no two anchors share their positive, as in a batch without duplicates.
        if there.is_fused(&anchors.1) && targets.positive.iter().collect::<HashSet<_>>().len() == n {
            return Ok(Contrast { both_directions: true, ..there }.forward(anchors, candidates)?.loss);
        }
        let turned = ("positives", targets.positives_of(&candidates.1));
        let positives = Ragged::new((0..n as u32).map(|i| [i]));
        let back = Contrast { positives, excluded: Ragged::new(reversed(targets)), ..there.clone() };
        let there = there.forward(anchors.clone(), candidates)?.loss;
        Ok((there + back.forward(turned, anchors)?.loss).mul_scalar(0.5))
    }
}

impl RankingLoss for InfoNce {
    /// Symmetric: the average with the loss of each anchor's positive among all anchors, where anchors that exclude that
    /// candidate, or have it as their positive too, are left out.
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        let m = candidates.dims()[0];
        if m < 2 {
            return Err(Error::invalid(format!("{m} candidates: there are no negatives")));
        }
        self.contrast(("anchors", anchors), ("candidates", candidates), targets)
    }

    fn takes_weights(&self) -> bool {
        !self.symmetric
    }

    fn describe(&self) -> String {
        let similarity = Similarity::from_normalize(self.normalize);
        format!("InfoNCE(temperature {}, {similarity}{})", self.temperature, if self.symmetric { ", symmetric" } else { "" })
    }
}

/// For each anchor's positive, the other anchors that do not count against it.
fn reversed(targets: &Targets) -> Vec<Vec<u32>> {
    let mut related: HashMap<u32, Vec<u32>> = HashMap::new();
    for (i, &p) in targets.positive.iter().enumerate() {
        related.entry(p).or_default().push(i as u32);
    }
    for (i, list) in targets.excluded.iter().enumerate() {
        for &j in list {
            related.entry(j).or_default().push(i as u32);
        }
    }
    let others = |(i, p): (usize, &u32)| related[p].iter().copied().filter(|&j| j as usize != i).collect();
    targets.positive.iter().enumerate().map(others).collect()
}
