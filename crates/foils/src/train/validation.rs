//! Validation nDCG@10 during training.

use super::TrainingSet;
use crate::Result;
use crate::data::{Collection, Embeddings, Qrels, TextList};
use crate::models::Trainable;
use rayon::prelude::*;

const K: usize = 10;
const BLOCK: usize = 32;

/// The validation queries and documents, as indices of prepared texts.
pub(super) struct ValidationSet<'a> {
    queries: Vec<u32>,
    documents: Vec<u32>,
    qrels: &'a Qrels,
}

impl<'a> ValidationSet<'a> {
    /// Adds the texts of `collection` to those that will be prepared.
    pub fn new(collection: &'a Collection, set: &mut TrainingSet<'a>) -> Self {
        let refs = |texts: &'a TextList| texts.refs(0..texts.len());
        Self {
            queries: set.intern(&refs(&collection.queries.texts)),
            documents: set.intern(&refs(&collection.corpus.texts)),
            qrels: &collection.qrels,
        }
    }

    /// The same with the documents' texts so much further on.
    pub fn with_documents_from(mut self, from: u32) -> Self {
        self.documents.iter_mut().for_each(|row| *row += from);
        self
    }

    /// Mean nDCG@10 with the current weights, by exact cosine search.
    pub fn ndcg(&self, model: &dyn Trainable) -> Result<f64> {
        let queries = model.embed_prepared(&self.queries)?.normalized();
        let documents = model.embed_prepared(&self.documents)?.normalized();
        Ok(mean_ndcg(&queries, &documents, self.qrels))
    }
}

/// Mean over the queries that have a relevant document. Only the ranks of those are needed, so no list is ever sorted: a
/// document's rank is one plus how many score above it (or the same, with a lower index).
fn mean_ndcg(queries: &Embeddings, documents: &Embeddings, qrels: &Qrels) -> f64 {
    let (n, d) = (documents.rows(), documents.dim());
    let judged: Vec<u32> = (0..qrels.len() as u32).filter(|&q| !qrels.of(q as usize).is_empty()).collect();
    let values: Vec<f64> = judged
        .par_chunks(BLOCK)
        .flat_map_iter(|block| {
            let rows = queries.select(block);
            let mut scores = vec![0f32; block.len() * n];
            foils_kernels::product(&mut scores, (block.len(), n, d), rows.data(), (d, 1), documents.data(), (1, d), false, 1.0);
            block.iter().enumerate().map(move |(i, &q)| ndcg(&scores[i * n..][..n], qrels.of(q as usize))).collect::<Vec<_>>()
        })
        .collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// nDCG@10 of one query with linear gain (`baselines-mining`, "Metrics").
fn ndcg(scores: &[f32], relevant: &[(u32, i64)]) -> f64 {
    let discount = |rank: usize| 1.0 / ((rank + 1) as f64).log2();
    let dcg: f64 = relevant
        .iter()
        .map(|&(doc, grade)| {
            let (at, score) = (doc as usize, scores[doc as usize]);
            let above = scores.iter().filter(|s| **s > score).count() + scores[..at].iter().filter(|s| **s == score).count();
            if above < K { grade as f64 * discount(above + 1) } else { 0.0 }
        })
        .sum();
    let mut grades: Vec<i64> = relevant.iter().map(|r| r.1).collect();
    grades.sort_unstable_by(|a, b| b.cmp(a));
    let ideal: f64 = grades.iter().take(K).enumerate().map(|(i, &g)| g as f64 * discount(i + 1)).sum();
    dcg / ideal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_known_ranking() {
        // Order of scores: document 2, then 0 and 3 (a tie, lower index first), then 1.
        let scores = [0.5, 0.1, 0.9, 0.5];
        let l = |r: f64| 1.0 / (r + 1.0).log2();
        let expected = (3.0 * l(3.0) + l(4.0)) / (3.0 * l(1.0) + l(2.0));
        assert!((ndcg(&scores, &[(1, 1), (3, 3)]) - expected).abs() < 1e-12);
        assert_eq!(ndcg(&scores, &[(2, 5)]), 1.0);
        let mut far = vec![1.0f32; 12];
        far[11] = 0.0;
        assert_eq!(ndcg(&far, &[(11, 1)]), 0.0);
        assert_eq!(ndcg(&far, &[(10, 1)]), 0.0, "eleventh among equals");
    }

    proptest! {
        /// Against sorting every list.
        #[test]
        fn counting_ranks_is_sorting(
            scores in prop::collection::vec(-3i8..3, 1..40),
            picks in prop::collection::vec((any::<prop::sample::Index>(), 1i64..4), 1..6),
        ) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut relevant: Vec<(u32, i64)> = picks.iter().map(|(i, g)| (i.index(scores.len()) as u32, *g)).collect();
            relevant.sort_unstable();
            relevant.dedup_by_key(|r| r.0);
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            let gain = |d: usize| relevant.iter().find(|r| r.0 as usize == d).map_or(0.0, |r| r.1 as f64);
            let dcg: f64 = order.iter().take(10).enumerate().map(|(r, &d)| gain(d) / (r as f64 + 2.0).log2()).sum();
            let mut ideal: Vec<f64> = relevant.iter().map(|r| r.1 as f64).collect();
            ideal.sort_by(|a, b| b.total_cmp(a));
            let ideal: f64 = ideal.iter().take(10).enumerate().map(|(r, g)| g / (r as f64 + 2.0).log2()).sum();
            prop_assert!((ndcg(&scores, &relevant) - dcg / ideal).abs() < 1e-12);
        }
    }
}
