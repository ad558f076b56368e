//! Queries, documents and which document answers which query: what is mined, searched and evaluated.

use super::text::{self, ByDigest};
use super::text_list::TextListBuilder;
use super::{Example, TextList};
use crate::{Error, Result};
use rayon::prelude::*;
use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::path::Path;

/// Texts with their ids, in a fixed order; a text is referred to by its index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    /// Unique ids.
    pub ids: TextList,
    /// The texts, one for each id.
    pub texts: TextList,
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
    ///
    /// # Panics
    /// When there are 2³² already.
    pub fn push(&mut self, id: impl AsRef<str>, text: impl AsRef<str>) -> u32 {
        self.ids.push(id.as_ref());
        self.texts.push(text.as_ref());
        u32::try_from(self.texts.len() - 1).expect("more than 2^32 texts")
    }
}

/// Texts that are being added, in memory or on the disk of a folder.
pub(crate) struct TextsBuilder {
    ids: TextListBuilder,
    texts: TextListBuilder,
}

impl TextsBuilder {
    pub fn new(scratch: Option<&Path>) -> Result<Self> {
        Ok(Self { ids: TextListBuilder::new(scratch)?, texts: TextListBuilder::new(scratch)? })
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Adds a text and returns its index.
    pub fn push(&mut self, id: &str, text: &str) -> Result<u32> {
        let index = u32::try_from(self.len()).map_err(|_| Error::invalid("there are more than 2^32 texts"))?;
        self.ids.push(id)?;
        self.texts.push(text)?;
        Ok(index)
    }

    pub fn finish(self) -> Result<Texts> {
        Ok(Texts { ids: self.ids.finish()?, texts: self.texts.finish()? })
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

    /// [`Collection::from_examples`] of examples as they are read, and of more documents to be searched, that are no positives. Never are all in
    /// memory: the texts lie on the disk of `scratch` if it is given. For each text 40 bytes or so are kept in memory until all are read.
    ///
    /// ```
    /// use foils::data::{Collection, Example};
    /// let pairs = [Ok(Example::pair("a red animal", "fox"))];
    /// let pool = ["whale", "Fox "].map(|text| Ok(text.to_owned()));
    /// let collection = Collection::from_stream(pairs, pool, None)?;
    /// assert_eq!(collection.corpus.texts, ["fox", "whale"]);
    /// # Ok::<(), foils::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Collection::from_examples`], those of the examples and documents, and when `scratch` cannot be written.
    pub fn from_stream(
        examples: impl IntoIterator<Item = Result<Example>>,
        documents: impl IntoIterator<Item = Result<String>>,
        scratch: Option<&Path>,
    ) -> Result<Self> {
        let mut building = Building::new(scratch)?;
        in_batches(examples, |batch| building.add(batch).map(drop))?;
        in_batches(documents, |batch| building.add_documents(batch))?;
        building.finish()
    }

    /// [`Collection::from_examples`], and which query and documents each example became.
    pub(crate) fn with_places(examples: &[&Example]) -> Result<(Self, Vec<Place>)> {
        let mut building = Building::new(None)?;
        let places = building.add(examples)?;
        Ok((building.finish()?, places))
    }
}

/// Examples that are read at a time.
const BATCH: usize = 4096;

fn in_batches<T>(items: impl IntoIterator<Item = Result<T>>, mut add: impl FnMut(&[T]) -> Result<()>) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    for item in items {
        batch.push(item?);
        if batch.len() == BATCH {
            add(&batch)?;
            batch.clear();
        }
    }
    add(&batch)
}

/// A collection that examples are being added to.
struct Building {
    queries: TextsBuilder,
    corpus: TextsBuilder,
    /// Where a query's text is.
    seen_queries: ByDigest<u32>,
    seen_documents: ByDigest<u32>,
    rows: Vec<Vec<(u32, i64)>>,
    examples: usize,
}

impl Building {
    fn new(scratch: Option<&Path>) -> Result<Self> {
        Ok(Self {
            queries: TextsBuilder::new(scratch)?,
            corpus: TextsBuilder::new(scratch)?,
            seen_queries: ByDigest::default(),
            seen_documents: ByDigest::default(),
            rows: Vec::new(),
            examples: 0,
        })
    }

    fn add<E: Borrow<Example>>(&mut self, examples: &[E]) -> Result<Vec<Place>> {
        let texts: Vec<&str> = examples.iter().flat_map(|e| e.borrow().texts()).collect();
        let digests: Vec<u128> = texts.par_iter().map(|t| text::digest(t)).collect();
        let mut digests = digests.into_iter();
        let mut places = Vec::with_capacity(examples.len());
        for example in examples.iter().map(Borrow::borrow) {
            self.examples += 1;
            let number = self.examples;
            if example.positives.is_empty() {
                return Err(Error::invalid(format!("example {number}: no positive")));
            }
            let mut index = |texts: &mut TextsBuilder, seen: &mut ByDigest<u32>, letter: char, value: &str| -> Result<u32> {
                if value.trim().is_empty() {
                    return Err(Error::invalid(format!("example {number}: an empty text")));
                }
                match seen.entry(digests.next().expect("one a text")) {
                    Entry::Occupied(known) => Ok(*known.get()),
                    Entry::Vacant(new) => Ok(*new.insert(texts.push(&format!("{letter}{}", texts.len()), value)?)),
                }
            };
            let query = index(&mut self.queries, &mut self.seen_queries, 'q', &example.anchor)?;
            if query as usize == self.rows.len() {
                self.rows.push(Vec::new());
            }
            let row = &mut self.rows[query as usize];
            for positive in &example.positives {
                let doc = index(&mut self.corpus, &mut self.seen_documents, 'd', positive)?;
                if !row.contains(&(doc, 1)) {
                    row.push((doc, 1));
                }
            }
            let mut document = |n: &String| index(&mut self.corpus, &mut self.seen_documents, 'd', n);
            places.push(Place { query, negatives: example.negatives.iter().map(&mut document).collect::<Result<_>>()? });
        }
        Ok(places)
    }

    fn add_documents(&mut self, texts: &[String]) -> Result<()> {
        let digests: Vec<u128> = texts.par_iter().map(|t| text::digest(t)).collect();
        for (text, digest) in texts.iter().zip(digests) {
            if let Entry::Vacant(new) = self.seen_documents.entry(digest) {
                new.insert(self.corpus.push(&format!("d{}", self.corpus.len()), text)?);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Collection> {
        if self.rows.is_empty() {
            return Err(Error::invalid("there are no examples"));
        }
        Ok(Collection { queries: self.queries.finish()?, corpus: self.corpus.finish()?, qrels: Qrels::new(self.rows)? })
    }
}

/// What an example became in a [`Collection`].
pub(crate) struct Place {
    /// The query of its anchor.
    pub query: u32,
    /// The documents of its negatives.
    pub negatives: Vec<u32>,
}
