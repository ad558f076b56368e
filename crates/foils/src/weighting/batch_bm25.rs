//! BM25 between the texts of a batch, which is its own corpus.

use crate::{Error, Result, check};
use std::collections::HashMap;

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// Relevance of texts to each other by BM25 (soft-infonce, estimator 1). For each occurrence of a token u in text i that text j holds
/// f times, ln[(N − n_u + ½)/(n_u + ½)] · (k1 + 1) f / (K_j + f) is added, K_j = k1 (1 − b + b · length_j / average), k1 = 1.2, b = 0.75, with
/// n_u of the batch's N texts holding u. A token of more than half of them counts below 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchBm25 {
    average_length: f64,
    min_token_id: i64,
}

impl BatchBm25 {
    /// `average_length` is the mean number of tokens of a text in the whole training set. Ids below `min_token_id` (padding and special
    /// tokens) are passed over.
    ///
    /// # Errors
    /// When `average_length` is not a finite number above 0.
    pub fn new(average_length: f64, min_token_id: i64) -> Result<Self> {
        Ok(Self { average_length: check::positive("average_length", average_length)?, min_token_id })
    }

    /// `[queries, documents]`, row-major, from token ids. The documents are the corpus. 0 without a common token.
    ///
    /// # Errors
    /// When a token id is below 0.
    pub fn relevance<Q: AsRef<[i64]>, D: AsRef<[i64]>>(&self, queries: &[Q], documents: &[D]) -> Result<Vec<f64>> {
        let lists = queries.iter().map(AsRef::as_ref).chain(documents.iter().map(AsRef::as_ref));
        if let Some((i, id)) = lists.enumerate().find_map(|(i, l)| l.iter().find(|id| **id < 0).map(|id| (i, id))) {
            return Err(Error::invalid(format!("text {i} has the token id {id}, which is below 0")));
        }
        // For each token the documents that hold it, and how often.
        let mut holders: HashMap<i64, Vec<(usize, f64)>> = HashMap::new();
        let mut lengths = vec![0.0; documents.len()];
        for (j, document) in documents.iter().enumerate() {
            for &token in document.as_ref().iter().filter(|id| **id >= self.min_token_id) {
                lengths[j] += 1.0;
                let list = holders.entry(token).or_default();
                match list.last_mut().filter(|(last, _)| *last == j) {
                    Some((_, count)) => *count += 1.0,
                    None => list.push((j, 1.0)),
                }
            }
        }
        let (n, m) = (documents.len() as f64, documents.len());
        let mut scores = vec![0.0; queries.len() * m];
        for (query, row) in queries.iter().zip(scores.chunks_mut(m.max(1))) {
            for list in query.as_ref().iter().filter(|id| **id >= self.min_token_id).filter_map(|token| holders.get(token)) {
                let held = list.len() as f64;
                let idf = ((n - held + 0.5) / (held + 0.5)).ln();
                for &(j, count) in list {
                    row[j] += idf * (K1 + 1.0) * count / (K1 * (1.0 - B + B * lengths[j] / self.average_length) + count);
                }
            }
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Token 7 in one of three texts, 8 in two; 1 is special.
        let texts = [vec![7, 8, 7, 1], vec![8, 1, 1], vec![9]];
        let found = BatchBm25::new(2.0, 4).unwrap().relevance(&texts, &texts).unwrap();
        let (rare, common) = ((2.5f64 / 1.5).ln(), (1.5f64 / 2.5).ln());
        let part = |count: f64, length: f64| 2.2 * count / (1.2 * (0.25 + 0.75 * length / 2.0) + count);
        let expected = [
            2.0 * rare * part(2.0, 3.0) + common * part(1.0, 3.0),
            common * part(1.0, 1.0),
            0.0,
            common * part(1.0, 3.0),
            common * part(1.0, 1.0),
            0.0,
            0.0,
            0.0,
            rare * part(1.0, 1.0),
        ];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        assert!(BatchBm25::new(0.0, 4).is_err());
        let message = BatchBm25::new(1.0, 4).unwrap().relevance(&texts, &[vec![3, -2]]).unwrap_err().to_string();
        assert!(message.contains("text 3") && message.contains("-2"), "{message}");
    }
}
