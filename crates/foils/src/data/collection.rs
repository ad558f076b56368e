//! Queries, documents and which document answers which query: what is mined, searched and evaluated.

use super::Example;
use super::text::{self, ByDigest};
use crate::{Error, Result};
use rayon::prelude::*;

/// Texts with their ids, in a fixed order; a text is referred to by its index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    /// Unique ids.
    pub ids: Vec<String>,
    /// The texts, one for each id.
    pub texts: Vec<String>,
}

impl Texts {
    /// How many.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Adds a text and returns its index.
    pub fn push(&mut self, id: impl Into<String>, text: impl Into<String>) -> u32 {
        self.ids.push(id.into());
        self.texts.push(text.into());
        u32::try_from(self.texts.len() - 1).expect("more than 2^32 texts")
    }
}

/// Relevance judgements: for each query the documents that answer it, with a grade above 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Qrels {
    rows: Vec<Vec<(u32, i64)>>,
}

impl Qrels {
    /// From one list of (document index, grade) for each query. Lists are sorted by document; grades of 0 are dropped.
    ///
    /// # Errors
    /// On a negative grade, or a document named twice for one query.
    pub fn new(mut rows: Vec<Vec<(u32, i64)>>) -> Result<Self> {
        for (query, row) in rows.iter_mut().enumerate() {
            if let Some((doc, grade)) = row.iter().find(|(_, g)| *g < 0) {
                return Err(Error::invalid(format!("query {query}: document {doc} has the negative relevance {grade}")));
            }
            row.retain(|(_, g)| *g > 0);
            row.sort_unstable();
            if let Some(w) = row.windows(2).find(|w| w[0].0 == w[1].0) {
                return Err(Error::invalid(format!("query {query}: document {} is judged twice", w[0].0)));
            }
        }
        Ok(Self { rows })
    }

    /// The relevant documents of a query with their grades, ascending by document index.
    pub fn of(&self, query: usize) -> &[(u32, i64)] {
        &self.rows[query]
    }

    /// How many queries.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no queries.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The grade of a document for a query; 0 when it is not relevant.
    pub fn grade(&self, query: usize, doc: u32) -> i64 {
        let row = self.of(query);
        row.binary_search_by_key(&doc, |&(d, _)| d).map_or(0, |i| row[i].1)
    }
}

/// Queries, a corpus and relevance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collection {
    /// What is asked.
    pub queries: Texts,
    /// What is searched.
    pub corpus: Texts,
    /// Which document answers which query, by index into the two.
    pub qrels: Qrels,
}

impl Collection {
    /// Builds a collection from examples. Texts that are equal in normal form ([`text::normalize`]) become one: equal anchors one
    /// query with all their positives, equal positives one document. Negatives given in the examples join the corpus.
    /// Ids are `q0, q1, …` and `d0, d1, …` in order of appearance.
    ///
    /// # Errors
    /// On an example without positives or an empty text (the message counts examples from 1), and when there are none.
    pub fn from_examples<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Result<Self> {
        Ok(Self::with_places(&examples.into_iter().collect::<Vec<_>>())?.0)
    }

    /// Adds documents that are no positives, to be searched too. Texts that are equal in normal form to one that is there are not
    /// added again. Ids go on as [`Collection::from_examples`] counts them.
    ///
    /// # Errors
    /// On an empty text (the message counts from 1), and when the corpus has other ids.
    pub fn add_documents(&mut self, texts: &[String]) -> Result<()> {
        let counted = |(i, id): (usize, &String)| id.strip_prefix('d') == Some(i.to_string().as_str());
        if !self.corpus.ids.iter().enumerate().all(counted) {
            return Err(Error::invalid("the corpus has ids of its own, which documents without ids cannot join"));
        }
        if let Some(at) = texts.iter().position(|t| t.trim().is_empty()) {
            return Err(Error::invalid(format!("document {}: an empty text", at + 1)));
        }
        let digests = |texts: &[String]| texts.par_iter().map(|t| text::digest(t)).collect::<Vec<_>>();
        let mut seen: text::Digests = digests(&self.corpus.texts).into_iter().collect();
        for (text, digest) in texts.iter().zip(digests(texts)) {
            if seen.insert(digest) {
                self.corpus.push(format!("d{}", self.corpus.len()), text);
            }
        }
        Ok(())
    }

    /// [`Collection::from_examples`], and which query and documents each example became.
    pub(crate) fn with_places(examples: &[&Example]) -> Result<(Self, Vec<Place>)> {
        let texts: Vec<&str> = examples.iter().flat_map(|e| e.texts()).collect();
        let digests: Vec<u128> = texts.par_iter().map(|t| text::digest(t)).collect();
        let mut digests = digests.into_iter();

        let mut out = Self::default();
        let (mut queries, mut docs) = (ByDigest::default(), ByDigest::default());
        let mut rows: Vec<Vec<(u32, i64)>> = Vec::new();
        let mut places = Vec::with_capacity(examples.len());
        for (i, example) in examples.iter().enumerate() {
            let number = i + 1;
            if example.positives.is_empty() {
                return Err(Error::invalid(format!("example {number}: no positive")));
            }
            let mut index = |texts: &mut Texts, seen: &mut ByDigest<u32>, letter: char, value: &str| -> Result<u32> {
                if value.trim().is_empty() {
                    return Err(Error::invalid(format!("example {number}: an empty text")));
                }
                let next = texts.len();
                let digest = digests.next().expect("one a text");
                Ok(*seen.entry(digest).or_insert_with(|| texts.push(format!("{letter}{next}"), value)))
            };
            let query = index(&mut out.queries, &mut queries, 'q', &example.anchor)?;
            if query as usize == rows.len() {
                rows.push(Vec::new());
            }
            let row = &mut rows[query as usize];
            for positive in &example.positives {
                let doc = index(&mut out.corpus, &mut docs, 'd', positive)?;
                if !row.contains(&(doc, 1)) {
                    row.push((doc, 1));
                }
            }
            let negatives = example.negatives.iter().map(|n| index(&mut out.corpus, &mut docs, 'd', n)).collect::<Result<_>>()?;
            places.push(Place { query, negatives });
        }
        if rows.is_empty() {
            return Err(Error::invalid("there are no examples"));
        }
        out.qrels = Qrels::new(rows)?;
        Ok((out, places))
    }
}

/// What an example became in a [`Collection`].
pub(crate) struct Place {
    /// The query of its anchor.
    pub query: u32,
    /// The documents of its negatives.
    pub negatives: Vec<u32>,
}
