//! The texts of the training examples, each once, and which of them are the same text.

use crate::data::Example;
use crate::data::text::{self, ByDigest};
use crate::{Error, Result};
use rayon::prelude::*;

/// Examples as indices into a list of distinct texts. Two texts of the same *class* are equal in normal form
/// ([`text::normalize`]): that is how copies of an anchor's positive are found.
pub struct TrainingSet<'a> {
    texts: Vec<&'a str>,
    classes: Vec<u32>,
    anchors: Vec<u32>,
    positives: Ragged,
    negatives: Ragged,
    /// By anchor class: the classes of all positives that any example gives it, ascending.
    known: Ragged,
    by_text: Interner,
    by_class: Interner,
}

/// Rows of different lengths in one allocation.
#[derive(Clone, Debug)]
pub(super) struct Ragged {
    offsets: Vec<usize>,
    values: Vec<u32>,
}

impl Ragged {
    pub(super) fn new() -> Self {
        Self { offsets: vec![0], values: Vec::new() }
    }

    pub(super) fn push(&mut self, row: impl IntoIterator<Item = u32>) {
        self.values.extend(row);
        self.offsets.push(self.values.len());
    }

    pub(super) fn row(&self, i: usize) -> &[u32] {
        &self.values[self.offsets[i]..self.offsets[i + 1]]
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(super) fn largest(&self) -> Option<u32> {
        self.values.iter().copied().max()
    }
}

impl<'a> TrainingSet<'a> {
    /// Indexes `examples`.
    ///
    /// # Errors
    /// On an example without a positive or with a blank text; counts examples from 1.
    pub fn new(examples: &'a [Example]) -> Result<Self> {
        let mut set = Self {
            texts: Vec::new(),
            classes: Vec::new(),
            anchors: Vec::with_capacity(examples.len()),
            positives: Ragged::new(),
            negatives: Ragged::new(),
            known: Ragged::new(),
            by_text: Interner::default(),
            by_class: Interner::default(),
        };
        if examples.is_empty() {
            return Err(Error::invalid("there are no training examples"));
        }
        for (i, example) in examples.iter().enumerate() {
            let number = i + 1;
            if example.positives.is_empty() {
                return Err(Error::invalid(format!("training example {number}: no positive")));
            }
            if example.texts().any(|t| t.trim().is_empty()) {
                return Err(Error::invalid(format!("training example {number}: an empty text")));
            }
        }
        let all: Vec<&str> = examples.iter().flat_map(Example::texts).collect();
        let mut rows = set.intern(&all).into_iter();
        for example in examples {
            set.anchors.extend(rows.next());
            set.positives.push(rows.by_ref().take(example.positives.len()));
            set.negatives.push(rows.by_ref().take(example.negatives.len()));
        }
        set.index_known_positives();
        Ok(set)
    }

    fn index_known_positives(&mut self) {
        let class = |t: &u32| self.classes[*t as usize];
        let mut pairs: Vec<(u32, u32)> = (0..self.len())
            .flat_map(|e| self.positives.row(e).iter().map(move |p| (e, p)))
            .map(|(e, p)| (class(&self.anchors[e]), class(p)))
            .collect();
        pairs.par_sort_unstable();
        pairs.dedup();
        let mut pairs = pairs.into_iter().peekable();
        let mut known = Ragged::new();
        for anchor in 0..self.by_class.len() as u32 {
            known.push(std::iter::from_fn(|| pairs.next_if(|p| p.0 == anchor).map(|p| p.1)));
        }
        self.known = known;
    }

    /// Adds further texts (of the validation set) and returns the index of each; texts that are there already are found.
    pub fn intern(&mut self, texts: &[&'a str]) -> Vec<u32> {
        let digests: Vec<u128> = texts.par_iter().map(|t| xxhash_rust::xxh3::xxh3_128(t.as_bytes())).collect();
        let before = self.texts.len();
        let rows: Vec<u32> = digests.into_iter().map(|d| self.by_text.get(d)).collect();
        for (&row, &text) in rows.iter().zip(texts) {
            if row as usize == self.texts.len() {
                self.texts.push(text);
            }
        }
        let normal: Vec<u128> = self.texts[before..].par_iter().map(|t| text::digest(t)).collect();
        self.classes.extend(normal.into_iter().map(|d| self.by_class.get(d)));
        rows
    }

    /// How many examples.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Never true: a set without examples is refused.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// The distinct texts, in order of appearance.
    pub fn texts(&self) -> &[&'a str] {
        &self.texts
    }

    /// The anchor of an example, as an index into [`TrainingSet::texts`].
    pub fn anchor(&self, example: u32) -> u32 {
        self.anchors[example as usize]
    }

    /// The positives of an example.
    pub fn positives(&self, example: u32) -> &[u32] {
        self.positives.row(example as usize)
    }

    /// The given negatives of an example.
    pub fn negatives(&self, example: u32) -> &[u32] {
        self.negatives.row(example as usize)
    }

    /// Equal numbers for texts that are equal in normal form.
    pub fn class(&self, text: u32) -> u32 {
        self.classes[text as usize]
    }

    /// The classes of all positives that any example gives to the text of this example's anchor, ascending.
    pub fn known_positives(&self, example: u32) -> &[u32] {
        self.known.row(self.class(self.anchor(example)) as usize)
    }
}

/// Numbers digests in order of appearance.
#[derive(Default)]
struct Interner(ByDigest<u32>);

impl Interner {
    fn get(&mut self, digest: u128) -> u32 {
        let next = u32::try_from(self.0.len()).expect("fewer than 2^32 texts fit in memory");
        *self.0.entry(digest).or_insert(next)
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_as_they_are_and_classed_by_their_normal_form() {
        let examples = [
            Example { negatives: vec!["c".into(), "B ".into()], ..Example::pair("a", "b") },
            Example::pair("A", "d"),
            Example::pair("b", "c"),
        ];
        let mut set = TrainingSet::new(&examples).unwrap();
        assert_eq!(set.texts(), ["a", "b", "c", "B ", "A", "d"]);
        assert_eq!(set.class(1), set.class(3));
        // "a" and "A" are one anchor with the positives b and d.
        assert_eq!(set.known_positives(0), set.known_positives(1));
        assert_eq!(set.known_positives(0), [set.class(1), set.class(5)]);
        assert_eq!(set.known_positives(2), [set.class(2)]);
        assert_eq!(set.intern(&["new", "d", "new"]), [6, 5, 6]);
        assert_eq!(set.texts()[6], "new");
    }

    #[test]
    fn examples_that_cannot_be_used_are_named() {
        let no_positive = [Example::pair("a", "b"), Example { anchor: "x".into(), ..Example::default() }];
        assert!(TrainingSet::new(&no_positive).err().unwrap().to_string().contains("example 2: no positive"));
        let blank = [Example { negatives: vec![" \t".into()], ..Example::pair("a", "b") }];
        assert!(TrainingSet::new(&blank).err().unwrap().to_string().contains("example 1: an empty text"));
        assert!(TrainingSet::new(&[]).is_err());
    }
}
