//! When are two texts the same text? One normal form, used wherever positives and negatives are compared.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use unicode_normalization::UnicodeNormalization;

/// The normal form in which texts are compared: Unicode NFKC, lower case, every run of white space one space, trimmed.
///
/// ```
/// assert_eq!(foils::data::text::normalize("  Ｆoo\n BAR "), "foo bar");
/// ```
pub fn normalize(text: &str) -> String {
    // Most text and nearly all code is ASCII, for which NFKC changes nothing: ten times faster.
    if text.is_ascii() {
        let mut out = String::with_capacity(text.len());
        for word in text.split_whitespace() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
        }
        out.make_ascii_lowercase();
        out
    } else {
        joined(text.nfkc().flat_map(char::to_lowercase), text.len())
    }
}

/// Every run of white space one space, none at the ends.
fn joined(characters: impl Iterator<Item = char>, capacity: usize) -> String {
    let mut out = String::with_capacity(capacity);
    let mut gap = false;
    for c in characters {
        if c.is_whitespace() {
            gap = !out.is_empty();
        } else {
            if std::mem::take(&mut gap) {
                out.push(' ');
            }
            out.push(c);
        }
    }
    out
}

/// A 128-bit digest of the normal form: equal texts have equal digests, different texts practically never do.
pub fn digest(text: &str) -> u128 {
    xxhash_rust::xxh3::xxh3_128(normalize(text).as_bytes())
}

/// Something for each [`digest`].
pub(crate) type ByDigest<V> = HashMap<u128, V, BuildHasherDefault<AlreadyHashed>>;
/// Some [`digest`]s.
pub(crate) type Digests = HashSet<u128, BuildHasherDefault<AlreadyHashed>>;

/// A digest is its own hash.
#[derive(Default)]
pub(crate) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = digest as u64;
    }
}

/// The tokens that BM25 and near-copy tests see: lower case, maximal runs of alphanumeric characters of any script
/// (`baselines-mining`, "Tokeniser").
///
/// ```
/// assert_eq!(foils::data::text::words("Don't stop").collect::<Vec<_>>(), ["don", "t", "stop"]);
/// ```
pub fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

/// Calls `f` with each of [`words`], without an allocation for each.
pub(crate) fn each_word(text: &str, mut f: impl FnMut(&str)) {
    if text.is_ascii() {
        let lower = text.to_ascii_lowercase();
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).for_each(f);
    } else {
        words(text).for_each(|word| f(&word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_word_is_every_word(text in "([ -~]{0,40}|\\PC{0,20})") {
            let mut found = Vec::new();
            each_word(&text, |word| found.push(word.to_owned()));
            prop_assert_eq!(found, words(&text).collect::<Vec<_>>());
        }

        #[test]
        fn the_short_cut_for_ascii_changes_nothing(text in "[ -~\\t\\n\\r\\x0b\\x0c\\x1c]{0,40}") {
            prop_assert_eq!(normalize(&text), joined(text.nfkc().flat_map(char::to_lowercase), 0));
        }

        #[test]
        fn the_normal_form_is_its_own_normal_form(text in "\\PC{0,30}") {
            let once = normalize(&text);
            prop_assert_eq!(&normalize(&once), &once);
        }
    }
}
