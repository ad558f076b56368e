//! Which documents hold a term, and its score in each.

use crate::Real;
use rayon::prelude::*;
use std::ops::Range;

/// The lists of all terms, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Postings<T> {
    /// Where each term's list begins; one more at the end.
    pub offsets: Vec<usize>,
    /// Ascending within a term.
    pub documents: Vec<u32>,
    /// The score of the term in that document.
    pub scores: Vec<T>,
}

impl<T: Real> Postings<T> {
    /// Lists of these lengths, to be filled.
    pub fn with_lengths(lengths: &[u32]) -> Self {
        let ends = lengths.iter().scan(0, |end, &len| {
            *end += len as usize;
            Some(*end)
        });
        let offsets: Vec<usize> = std::iter::once(0).chain(ends).collect();
        let total = offsets[lengths.len()];
        Self { offsets, documents: vec![0; total], scores: vec![T::ZERO; total] }
    }

    /// Where the list of a term is.
    ///
    /// # Panics
    /// When there is no such term.
    pub fn range(&self, term: u32) -> Range<usize> {
        self.offsets[term as usize]..self.offsets[term as usize + 1]
    }

    /// The documents and scores of a range of postings.
    pub fn part(&self, range: &Range<usize>) -> (&[u32], &[T]) {
        (&self.documents[range.clone()], &self.scores[range.clone()])
    }

    /// The largest score in each list; 0 of an empty list and when all are negative, infinite where one is no number.
    pub fn largest(&self) -> Vec<T> {
        let number = |s: T| if s.to_f64().is_nan() { T::from_f64(f64::INFINITY) } else { s };
        let of_list = |range: &[usize]| self.scores[range[0]..range[1]].iter().fold(T::ZERO, |l, &s| if s <= l { l } else { number(s) });
        self.offsets.par_windows(2).map(of_list).collect()
    }

    /// For every term that at least one document in [`Membership::SPARSEST`] holds, its number and a way to look documents up.
    pub fn memberships(&self, documents: usize) -> Vec<(u32, Membership)> {
        let frequent = |term: &u32| self.range(*term).len() >= (documents / Membership::SPARSEST).max(64);
        let terms: Vec<u32> = (0..self.offsets.len() as u32 - 1).filter(frequent).collect();
        terms.into_par_iter().map(|term| (term, Membership::new(&self.documents[self.range(term)], documents))).collect()
    }
}

/// Where in the list of a frequent term a document is, without a search: a bit a document, and how many bits come before each
/// word of 64.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    words: Vec<u64>,
    ranks: Vec<u32>,
}

impl Membership {
    /// A list with one document in 32 takes 8 bytes × 2 a word of 64 documents, and this 12: less than the list itself.
    const SPARSEST: usize = 32;

    fn new(list: &[u32], documents: usize) -> Self {
        let mut words = vec![0u64; documents.div_ceil(64)];
        list.iter().for_each(|&d| words[d as usize / 64] |= 1 << (d % 64));
        let ranks = words.iter().scan(0, |rank, word| {
            let before = *rank;
            *rank += word.count_ones();
            Some(before)
        });
        Self { ranks: ranks.collect(), words }
    }

    /// Whether a document is in the list, and how many come before it.
    pub fn place(&self, document: u32) -> (bool, usize) {
        let (at, bit) = (document as usize / 64, 1u64 << (document % 64));
        let word = self.words[at];
        (word & bit != 0, (self.ranks[at] + (word & (bit - 1)).count_ones()) as usize)
    }
}
