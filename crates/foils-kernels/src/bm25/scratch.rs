//! What a thread keeps from query to query: sums for the documents of a window.

use super::collector::Collector;
use crate::Real;

/// Documents in a window, whose sums of f32 are 256 KB. Smaller windows cost more in lists that begin anew than they save.
pub(super) const WINDOW: usize = 1 << 16;

/// Work space; the sums are all 0 between uses.
pub(super) struct Scratch<T> {
    sums: Box<[T; WINDOW]>,
    /// Which of them are not 0, in no order. There is room for more than a window's, so that an index can be masked.
    touched: Box<[u16; 2 * WINDOW]>,
    /// Documents in question, with their sums.
    pub found: Vec<(u32, T)>,
    pub ranked: Collector<T>,
}

impl<T: Real> Scratch<T> {
    pub fn new(k: usize) -> Self {
        let sums = vec![T::ZERO; WINDOW].try_into().expect("of this length");
        let touched = vec![0; 2 * WINDOW].try_into().expect("of this length");
        Self { sums, touched, found: Vec::new(), ranked: Collector::new(k) }
    }

    /// Adds a list to the sums.
    pub fn add(&mut self, (documents, scores): (&[u32], &[T]), times: T) {
        for (&document, &score) in documents.iter().zip(scores) {
            self.sums[document as usize % WINDOW] += times * score;
        }
    }

    /// Adds a list without negative scores, and to the `touched` documents those that it brings in; how many there are then.
    pub fn add_touching(&mut self, (documents, scores): (&[u32], &[T]), times: T, mut touched: usize) -> usize {
        for (&document, &score) in documents.iter().zip(scores) {
            let at = document as usize % WINDOW;
            let sum = &mut self.sums[at];
            let gain = times * score;
            // Written always and counted if new: a branch would be guessed wrong too often.
            self.touched[touched % (2 * WINDOW)] = at as u16;
            touched += usize::from(*sum == T::ZERO && gain != T::ZERO);
            *sum += gain;
        }
        touched
    }

    /// The k-th best sum of the touched documents of the window that begins at `first`, if so many reach `bar`.
    pub fn kth_touched(&mut self, first: u32, touched: usize, bar: T, excluded: &impl Fn(u32) -> bool) -> Option<T> {
        let sums = self.touched[..touched].iter().map(|&at| (first + u32::from(at), self.sums[at as usize]));
        self.ranked.kth(sums, bar, excluded)
    }

    /// The same of `found`.
    pub fn kth_found(&mut self, bar: T, excluded: &impl Fn(u32) -> bool) -> Option<T> {
        self.ranked.kth(self.found.iter().copied(), bar, excluded)
    }

    /// Moves the touched documents with their sums, in no order, to `found`; the sums are 0 again.
    pub fn drain(&mut self, first: u32, touched: usize) {
        let Self { sums, found, .. } = self;
        found.clear();
        let take = |&at: &u16| (first + u32::from(at), std::mem::replace(&mut sums[at as usize], T::ZERO));
        found.extend(self.touched[..touched].iter().map(take));
    }

    /// The sums of the first `len` documents go into `best`, and are 0 again.
    pub fn drain_row(&mut self, first: u32, len: usize, best: &mut Collector<T>, excluded: &impl Fn(u32) -> bool) {
        let sums = &mut self.sums[..len];
        best.extend_from_row(first, sums, excluded);
        sums.fill(T::ZERO);
    }
}

/// Keeps what `may_stay`, in order; like `retain`, but without a branch that would be guessed wrong half the time.
pub(super) fn keep<T: Copy>(entries: &mut Vec<T>, mut may_stay: impl FnMut(&mut T) -> bool) {
    let mut kept = 0;
    for at in 0..entries.len() {
        let mut entry = entries[at];
        let stays = may_stay(&mut entry);
        entries[kept] = entry;
        kept += usize::from(stays);
    }
    entries.truncate(kept);
}
