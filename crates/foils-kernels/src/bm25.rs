//! BM25 over token ids: an inverted index whose postings hold the finished score of a term in a document, so that a query is
//! a sum of a few lists (`baselines-mining`, "BM25").

use crate::Real;
use crate::topk::Best;
use rayon::prelude::*;

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
    /// Where each term's postings begin; one more at the end.
    offsets: Vec<usize>,
    /// Documents by term, ascending within a term.
    postings: Vec<u32>,
    /// The score of the term in that document.
    scores: Vec<T>,
    idf: Vec<T>,
}

impl<T: Real> Bm25<T> {
    /// Indexes documents given as one run of token ids with `document_offsets` (one more than documents). `k1` ≥ 0, `b` in [0, 1].
    ///
    /// # Panics
    /// When offsets do not ascend from 0 to the number of tokens or a token is not below `vocab_size`.
    pub fn new(tokens: &[u32], document_offsets: &[usize], vocab_size: usize, k1: f64, b: f64, idf: Idf) -> Self {
        assert_eq!(document_offsets.last(), Some(&tokens.len()), "the last offset is the number of tokens");
        let documents = document_offsets.len() - 1;
        let mean_length = tokens.len() as f64 / documents as f64;
        // Pass 1: how many documents hold each term. `last_seen` tells a repeated term from a new document.
        let mut offsets = vec![0usize; vocab_size + 1];
        let mut last_seen = vec![u32::MAX; vocab_size];
        for (document, range) in document_offsets.windows(2).enumerate() {
            for &token in &tokens[range[0]..range[1]] {
                let seen = &mut last_seen[token as usize];
                if *seen != document as u32 {
                    *seen = document as u32;
                    offsets[token as usize + 1] += 1;
                }
            }
        }
        let weights = term_weights(&offsets[1..], documents, idf);
        for term in 0..vocab_size {
            offsets[term + 1] += offsets[term];
        }
        // Pass 2: count within each document, then write the finished scores.
        let mut next = offsets.clone();
        let mut postings = vec![0u32; offsets[vocab_size]];
        let mut scores = vec![T::ZERO; offsets[vocab_size]];
        let mut sorted = Vec::new();
        for (document, range) in document_offsets.windows(2).enumerate() {
            sorted.clear();
            sorted.extend_from_slice(&tokens[range[0]..range[1]]);
            sorted.sort_unstable();
            let length = k1 * (1.0 - b + b * sorted.len() as f64 / mean_length);
            for run in sorted.chunk_by(|x, y| x == y) {
                let (term, frequency) = (run[0] as usize, run.len() as f64);
                let at = next[term];
                next[term] += 1;
                postings[at] = document as u32;
                scores[at] = T::from_f64(weights[term] * (frequency * (k1 + 1.0) / (frequency + length)));
            }
        }
        Self { documents, offsets, postings, scores, idf: weights.into_iter().map(T::from_f64).collect() }
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
            let range = self.offsets[run[0] as usize]..self.offsets[run[0] as usize + 1];
            let times = T::from_f64(run.len() as f64);
            for (&document, &score) in self.postings[range.clone()].iter().zip(&self.scores[range]) {
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
            let range = self.offsets[run[0] as usize]..self.offsets[run[0] as usize + 1];
            if let Ok(at) = self.postings[range.clone()].binary_search(&document) {
                sum += T::from_f64(run.len() as f64) * self.scores[range][at];
            }
        }
        sum
    }

    /// The `k` best documents with a score above 0 for each query: (index, score), score descending, ties to the lower index.
    /// `excluded(query, document)` takes documents out. The same bits for every thread count.
    ///
    /// # Panics
    /// When a token is not below the vocabulary size.
    pub fn top_k<Q: AsRef<[u32]> + Sync>(
        &self,
        queries: &[Q],
        k: usize,
        excluded: impl Fn(usize, u32) -> bool + Sync,
    ) -> Vec<Vec<(u32, T)>> {
        const STRIDE: usize = 32;
        queries
            .par_iter()
            .enumerate()
            .map_init(
                || vec![T::ZERO; self.documents],
                |row, (query, tokens)| {
                    self.scores(tokens.as_ref(), row);
                    let mut best = Best::new(k);
                    let mut bar = T::ZERO;
                    for (chunk, scores) in row.chunks(STRIDE).enumerate() {
                        if scores.iter().fold(true, |all, &score| all & (score <= bar)) {
                            continue;
                        }
                        for (column, &score) in scores.iter().enumerate() {
                            let document = (chunk * STRIDE + column) as u32;
                            if score > bar && !excluded(query, document) {
                                best.push(document, score);
                                bar = best.threshold().unwrap_or(T::ZERO);
                            }
                        }
                    }
                    best.into_ranking()
                },
            )
            .collect()
    }
}

