//! Texts to sequences of token ids, in order and with the special tokens of the model.

use crate::{Error, Result};
use rayon::prelude::*;
use tokenizers::normalizers::{Lowercase, Sequence};
use tokenizers::{NormalizerWrapper, PostProcessor, Tokenizer, TruncationParams};

/// The token ids of texts, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequences {
    offsets: Vec<usize>,
    ids: Vec<u32>,
}

impl Default for Sequences {
    fn default() -> Self {
        Self { offsets: vec![0], ids: Vec::new() }
    }
}

impl Sequences {
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The tokens of text `i`.
    pub fn get(&self, i: u32) -> &[u32] {
        &self.ids[self.offsets[i as usize]..self.offsets[i as usize + 1]]
    }

    fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.offsets.push(self.ids.len());
    }
}

/// A fast tokenizer that cuts at a limit and never pads.
pub(super) struct SequenceTokenizer {
    tokenizer: Tokenizer,
    json: String,
    max_tokens: usize,
}

impl SequenceTokenizer {
    /// Whatever truncation and padding the tokenizer came with is replaced, as sentence-transformers does.
    ///
    /// # Errors
    /// When `max_tokens` leaves no room beside the special tokens, or a token has an id beyond `vocabulary`.
    pub fn new(mut tokenizer: Tokenizer, max_tokens: usize, lowercase: bool, vocabulary: usize) -> Result<Self> {
        let special = tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(false));
        if max_tokens <= special {
            return Err(Error::invalid(format!(
                "texts are cut at {max_tokens} tokens, of which {special} are special: nothing is left of them"
            )));
        }
        if let Some((token, id)) =
            tokenizer.get_vocab(true).into_iter().filter(|&(_, id)| id as usize >= vocabulary).min_by_key(|&(_, id)| id)
        {
            return Err(Error::invalid(format!(
                "the tokenizer's token {token:?} has the id {id}, but the model knows only {vocabulary} tokens"
            )));
        }
        if lowercase {
            let before: Option<NormalizerWrapper> = tokenizer.get_normalizer().cloned();
            let all = std::iter::once(Lowercase.into()).chain(before).collect();
            tokenizer.with_normalizer(Some(Sequence::new(all)));
        }
        let direction = tokenizer.get_truncation().map(|t| t.direction).unwrap_or_default();
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: max_tokens, direction, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|e| Error::invalid(format!("cannot cut at {max_tokens} tokens: {e}")))?;
        let json = tokenizer.to_string(true).map_err(|e| Error::invalid(format!("the tokenizer cannot be written: {e}")))?;
        Ok(Self { tokenizer, json, max_tokens })
    }

    /// As a `tokenizer.json`.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Whether this is a token.
    pub fn knows(&self, token: &str) -> bool {
        self.tokenizer.token_to_id(token).is_some()
    }

    /// Where texts are cut, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The tokens of each text.
    ///
    /// # Errors
    /// On a text from which no token is left, naming its position from 1 (not with the special tokens that a BERT has).
    pub fn sequences(&self, texts: &[&str]) -> Result<Sequences> {
        let encoded: Vec<Vec<u32>> = texts
            .par_iter()
            .enumerate()
            .map(|(i, text)| {
                let position = i + 1;
                let encoding = self.tokenizer.encode_fast(*text, true);
                let encoding = encoding.map_err(|e| Error::invalid(format!("text {position} cannot be tokenised: {e}")))?;
                match encoding.get_ids() {
                    [] => Err(Error::invalid(format!("text {position} of the list ({text:?}): no token is left, so it has no vector"))),
                    ids => Ok(ids.to_vec()),
                }
            })
            .collect::<Result<_>>()?;
        let mut sequences = Sequences::default();
        encoded.iter().for_each(|ids| sequences.push(ids));
        Ok(sequences)
    }
}
