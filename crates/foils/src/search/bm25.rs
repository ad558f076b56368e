//! BM25 (`baselines-mining`, "BM25"): over token ids ([`Bm25`]) and over texts ([`Bm25Index`]).

use super::Ranking;
use super::stop_words::is_english_stop_word;
use crate::data::text::{ByDigest, each_word};
use crate::{Error, Result};
use foils_kernels::{Real, bm25};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// How a term's rarity becomes its weight; N documents, df of them with the term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Idf {
    /// ln(1 + (N − df + ½)/(df + ½)), never negative.
    #[default]
    Lucene,
    /// ln(N − df + ½) − ln(df + ½); negative weights become a quarter of the mean over the terms seen (rank_bm25).
    Okapi,
}

/// The two knobs of BM25 and what is a term.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bm25Settings {
    /// How soon repeating a term stops helping; at least 0, where a term counts once.
    pub k1: f64,
    /// How much a long document is held back, from 0 to 1.
    pub b: f64,
    /// The weight of a term.
    pub idf: Idf,
    /// Whether common English words are dropped ([`Bm25Index`] only).
    pub stop_words: bool,
}

impl Default for Bm25Settings {
    fn default() -> Self {
        Self { k1: 1.2, b: 0.75, idf: Idf::Lucene, stop_words: false }
    }
}

impl Bm25Settings {
    /// Checks the values.
    ///
    /// # Errors
    /// When `k1` is negative or `b` is outside [0, 1], or either is not finite.
    pub fn validate(&self) -> Result<()> {
        if !(self.k1 >= 0.0 && self.k1.is_finite()) {
            return Err(Error::invalid(format!("bm25: k1 is {}, it must be a finite number of at least 0", self.k1)));
        }
        if !(0.0..=1.0).contains(&self.b) {
            return Err(Error::invalid(format!("bm25: b is {}, it must be from 0 to 1", self.b)));
        }
        Ok(())
    }
}

/// An index over documents that are already token ids.
#[derive(Clone, Debug)]
pub struct Bm25<T> {
    index: bm25::Bm25<T>,
}

impl<T: Real> Bm25<T> {
    /// Indexes the documents `tokens[offsets[i]..offsets[i + 1]]`. Single documents may be empty.
    ///
    /// # Errors
    /// When there are no documents or only empty ones, offsets do not ascend from 0 to the number of tokens, a token is not
    /// below `vocab_size`, or a setting is out of range.
    pub fn new(tokens: &[u32], offsets: &[usize], vocab_size: usize, settings: &Bm25Settings) -> Result<Self> {
        settings.validate()?;
        if offsets.len() < 2 {
            return Err(Error::invalid("bm25: the corpus is empty"));
        }
        if u32::try_from(offsets.len() - 1).is_err() {
            return Err(Error::invalid(format!("bm25: {} documents, at most 2^32 can be indexed", offsets.len() - 1)));
        }
        check_offsets(offsets, tokens.len())?;
        check_tokens(tokens, vocab_size)?;
        if tokens.is_empty() {
            return Err(Error::invalid("bm25: every document is empty, so there is nothing to search"));
        }
        let idf = match settings.idf {
            Idf::Lucene => bm25::Idf::Lucene,
            Idf::Okapi => bm25::Idf::Okapi,
        };
        Ok(Self { index: bm25::Bm25::new(tokens, offsets, vocab_size, settings.k1, settings.b, idf) })
    }

    /// How many documents.
    pub fn documents(&self) -> usize {
        self.index.documents()
    }

    /// The weight of every term, `[vocab_size]`; 0 for one that no document holds.
    pub fn idf(&self) -> &[T] {
        self.index.idf()
    }

    /// The score of every document, `[documents]`; all 0 for an empty query.
    ///
    /// # Errors
    /// When a token is not below the vocabulary size.
    pub fn scores(&self, query: &[u32]) -> Result<Vec<T>> {
        check_tokens(query, self.index.vocab_size())?;
        let mut scores = vec![T::ZERO; self.documents()];
        self.index.scores(query, &mut scores);
        Ok(scores)
    }

    /// The scores of every document for the queries `tokens[offsets[i]..offsets[i + 1]]`, `[queries, documents]` row-major.
    ///
    /// # Errors
    /// When offsets do not ascend from 0 to the number of tokens or a token is not below the vocabulary size.
    pub fn all_scores(&self, tokens: &[u32], offsets: &[usize]) -> Result<Vec<T>> {
        check_offsets(offsets, tokens.len())?;
        let rows = offsets.windows(2).map(|range| self.scores(&tokens[range[0]..range[1]])).collect::<Result<Vec<_>>>()?;
        Ok(rows.concat())
    }