/// w(t) from the document frequencies.
fn term_weights(frequencies: &[usize], documents: usize, idf: Idf) -> Vec<f64> {
    let n = documents as f64;
    let weight = |df: usize| {
        let df_ = df as f64;
        match (df, idf) {
            (0, _) => 0.0,
            (_, Idf::Lucene) => ((n - df_ + 0.5) / (df_ + 0.5)).ln_1p(),
            (_, Idf::Okapi) => (n - df_ + 0.5).ln() - (df_ + 0.5).ln(),
        }
    };
    let mut weights: Vec<f64> = frequencies.iter().map(|&df| weight(df)).collect();
    if idf == Idf::Okapi {
        let seen = frequencies.iter().filter(|&&df| df > 0).count().max(1);
        let floor = 0.25 * weights.iter().sum::<f64>() / seen as f64;
        weights.iter_mut().filter(|w| **w < 0.0).for_each(|w| *w = floor);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topk::rank_order;
    use proptest::prelude::*;

    /// The formula as it is written, document by document.
    fn naive(documents: &[Vec<u32>], query: &[u32], vocab: usize, k1: f64, b: f64, idf: Idf) -> Vec<f64> {
        let n = documents.len() as f64;
        let mean = documents.iter().map(Vec::len).sum::<usize>() as f64 / n;
        let df = |t: u32| documents.iter().filter(|d| d.contains(&t)).count() as f64;
        let okapi = |t: u32| (n - df(t) + 0.5).ln() - (df(t) + 0.5).ln();
        let seen: Vec<u32> = (0..vocab as u32).filter(|&t| df(t) > 0.0).collect();
        let mean_weight = seen.iter().map(|&t| okapi(t)).sum::<f64>() / seen.len() as f64;
        let weight = |t: u32| match idf {
            Idf::Lucene => (1.0 + (n - df(t) + 0.5) / (df(t) + 0.5)).ln(),
            Idf::Okapi if okapi(t) < 0.0 => 0.25 * mean_weight,
            Idf::Okapi => okapi(t),
        };
        documents
            .iter()
            .map(|d| {
                let term = |&t: &u32| {
                    let tf = d.iter().filter(|&&u| u == t).count() as f64;
                    if tf == 0.0 { 0.0 } else { weight(t) * tf * (k1 + 1.0) / (tf + k1 * (1.0 - b + b * d.len() as f64 / mean)) }
                };
                query.iter().map(term).sum()
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn agrees_with_naive_code(
            mut documents in prop::collection::vec(prop::collection::vec(0u32..12, 0..20), 1..60),
            queries in prop::collection::vec(prop::collection::vec(0u32..14, 0..8), 0..9),
            k1 in prop_oneof![Just(0.0), 0.0f64..3.0], b in prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0],
            okapi in any::<bool>(), k in 0usize..20,
        ) {
            documents[0].push(3);
            let idf = if okapi { Idf::Okapi } else { Idf::Lucene };
            let tokens = documents.concat();
            let offsets: Vec<usize> = std::iter::once(0).chain(documents.iter().scan(0, |sum, d| { *sum += d.len(); Some(*sum) })).collect();
            let index = Bm25::<f64>::new(&tokens, &offsets, 14, k1, b, idf);
            let rankings = index.top_k(&queries, k, |q, d| (q + d as usize) % 5 == 4);
            for (q, query) in queries.iter().enumerate() {
                let mut row = vec![f64::NAN; documents.len()];
                index.scores(query, &mut row);
                for (d, &score) in row.iter().enumerate() {
                    prop_assert_eq!(index.score(query, d as u32), score);
                }
                for (ours, theirs) in row.iter().zip(naive(&documents, query, 14, k1, b, idf)) {
                    prop_assert!((ours - theirs).abs() <= 1e-12 * (1.0 + theirs.abs()), "{} {}", ours, theirs);
                }
                let mut expected: Vec<(u32, f64)> = row.iter().enumerate().map(|(d, &s)| (d as u32, s)).collect();
                expected.retain(|&(d, s)| s > 0.0 && (q + d as usize) % 5 != 4);
                expected.sort_by(rank_order);
                expected.truncate(k);
                prop_assert_eq!(&rankings[q], &expected);
            }
        }
    }

    #[test]
    fn without_k1_a_term_counts_once() {
        let index = Bm25::<f64>::new(&[0, 0, 0, 1, 0], &[0, 3, 4, 5], 2, 0.0, 0.75, Idf::Lucene);
        let mut row = [0.0; 3];
        index.scores(&[0], &mut row);
        assert_eq!(row, [index.idf()[0], 0.0, index.idf()[0]]);
    }
}
