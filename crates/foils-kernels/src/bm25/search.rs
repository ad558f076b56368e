//! The k best documents of queries, exactly.
//!
//! Documents are taken a window at a time, so that a thread's sums stay in its cache. A short query adds up its lists. A long
//! one is pruned as in MaxScore (Turtle and Flood, 1995): lists with large scores are added up first, until a document that
//! none of them holds cannot be among the best any more, whatever the others add. The others, those of the common words with
//! most postings, are then only looked up for the documents that are still in question. Sums in that order are compared within
//! a bound of their rounding; who is left is scored as [`Bm25::score`] does, so the result has the same bits either way.

use super::Bm25;
use super::collector::Collector;
use super::postings::Membership;
use super::scratch::{Scratch, WINDOW, keep};
use crate::Real;
use std::cmp::Ordering;
use std::ops::Range;

/// With fewer postings a query is added up without further thought.
const SHORT: usize = 4096;

/// A query on its way through the windows.
struct Search<'a, T> {
    terms: Vec<Term<'a, T>>,
    way: Way<T>,
}

/// How a query is answered.
enum Way<T> {
    /// Lists are added up in the order of [`Bm25::scores`].
    AddedUp { negative: bool, best: Collector<T> },
    /// Lists are ordered by what they add at most.
    Pruned {
        /// For every term, and after the last.
        rest: Vec<Rest<T>>,
        bar: Bar<T>,
        /// Who may be among the best of the windows so far, with sums in the order of the lists.
        finalists: Vec<(u32, T)>,
    },
}

/// A distinct term of a query.
struct Term<'a, T> {
    id: u32,
    /// How often the query has it.
    times: T,
    /// What it adds at most.
    bound: T,
    /// Its postings in the window, and those behind.
    window: Range<usize>,
    ahead: Range<usize>,
    /// For a frequent term, with where its list begins.
    membership: Option<(usize, &'a Membership)>,
}

/// What the lists from one on add at most.
#[derive(Clone, Copy)]
struct Rest<T> {
    /// To any document.
    bound: T,
    /// Σ w(t), with multiplicity: times the largest factor in a document, to that document.
    weight: T,
}

/// What a score must reach to be among the best k.
struct Bar<T> {
    score: T,
    slack: T,
}

impl<T: Real> Bar<T> {
    fn new(terms: usize) -> Self {
        // Sums of n numbers ≥ 0 in any two orders differ by less than 2nε of either, and bounds are as exact as that. This is
        // many times more.
        let slack = T::from_f64((1.0 - 16.0 * (terms + 2) as f64 * T::EPSILON.to_f64()).max(0.0));
        Self { score: T::ZERO, slack }
    }

    /// Raises the bar if there are k that reach more.
    fn raise(&mut self, kth: Option<T>) {
        if let Some(score) = kth.map(|kth| kth * self.slack).filter(|score| *score > self.score) {
            self.score = score;
        }
    }
}

impl<T: Real> Bm25<T> {
    /// The best `k` ≥ 1 of a query.
    pub(super) fn best(&self, query: &[u32], k: usize, excluded: impl Fn(u32) -> bool, scratch: &mut Scratch<T>) -> Vec<(u32, T)> {
        let mut search = self.begin(query, k);
        for start in (0..self.documents).step_by(WINDOW) {
            let window = start as u32..(start + WINDOW).min(self.documents) as u32;
            self.step(&mut search, &window, k, &excluded, scratch);
        }
        self.finish(search, k)
    }

