//! The best k of documents that come in any order.

use crate::Real;
use crate::topk::rank_order;
use std::cmp::Ordering;

/// Keeps the `k` ≥ 1 best by score, ties to the lower index; only scores above 0.
pub(super) struct Collector<T> {
    k: usize,
    /// Up to 2k; halved whenever full, which costs O(1) an entry.
    entries: Vec<(u32, T)>,
    /// The worst of the k when they were last halved.
    last: Option<(u32, T)>,
}

impl<T: Real> Collector<T> {
    pub fn new(k: usize) -> Self {
        Self { k, entries: Vec::new(), last: None }
    }

    /// Takes in what is good enough and not excluded.
    pub fn extend(&mut self, found: impl Iterator<Item = (u32, T)>, excluded: &impl Fn(u32) -> bool) {
        for entry in found {
            let better = match &self.last {
                Some(last) => entry.1 >= last.1 && rank_order(&entry, last) == Ordering::Less,
                None => entry.1 > T::ZERO,
            };
            if better && !excluded(entry.0) {
                self.entries.push(entry);
                if self.entries.len() >= self.k.saturating_mul(2) {
                    self.halve();
                }
            }
        }
    }

    /// The same for the documents from `first` on, in order.
    pub fn extend_from_row(&mut self, first: u32, row: &[T], excluded: &impl Fn(u32) -> bool) {
        const STRIDE: usize = 32;
        for (documents, scores) in (first..).step_by(STRIDE).zip(row.chunks(STRIDE)) {
            // Documents come in ascending order, so an equal score is not good enough.
            let bar = self.last.map_or(T::ZERO, |last| last.1);
            if scores.iter().fold(false, |any, &score| any | (score > bar)) {
                self.extend((documents..).zip(scores.iter().copied()), excluded);
            }
        }
    }

    fn halve(&mut self) {
        self.entries.select_nth_unstable_by(self.k - 1, rank_order);
        self.entries.truncate(self.k);
        self.last = self.entries.last().copied();
    }

    /// The k-th best score of `found`, if so many reach `bar` and are not excluded. Forgets what it held before and after.
    pub fn kth(&mut self, found: impl Iterator<Item = (u32, T)>, bar: T, excluded: &impl Fn(u32) -> bool) -> Option<T> {
        self.extend(found.filter(|f| f.1 >= bar), excluded);
        let kth = (self.entries.len() >= self.k).then(|| {
            self.halve();
            self.entries[self.k - 1].1
        });
        self.entries.clear();
        self.last = None;
        kth
    }

    /// The best k, in rank order.
    pub fn into_ranking(mut self) -> Vec<(u32, T)> {
        self.entries.sort_unstable_by(rank_order);
        self.entries.truncate(self.k);
        self.entries
    }
}
