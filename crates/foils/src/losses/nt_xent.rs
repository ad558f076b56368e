//! NT-Xent: InfoNCE within and across two views.

use super::contrast::{Contrast, Ragged};
use super::two_views::TwoViews;
use super::{Options, RankingLoss, Similarity, Targets};
use crate::{Result, check};
use burn::tensor::Tensor;

/// NT-Xent of SimCLR (baselines-contrastive, 2): Z = [z1; z2], s = ZZᵀ/τ without the diagonal,
/// L = mean over all 2n rows of [ −s_i,p(i) + log Σ_{j≠i} exp s_ij ].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NtXent {
    temperature: f64,
    normalize: bool,
    options: Options,
}

impl NtXent {
    /// On normalised rows. 0.5 is usual for small images, 0.1 for large ones.
    ///
    /// # Errors
    /// When `temperature` is not a finite number above 0.
    pub fn new(temperature: f64) -> Result<Self> {
        Ok(Self { temperature: check::positive("temperature", temperature)?, normalize: true, options: Options::default() })
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

    /// The loss of two views `[n, d]`.
    ///
    /// # Errors
    /// When the shapes differ, n < 2, a value is not finite, or a row to be normalised is zero.
    pub fn forward(&self, z1: Tensor<2>, z2: Tensor<2>) -> Result<Tensor<1>> {
        let views = TwoViews::new(z1, z2)?;
        let rows = 2 * views.n;
        let contrast = Contrast {
            excluded: views.selves(rows),
            ..Contrast::new(views.partners(rows), self.temperature, self.normalize, self.options)
        };
        Ok(contrast.forward(("views", views.rows.clone()), ("views", views.rows))?.loss)
    }
}

/// Anchors and their positives are the two views; each of them is compared with all other anchors and all candidates. A pair is one
/// thing: a candidate that an anchor leaves out is left out for its positive too, and so is the anchor whose positive that is; the same
/// holds for weights.
impl RankingLoss for NtXent {
    fn forward(&self, anchors: Tensor<2>, candidates: Tensor<2>, targets: &Targets) -> Result<Tensor<1>> {
        check::same_width(("anchors", &anchors), ("candidates", &candidates))?;
        let (n, m) = (anchors.dims()[0], candidates.dims()[0]);
        targets.check(n, m)?;
        let pairs = Pairs { n, m, targets };
        let partners = |i: usize| [if i < n { n as u32 + targets.positive[i] } else { (i - n) as u32 }];
        let contrast = Contrast {
            excluded: Ragged::new((0..2 * n).map(|i| pairs.excluded(i))),
            bias: (!targets.weights.is_empty()).then(|| (0..2 * n).flat_map(|i| pairs.log_weights(i)).collect()),
            ..Contrast::new(Ragged::new((0..2 * n).map(partners)), self.temperature, self.normalize, self.options)
        };
        let positives = targets.positives_of(&candidates);
        let rows = Tensor::cat(vec![anchors.clone(), positives], 0);
        Ok(contrast.forward(("anchors and positives", rows), ("candidates", Tensor::cat(vec![anchors, candidates], 0)))?.loss)
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("NTXent(temperature {}, {})", self.temperature, Similarity::from_normalize(self.normalize))
    }
}

/// What rows (n anchors, then their positives) think of columns (n anchors, then m candidates).
struct Pairs<'a> {
    n: usize,
    m: usize,
    targets: &'a Targets,
}

impl Pairs<'_> {
    /// The columns that do not count in a row, ascending: itself, other places of the same positive, and what its pair leaves out.
    fn excluded(&self, row: usize) -> Vec<u32> {
        let (n, i) = (self.n as u32, row % self.n);
        let positive = self.targets.positive[i];
        let out = self.targets.excluded.get(i).map_or(&[][..], Vec::as_slice);
        let other = |k: &u32| {
            let its = self.targets.positive[*k as usize];
            *k != i as u32 && (its == positive || out.contains(&its))
        };
        let mut columns: Vec<u32> = (0..n).filter(other).chain(out.iter().filter(|&&c| c != positive).map(|c| n + c)).collect();
        columns.push(if row < self.n { i as u32 } else { n + positive });
        columns.sort_unstable();
        columns
    }

    fn log_weights(&self, row: usize) -> impl Iterator<Item = f64> {
        let weights = &self.targets.weights[(row % self.n) * self.m..][..self.m];
        let anchors = self.targets.positive.iter().map(|&p| weights[p as usize]);
        anchors.chain(weights.iter().copied()).map(f64::ln)
    }
}
