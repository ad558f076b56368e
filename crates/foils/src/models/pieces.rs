//! A short cut for tokenisers of Llama's kind: byte-pair encoding over the whole text with `▁` for a space.
//!
//! Such a model takes the text as one long word, and the library's merging of it costs more than everything else that a static
//! encoder does. But where no token of the vocabulary holds two characters side by side, no merge reaches across that place:
//! the pieces between such places can be merged alone, and the same pieces come again and again.

use std::collections::{HashMap, HashSet};
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::utils::truncation::{TruncationDirection, TruncationStrategy};
use tokenizers::{Model, Tokenizer};

/// What is to know of a tokenizer whose texts can be taken piece by piece.
pub(super) struct PieceByPiece {
    /// Texts with one of these in them are for the tokenizer itself.
    added: Vec<String>,
    /// Tokens after which a text is cut.
    limit: usize,
    joined: Joined,
}

/// Which characters stand side by side in some token.
struct Joined {
    /// Bit `b` of entry `a` for two ASCII characters: nearly all that are asked for.
    ascii: Vec<u128>,
    others: HashSet<(char, char)>,
}

impl Joined {
    fn new<'a>(vocabulary: impl Iterator<Item = &'a String>) -> Self {
        let mut joined = Self { ascii: vec![0; 128], others: HashSet::new() };
        for (a, b) in vocabulary.flat_map(|token| token.chars().zip(token.chars().skip(1))) {
            if a.is_ascii() && b.is_ascii() {
                joined.ascii[a as usize] |= 1 << (b as u32);
            } else {
                joined.others.insert((a, b));
            }
        }
        joined
    }

    fn are(&self, a: char, b: char) -> bool {
        if a.is_ascii() && b.is_ascii() { self.ascii[a as usize] >> (b as u32) & 1 == 1 } else { self.others.contains(&(a, b)) }
    }

    /// Where the first piece of a text ends.
    fn end(&self, text: &str) -> usize {
        let mut characters = text.char_indices();
        let Some((_, mut before)) = characters.next() else { return 0 };
        for (at, c) in characters {
            if !self.are(before, c) {
                return at;
            }
            before = c;
        }
        text.len()
    }
}

/// The tokens of pieces that have been seen.
pub(super) type KnownPieces = HashMap<Box<str>, Box<[u32]>>;