    /// The `k` best documents with a score above 0 for each query; `excluded(query, document)` takes documents out.
    ///
    /// # Errors
    /// When `k` is 0 or a token is not below the vocabulary size.
    pub fn top_k<Q: AsRef<[u32]> + Sync>(
        &self,
        queries: &[Q],
        k: usize,
        excluded: impl Fn(usize, u32) -> bool + Sync,
    ) -> Result<Vec<Vec<(u32, T)>>> {
        if k == 0 {
            return Err(Error::invalid("k is 0; at least one document must be asked for"));
        }
        for query in queries {
            check_tokens(query.as_ref(), self.index.vocab_size())?;
        }
        Ok(self.index.top_k(queries, k, excluded))
    }
}

fn check_tokens(tokens: &[u32], vocab_size: usize) -> Result<()> {
    match tokens.iter().position(|&t| t as usize >= vocab_size) {
        Some(at) => Err(Error::invalid(format!("bm25: token {} at position {at} is not below vocab_size {vocab_size}", tokens[at]))),
        None => Ok(()),
    }
}

/// Checks that `offsets` cut `len` entries into runs: ascending, from 0 to `len`.
///
/// # Errors
/// Says which offset is wrong.
pub(crate) fn check_offsets(offsets: &[usize], len: usize) -> Result<()> {
    if offsets.first() != Some(&0) {
        return Err(Error::invalid(format!("offsets must begin with 0, not {:?}", offsets.first())));
    }
    if let Some(at) = offsets.windows(2).position(|w| w[0] > w[1]) {
        return Err(Error::invalid(format!("offsets must ascend: {} is followed by {}", offsets[at], offsets[at + 1])));
    }
    match offsets.last() {
        Some(&last) if last == len => Ok(()),
        last => Err(Error::invalid(format!("offsets must end at {len}, the number of entries, not {last:?}"))),
    }
}

/// An index over texts, cut into [`words`](crate::data::text::words).
#[derive(Clone, Debug)]
pub struct Bm25Index {
    /// By a digest of the word.
    vocabulary: ByDigest<u32>,
    index: Bm25<f32>,
    stop_words: bool,
}

impl Bm25Index {
    /// Indexes `texts`. Texts without a word are documents that no query finds.
    ///
    /// ```
    /// use foils::search::{Bm25Index, Bm25Settings};
    /// let index = Bm25Index::new(&["the red fox", "a blue whale", "the fox and the hound"], &Bm25Settings::default())?;
    /// let found = index.top_k(&["Fox!"], 5)?;
    /// assert_eq!(found[0].iter().map(|e| e.0).collect::<Vec<_>>(), [0, 2]);
    /// # Ok::<(), foils::Error>(())
    /// ```
    ///
    /// # Errors
    /// When there are no texts, no text has a word, or a setting is out of range.
    pub fn new<S: AsRef<str> + Sync>(texts: &[S], settings: &Bm25Settings) -> Result<Self> {
        // Words are cut in parallel, ids given in order: the same ids for every thread count. Blocks bound the memory.
        const BLOCK: usize = 8192;
        settings.validate()?;
        let mut vocabulary: ByDigest<u32> = ByDigest::default();
        let (mut tokens, mut offsets) = (Vec::new(), vec![0]);
        for block in texts.chunks(BLOCK) {
            let cut: Vec<Vec<u128>> = block.par_iter().map(|text| terms(text.as_ref(), settings.stop_words)).collect();
            for document in cut {
                for term in document {
                    let next = vocabulary.len() as u32;
                    tokens.push(*vocabulary.entry(term).or_insert(next));
                }
                offsets.push(tokens.len());
            }
        }
        if !texts.is_empty() && tokens.is_empty() {
            return Err(Error::invalid(format!("bm25: none of the {} documents has a word (a letter or digit)", texts.len())));
        }
        let index = Bm25::new(&tokens, &offsets, vocabulary.len(), settings)?;
        Ok(Self { vocabulary, index, stop_words: settings.stop_words })
    }

    /// How many documents.
    pub fn len(&self) -> usize {
        self.index.documents()
    }

    /// Whether there are none; never, since an empty corpus is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token ids of a query; words that no document holds are left out, as they weigh 0.
    pub fn tokens(&self, query: &str) -> Vec<u32> {
        terms(query, self.stop_words).iter().filter_map(|term| self.vocabulary.get(term).copied()).collect()
    }

