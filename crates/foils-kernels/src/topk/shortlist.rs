//! What is known about one query's best documents while they are searched.

use super::{dot, rank_order};
use crate::{Real, simd};

/// The rows that are being searched: `[q, dim]` queries and a block of `[n, dim]` documents.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) dim: usize,
    pub(super) queries: &'a [T],
    pub(super) documents: &'a [T],
    /// The index of the first document.
    pub(super) first: u32,
}

impl<'a, T: Real> Rows<'a, T> {
    pub(super) fn query(&self, row: usize) -> &'a [T] {
        &self.queries[row * self.dim..][..self.dim]
    }

    fn document(&self, document: u32) -> &'a [T] {
        &self.documents[(document - self.first) as usize * self.dim..][..self.dim]
    }
}

/// A document whose score lies between two bounds.
#[derive(Clone, Copy)]
struct Open<T> {
    document: u32,
    lower: T,
    upper: T,
}

/// The documents that can still be among the best `k`: some with their score, some with bounds on it only.
///
/// The bar is the k-th largest of all lower bounds, so that k documents are known to reach it; what cannot is dropped. Scoring
/// is put off as long as it can be, because a later and higher bar drops most of what would have been scored.
pub(super) struct Shortlist<T> {
    k: usize,
    /// At most k, in no order; none is NaN.
    known: Vec<(u32, T)>,
    open: Vec<Open<T>>,
    bar: T,
    /// How many open documents there may be before they are looked through.
    room: usize,
    scored: u64,
}

impl<T: Real> Shortlist<T> {
    pub(super) fn new(k: usize) -> Self {
        Self { k, known: Vec::new(), open: Vec::new(), bar: T::from_f64(f64::NEG_INFINITY), room: first_room(k), scored: 0 }
    }

    /// A document whose score is below this is not among the best.
    pub(super) fn bar(&self) -> T {
        self.bar
    }

    /// How many documents have been scored.
    pub(super) fn scored(&self) -> u64 {
        self.scored
    }

    /// Notes a document whose score is between the bounds, rounded outwards or not: rounding keeps their order. Bounds of which
    /// one is not finite say nothing. The query's row is for when so many are open that they must be scored to make room.
    pub(super) fn push(&mut self, document: u32, (lower, upper): (f64, f64), rows: &Rows<T>, row: usize) {
        let (lower, upper) = if (upper - lower).is_finite() { (lower, upper) } else { (f64::NEG_INFINITY, f64::INFINITY) };
        let entry = Open { document, lower: T::from_f64(lower), upper: T::from_f64(upper) };
        if entry.upper < self.bar {
            return;
        }
        if self.open.capacity() == 0 {
            self.open.reserve(self.room.min(512));
        }
        self.open.push(entry);
        if self.open.len() >= self.room {
            self.raise_bar();
            if self.open.len() > most_open(self.k) / 2 {
                settle(rows, row, std::slice::from_mut(self));
            }
            self.room = (2 * self.open.len()).clamp(first_room(self.k), most_open(self.k));
        }
    }

    /// Sets the bar by the lower bounds and drops what is below.
    fn raise_bar(&mut self) {
        if self.known.len() + self.open.len() < self.k {
            return;
        }
        let mut lowers: Vec<T> = self.known.iter().map(|e| e.1).chain(self.open.iter().map(|o| o.lower)).collect();
        let (_, bar, _) = lowers.select_nth_unstable_by(self.k - 1, |a, b| descending(*a, *b));
        let bar = *bar;
        self.lift(bar);
        let bar = self.bar;
        self.open.retain(|o| o.upper >= bar);
    }

    /// Takes the most promising of what is open; nothing when no document that is left can be among the best.
    fn promising(&mut self) -> impl Iterator<Item = u32> {
        // The first batch is enough to know nearly the final bar.
        let batch = self.k.clamp(16, 256).min(self.open.len());
        if batch > 0 && batch < self.open.len() {
            self.open.select_nth_unstable_by(batch - 1, |a, b| descending(a.upper, b.upper));
        }
        self.scored += batch as u64;
        self.open.drain(..batch).map(|o| o.document)
    }

    fn know(&mut self, document: u32, score: T) {
        // False for NaN.
        if score >= self.bar {
            self.known.push((document, score));
        }
    }

    /// Keeps the best k of what is known, and of what is open what may still be among them.
    fn trim(&mut self) {
        if self.known.len() > self.k {
            self.known.select_nth_unstable_by(self.k - 1, rank_order);
            self.known.truncate(self.k);
        }
        if self.known.len() == self.k {
            let worst = self.known.iter().copied().max_by(rank_order);
            self.lift(worst.expect("k is at least 1").1);
        }
        let bar = self.bar;
        self.open.retain(|o| o.upper >= bar);
    }

    fn lift(&mut self, bar: T) {
        if bar > self.bar {
            self.bar = bar;
        }
    }

    /// A list with the same bar and nothing in it, for a part of the documents.
    pub(super) fn part(&self) -> Self {
        Self { bar: self.bar, ..Self::new(self.k) }
    }

    /// Takes in what was found in a part.
    pub(super) fn merge(&mut self, part: Self) {
        self.known.extend(part.known);
        self.scored += part.scored;
        self.trim();
    }

    /// The best k, in rank order.
    pub(super) fn into_ranking(mut self) -> Vec<(u32, T)> {
        self.known.sort_unstable_by(rank_order);
        self.known
    }
}

/// Scores what is open, for each query the most promising first, until nothing that is left can be among the best. The shortlists
/// are those of the queries that begin with row `first`.
pub(super) fn settle<T: Real>(rows: &Rows<T>, first: usize, shortlists: &mut [Shortlist<T>]) {
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    shortlists.iter_mut().for_each(Shortlist::raise_bar);
    loop {
        for (row, shortlist) in shortlists.iter_mut().enumerate() {
            pairs.extend(shortlist.promising().map(|document| (document, row as u32)));
        }
        if pairs.is_empty() {
            break;
        }
        // In the order in which the documents lie: reading here and there is many times slower than the arithmetic.
        pairs.sort_unstable();
        for (at, &(document, row)) in pairs.iter().enumerate() {
            if let Some(&(next, _)) = pairs.get(at + 1) {
                simd::prefetch(rows.document(next));
            }
            let score = dot(rows.query(first + row as usize), rows.document(document));
            shortlists[row as usize].know(document, score);
        }
        pairs.clear();
        shortlists.iter_mut().for_each(Shortlist::trim);
    }
    for shortlist in shortlists {
        shortlist.room = first_room(shortlist.k);
        shortlist.open.shrink_to(0);
    }
}

fn first_room(k: usize) -> usize {
    k.saturating_mul(2).max(64)
}

/// So many open documents are held for one query at most.
fn most_open(k: usize) -> usize {
    k.saturating_mul(8).saturating_add(512)
}

/// Bounds are never NaN.
fn descending<T: Real>(a: T, b: T) -> std::cmp::Ordering {
    b.partial_cmp(&a).expect("bounds are numbers")
}
