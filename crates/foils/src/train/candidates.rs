//! From the examples of a batch to anchors, candidates and targets.

use super::training_set::TrainingSet;
use crate::losses::Targets;
use crate::seed::Rng;
use rand::RngExt;
use rand::seq::index;
use serde::{Deserialize, Serialize};

/// One batch as the loss takes it: candidates are the positives of all anchors, in order, then their mined negatives.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Batch {
    /// Texts of the anchors.
    pub anchors: Vec<u32>,
    /// Texts of the candidates.
    pub candidates: Vec<u32>,
    /// The right candidate of each anchor, and those that must not count against it.
    pub targets: Targets,
    /// Sums over the anchors.
    pub counts: Counts,
}

/// Candidates by kind, summed over anchors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub anchors: usize,
    pub in_batch: usize,
    pub own: usize,
    pub others: usize,
    pub masked: usize,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.anchors += other.anchors;
        self.in_batch += other.in_batch;
        self.own += other.own;
        self.others += other.others;
        self.masked += other.masked;
    }

    /// Means per anchor.
    pub fn per_anchor(&self) -> super::NegativesSeen {
        let mean = |sum: usize| sum as f64 / self.anchors.max(1) as f64;
        let (in_batch, own, others) = (mean(self.in_batch), mean(self.own), mean(self.others));
        super::NegativesSeen { in_batch, own, others, masked: mean(self.masked), effective: in_batch + own + others }
    }
}

impl Batch {
    /// One positive of each example and at most `negatives` of its mined negatives, drawn anew where there are more.
    /// A candidate whose text equals any known positive of an anchor is excluded for that anchor, unless it is its target.
    pub fn assemble(set: &TrainingSet, examples: &[u32], negatives: usize, rng: &mut Rng) -> Self {
        let n = examples.len();
        let mut batch = Self { anchors: examples.iter().map(|&e| set.anchor(e)).collect(), ..Self::default() };
        for &e in examples {
            let positives = set.positives(e);
            let pick = if positives.len() > 1 { rng.random_range(0..positives.len()) } else { 0 };
            batch.candidates.push(positives[pick]);
        }
        let mut owner = Vec::new(); // of the mined negatives, which begin at column n
        for (i, &e) in examples.iter().enumerate() {
            let mined = set.negatives(e);
            if mined.len() <= negatives {
                batch.candidates.extend_from_slice(mined);
            } else {
                let mut drawn = index::sample(rng, mined.len(), negatives).into_vec();
                drawn.sort_unstable();
                batch.candidates.extend(drawn.into_iter().map(|d| mined[d]));
            }
            owner.resize(batch.candidates.len() - n, i);
        }
        let mut columns: Vec<(u32, u32)> = batch.candidates.iter().enumerate().map(|(c, &t)| (set.class(t), c as u32)).collect();
        columns.sort_unstable();
        let own_counts = |i: usize| owner.partition_point(|&o| o <= i) - owner.partition_point(|&o| o < i);
        for (i, &e) in examples.iter().enumerate() {
            let mut excluded = Vec::new();
            for &class in set.known_positives(e) {
                let from = columns.partition_point(|c| c.0 < class);
                excluded.extend(columns[from..].iter().take_while(|c| c.0 == class).map(|c| c.1).filter(|&c| c != i as u32));
            }
            excluded.sort_unstable();
            let masked = |kind: &dyn Fn(usize) -> bool| excluded.iter().filter(|&&c| kind(c as usize)).count();
            let (masked_in, masked_own) = (masked(&|c| c < n), masked(&|c| c >= n && owner[c - n] == i));
            let own = own_counts(i);
            batch.counts.add(Counts {
                anchors: 1,
                in_batch: n - 1 - masked_in,
                own: own - masked_own,
                others: owner.len() - own - (excluded.len() - masked_in - masked_own),
                masked: excluded.len(),
            });
            batch.targets.positive.push(i as u32);
            batch.targets.excluded.push(excluded);
        }
        if batch.targets.excluded.iter().all(Vec::is_empty) {
            batch.targets.excluded.clear();
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Example;
    use crate::seed;

    #[test]
    fn copies_of_a_positive_are_masked_and_counted() {
        let with = |anchor: &str, positive: &str, negatives: &[&str]| Example {
            negatives: negatives.iter().map(|n| (*n).to_owned()).collect(),
            ..Example::pair(anchor, positive)
        };
        let examples = [
            with("q", "p1", &["x", "P2 "]), // "P2 " is a positive of q by the second row, in another spelling
            with("Q", "p2", &["x"]),
            with("r", "s", &["p1", "y", "S"]), // p1 is a positive of q, S of r itself
        ];
        let set = TrainingSet::new(&examples).unwrap();
        let batch = Batch::assemble(&set, &[0, 2], 8, &mut seed::rng(0, 0));
        let text = |t: &u32| set.texts()[*t as usize];
        assert_eq!(batch.candidates.iter().map(text).collect::<Vec<_>>(), ["p1", "s", "x", "P2 ", "p1", "y", "S"]);
        assert_eq!(batch.targets.positive, [0, 1]);
        assert_eq!(batch.targets.excluded, [vec![3, 4], vec![6]]);
        assert_eq!(batch.counts, Counts { anchors: 2, in_batch: 2, own: 1 + 2, others: 2 + 2, masked: 3 });
        let seen = batch.counts.per_anchor();
        assert_eq!((seen.effective, seen.masked), (4.5, 1.5));
        assert!(Batch::assemble(&set, &[1, 2], 0, &mut seed::rng(0, 0)).targets.excluded.is_empty());
    }

    #[test]
    fn positives_and_negatives_are_drawn_when_there_are_more() {
        let many = |letter: &str| (0..6).map(|i| format!("{letter}{i}")).collect::<Vec<_>>();
        let example = Example { anchor: "q".into(), positives: many("p"), negatives: many("n"), ..Example::default() };
        let examples = [example, Example::pair("r", "s")];
        let set = TrainingSet::new(&examples).unwrap();
        let drawn = |stream| Batch::assemble(&set, &[0, 1], 2, &mut seed::rng(3, stream)).candidates;
        assert_eq!(drawn(1), drawn(1));
        let all: std::collections::HashSet<Vec<u32>> = (0..40).map(drawn).collect();
        assert!(all.len() > 10);
        assert!(all.iter().all(|c| c.len() == 4 && c[2] < c[3]));
    }
}
