//! From the examples of a batch to anchors, candidates and targets.

use super::queue::Queue;
use super::relevance::{Drawn, Place};
use super::teacher::Teacher;
use super::training_set::TrainingSet;
use super::weights::Weigher;
use crate::Result;
use crate::losses::Targets;
use crate::seed::Rng;
use rand::RngExt;
use rand::seq::index;
use serde::{Deserialize, Serialize};

/// One batch as the loss takes it: candidates are the positives of all anchors, in order, then their mined negatives; then, known to
/// `targets` alone, those of the queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Batch {
    /// Texts of the anchors.
    pub anchors: Vec<u32>,
    /// Texts of the candidates.
    pub candidates: Vec<u32>,
    /// What stands for each of them among anchors.
    pub keys: Vec<u32>,
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
    pub queued: usize,
    pub masked: usize,
    pub masked_by_teacher: usize,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.anchors += other.anchors;
        self.in_batch += other.in_batch;
        self.own += other.own;
        self.others += other.others;
        self.queued += other.queued;
        self.masked += other.masked;
        self.masked_by_teacher += other.masked_by_teacher;
    }

    /// Means per anchor.
    pub fn per_anchor(&self) -> super::NegativesSeen {
        let mean = |sum: usize| sum as f64 / self.anchors.max(1) as f64;
        let (in_batch, own, others) = (mean(self.in_batch), mean(self.own), mean(self.others));
        let (queued, masked, masked_by_teacher) = (mean(self.queued), mean(self.masked), mean(self.masked_by_teacher));
        super::NegativesSeen { in_batch, own, others, queued, masked, masked_by_teacher, effective: in_batch + own + others + queued }
    }
}

/// Makes batches.
pub(super) struct Assembler<'a> {
    pub set: &'a TrainingSet<'a>,
    pub teacher: Option<Teacher<'a>>,
    pub weigher: Option<Weigher>,
    /// The most mined negatives of each example.
    pub negatives: usize,
}

