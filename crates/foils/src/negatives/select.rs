//! From ranked candidates to negatives: filters, the window of ranks, and the choice of a few.

use crate::seed::Rng;
use crate::weighting::{NegativeFilter, Rejection};
use serde::{Deserialize, Serialize};

/// Which of the survivors become negatives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// The first, hardest first.
    #[default]
    Top,
    /// Any, drawn with the seed, in rank order.
    Random,
}

/// How many candidates went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Removed, by [`Rejection::ALL`].
    pub removed: [u64; Rejection::ALL.len()],
    /// Passed every filter and was not needed.
    pub unused: u64,
    /// Became a negative.
    pub kept: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.removed.iter_mut().zip(other.removed).for_each(|(a, b)| *a += b);
        self.unused += other.unused;
        self.kept += other.kept;
    }
}

/// What is fixed for all queries of a run.
#[derive(Clone, Debug)]
pub(crate) struct Selector<'a> {
    pub filter: &'a NegativeFilter,
    /// The window's end, settled by [`NegativeFilter::range_max_for`].
    pub range_max: usize,
    pub num_negatives: usize,
}

impl Selector<'_> {
    /// Picks among candidates whose `scores` come in rank order (positives are already out): their positions, ascending.
    /// `positive` is s⁺; with a generator the choice among the survivors is random.
    pub fn select(&self, scores: impl IntoIterator<Item = f64>, positive: f64, rng: Option<&mut Rng>) -> (Vec<usize>, Tally) {
        let mut tally = Tally::default();
        let mut survivors = Vec::new();
        for (at, score) in scores.into_iter().enumerate() {
            match self.filter.rejects(score, positive) {
                Some(why) => tally.removed[why as usize] += 1,
                None => survivors.push(at),
            }
        }
        let end = survivors.len().min(self.range_max);
        let start = self.filter.range_min.min(end);
        tally.removed[Rejection::RangeMax as usize] += (survivors.len() - end) as u64;
        tally.removed[Rejection::RangeMin as usize] += start as u64;
        let window = &survivors[start..end];
        let count = window.len().min(self.num_negatives);
        let picked = match rng {
            None => window[..count].to_vec(),
            Some(rng) => {
                let mut drawn = rand::seq::index::sample(rng, window.len(), count).into_vec();
                drawn.sort_unstable();
                drawn.into_iter().map(|i| window[i]).collect()
            }
        };
        tally.unused = (window.len() - count) as u64;
        tally.kept = count as u64;
        (picked, tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_counts_survivors_and_every_candidate_is_accounted_for() {
        let filter = NegativeFilter { range_min: 1, max_score: Some(0.8), ..NegativeFilter::default() };
        let selector = Selector { filter: &filter, range_max: 4, num_negatives: 2 };
        let scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];
        let (picked, tally) = selector.select(scores, 1.0, None);
        assert_eq!(picked, [2, 3]);
        assert_eq!(tally, Tally { removed: [0, 0, 1, 0, 1, 2], unused: 1, kept: 2 });
        let (few, tally) = selector.select([0.8], 1.0, None);
        assert!(few.is_empty());
        assert_eq!(tally, Tally { removed: [0, 0, 0, 0, 1, 0], unused: 0, kept: 0 });
    }

    #[test]
    fn a_random_choice_is_seeded_and_reaches_the_whole_window() {
        let filter = NegativeFilter { range_min: 2, ..NegativeFilter::default() };
        let selector = Selector { filter: &filter, range_max: 8, num_negatives: 3 };
        let draw = |seed| selector.select([0.0; 20], 1.0, Some(&mut crate::seed::rng(seed, 0))).0;
        assert_eq!(draw(1), draw(1));
        let mut seen: Vec<usize> = (0..200).flat_map(draw).collect();
        assert!((0..200).all(|seed| draw(seed).is_sorted()));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [2, 3, 4, 5, 6, 7]);
    }
}