    fn begin(&self, query: &[u32], k: usize) -> Search<'_, T> {
        let mut sorted = query.to_vec();
        sorted.sort_unstable();
        let mut terms: Vec<Term<T>> = sorted.chunk_by(|a, b| a == b).map(|run| self.term(run)).filter(|t| !t.ahead.is_empty()).collect();
        let postings: usize = terms.iter().map(|t| t.ahead.len()).sum();
        let negative = terms.iter().any(|t| self.idf[t.id as usize] < T::ZERO);
        // Each of the k is looked up in every list at the end, which must be little beside the lists themselves.
        let enough = SHORT.max(k.saturating_mul(16 * terms.len()));
        let way = if negative || !self.finite || terms.len() < 2 || postings < enough {
            Way::AddedUp { negative, best: Collector::new(k) }
        } else {
            terms.sort_unstable_by(|a, b| b.bound.partial_cmp(&a.bound).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id)));
            Way::Pruned { rest: self.rests(&terms), bar: Bar::new(terms.len()), finalists: Vec::new() }
        };
        Search { terms, way }
    }

    fn term(&self, run: &[u32]) -> Term<'_, T> {
        let (id, times) = (run[0], T::from_f64(run.len() as f64));
        let ahead = self.postings.range(id);
        let membership = self.memberships.binary_search_by_key(&id, |m| m.0).ok().map(|at| (ahead.start, &self.memberships[at].1));
        Term { id, times, bound: times * self.largest[id as usize], window: ahead.start..ahead.start, ahead, membership }
    }

    fn rests(&self, terms: &[Term<T>]) -> Vec<Rest<T>> {
        let mut rest = vec![Rest { bound: T::ZERO, weight: T::ZERO }; terms.len() + 1];
        for (i, term) in terms.iter().enumerate().rev() {
            rest[i] = rest[i + 1];
            rest[i].bound += term.bound;
            rest[i].weight += term.times * self.idf[term.id as usize];
        }
        rest
    }

    fn step(&self, search: &mut Search<T>, window: &Range<u32>, k: usize, excluded: &impl Fn(u32) -> bool, scratch: &mut Scratch<T>) {
        let Search { terms, way } = search;
        terms.iter_mut().for_each(|term| term.enter(&self.postings.documents, window.end));
        let postings: usize = terms.iter().map(|t| t.window.len()).sum();
        let lists = terms.iter().map(|t| (self.postings.part(&t.window), t.times));
        match way {
            _ if postings == 0 => (),
            Way::AddedUp { negative, best } if *negative || postings > WINDOW / 8 => {
                lists.for_each(|(list, times)| scratch.add(list, times));
                scratch.drain_row(window.start, window.len(), best, excluded);
            }
            Way::AddedUp { best, .. } => {
                let touched = lists.fold(0, |touched, (list, times)| scratch.add_touching(list, times, touched));
                scratch.drain(window.start, touched);
                best.extend(scratch.found.drain(..), excluded);
            }
            Way::Pruned { rest, bar, finalists } => {
                let split = self.add_essential(terms, rest, bar, window.start, finalists.len() < k, excluded, scratch);
                keep(&mut scratch.found, |entry| self.most(*entry, &rest[split]) >= bar.score);
                for (term, others) in terms[split..].iter().zip(&rest[split + 1..]) {
                    if finalists.len() < k && scratch.found.len() > 4 * k {
                        bar.raise(scratch.kth_found(bar.score, excluded));
                    }
                    keep(&mut scratch.found, |entry| {
                        entry.1 += self.gain(term, entry.0);
                        self.most(*entry, others) >= bar.score
                    });
                }
                finalists.extend(scratch.found.iter().filter(|entry| !excluded(entry.0)));
                bar.raise(scratch.ranked.kth(finalists.iter().copied(), bar.score, &|_| false));
                finalists.retain(|entry| entry.1 >= bar.score);
            }
        }
    }

    /// Adds lists up until the others cannot bring in a document any more. How many lists; `scratch.found` has the documents.
    #[allow(clippy::too_many_arguments, reason = "the state of a search, taken apart")]
    fn add_essential(
        &self,
        terms: &[Term<T>],
        rest: &[Rest<T>],
        bar: &mut Bar<T>,
        first: u32,
        few: bool,
        excluded: &impl Fn(u32) -> bool,
        scratch: &mut Scratch<T>,
    ) -> usize {
        let (mut split, mut touched, mut so_far) = (0, 0, T::ZERO);
        while split < terms.len() && rest[split].bound >= bar.score {
            let term = &terms[split];
            touched = scratch.add_touching(self.postings.part(&term.window), term.times, touched);
            so_far += term.bound;
            split += 1;
            // A new bar costs a look at what is touched and may save a list, if it can get as high as that.
            let next = terms.get(split).map_or(0, |t| t.window.len());
            if few && next > touched / 4 && so_far > rest[split].bound {
                bar.raise(scratch.kth_touched(first, touched, bar.score, excluded));
            }
        }
        scratch.drain(first, touched);
        split
    }

    fn finish(&self, search: Search<T>, k: usize) -> Vec<(u32, T)> {
        let Search { mut terms, way } = search;
        match way {
            Way::AddedUp { best, .. } => best.into_ranking(),
            Way::Pruned { finalists, .. } => {
                terms.sort_unstable_by_key(|t| t.id);
                terms.iter_mut().for_each(|t| t.window = self.postings.range(t.id));
                let score = |document| {
                    let mut sum = T::ZERO;
                    terms.iter().for_each(|t| sum += self.gain(t, document));
                    sum
                };
                let mut best = Collector::new(k);
                best.extend(finalists.into_iter().map(|(document, _)| (document, score(document))), &|_| false);
                best.into_ranking()
            }
        }
    }

    /// What the score of a document is at most, from its sum so far.
    fn most(&self, (document, sum): (u32, T), rest: &Rest<T>) -> T {
        let own = rest.weight * self.peaks[document as usize];
        let mut most = sum;
        most += if own < rest.bound { own } else { rest.bound };
        most
    }

    /// What a term adds to the score of a document of the window; 0 where it is not in it.
    fn gain(&self, term: &Term<T>, document: u32) -> T {
        let (present, at) = match term.membership {
            Some((first, membership)) => {
                let (present, before) = membership.place(document);
                (present, first + before)
            }
            None => match self.postings.documents[term.window.clone()].binary_search(&document) {
                Ok(at) => (true, term.window.start + at),
                Err(_) => (false, 0),
            },
        };
        // Times 0 where it is absent, because a branch would be guessed wrong half the time. All scores are finite.
        let score = self.postings.scores.get(at).copied().unwrap_or(T::ZERO);
        [T::ZERO, term.times][usize::from(present)] * score
    }
}

impl<T> Term<'_, T> {
    /// Moves on to the next window, which ends before document `end`.
    fn enter(&mut self, documents: &[u32], end: u32) {
        let ahead = &documents[self.ahead.clone()];
        // In steps that double, since the end of the window is near in a long list.
        let mut step = 1;
        while step < ahead.len() && ahead[step] < end {
            step *= 2;
        }
        let begin = step / 2;
        let inside = begin + ahead[begin..ahead.len().min(step)].partition_point(|&document| document < end);
        self.window = self.ahead.start..self.ahead.start + inside;
        self.ahead.start += inside;
    }
}
