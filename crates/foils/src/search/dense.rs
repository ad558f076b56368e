//! Exact nearest documents of embeddings.

use super::Ranking;
use crate::data::Embeddings;
use crate::{Error, Result};
use foils_kernels::topk;
use serde::{Deserialize, Serialize};

/// How near two vectors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// ⟨a, b⟩ / (‖a‖‖b‖)
    #[default]
    #[serde(alias = "cos")]
    Cosine,
    /// ⟨a, b⟩
    Dot,
}

impl Similarity {
    /// Whether vectors are divided by their norm.
    pub fn normalizes(self) -> bool {
        self == Self::Cosine
    }

    /// `Cosine` for true.
    pub fn from_normalize(normalize: bool) -> Self {
        if normalize { Self::Cosine } else { Self::Dot }
    }
}

impl std::fmt::Display for Similarity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.normalizes() { "cosine" } else { "dot" })
    }
}

/// The `k` nearest documents of each query: exact, in memory that does not grow with queries × documents.
///
/// `excluded` has, for each query, the documents that must not be returned (in any order); `&[]` excludes none.
/// Fewer than `k` come back when fewer are left. The result is the same bits for every thread count.
///
/// ```
/// use foils::{data::Embeddings, search};
/// let documents = Embeddings::new(2, vec![1.0, 0.0, 0.0, 2.0, 3.0, 0.0])?;
/// let query = Embeddings::new(2, vec![2.0, 0.0])?;
/// let found = search::top_k(&query, &documents, 2, search::Similarity::Cosine, &[])?;
/// assert_eq!(found[0], [(0, 1.0), (2, 1.0)]);
/// # Ok::<(), foils::Error>(())
/// ```
///
/// # Errors
/// When `k` is 0, there are no documents, the widths differ, a vector has no direction (cosine), or `excluded` has another
/// length than `queries` or names a document that is not there.
pub fn top_k(
    queries: &Embeddings,
    documents: &Embeddings,
    k: usize,
    similarity: Similarity,
    excluded: &[Vec<u32>],
) -> Result<Vec<Ranking>> {
    if k == 0 {
        return Err(Error::invalid("k is 0; at least one document must be asked for"));
    }
    if documents.rows() == 0 {
        return Err(Error::invalid("there are no documents to search"));
    }
    if queries.rows() == 0 {
        return Ok(Vec::new());
    }
    check_widths(queries, documents)?;
    let sorted = sorted_lists(excluded, queries.rows(), documents.rows())?;
    let is_excluded = |query: usize, document: u32| sorted.get(query).is_some_and(|list| list.binary_search(&document).is_ok());
    let dim = documents.dim();
    Ok(match similarity {
        Similarity::Dot => topk::top_k(queries.data(), documents.data(), dim, k, is_excluded),
        Similarity::Cosine => {
            check_directions("query", queries)?;
            check_directions("document", documents)?;
            let (queries, documents) = (topk::unit_rows(queries.data(), dim), topk::unit_rows(documents.data(), dim));
            topk::top_k(&queries, &documents, dim, k, is_excluded)
        }
    })
}

/// The similarity of two vectors, with the bits that [`top_k`] gives them when both have unit norm or `similarity` is `Dot`.
///
/// # Panics
/// When the lengths differ.
pub fn similarity(a: &[f32], b: &[f32], similarity: Similarity) -> f32 {
    match similarity {
        Similarity::Dot => topk::dot(a, b),
        Similarity::Cosine => topk::dot(&topk::unit_rows(a, a.len()), &topk::unit_rows(b, b.len())),
    }
}

/// The lists of excluded documents, each in order.
pub(super) fn sorted_lists(excluded: &[Vec<u32>], queries: usize, documents: usize) -> Result<Vec<Vec<u32>>> {
    if !excluded.is_empty() && excluded.len() != queries {
        return Err(Error::invalid(format!("{} lists of excluded documents for {queries} queries", excluded.len())));
    }
    excluded.iter().enumerate().map(|(query, list)| sorted(query, list, documents)).collect()
}

fn sorted(query: usize, list: &[u32], documents: usize) -> Result<Vec<u32>> {
    let mut list = list.to_vec();
    list.sort_unstable();
    match list.last() {
        Some(&last) if last as usize >= documents => {
            Err(Error::invalid(format!("query {query}: excluded document {last} is not among the {documents} documents")))
        }
        _ => Ok(list),
    }
}

pub(crate) fn check_widths(queries: &Embeddings, documents: &Embeddings) -> Result<()> {
    check_query_widths(queries, documents.dim())
}

pub(super) fn check_query_widths(queries: &Embeddings, documents: usize) -> Result<()> {
    if queries.dim() != documents {
        let (q, d) = (queries.dim(), documents);
        return Err(Error::invalid(format!("query vectors have {q} dimensions and document vectors {d}; use one encoder for both")));
    }
    Ok(())
}

pub(crate) fn check_directions(what: &str, embeddings: &Embeddings) -> Result<()> {
    match embeddings.first_zero_row() {
        Some(row) => Err(Error::invalid(format!("{what} {row} has the zero vector, which has no cosine with anything"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embeddings(dim: usize, data: &[f32]) -> Embeddings {
        Embeddings::new(dim, data.to_vec()).unwrap()
    }

    #[test]
    fn cosine_ignores_length_and_dot_does_not() {
        let documents = embeddings(2, &[1.0, 0.0, 3.0, 3.0, 0.0, -1.0]);
        let query = embeddings(2, &[5.0, 1.0]);
        let order = |s| top_k(&query, &documents, 9, s, &[]).unwrap()[0].iter().map(|e| e.0).collect::<Vec<_>>();
        assert_eq!(order(Similarity::Cosine), [0, 1, 2]);
        assert_eq!(order(Similarity::Dot), [1, 0, 2]);
        let without = top_k(&query, &documents, 9, Similarity::Dot, &[vec![2, 1]]).unwrap();
        assert_eq!(without[0], [(0, 5.0)]);
        let score = top_k(&query, &documents, 1, Similarity::Cosine, &[]).unwrap()[0][0].1;
        assert_eq!(score, similarity(&[5.0, 1.0], &[1.0, 0.0], Similarity::Cosine));
    }

    #[test]
    fn bad_input_is_named() {
        let (one, none) = (embeddings(2, &[1.0, 0.0]), embeddings(2, &[]));
        let fails = |q: &Embeddings, d: &Embeddings, k, excluded: &[Vec<u32>], part: &str| {
            let message = top_k(q, d, k, Similarity::Cosine, excluded).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        fails(&one, &one, 0, &[], "k is 0");
        fails(&one, &none, 1, &[], "no documents");
        fails(&one, &embeddings(3, &[1.0; 3]), 1, &[], "2 dimensions and document vectors 3");
        fails(&one, &embeddings(2, &[1.0, 0.0, 0.0, 0.0]), 1, &[], "document 1 has the zero vector");
        fails(&embeddings(2, &[0.0, 0.0]), &one, 1, &[], "query 0 has the zero vector");
        fails(&one, &one, 1, &[vec![], vec![]], "2 lists of excluded documents for 1 queries");
        fails(&one, &one, 1, &[vec![1]], "excluded document 1");
        assert!(top_k(&none, &one, 1, Similarity::Cosine, &[]).unwrap().is_empty());
    }
}
