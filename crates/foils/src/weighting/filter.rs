//! Which mined candidates are probably false negatives (`baselines-mining`, "Mining").

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What the relative margin means when the positive's score is negative; above 0 both rules are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarginRule {
    /// Remove s > s⁺ − |s⁺|·m: the limit is below the positive whatever its sign.
    #[default]
    Magnitude,
    /// Remove s > s⁺·(1 − m): the older rule, under which a negative s⁺ moves the limit above the positive.
    Factor,
}

/// Limits on the score of a negative, and a window of ranks. `None` is off; by default everything is off.
///
/// All limits are strict: a candidate exactly on a limit is kept. s is the candidate's score, s⁺ the lowest score among the
/// positives of its query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NegativeFilter {
    /// Skip so many of the survivors, hardest first.
    pub range_min: usize,
    /// Look no further than so many survivors; more than `range_min`. [`NegativeFilter::range_max_for`] gives the default.
    pub range_max: Option<usize>,
    /// Remove s + margin > s⁺ ("TopK-MarginPos" of NV-Retriever).
    pub absolute_margin: Option<f64>,
    /// Remove by [`MarginRule`]; 0.05 keeps what is at most 95 % of the positive ("TopK-PercPos").
    pub relative_margin: Option<f64>,
    /// What `relative_margin` means below 0.
    pub margin_rule: MarginRule,
    /// Remove s > limit ("TopK-Abs").
    pub max_score: Option<f64>,
    /// Remove s < limit.
    pub min_score: Option<f64>,
}

/// Why a candidate is not a negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// Too near the positive, in absolute terms.
    AbsoluteMargin,
    /// Too near the positive, relative to it.
    RelativeMargin,
    /// Too similar to the query.
    MaxScore,
    /// Too far from the query.
    MinScore,
    /// Among the first survivors that are skipped.
    RangeMin,
    /// Behind the last survivor that is looked at.
    RangeMax,
}

impl Rejection {
    /// All, in the order in which they are applied.
    pub const ALL: [Self; 6] = [Self::AbsoluteMargin, Self::RelativeMargin, Self::MaxScore, Self::MinScore, Self::RangeMin, Self::RangeMax];

    /// As the setting is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::AbsoluteMargin => "absolute_margin",
            Self::RelativeMargin => "relative_margin",
            Self::MaxScore => "max_score",
            Self::MinScore => "min_score",
            Self::RangeMin => "range_min",
            Self::RangeMax => "range_max",
        }
    }
}

impl NegativeFilter {
    /// Checks the values.
    ///
    /// # Errors
    /// When a limit is not finite or `range_max` is not above `range_min`.
    pub fn validate(&self) -> Result<()> {
        let limits = [
            ("absolute_margin", self.absolute_margin),
            ("relative_margin", self.relative_margin),
            ("max_score", self.max_score),
            ("min_score", self.min_score),
        ];
        for (name, limit) in limits {
            if let Some(limit) = limit.filter(|l| !l.is_finite()) {
                return Err(Error::invalid(format!("{name} is {limit}, it must be a finite number")));
            }
        }
        match self.range_max {
            Some(max) if max <= self.range_min => {
                Err(Error::invalid(format!("range_max is {max}, it must be above range_min, which is {}", self.range_min)))
            }
            _ => Ok(()),
        }
    }

    /// `range_max`, or where it is not set: `range_min` + `num_negatives` + the largest number of positives of a query, with
    /// ten times `num_negatives` where a margin or `max_score` may remove many.
    pub fn range_max_for(&self, num_negatives: usize, most_positives: usize) -> usize {
        let removes = self.absolute_margin.is_some() || self.relative_margin.is_some() || self.max_score.is_some();
        let reserve = if removes { num_negatives.saturating_mul(10) } else { num_negatives };
        self.range_max.unwrap_or(self.range_min.saturating_add(reserve).saturating_add(most_positives))
    }

    /// Whether any limit is on a score, so that scores are needed.
    pub fn needs_scores(&self) -> bool {
        self.needs_positive_scores() || self.max_score.is_some() || self.min_score.is_some()
    }

