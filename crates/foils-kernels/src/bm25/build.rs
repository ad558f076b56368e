//! From documents to postings, in parallel and with bounded memory beside the result.
//!
//! Two passes: how many documents hold each term, then the postings themselves. In the second, threads share the documents of
//! a block to find its (term, document) pairs, and then share the terms to put the pairs in their places, where every thread
//! reads all pairs and keeps those of its terms. So each place has one writer, and the result does not depend on the threads.

use super::{Idf, Postings};
use crate::Real;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// Tokens of the documents whose pairs exist at one time; 16 bytes a pair.
const BLOCK: usize = 1 << 20;

/// A term of a document on its way to its place.
struct Pair {
    term: u32,
    document: u32,
    /// How often, and then tf·(k1 + 1)/(tf + k1·(1 − b + b·|d|/avgdl)).
    factor: f64,
}

/// The places of a range of terms, with one writer.
struct Share<'a, T> {
    terms: Range<usize>,
    /// Where the next pair of each term goes, counted from the first of the share.
    next: Vec<usize>,
    documents: &'a mut [u32],
    scores: &'a mut [T],
}

/// What is known of a collection.
pub(super) struct Built<T> {
    pub postings: Postings<T>,
    /// The weight of every term.
    pub weights: Vec<f64>,
    /// The largest factor of any term in each document, which its weight is multiplied by; 0 of an empty one.
    pub peaks: Vec<T>,
}

/// What documents are scored by that is not in themselves.
pub(super) struct Statistics<'a> {
    /// Of every term; none: from these documents.
    pub weights: Option<Vec<f64>>,
    /// Of every document, in tokens, where these are not all of its tokens.
    pub lengths: Option<&'a [u32]>,
    pub mean_length: f64,
}

pub(super) fn build<T: Real>(
    tokens: &[u32],
    offsets: &[usize],
    vocab_size: usize,
    k1: f64,
    b: f64,
    idf: Idf,
    statistics: Statistics,
) -> Built<T> {
    let documents = offsets.len() - 1;
    let Statistics { weights, lengths, mean_length } = statistics;
    let threads = rayon::current_num_threads();
    let frequencies = frequencies(tokens, offsets, vocab_size, threads);
    let weights = weights.unwrap_or_else(|| term_weights(&frequencies, documents, idf));
    let mut postings = Postings::with_lengths(&frequencies);
    let mut shares = shares(&mut postings, threads);
    let mut peaks = Vec::with_capacity(documents);
    let mut slots = vec![vec![0u32; vocab_size]; threads];
    for block in split(offsets, 0..documents, tokens.len().div_ceil(BLOCK)) {
        let parts = split(offsets, block, threads);
        let find = |(part, slots): (Range<usize>, &mut Vec<u32>)| {
            let (mut pairs, mut peaks) = (Vec::new(), Vec::with_capacity(part.len()));
            for document in part {
                let words = &tokens[offsets[document]..offsets[document + 1]];
                let length = lengths.map_or(words.len() as f64, |lengths| f64::from(lengths[document]));
                let length = k1 * (1.0 - b + b * length / mean_length);
                let mut peak = 0.0f64;
                for pair in count(document as u32, words, slots, &mut pairs) {
                    pair.factor = pair.factor * (k1 + 1.0) / (pair.factor + length);
                    peak = peak.max(pair.factor);
                }
                peaks.push(T::from_f64(peak));
            }
            (pairs, peaks)
        };
        let (pairs, found): (Vec<Vec<Pair>>, Vec<Vec<T>>) = parts.into_par_iter().zip(&mut slots).map(find).unzip();
        peaks.extend(found.into_iter().flatten());
        shares.par_iter_mut().for_each(|share| share.take(&pairs, &weights));
    }
    Built { postings, weights, peaks }
}

/// How many documents hold each term.
fn frequencies(tokens: &[u32], offsets: &[usize], vocab_size: usize, threads: usize) -> Vec<u32> {
    let of_part = |part: Range<usize>| {
        let (mut counts, mut last) = (vec![0u32; vocab_size], vec![u32::MAX; vocab_size]);
        for document in part {
            for &token in &tokens[offsets[document]..offsets[document + 1]] {
                let last = &mut last[token as usize];
                counts[token as usize] += u32::from(*last != document as u32);
                *last = document as u32;
            }
        }
        counts
    };
    let parts = split(offsets, 0..offsets.len() - 1, threads);
    let added = |mut sums: Vec<u32>, counts: Vec<u32>| {
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        sums
    };
    parts.into_par_iter().map(of_part).reduce_with(added).unwrap_or_else(|| vec![0; vocab_size])
}

