//! BM25 over a corpus whose index need not fit into memory.

use super::bm25::{each_term, terms};
use super::{Bm25Settings, Idf, Ranking, rank_order};
use crate::data::TextList;
use crate::data::text::ByDigest;
use crate::scratch::{Scratch, ScratchWriter};
use crate::{Error, Result};
use foils_kernels::bm25::{self, Bm25};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Documents that are cut into words at a time.
const BLOCK: usize = 8192;
/// What a token takes in the index of a part, while that is built and afterwards.
const BYTES_A_TOKEN: usize = 16;
/// The same of a document.
const BYTES_A_DOCUMENT: usize = 32;
/// What a word takes in a table of counts.
const BYTES_A_WORD: usize = 64;

/// The documents as token ids in files, indexed part by part when they are searched; scores and rankings are those of
/// [`super::Bm25Index`], to the bit. Only words that some query has are kept.
pub(crate) struct Bm25Parts {
    /// Of the queries' words, those that some document has.
    vocabulary: ByDigest<u32>,
    tokens: Scratch<u32>,
    /// Of the kept tokens of each document.
    ends: Scratch<u64>,
    /// Of all tokens of each document.
    lengths: Scratch<u32>,
    weights: Vec<f64>,
    mean_length: f64,
    settings: Bm25Settings,
    parts: Vec<Range<usize>>,
    /// When there is only one part.
    whole: Option<Bm25<f32>>,
}

impl Bm25Parts {
    /// Reads the corpus once, into files on the disk of `scratch`. The index of a part takes about `memory_bytes` or less, and the
    /// table of the queries' words comes on top.
    pub fn new(documents: &TextList, queries: &TextList, settings: &Bm25Settings, memory_bytes: usize, scratch: &Path) -> Result<Self> {
        settings.validate()?;
        // Ids in the order in which the words come in the corpus: a score is summed in the order of ids.
        const UNSEEN: u32 = u32::MAX;
        let mut vocabulary: ByDigest<u32> = ByDigest::default();
        for query in queries {
            each_term(query, settings.stop_words, |term| {
                vocabulary.insert(term, UNSEEN);
            });
        }
        let (mut tokens, mut ends, mut lengths) =
            (ScratchWriter::new(scratch)?, ScratchWriter::new(scratch)?, ScratchWriter::new(scratch)?);
        let (mut frequencies, mut last, mut all_tokens) = (Vec::<u32>::new(), Vec::<usize>::new(), 0u64);
        for start in (0..documents.len()).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(documents.len());
            let known = &vocabulary;
            let cut = |document: usize| {
                let (mut kept, mut length) = (Vec::new(), 0u32);
                each_term(&documents[document], settings.stop_words, |term| {
                    length += 1;
                    if known.contains_key(&term) {
                        kept.push(term);
                    }
                });
                (kept, length)
            };
            let cut: Vec<(Vec<u128>, u32)> = block.clone().into_par_iter().map(cut).collect();
            for (document, (kept, length)) in block.zip(cut) {
                for term in kept {
                    let id = vocabulary.get_mut(&term).expect("kept because it is there");
                    if *id == UNSEEN {
                        *id = frequencies.len() as u32;
                        frequencies.push(0);
                        last.push(usize::MAX);
                    }
                    let at = *id as usize;
                    frequencies[at] += u32::from(last[at] != document);
                    last[at] = document;
                    tokens.extend(&[*id])?;
                }
                ends.extend(&[tokens.len() as u64])?;
                lengths.extend(&[length])?;
                all_tokens += u64::from(length);
            }
        }
        if all_tokens == 0 {
            return Err(Error::invalid(format!("bm25: none of the {} documents has a word (a letter or digit)", documents.len())));
        }
        vocabulary.retain(|_, id| *id != UNSEEN);
        let idf = match settings.idf {
            Idf::Lucene => bm25::Idf::Lucene,
            Idf::Okapi => bm25::Idf::Okapi,
        };
        // Okapi's floor is a mean over all words of the corpus, not over those of the queries.
        let counts = if settings.idf == Idf::Okapi { frequency_counts(documents, settings, memory_bytes) } else { BTreeMap::new() };
        let weight = idf.weights(documents.len(), &counts);
        let mut parts = Self {
            vocabulary,
            tokens: tokens.finish()?,
            ends: ends.finish()?,
            lengths: lengths.finish()?,
            weights: frequencies.iter().map(|&df| weight(df)).collect(),
            mean_length: all_tokens as f64 / documents.len() as f64,
            settings: settings.clone(),
            parts: Vec::new(),
            whole: None,
        };
        parts.parts = parts.cut(memory_bytes);
        if let [whole] = parts.parts.as_slice() {
            parts.whole = Some(parts.index(whole));
        }
        Ok(parts)
    }

    /// Ranges of documents whose indexes take so much at most.
    fn cut(&self, memory_bytes: usize) -> Vec<Range<usize>> {
        let bytes = |range: &Range<usize>| {
            let tokens = self.end(range.end) - self.end(range.start);
            tokens * BYTES_A_TOKEN + range.len() * BYTES_A_DOCUMENT
        };
        let mut parts = Vec::new();
        let mut start = 0;
        let documents = self.ends.len();
        while start < documents {
            // The largest end that fits, by halving; one document at least.
            let (mut low, mut high) = (start + 1, documents);
            while low < high {
                let middle = (low + high).div_ceil(2);
                if bytes(&(start..middle)) <= memory_bytes { low = middle } else { high = middle - 1 }
            }
            parts.push(start..low);
            start = low;
        }
        parts
    }

    /// Where the tokens of the documents before `document` end.
    fn end(&self, document: usize) -> usize {
        if document == 0 { 0 } else { self.ends[document - 1] as usize }
    }

    fn index(&self, part: &Range<usize>) -> Bm25<f32> {
        let first = self.end(part.start);
        let offsets: Vec<usize> = (part.start..=part.end).map(|document| self.end(document) - first).collect();
        let tokens = &self.tokens[first..self.end(part.end)];
        let settings = (self.settings.k1, self.settings.b);
        Bm25::of_part(tokens, &offsets, &self.lengths[part.clone()], self.mean_length, self.weights.clone(), settings)
    }

    /// The `k` best documents with a score above 0 for each query, and the scores of the documents that `asked` names for each.
    pub fn top_k(&self, queries: &[&str], k: usize, asked: &[Vec<u32>]) -> (Vec<Ranking>, Vec<Vec<f32>>) {
        let tokens = |query: &&str| terms(query, self.settings.stop_words).iter().filter_map(|t| self.vocabulary.get(t).copied()).collect();
        let tokens: Vec<Vec<u32>> = queries.par_iter().map(tokens).collect();
        let mut best: Vec<Ranking> = vec![Ranking::new(); queries.len()];
        let mut scores: Vec<Vec<f32>> = asked.iter().map(|list| vec![0.0; list.len()]).collect();
        for part in &self.parts {
            let built;
            let index = match &self.whole {
                Some(index) => index,
                None => {
                    built = self.index(part);
                    &built
                }
            };
            let found = index.top_k(&tokens, k, |_, _| false);
            best.par_iter_mut().zip(found).for_each(|(best, found)| {
                best.extend(found.into_iter().map(|(document, score)| (document + part.start as u32, score)));
                best.sort_unstable_by(rank_order);
                best.truncate(k);
            });
            scores.par_iter_mut().zip(asked).zip(&tokens).for_each(|((scores, asked), tokens)| {
                for (score, &document) in scores.iter_mut().zip(asked).filter(|(_, d)| part.contains(&(**d as usize))) {
                    *score = index.score(tokens, document - part.start as u32);
                }
            });
        }
        (best, scores)
    }
}

