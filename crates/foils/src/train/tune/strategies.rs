//! The ways of mining that `--auto` and `--compare` try.

use super::TuneSettings;
use crate::negatives::{Candidates, MineSettings};
use crate::weighting::NegativeFilter;

/// A way of getting negatives.
#[derive(Clone, Debug, PartialEq)]
pub struct Strategy {
    /// Its name in settings: one of [`WAYS`], or `settings` for what the settings say.
    pub key: &'static str,
    /// Its name in tables.
    pub name: String,
    /// How to mine; `None`: nothing is mined, and the negatives are those of the batch and of the file.
    pub mine: Option<MineSettings>,
}

/// The strategy that the settings name outright.
pub(super) fn asked_for(settings: &TuneSettings) -> Strategy {
    if settings.in_batch_only {
        return Strategy { key: WAYS[0], name: "in-batch only".into(), mine: None };
    }
    let limited = settings.mine.filter != NegativeFilter { margin_rule: settings.mine.filter.margin_rule, ..NegativeFilter::default() };
    let name = format!("{}{}", settings.mine.candidates.name(), if limited { ", filtered" } else { "" });
    Strategy { key: "settings", name, mine: Some(settings.mine.clone()) }
}

/// The names of the eight ways of [`strategies`], in their order.
pub const WAYS: [&str; 8] = ["in-batch", "random", "bm25", "dense", "dense-filtered", "dense-from-11", "hybrid-filtered", "rrf-filtered"];

/// Eight ways, from nothing mined to both sources filtered. The number of negatives, the seed and the near-copy rule are those of `base`.
pub fn strategies(base: &MineSettings) -> Vec<Strategy> {
    let none = NegativeFilter::default;
    let margin = || NegativeFilter { relative_margin: Some(0.05), ..none() };
    let way = |candidates, filter| Some(MineSettings { candidates, filter, ..base.clone() });
    let ways = [
        ("in-batch only", None),
        ("random", way(Candidates::Random, none())),
        ("bm25", way(Candidates::Bm25, none())),
        ("dense", way(Candidates::Dense, none())),
        ("dense, filtered", way(Candidates::Dense, margin())),
        ("dense, from rank 11", way(Candidates::Dense, NegativeFilter { range_min: 10, ..none() })),
        ("bm25 + dense, filtered", way(Candidates::Hybrid, margin())),
        ("rank fusion, filtered", way(Candidates::Rrf, margin())),
    ];
    WAYS.into_iter().zip(ways).map(|(key, (name, mine))| Strategy { key, name: name.into(), mine }).collect()
}