impl PieceByPiece {
    /// `None` for a tokenizer of any other kind.
    pub fn new(tokenizer: &Tokenizer) -> Option<Self> {
        let bpe = model(tokenizer)?;
        let plain = bpe.dropout.is_none()
            && bpe.continuing_subword_prefix.is_none()
            && bpe.end_of_word_suffix.is_none()
            && !bpe.ignore_merges
            && bpe.byte_fallback;
        let prepends_and_replaces = serde_json::json!({ "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] });
        let normalizer = serde_json::to_value(tokenizer.get_normalizer()?).ok()?;
        if !plain || normalizer != prepends_and_replaces || tokenizer.get_pre_tokenizer().is_some() {
            return None;
        }
        let limit = match tokenizer.get_truncation() {
            None => usize::MAX,
            Some(t) if t.direction == TruncationDirection::Right && t.strategy != TruncationStrategy::OnlySecond => t.max_length,
            Some(_) => return None,
        };
        let added = tokenizer.get_added_tokens_decoder();
        if added.values().any(|token| token.normalized || token.content.is_empty()) {
            return None;
        }
        // Every byte has a token, so that no run of unknown characters is fused into one token.
        let vocabulary = bpe.get_vocab();
        let has_bytes = (0u8..=255).all(|byte| vocabulary.contains_key(&format!("<{byte:#04X}>")));
        // … and is merged with nothing, since its own characters are not those of the text.
        let alone = vocabulary.keys().all(|token| token.len() == "<0x00>".len() || !holds_byte(token));
        let joined = Joined::new(vocabulary.keys());
        (has_bytes && alone).then(|| Self { added: added.into_values().map(|token| token.content).collect(), limit, joined })
    }

    /// The tokens of `text`, as [`Tokenizer::encode_fast`] gives them without special tokens; `None` where only it can tell.
    pub fn tokens(&self, tokenizer: &Tokenizer, text: &str, known: &mut KnownPieces) -> Option<Vec<u32>> {
        if text.is_empty() || self.added.iter().any(|token| text.contains(token.as_str())) {
            return None;
        }
        let bpe = model(tokenizer)?;
        let normal = format!("▁{}", text.replace(' ', "▁"));
        let mut tokens = Vec::new();
        let mut rest = normal.as_str();
        while !rest.is_empty() && tokens.len() < self.limit {
            let (piece, behind) = rest.split_at(self.joined.end(rest));
            match known.get(piece) {
                Some(ids) => tokens.extend_from_slice(ids),
                None => {
                    let ids: Box<[u32]> = bpe.tokenize(piece).ok()?.into_iter().map(|token| token.id).collect();
                    tokens.extend_from_slice(&ids);
                    known.insert(piece.into(), ids);
                }
            }
            rest = behind;
        }
        tokens.truncate(self.limit);
        Some(tokens)
    }
}

/// Whether something like `<0x1F>` is in a token.
fn holds_byte(token: &str) -> bool {
    token.match_indices("<0x").any(|(at, _)| token.as_bytes().get(at + 5) == Some(&b'>'))
}

fn model(tokenizer: &Tokenizer) -> Option<&BPE> {
    match tokenizer.get_model() {
        ModelWrapper::BPE(bpe) => Some(bpe),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Llama's tokenizer in small: letters, runs of spaces, words with a space before them, one token across words, bytes for the rest.
    fn llama() -> Value {
        let mut tokens: Vec<String> = ["<unk>", "<s>"].map(String::from).to_vec();
        tokens.extend((0u8..=255).map(|byte| format!("<{byte:#04X}>")));
        tokens
            .extend(["▁", "a", "b", "c", "é", "▁▁", "▁▁▁▁", "ab", "▁a", "▁ab", "bc", "▁▁a", "abc", "▁abc", "b▁", "b▁a"].map(String::from));
        let merges = ["▁ ▁", "a b", "▁▁ ▁▁", "▁ a", "▁ ab", "b c", "▁▁ a", "ab c", "a bc", "▁ab c", "▁ abc", "b ▁", "b▁ a"];
        let vocabulary: serde_json::Map<String, Value> = tokens.into_iter().enumerate().map(|(id, t)| (t, id.into())).collect();
        let special = |id: u32, content: &str| json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special(0, "<unk>"), special(1, "<s>")],
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "Prepend", "prepend": "▁" }, { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }
            ] },
            "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": { "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocabulary, "merges": merges },
        })
    }

    fn tokenizer(json: &Value) -> Tokenizer {
        Tokenizer::from_bytes(json.to_string()).unwrap()
    }

    proptest! {
        #[test]
        fn piece_by_piece_gives_what_the_tokenizer_gives(
            texts in prop::collection::vec("([abc é▁x\n]{0,12}|(ab|abc|  |    a|<s>|▁ b){0,6})", 1..8),
            limit in prop_oneof![Just(None), (1usize..9).prop_map(Some)],
        ) {
            let mut json = llama();
            if let Some(limit) = limit {
                json["truncation"] = json!({ "direction": "Right", "max_length": limit, "strategy": "LongestFirst", "stride": 0 });
            }
            let tokenizer = tokenizer(&json);
            let short_cut = PieceByPiece::new(&tokenizer).unwrap();
            let mut known = KnownPieces::new();
            for text in &texts {
                let expected = tokenizer.encode_fast(text.as_str(), false).unwrap();
                match short_cut.tokens(&tokenizer, text, &mut known) {
                    Some(tokens) => prop_assert_eq!(&tokens, expected.get_ids(), "{:?}", text),
                    None => prop_assert!(text.is_empty() || text.contains("<s>")),
                }
            }
        }
    }

    #[test]
    fn other_tokenizers_are_left_alone() {
        let changed = |path: &str, value: Value| {
            let mut json = llama();
            *json.pointer_mut(path).unwrap() = value;
            PieceByPiece::new(&tokenizer(&json)).is_some()
        };
        assert!(changed("/version", json!("1.0")));
        assert!(!changed("/normalizer", Value::Null));
        assert!(!changed("/normalizer/normalizers/0/prepend", json!("_")));
        assert!(!changed("/pre_tokenizer", json!({ "type": "WhitespaceSplit" })));
        assert!(!changed("/added_tokens/1/normalized", json!(true)));
        assert!(!changed("/truncation", json!({ "direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0 })));
        for (key, value) in [("byte_fallback", json!(false)), ("ignore_merges", json!(true)), ("dropout", json!(0.5))] {
            let mut json = llama();
            json["model"][key] = value;
            assert!(PieceByPiece::new(&tokenizer(&json)).is_none(), "{key}");
        }
        let mut merged = llama();
        merged["model"]["vocab"]["<0x0A>a"] = json!(900);
        assert!(PieceByPiece::new(&tokenizer(&merged)).is_none());
        let mut no_byte = llama();
        no_byte["model"]["vocab"].as_object_mut().unwrap().remove("<0x41>");
        assert!(PieceByPiece::new(&tokenizer(&no_byte)).is_none());
        assert!(PieceByPiece::new(&crate::models::tests::tokenizer()).is_none());
    }
}