/// How many words of the corpus are in how many documents: counted for a share of the words at a time, so that the counts fit.
fn frequency_counts(documents: &TextList, settings: &Bm25Settings, memory_bytes: usize) -> BTreeMap<u32, u64> {
    let most = (memory_bytes / BYTES_A_WORD).max(1 << 16);
    (0..)
        .find_map(|doublings| counts_by_shares(documents, settings, most, 1 << doublings))
        .expect("at last each word has a share of its own")
}

/// None when a share has more than `most` words.
fn counts_by_shares(documents: &TextList, settings: &Bm25Settings, most: usize, shares: u128) -> Option<BTreeMap<u32, u64>> {
    let mut counts = BTreeMap::new();
    for share in 0..shares {
        let mut frequencies: ByDigest<(u32, usize)> = ByDigest::default();
        for (document, text) in documents.iter().enumerate() {
            each_term(text, settings.stop_words, |term| {
                // The low bits choose the place in the table.
                if (term >> 64) % shares == share {
                    let (count, last) = frequencies.entry(term).or_insert((0, usize::MAX));
                    *count += u32::from(*last != document);
                    *last = document;
                }
            });
            if frequencies.len() > most {
                return None;
            }
        }
        frequencies.values().for_each(|&(frequency, _)| *counts.entry(frequency).or_insert(0) += 1);
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Bm25Index;
    use rand::RngExt;

    #[test]
    fn parts_rank_and_score_as_the_whole_index() {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = crate::seed::rng(5, 0);
        let mut texts = |n: usize, most: usize, words: u32| -> TextList {
            let mut text = || {
                let length = rng.random_range(0..most);
                (0..length).map(|_| format!("w{} ", rng.random_range(0..words))).collect::<String>()
            };
            (0..n).map(|_| text()).collect()
        };
        let (documents, queries) = (texts(300, 30, 200), texts(40, 9, 230));
        let asked: Vec<Vec<u32>> = (0..40).map(|q| vec![q * 7, 299 - q]).collect();
        for idf in [Idf::Lucene, Idf::Okapi] {
            let settings = Bm25Settings { idf, ..Bm25Settings::default() };
            let whole = Bm25Index::new(&documents.refs(0..300), &settings).unwrap();
            let expected = whole.top_k(&queries.refs(0..40), 7).unwrap();
            for memory in [0, 5_000, 1 << 30] {
                let parts = Bm25Parts::new(&documents, &queries, &settings, memory, folder.path()).unwrap();
                assert_eq!(parts.parts.len() == 1, memory == 1 << 30, "{:?}", parts.parts.len());
                let (found, scores) = parts.top_k(&queries.refs(0..40), 7, &asked);
                assert_eq!(found, expected, "{idf:?} {memory}");
                for (query, (asked, scores)) in asked.iter().zip(scores).enumerate() {
                    let expected: Vec<f32> = asked.iter().map(|&d| whole.score(&queries[query], d)).collect();
                    assert_eq!(scores, expected);
                }
            }
        }
        let none: TextList = ["--"].iter().collect();
        let error = Bm25Parts::new(&none, &queries, &Bm25Settings::default(), 0, folder.path()).err().unwrap();
        assert!(error.to_string().contains("none of the 1 documents has a word"));
    }

    #[test]
    fn counting_by_shares_is_counting() {
        // More words than fit the smallest table, each in one document or two.
        let documents: TextList = (0..900).map(|d| (0..100).map(|w| format!("w{} ", d * 90 + w)).collect::<String>()).collect();
        let settings = Bm25Settings::default();
        let all = frequency_counts(&documents, &settings, usize::MAX);
        assert!(all.values().sum::<u64>() > 1 << 16 && all.len() > 1);
        assert_eq!(frequency_counts(&documents, &settings, 0), all);
    }
}
