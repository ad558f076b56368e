//! Tokenising once: texts to the bags of token ids that a static table is averaged over.

use super::pieces::{KnownPieces, PieceByPiece};
use crate::{Error, Result};
use foils_kernels::Bags;
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokenizers::{Tokenizer, TruncationParams};

/// Tokens of a text that are looked at, when the tokenizer that one starts from says nothing. Written into the saved
/// `tokenizer.json` as its truncation, so that Python cuts at the same place.
pub const DEFAULT_MAX_TOKENS: usize = 512;

/// Entries that are remembered (8 bytes each); what would go beyond is tokenised anew each time.
const REMEMBERED: usize = 1 << 25;

/// A tokenizer that remembers the texts it has seen. Mining, training, validating and evaluating look at the same texts again
/// and again, and tokenising costs far more than averaging.
pub(super) struct TokenCache {
    tokenizer: Tokenizer,
    piece_by_piece: Option<PieceByPiece>,
    json: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    bags: Bags,
    index: HashMap<u128, u32>,
}

impl TokenCache {
    /// A tokenizer without truncation is cut at `max_tokens` (`None`: never); one with truncation keeps its own.
    ///
    /// # Errors
    /// When `max_tokens` is 0 or smaller than the tokenizer's special tokens.
    pub fn new(mut tokenizer: Tokenizer, max_tokens: Option<usize>) -> Result<Self> {
        tokenizer.with_padding(None);
        if let (None, Some(max_length)) = (tokenizer.get_truncation(), max_tokens) {
            if max_length == 0 {
                return Err(Error::invalid("max_tokens is 0; at least 1 is needed"));
            }
            let truncation = TruncationParams { max_length, ..TruncationParams::default() };
            tokenizer.with_truncation(Some(truncation)).map_err(|e| Error::invalid(format!("cannot cut at {max_length} tokens: {e}")))?;
        }
        let json = tokenizer.to_string(true).map_err(|e| Error::invalid(format!("the tokenizer cannot be written: {e}")))?;
        Ok(Self { piece_by_piece: PieceByPiece::new(&tokenizer), tokenizer, json, seen: Mutex::default() })
    }

    /// The tokenizer as a `tokenizer.json`.
    pub fn tokenizer_json(&self) -> &str {
        &self.json
    }

    /// Where texts are cut, if they are.
    pub fn max_tokens(&self) -> Option<usize> {
        self.tokenizer.get_truncation().map(|t| t.max_length)
    }

    /// The bag of each text, in order.
    ///
    /// # Errors
    /// On a text from which no token is left, naming its position from 1.
    pub fn bags(&self, texts: &[&str]) -> Result<Bags> {
        let digests: Vec<u128> = texts.par_iter().map(|t| xxhash_rust::xxh3::xxh3_128(t.as_bytes())).collect();
        let mut asked = HashSet::new();
        let missing: Vec<usize> = {
            let seen = self.lock();
            (0..texts.len()).filter(|&i| !seen.index.contains_key(&digests[i]) && asked.insert(digests[i])).collect()
        };
        // Unlocked: a thread that waits for others here may be handed another call on this encoder.
        let fresh = self.tokenize(texts, &missing)?;
        let fresh_index: HashMap<u128, u32> = missing.iter().enumerate().map(|(at, &i)| (digests[i], at as u32)).collect();
        let mut seen = self.lock();
        let mut bags = Bags::default();
        for digest in &digests {
            match fresh_index.get(digest) {
                Some(&at) => bags.push_from(&fresh, at as usize),
                None => bags.push_from(&seen.bags, seen.index[digest] as usize),
            }
        }
        if seen.bags.total_entries() + fresh.total_entries() <= REMEMBERED {
            let base = seen.bags.len() as u32;
            seen.bags.append(&fresh);
            seen.index.extend(fresh_index.into_iter().map(|(digest, at)| (digest, base + at)));
        }
        Ok(bags)
    }

    /// Forgets all texts.
    pub fn forget(&self) {
        *self.lock() = Seen::default();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokenize(&self, texts: &[&str], which: &[usize]) -> Result<Bags> {
        // Large enough for pieces to come again, small enough to be shared among threads.
        let chunk = which.len().div_ceil(4 * rayon::current_num_threads()).clamp(64, 4096);
        let parts: Vec<Bags> = which
            .par_chunks(chunk)
            .map(|chunk| {
                let (mut bags, mut known) = (Bags::default(), KnownPieces::new());
                for &i in chunk {
                    bags.push_mean(&mut self.tokens(texts[i], i + 1, &mut known)?);
                }
                Ok(bags)
            })
            .collect::<Result<_>>()?;
        let mut bags = Bags::default();
        parts.iter().for_each(|part| bags.append(part));
        Ok(bags)
    }

    fn tokens(&self, text: &str, position: usize, known: &mut KnownPieces) -> Result<Vec<u32>> {
        let short_cut = self.piece_by_piece.as_ref().and_then(|words| words.tokens(&self.tokenizer, text, known));
        let tokens = match short_cut {
            Some(tokens) => tokens,
            None => {
                let encoding = self.tokenizer.encode_fast(text, false);
                encoding.map_err(|e| Error::invalid(format!("text {position} cannot be tokenised: {e}")))?.get_ids().to_vec()
            }
        };
        if tokens.is_empty() {
            return Err(Error::invalid(format!("text {position} of the list ({text:?}): no token is left, so it has no vector")));
        }
        Ok(tokens)
    }
}

/// Reads a `tokenizer.json`.
///
/// # Errors
/// Names the file when it is missing or no tokenizer.
pub(super) fn read_tokenizer(path: &Path) -> Result<Tokenizer> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    Tokenizer::from_bytes(&bytes).map_err(|e| Error::file(path, None, format!("is not a tokenizer.json: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::tests::tokenizer;

    #[test]
    fn remembered_texts_have_the_same_bags_and_errors_their_position() {
        let cache = TokenCache::new(tokenizer(), None).unwrap();
        let first = cache.bags(&["the cat", "a dog", "the cat"]).unwrap();
        assert_eq!(first.entries(0), first.entries(2));
        assert_eq!(cache.seen.lock().unwrap().bags.len(), 2);
        let second = cache.bags(&["mat", "a dog", "the cat"]).unwrap();
        assert_eq!(second.entries(1), first.entries(1));
        assert_eq!(second.entries(2), first.entries(0));
        assert_eq!(second, TokenCache::new(tokenizer(), None).unwrap().bags(&["mat", "a dog", "the cat"]).unwrap());
        assert!(cache.bags(&["the cat", "mat", "  "]).unwrap_err().to_string().contains("text 3"));
        assert!(cache.bags(&["  "]).is_err(), "what failed is not remembered");
        assert!(TokenCache::new(tokenizer(), Some(0)).is_err());
    }
}
