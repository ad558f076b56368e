//! BM25 over token ids: an inverted index whose postings hold the finished score of a term in a document, so that a query is
//! a sum of a few lists (`baselines-mining`, "BM25").

mod build;
mod collector;
mod postings;
mod scratch;
mod search;
#[cfg(test)]
mod tests;

use crate::Real;
use build::{Built, Statistics, build};
use postings::{Membership, Postings};
use rayon::prelude::*;
use scratch::Scratch;

/// How a term's rarity becomes its weight. N documents, df of them with the term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idf {
    /// ln(1 + (N − df + ½)/(df + ½)), never negative.
    Lucene,
    /// ln(N − df + ½) − ln(df + ½); negative weights become a quarter of the mean over all terms seen, as in rank_bm25.
    Okapi,
}

/// An immutable inverted index.
///
/// score(q, d) = Σ_{t in q, with multiplicity} w(t)·tf·(k1 + 1)/(tf + k1·(1 − b + b·|d|/avgdl)).
#[derive(Clone, Debug)]
pub struct Bm25<T> {
    documents: usize,
    postings: Postings<T>,
    idf: Vec<T>,
    /// The largest score of each term in any document, at least 0.
    largest: Vec<T>,
    /// The largest of tf·(k1 + 1)/(tf + …) in each document.
    peaks: Vec<T>,
    /// Whether all scores are numbers, as they are unless k1 is beyond all measure.
    finite: bool,
    /// For the most frequent terms, ascending.
    memberships: Vec<(u32, Membership)>,
}

impl<T: Real> Bm25<T> {
    /// Indexes documents given as one run of token ids with `document_offsets` (one more than documents). `k1` ≥ 0, `b` in [0, 1].
    /// Threaded; beside the index it takes 8 bytes a term and thread, and 16 MB.
    ///
    /// # Panics
    /// When offsets do not ascend from 0 to the number of tokens, a token is not below `vocab_size`, or there are 2³² documents.
    pub fn new(tokens: &[u32], document_offsets: &[usize], vocab_size: usize, k1: f64, b: f64, idf: Idf) -> Self {
        let mean_length = tokens.len() as f64 / document_offsets.len().saturating_sub(1) as f64;
        let statistics = Statistics { weights: None, lengths: None, mean_length };
        Self::with_statistics(tokens, document_offsets, vocab_size, k1, b, idf, statistics)
    }

    /// Indexes some documents of a larger collection, whose scores are then those of an index of it all: `weights` of every term
    /// ([`Idf::weights`] of the numbers of all documents that hold them), the `lengths` of these documents, and the mean over all.
    /// Tokens of terms that no query has may be left out of `tokens`, but not out of the lengths.
    ///
    /// # Panics
    /// As [`Bm25::new`] (the vocabulary's size is the number of weights), and when there are not as many lengths as documents.
    pub fn of_part(
        tokens: &[u32],
        document_offsets: &[usize],
        lengths: &[u32],
        mean_length: f64,
        weights: Vec<f64>,
        (k1, b): (f64, f64),
    ) -> Self {
        assert_eq!(lengths.len() + 1, document_offsets.len(), "one length a document");
        let vocab_size = weights.len();
        let statistics = Statistics { weights: Some(weights), lengths: Some(lengths), mean_length };
        Self::with_statistics(tokens, document_offsets, vocab_size, k1, b, Idf::Lucene, statistics)
    }

    fn with_statistics(
        tokens: &[u32],
        document_offsets: &[usize],
        vocab_size: usize,
        k1: f64,
        b: f64,
        idf: Idf,
        statistics: Statistics,
    ) -> Self {
        let ends = (document_offsets.first(), document_offsets.last());
        assert_eq!(ends, (Some(&0), Some(&tokens.len())), "the offsets run from 0 to the number of tokens");
        assert!(document_offsets.is_sorted(), "the offsets ascend");
        assert!(u32::try_from(document_offsets.len()).is_ok(), "fewer than 2^32 documents");
        let documents = document_offsets.len() - 1;
        let Built { postings, weights, peaks } = build(tokens, document_offsets, vocab_size, k1, b, idf, statistics);
        let (largest, memberships) = (postings.largest(), postings.memberships(documents));
        let finite = largest.iter().all(|l: &T| l.to_f64().is_finite());
        Self { documents, postings, idf: weights.into_iter().map(T::from_f64).collect(), largest, peaks, finite, memberships }
    }

    /// How many documents.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// How many terms, seen or not.
    pub fn vocab_size(&self) -> usize {
        self.idf.len()
    }

    /// The weight of every term; 0 for one that no document holds.
    pub fn idf(&self) -> &[T] {
        &self.idf
    }

    /// The score of every document, `[documents]`.
    ///
    /// # Panics
    /// When a token is not below the vocabulary size or `out` has another length.
    pub fn scores(&self, query: &[u32], out: &mut [T]) {
        assert_eq!(out.len(), self.documents, "one score a document");
        out.fill(T::ZERO);
        let mut terms = query.to_vec();
        terms.sort_unstable();
        for run in terms.chunk_by(|x, y| x == y) {
            let range = self.postings.range(run[0]);
            let times = T::from_f64(run.len() as f64);
            for (&document, &score) in self.postings.documents[range.clone()].iter().zip(&self.postings.scores[range]) {
                out[document as usize] += times * score;
            }
        }
    }

    /// The score of one document, the same bits as in [`Bm25::scores`].
    ///
    /// # Panics
    /// When a token is not below the vocabulary size or there is no such document.
    pub fn score(&self, query: &[u32], document: u32) -> T {
        assert!((document as usize) < self.documents, "document {document} of {}", self.documents);
        let mut terms = query.to_vec();
        terms.sort_unstable();
        let mut sum = T::ZERO;
        for run in terms.chunk_by(|x, y| x == y) {
            let range = self.postings.range(run[0]);
            if let Ok(at) = self.postings.documents[range.clone()].binary_search(&document) {
                sum += T::from_f64(run.len() as f64) * self.postings.scores[range][at];
            }
        }
        sum
    }

    /// The `k` best documents with a score above 0 for each query: (index, score), score descending, ties to the lower index;
    /// the scores have the bits of [`Bm25::scores`]. `excluded(query, document)` takes documents out; it is asked about those
    /// that would be among the best, and may be asked twice. Threaded over queries; the same bits for every thread count.
    ///
    /// # Panics
    /// When a token is not below the vocabulary size.
    pub fn top_k<Q: AsRef<[u32]> + Sync>(
        &self,
        queries: &[Q],
        k: usize,
        excluded: impl Fn(usize, u32) -> bool + Sync,
    ) -> Vec<Vec<(u32, T)>> {
        if k == 0 {
            return vec![Vec::new(); queries.len()];
        }
        let best = |scratch: &mut Scratch<T>, (query, tokens): (usize, &Q)| self.best(tokens.as_ref(), k, |d| excluded(query, d), scratch);
        queries.par_iter().enumerate().map_init(|| Scratch::new(k), best).collect()
    }
}