impl Assembler<'_> {
    /// One positive of each example and at most so many of its mined negatives, drawn anew where there are more; and the queue.
    /// A candidate whose text equals any known positive of an anchor is excluded for that anchor, unless it is its target; so is one
    /// that the teacher turns away, or that has no score to learn, or that the weights leave nothing.
    ///
    /// # Errors
    /// When there are no weights for so few negatives.
    pub fn batch(&self, examples: &[u32], queue: &Queue, rng: &mut Rng) -> Result<Batch> {
        let (set, n) = (self.set, examples.len());
        let mut batch = Batch { anchors: examples.iter().map(|&e| set.anchor(e)).collect(), ..Batch::default() };
        let (mut places, mut own) = (Vec::new(), Vec::new());
        for (anchor, &e) in examples.iter().enumerate() {
            let positives = set.positives(e);
            let at = if positives.len() > 1 { rng.random_range(0..positives.len()) } else { 0 };
            batch.candidates.push(positives[at]);
            batch.keys.push(set.anchor(e));
            places.push(Place { anchor, at });
        }
        for (anchor, &e) in examples.iter().enumerate() {
            let mined = set.negatives(e);
            let drawn = if mined.len() <= self.negatives {
                (0..mined.len()).collect()
            } else {
                let mut drawn = index::sample(rng, mined.len(), self.negatives).into_vec();
                drawn.sort_unstable();
                drawn
            };
            own.push(drawn.len());
            batch.candidates.extend(drawn.iter().map(|&at| mined[at]));
            places.extend(drawn.into_iter().map(|at| Place { anchor, at }));
        }
        let drawn = batch.candidates.len();
        batch.keys.extend_from_slice(&batch.candidates[n..]);
        let (candidates, keys): (Vec<u32>, Vec<u32>) =
            batch.candidates.iter().copied().zip(batch.keys.iter().copied()).chain(queue.texts()).unzip();
        let m = candidates.len();
        let mut columns: Vec<(u32, u32)> = candidates.iter().enumerate().map(|(c, &t)| (set.class(t), c as u32)).collect();
        columns.sort_unstable();
        let drawn_texts = Drawn { examples, anchors: &batch.anchors, candidates: &candidates, keys: &keys, places: &places };
        let scores = self.teacher.as_ref().map(|t| (t, t.scores(&drawn_texts)));
        let mut all_counts = Vec::with_capacity(n);
        for (i, &e) in examples.iter().enumerate() {
            let mut excluded = Vec::new();
            for &class in set.known_positives(e) {
                let from = columns.partition_point(|c| c.0 < class);
                excluded.extend(columns[from..].iter().take_while(|c| c.0 == class).map(|c| c.1).filter(|&c| c != i as u32));
            }
            excluded.sort_unstable();
            let mut counts = Counts { anchors: 1, masked: excluded.len(), ..Counts::default() };
            if let Some((teacher, scores)) = &scores {
                let row = &scores[i * m..][..m];
                let more = |c: &u32| *c != i as u32 && excluded.binary_search(c).is_err() && teacher.leaves_out(row[*c as usize], row[i]);
                let more: Vec<u32> = (0..m as u32).filter(more).collect();
                counts.masked_by_teacher = if teacher.is_learned() { 0 } else { more.len() };
                excluded.extend(more);
                excluded.sort_unstable();
            }
            all_counts.push(counts);
            batch.targets.positive.push(i as u32);
            batch.targets.excluded.push(excluded);
        }
        if let Some(weigher) = &self.weigher {
            let more = weigher.apply(&drawn_texts, &mut batch.targets)?;
            all_counts.iter_mut().zip(more).for_each(|(counts, more)| counts.masked_by_teacher += more);
        }
        for (i, mut counts) in all_counts.into_iter().enumerate() {
            let excluded = &batch.targets.excluded[i];
            let out = |kind: &dyn Fn(usize) -> bool| excluded.iter().filter(|&&c| kind(c as usize)).count();
            let (out_in, out_own) = (out(&|c| c < n), out(&|c| (n..drawn).contains(&c) && places[c].anchor == i));
            let out_queued = out(&|c| c >= drawn);
            counts.in_batch = n - 1 - out_in;
            counts.own = own[i] - out_own;
            counts.queued = m - drawn - out_queued;
            counts.others = drawn - n - own[i] - (excluded.len() - out_in - out_own - out_queued);
            batch.counts.add(counts);
        }
        if batch.targets.excluded.iter().all(Vec::is_empty) {
            batch.targets.excluded.clear();
        }
        if let Some((_, scores)) = scores.filter(|(teacher, _)| teacher.is_learned()) {
            batch.targets.teacher = scores;
        }
        Ok(batch)
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
        let all = |examples: &[u32], negatives, stream, queue: &Queue| {
            let assembler = Assembler { set: &set, teacher: None, weigher: None, negatives };
            assembler.batch(examples, queue, &mut seed::rng(0, stream)).unwrap()
        };
        let batch = all(&[0, 2], 8, 0, &Queue::default());
        let text = |t: &u32| set.texts()[*t as usize];
        assert_eq!(batch.candidates.iter().map(text).collect::<Vec<_>>(), ["p1", "s", "x", "P2 ", "p1", "y", "S"]);
        assert_eq!(batch.targets.positive, [0, 1]);
        assert_eq!(batch.targets.excluded, [vec![3, 4], vec![6]]);
        assert_eq!(batch.counts, Counts { anchors: 2, in_batch: 2, own: 1 + 2, others: 2 + 2, masked: 3, ..Counts::default() });
        let seen = batch.counts.per_anchor();
        assert_eq!((seen.effective, seen.masked), (4.5, 1.5));
        assert!(all(&[1, 2], 0, 0, &Queue::default()).targets.excluded.is_empty());
        assert_eq!(batch.keys, [[batch.anchors[0], batch.anchors[1]].as_slice(), &batch.candidates[2..]].concat());
        // What is queued is masked by its text too: P2 is a positive of q, s is what r looks for.
        let mut queue = Queue::new(9);
        queue.push(batch.candidates.iter().copied().zip(batch.keys.iter().copied()), &[0.0; 7]);
        let later = all(&[0, 2], 0, 0, &queue);
        assert_eq!(later.targets.excluded, [vec![2, 5, 6], vec![3, 8]]);
        assert_eq!(later.counts, Counts { anchors: 2, in_batch: 2, queued: 4 + 5, masked: 5, ..Counts::default() });
    }

    #[test]
    fn positives_and_negatives_are_drawn_when_there_are_more() {
        let many = |letter: &str| (0..6).map(|i| format!("{letter}{i}")).collect::<Vec<_>>();
        let example = Example { anchor: "q".into(), positives: many("p"), negatives: many("n"), ..Example::default() };
        let examples = [example, Example::pair("r", "s")];
        let set = TrainingSet::new(&examples).unwrap();
        let assembler = Assembler { set: &set, teacher: None, weigher: None, negatives: 2 };
        let drawn = |stream| assembler.batch(&[0, 1], &Queue::default(), &mut seed::rng(3, stream)).unwrap().candidates;
        assert_eq!(drawn(1), drawn(1));
        let all: std::collections::HashSet<Vec<u32>> = (0..40).map(drawn).collect();
        assert!(all.len() > 10);
        assert!(all.iter().all(|c| c.len() == 4 && c[2] < c[3]));
    }
}
