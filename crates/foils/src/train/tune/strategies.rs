//! The ways of mining that `--auto` and `--compare` try.

use super::TuneSettings;
use crate::negatives::{Candidates, MineSettings};
use crate::weighting::NegativeFilter;

/// A way of getting negatives.
#[derive(Clone, Debug, PartialEq)]
pub struct Strategy {
    /// Its name in tables.
    pub name: String,
    /// How to mine; `None`: nothing is mined, and the negatives are those of the batch and of the file.
    pub mine: Option<MineSettings>,
}

/// The strategy that the settings name outright.
pub(super) fn asked_for(settings: &TuneSettings) -> Strategy {
    if settings.in_batch_only {
        return Strategy { name: "in-batch only".into(), mine: None };
    }
    let limited = settings.mine.filter != NegativeFilter { margin_rule: settings.mine.filter.margin_rule, ..NegativeFilter::default() };
    let name = format!("{}{}", settings.mine.candidates.name(), if limited { ", filtered" } else { "" });
    Strategy { name, mine: Some(settings.mine.clone()) }
}

/// Eight ways, from nothing mined to both sources filtered. The number of negatives, the seed and the near-copy rule are those of `base`.
pub fn strategies(base: &MineSettings) -> Vec<Strategy> {
    let way = |name: &str, candidates: Candidates, filter: NegativeFilter| Strategy {
        name: name.into(),
        mine: Some(MineSettings { candidates, filter, ..base.clone() }),
    };
    let none = NegativeFilter::default;
    let margin = || NegativeFilter { relative_margin: Some(0.05), ..none() };
    vec![
        Strategy { name: "in-batch only".into(), mine: None },
        way("random", Candidates::Random, none()),
        way("bm25", Candidates::Bm25, none()),
        way("dense", Candidates::Dense, none()),
        way("dense, filtered", Candidates::Dense, margin()),
        way("dense, from rank 11", Candidates::Dense, NegativeFilter { range_min: 10, ..none() }),
        way("bm25 + dense, filtered", Candidates::Hybrid, margin()),
        way("rank fusion, filtered", Candidates::Rrf, margin()),
    ]
}