/// Appends the distinct terms of a document, each with how often it occurs, and returns them. `slots` says where a term was
/// last appended, which need not be in this document: whatever it holds is checked.
fn count<'a>(document: u32, words: &[u32], slots: &mut [u32], pairs: &'a mut Vec<Pair>) -> &'a mut [Pair] {
    let first = pairs.len();
    for &term in words {
        let slot = &mut slots[term as usize];
        match pairs[first..].get_mut((*slot as usize).wrapping_sub(first)) {
            Some(pair) if pair.term == term => pair.factor += 1.0,
            _ => {
                *slot = pairs.len() as u32;
                pairs.push(Pair { term, document, factor: 1.0 });
            }
        }
    }
    &mut pairs[first..]
}

impl<T: Real> Share<'_, T> {
    /// Puts the pairs of the share's terms in their places, which keeps the order of documents.
    fn take(&mut self, pairs: &[Vec<Pair>], weights: &[f64]) {
        for pair in pairs.iter().flatten() {
            let term = pair.term as usize;
            if self.terms.contains(&term) {
                let next = &mut self.next[term - self.terms.start];
                self.documents[*next] = pair.document;
                self.scores[*next] = T::from_f64(weights[term] * pair.factor);
                *next += 1;
            }
        }
    }
}

/// Cuts the terms into ranges with about the same number of postings.
fn shares<T: Real>(postings: &mut Postings<T>, parts: usize) -> Vec<Share<'_, T>> {
    let Postings { offsets, documents, scores } = postings;
    let (mut documents, mut scores) = (&mut documents[..], &mut scores[..]);
    let cut = |terms: Range<usize>| {
        let first = offsets[terms.start];
        let next: Vec<usize> = offsets[terms.clone()].iter().map(|at| at - first).collect();
        let len = offsets[terms.end] - first;
        let (own_documents, own_scores) = (documents.split_off_mut(..len), scores.split_off_mut(..len));
        Share { terms, next, documents: own_documents.expect("in range"), scores: own_scores.expect("in range") }
    };
    split(offsets, 0..offsets.len() - 1, parts).into_iter().map(cut).collect()
}

/// Cuts a range of runs, run `i` from `offsets[i]` to `offsets[i + 1]`, into `parts` ranges that hold about the same.
fn split(offsets: &[usize], range: Range<usize>, parts: usize) -> Vec<Range<usize>> {
    let (first, total) = (offsets[range.start], offsets[range.end] - offsets[range.start]);
    let end = |part: usize| match part {
        p if p == parts => range.end,
        p => range.start + offsets[range.clone()].partition_point(|&at| at < first + total * p / parts),
    };
    (0..parts).map(|part| if part == 0 { range.start } else { end(part) }..end(part + 1)).collect()
}

/// w(t) from the document frequencies.
fn term_weights(frequencies: &[u32], documents: usize, idf: Idf) -> Vec<f64> {
    let mut counts = BTreeMap::new();
    frequencies.iter().filter(|&&df| df > 0).for_each(|&df| *counts.entry(df).or_insert(0u64) += 1);
    let weight = idf.weights(documents, &counts);
    frequencies.iter().map(|&df| weight(df)).collect()
}

impl Idf {
    /// The weight of a term by the number of documents that hold it (0: 0), of `documents` documents in all, where `counts` says how many
    /// terms are held by how many documents.
    pub fn weights(self, documents: usize, counts: &BTreeMap<u32, u64>) -> impl Fn(u32) -> f64 + use<> {
        let n = documents as f64;
        let plain = move |df: u32| {
            let df_ = f64::from(df);
            match (df, self) {
                (0, _) => 0.0,
                (_, Self::Lucene) => ((n - df_ + 0.5) / (df_ + 0.5)).ln_1p(),
                (_, Self::Okapi) => (n - df_ + 0.5).ln() - (df_ + 0.5).ln(),
            }
        };
        let seen = counts.values().sum::<u64>().max(1) as f64;
        let floor = 0.25 * counts.iter().map(|(&df, &count)| count as f64 * plain(df)).sum::<f64>() / seen;
        move |df| {
            let weight = plain(df);
            if self == Self::Okapi && weight < 0.0 { floor } else { weight }
        }
    }
}