    /// Whether a margin is on, which compares with the positive.
    pub fn needs_positive_scores(&self) -> bool {
        self.absolute_margin.is_some() || self.relative_margin.is_some()
    }

    /// Why a candidate of score `score` is no negative beside a positive of score `positive`, or `None` when it may be one.
    /// The first limit that it violates is named; ranks are not looked at here.
    pub fn rejects(&self, score: f64, positive: f64) -> Option<Rejection> {
        let limit_of = |margin: f64| match self.margin_rule {
            MarginRule::Magnitude => positive - positive.abs() * margin,
            MarginRule::Factor => positive * (1.0 - margin),
        };
        if self.absolute_margin.is_some_and(|margin| score + margin > positive) {
            Some(Rejection::AbsoluteMargin)
        } else if self.relative_margin.is_some_and(|margin| score > limit_of(margin)) {
            Some(Rejection::RelativeMargin)
        } else if self.max_score.is_some_and(|limit| score > limit) {
            Some(Rejection::MaxScore)
        } else if self.min_score.is_some_and(|limit| score < limit) {
            Some(Rejection::MinScore)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_strict_and_the_rules_part_below_zero() {
        let on = |f: fn(&mut NegativeFilter)| {
            let mut filter = NegativeFilter::default();
            f(&mut filter);
            filter
        };
        let absolute = on(|f| f.absolute_margin = Some(0.25));
        assert_eq!(absolute.rejects(0.5, 0.75), None);
        assert_eq!(absolute.rejects(0.501, 0.75), Some(Rejection::AbsoluteMargin));
        let max = on(|f| f.max_score = Some(0.5));
        assert_eq!((max.rejects(0.5, 0.0), max.rejects(0.75, 0.0)), (None, Some(Rejection::MaxScore)));
        let min = on(|f| f.min_score = Some(0.5));
        assert_eq!((min.rejects(0.5, 0.0), min.rejects(0.25, 0.0)), (None, Some(Rejection::MinScore)));
        let newer = on(|f| f.relative_margin = Some(0.5));
        let older = NegativeFilter { margin_rule: MarginRule::Factor, ..newer.clone() };
        for (score, positive) in [(0.25, 0.5), (0.26, 0.5), (0.0, 0.0), (0.1, 0.0)] {
            assert_eq!(newer.rejects(score, positive), older.rejects(score, positive));
        }
        // s⁺ = −0.5: the newer limit is −0.75, the older −0.25, above the positive.
        assert_eq!((newer.rejects(-0.5, -0.5), older.rejects(-0.5, -0.5)), (Some(Rejection::RelativeMargin), None));
        assert_eq!((newer.rejects(-0.75, -0.5), older.rejects(-0.2, -0.5)), (None, Some(Rejection::RelativeMargin)));
        assert_eq!(NegativeFilter::default().rejects(f64::MAX, f64::MIN), None);
    }

    #[test]
    fn the_default_window_is_as_specified() {
        let mut filter = NegativeFilter { range_min: 7, ..NegativeFilter::default() };
        assert_eq!(filter.range_max_for(3, 2), 12);
        filter.min_score = Some(0.0);
        assert_eq!(filter.range_max_for(3, 2), 12);
        filter.max_score = Some(0.0);
        assert_eq!(filter.range_max_for(3, 2), 39);
        filter.range_max = Some(9);
        assert_eq!(filter.range_max_for(3, 2), 9);
    }

    #[test]
    fn bad_settings_are_named() {
        let wrong = NegativeFilter { range_min: 5, range_max: Some(5), ..NegativeFilter::default() };
        assert_eq!(wrong.validate().unwrap_err().to_string(), "range_max is 5, it must be above range_min, which is 5");
        let wrong = NegativeFilter { relative_margin: Some(f64::NAN), ..NegativeFilter::default() };
        assert_eq!(wrong.validate().unwrap_err().to_string(), "relative_margin is NaN, it must be a finite number");
        assert!(NegativeFilter { max_score: Some(f64::INFINITY), ..NegativeFilter::default() }.validate().is_err());
        assert!(NegativeFilter::default().validate().is_ok());
    }
}
