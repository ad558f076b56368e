//! When are two texts the same text? One normal form, used wherever positives and negatives are compared.

use unicode_normalization::UnicodeNormalization;

/// The normal form in which texts are compared: Unicode NFKC, lower case, every run of white space one space, trimmed.
///
/// ```
/// assert_eq!(foils::data::text::normalize("  Ｆoo\n BAR "), "foo bar");
/// ```
pub fn normalize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = false;
    for c in text.nfkc().flat_map(char::to_lowercase) {
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

/// The tokens that BM25 and near-copy tests see: lower case, maximal runs of alphanumeric characters of any script
/// (`baselines-mining`, "Tokeniser").
///
/// ```
/// assert_eq!(foils::data::text::words("Don't stop").collect::<Vec<_>>(), ["don", "t", "stop"]);
/// ```
pub fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}