    /// The score of every document.
    pub fn scores(&self, query: &str) -> Vec<f32> {
        self.index.scores(&self.tokens(query)).expect("tokens come from the vocabulary")
    }

    /// The score of one document.
    ///
    /// # Panics
    /// When there is no such document.
    pub fn score(&self, query: &str, document: u32) -> f32 {
        self.index.index.score(&self.tokens(query), document)
    }

    /// The `k` best documents with a score above 0 for each query. The same bits for every thread count.
    ///
    /// # Errors
    /// When `k` is 0.
    pub fn top_k<S: AsRef<str> + Sync>(&self, queries: &[S], k: usize) -> Result<Vec<Ranking>> {
        let tokens: Vec<Vec<u32>> = queries.par_iter().map(|query| self.tokens(query.as_ref())).collect();
        self.index.top_k(&tokens, k, |_, _| false)
    }
}

/// The digests of a text's words, without stop words if they are to be dropped.
pub(super) fn each_term(text: &str, drop_stop_words: bool, mut f: impl FnMut(u128)) {
    each_word(text, |word| {
        if !(drop_stop_words && is_english_stop_word(word)) {
            f(xxh3_128(word.as_bytes()));
        }
    });
}

pub(super) fn terms(text: &str, drop_stop_words: bool) -> Vec<u128> {
    let mut terms = Vec::new();
    each_term(text, drop_stop_words, |term| terms.push(term));
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_whatever_their_case_and_script() {
        let texts = ["Don't panic", "ΟΔΟΣ και πόλη", "", "panic room, panic!", "the the the"];
        let index = Bm25Index::new(&texts, &Bm25Settings::default()).unwrap();
        assert_eq!(index.len(), 5);
        let found = index.top_k(&["PANIC", "πόλη", "", "absent"], 3).unwrap();
        let indices: Vec<Vec<u32>> = found.iter().map(|r| r.iter().map(|e| e.0).collect()).collect();
        assert_eq!(indices, [vec![3, 0], vec![1], vec![], vec![]]);
        assert_eq!(index.scores(""), [0.0; 5]);
        assert_eq!(index.scores("panic")[3], found[0][0].1);
        assert_eq!(index.score("panic", 3), found[0][0].1);
        assert_eq!(index.score("panic", 1), 0.0);
        let without = Bm25Index::new(&texts, &Bm25Settings { stop_words: true, ..Bm25Settings::default() }).unwrap();
        assert!(without.top_k(&["the"], 3).unwrap()[0].is_empty());
        assert!(!index.top_k(&["the"], 3).unwrap()[0].is_empty());
    }

    #[test]
    fn bad_input_is_named() {
        let fails = |tokens: &[u32], offsets: &[usize], settings: Bm25Settings, part: &str| {
            let message = Bm25::<f64>::new(tokens, offsets, 3, &settings).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        let settings = Bm25Settings::default;
        fails(&[], &[0], settings(), "corpus is empty");
        fails(&[], &[], settings(), "corpus is empty");
        fails(&[], &[0, 0, 0], settings(), "every document is empty");
        fails(&[0, 3], &[0, 2], settings(), "token 3 at position 1 is not below vocab_size 3");
        fails(&[0, 1], &[0, 2, 1], settings(), "2 is followed by 1");
        fails(&[0, 1], &[0, 1], settings(), "end at 2");
        fails(&[0, 1], &[1, 2], settings(), "begin with 0");
        for k1 in [-0.1, f64::NAN, f64::INFINITY] {
            fails(&[0], &[0, 1], Bm25Settings { k1, ..settings() }, "k1 is");
        }
        for b in [-0.1, 1.1, f64::NAN] {
            fails(&[0], &[0, 1], Bm25Settings { b, ..settings() }, "b is");
        }
        let index = Bm25::<f64>::new(&[0, 1], &[0, 2], 3, &settings()).unwrap();
        assert!(index.scores(&[3]).is_err());
        assert!(index.top_k(&[[5u32]], 2, |_, _| false).is_err());
        assert!(index.top_k(&[[0u32]], 0, |_, _| false).is_err());
        assert_eq!(index.scores(&[2]).unwrap(), [0.0]);
        assert!(Bm25Index::new::<&str>(&[], &settings()).unwrap_err().to_string().contains("corpus is empty"));
        assert!(Bm25Index::new(&["--", "?"], &settings()).unwrap_err().to_string().contains("none of the 2 documents has a word"));
    }
}
