//! One line of training data: an anchor, what it should be near, and its foils.

use serde::{Deserialize, Serialize};

/// An anchor with its positives and, where they are known, its negatives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// What is asked: a query, a question, a docstring.
    pub anchor: String,
    /// The right answers; at least one.
    pub positives: Vec<String>,
    /// The foils; may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub negatives: Vec<String>,
    /// The similarity of the anchor to each of `positives`, when a miner or a teacher gave it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positive_scores: Vec<f32>,
    /// The similarity of the anchor to each of `negatives`, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub negative_scores: Vec<f32>,
}

impl Example {
    /// An anchor with one positive.
    pub fn pair(anchor: impl Into<String>, positive: impl Into<String>) -> Self {
        Self { anchor: anchor.into(), positives: vec![positive.into()], ..Self::default() }
    }

    /// The anchor, the positives, the negatives.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.anchor).chain(&self.positives).chain(&self.negatives).map(String::as_str)
    }
}

/// How examples are laid out in the rows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// anchor, positive
    Pairs,
    /// anchor, positive, negative: a row for each negative
    Triplets,
    /// anchor, positive, negative_1 … negative_k
    NTuples,
    /// anchor, text, label (1 positive, 0 negative)
    LabeledPairs,
    /// query, docs \[…\], labels \[…\]: positives first, as listwise losses want them
    LabeledLists,
    /// query, pos \[…\], neg \[…\], as FlagEmbedding has it; also the form in which the steps of `tune` hand on examples
    Lists,
}
