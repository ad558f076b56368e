//! Mined negatives as examples to train on.

use super::{Mined, ScoredBy};
use crate::data::{Collection, Example};

impl Mined {
    /// One example a query, in order: all its positives and its negatives, with their scores. Queries for which nothing was
    /// found have no negatives; the writers of [`crate::data`] drop them where a shape cannot hold them.
    pub fn examples<'a>(&'a self, collection: &'a Collection) -> impl Iterator<Item = Example> + 'a {
        let text = |document: u32| collection.corpus.texts[document as usize].to_owned();
        let scored = self.scored_by != ScoredBy::Nothing;
        self.negatives.iter().enumerate().map(move |(query, negatives)| Example {
            anchor: collection.queries.texts[query].to_owned(),
            positives: collection.qrels.of(query).iter().map(|&(document, _)| text(document)).collect(),
            negatives: negatives.iter().map(|&(document, _)| text(document)).collect(),
            positive_scores: if scored { self.positive_scores[query].clone() } else { Vec::new() },
            negative_scores: if scored { negatives.iter().map(|n| n.1).collect() } else { Vec::new() },
        })
    }
}
