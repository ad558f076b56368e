//! From a collection and its vectors, before and after training, to an [`Evaluation`]: exact rankings by cosine, metrics with intervals,
//! similarity histograms, and the queries that moved most.

use super::ranking::{self, PerQuery, RankMetrics};
use super::{Bootstrap, Comparison, Evaluation, Histogram, Mover};
use crate::data::{Collection, Embeddings, Qrels};
use crate::search::{self, Ranking, Similarity};
use crate::{Error, Result};
use foils_kernels::product;
use rayon::prelude::*;
use std::time::Instant;

/// What is measured and how surely.
#[derive(Clone, Debug)]
pub struct EvaluateSettings {
    /// The cuts.
    pub ks: Vec<usize>,
    /// For the intervals.
    pub bootstrap: Bootstrap,
    /// How long the rankings are at least (runs are written from them); the largest cut if that is more.
    pub depth: usize,
    /// How many queries that rose, and how many that fell, are listed.
    pub movers: usize,
}

impl Default for EvaluateSettings {
    fn default() -> Self {
        Self { ks: vec![1, 3, 5, 10, 100], bootstrap: Bootstrap::default(), depth: 100, movers: 5 }
    }
}

/// One encoder's vectors of a collection: a row for each query and for each document.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'a> {
    /// `[queries, dim]`
    pub queries: &'a Embeddings,
    /// `[documents, dim]`
    pub documents: &'a Embeddings,
}

/// An evaluation and the rankings under it.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The numbers.
    pub evaluation: Evaluation,
    /// The ranking of every query with the encoder that one started from.
    pub before: Option<Vec<Ranking>>,
    /// The ranking of every query with the trained encoder.
    pub after: Vec<Ranking>,
}

/// Evaluates an encoder, alone or against the one that it started from, by cosine over the whole corpus.
///
/// # Errors
/// When a cut is 0, the vectors do not fit the collection or are zero, or no query has a relevant document.
pub fn evaluate(collection: &Collection, before: Option<Vectors>, after: Vectors, settings: &EvaluateSettings) -> Result<Evaluated> {
    let started = Instant::now();
    ranking::check_cuts(&settings.ks)?;
    let depth = settings.ks.iter().copied().max().unwrap_or(1).max(settings.depth);
    let before = before.map(|v| Seen::new(collection, v, depth)).transpose()?;
    let after = Seen::new(collection, after, depth)?;
    let mut evaluation = compare(before.as_ref().map(|b| &b.rankings[..]), &after.rankings, &collection.qrels, settings)?;
    evaluation.documents = collection.corpus.len();
    for seen in before.iter().chain([&after]) {
        evaluation.positive_similarity.push(seen.positive_similarity(&collection.qrels));
        evaluation.negative_similarity.push(seen.negative_similarity(&collection.qrels));
    }
    if let Some(before) = &before {
        evaluation.movers = movers(collection, before, &after, settings.movers);
    }
    evaluation.seconds = started.elapsed().as_secs_f64();
    Ok(Evaluated { evaluation, before: before.map(|b| b.rankings), after: after.rankings })
}

/// Evaluates rankings that exist already, such as a TREC run, over a corpus of `documents`; one list for each query of `qrels`.
///
/// # Errors
/// When a cut is 0, the numbers of queries differ, a list names a document twice or has a NaN score, or no query has a relevant document.
pub fn evaluate_rankings(rankings: &[Ranking], qrels: &Qrels, documents: usize, settings: &EvaluateSettings) -> Result<Evaluation> {
    let started = Instant::now();
    let evaluation = compare(None, rankings, qrels, settings)?;
    Ok(Evaluation { documents, seconds: started.elapsed().as_secs_f64(), ..evaluation })
}

/// Whether `queries` and `documents` are vectors of the collection that have a cosine.
pub(crate) fn check_embeddings(collection: &Collection, queries: &Embeddings, documents: &Embeddings) -> Result<()> {
    if queries.dim() != documents.dim() {
        let (q, d) = (queries.dim(), documents.dim());
        return Err(Error::invalid(format!("query vectors have {q} dimensions, document vectors {d}; one encoder must make both")));
    }
    for (what, vectors, texts) in [("query", queries, &collection.queries), ("document", documents, &collection.corpus)] {
        if vectors.rows() != texts.len() {
            return Err(Error::invalid(format!("{} {what} vectors for {} texts", vectors.rows(), texts.len())));
        }
        if let Some(row) = vectors.first_zero_row() {
            let shown: String = texts.texts[row].chars().take(60).collect();
            return Err(Error::invalid(format!("{what} {} ({shown:?}) has the zero vector, which has no cosine", &texts.ids[row])));
        }
    }
    Ok(())
}

/// Everything of an [`Evaluation`] that rankings and judgements alone decide.
fn compare(before: Option<&[Ranking]>, after: &[Ranking], qrels: &Qrels, settings: &EvaluateSettings) -> Result<Evaluation> {
    let with: Vec<usize> = (0..qrels.len()).filter(|&q| !qrels.of(q).is_empty()).collect();
    if with.is_empty() {
        return Err(Error::invalid(format!("none of the {} queries has a relevant document: there is nothing to measure", qrels.len())));
    }
    // A column for each metric and cut, over the queries that can be measured.
    let columns = |rankings: &[Ranking]| -> Result<Vec<Vec<f64>>> {
        let cuts = ranking::of_run(rankings, qrels, &settings.ks)?;
        let column = |cut: &PerQuery, i: usize| cut.rows.iter().flatten().map(|m: &RankMetrics| m.values()[i]).collect();
        Ok((0..RankMetrics::NAMES.len()).flat_map(|i| cuts.iter().map(move |cut| column(cut, i))).collect())
    };
    let mut all = columns(after)?;
    let count = all.len();
    if let Some(before) = before {
        let before = columns(before)?;
        let difference = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
        let differences: Vec<_> = all.iter().zip(&before).map(difference).collect();
        all.extend(before);
        all.extend(differences);
    }
    let intervals = settings.bootstrap.means(&all)?;
    let names = RankMetrics::NAMES.iter().flat_map(|name| settings.ks.iter().map(move |k| (*name, *k)));
    let comparison = |(i, (metric, k)): (usize, (&str, usize))| Comparison {
        metric: metric.to_owned(),
        k,
        before: intervals.get(count + i).copied(),
        after: intervals[i],
        difference: intervals.get(2 * count + i).copied(),
    };
    Ok(Evaluation {
        queries: with.len(),
        queries_without_relevant: qrels.len() - with.len(),
        metrics: names.enumerate().map(comparison).collect(),
        ..Evaluation::default()
    })
}

/// A collection as one encoder sees it: unit vectors and rankings.
struct Seen {
    queries: Embeddings,
    documents: Embeddings,
    rankings: Vec<Ranking>,
}

impl Seen {
    fn new(collection: &Collection, vectors: Vectors, depth: usize) -> Result<Self> {
        check_embeddings(collection, vectors.queries, vectors.documents)?;
        let (queries, documents) = (vectors.queries.clone().normalized(), vectors.documents.clone().normalized());
        let rankings = search::top_k(&queries, &documents, depth, Similarity::Dot, &[])?;
        Ok(Self { queries, documents, rankings })
    }

    fn similarity(&self, query: usize, doc: u32) -> f32 {
        search::similarity(self.queries.row(query), self.documents.row(doc as usize), Similarity::Dot)
    }

    /// Of every query to every relevant document.
    fn positive_similarity(&self, qrels: &Qrels) -> Histogram {
        histogram((0..qrels.len()).flat_map(|q| qrels.of(q).iter().map(move |&(doc, _)| self.similarity(q, doc))))
    }

    /// Of every query that has a relevant document to the 10 nearest others.
    fn negative_similarity(&self, qrels: &Qrels) -> Histogram {
        let judged = self.rankings.iter().enumerate().filter(|(q, _)| !qrels.of(*q).is_empty());
        histogram(
            judged.flat_map(|(q, ranking)| ranking.iter().filter(move |(doc, _)| qrels.grade(q, *doc) == 0).take(10).map(|(_, s)| *s)),
        )
    }

    /// For each query its first relevant document and that one's rank from 1, exact however deep; `None` without a relevant document.
    fn first_relevant(&self, qrels: &Qrels) -> Vec<Option<(u32, usize)>> {
        let mut found: Vec<Option<(u32, usize)>> = Vec::with_capacity(qrels.len());
        let mut deeper = Vec::new();
        for (query, ranking) in self.rankings.iter().enumerate() {
            let at = ranking.iter().position(|(doc, _)| qrels.grade(query, *doc) > 0);
            found.push(at.map(|i| (ranking[i].0, i + 1)));
            if at.is_none() && !qrels.of(query).is_empty() {
                deeper.push(query);
            }
        }
        let counted: Vec<(u32, usize)> = deeper.par_chunks(32).flat_map_iter(|queries| self.count_before(queries, qrels)).collect();
        for (query, (doc, rank)) in deeper.into_iter().zip(counted) {
            found[query] = Some((doc, rank.max(self.rankings[query].len() + 1)));
        }
        found
    }

    /// The best relevant document of each of `queries` and its rank, by counting the documents before it in blocks of products.
    fn count_before(&self, queries: &[usize], qrels: &Qrels) -> Vec<(u32, usize)> {
        const BLOCK: usize = 1024;
        let dim = self.documents.dim();
        let best = |&query: &usize| {
            let scored = qrels.of(query).iter().map(|&(doc, _)| (doc, self.similarity(query, doc)));
            scored.reduce(|a, b| if b.1 > a.1 { b } else { a }).expect("asked only of queries with a relevant document")
        };
        let best: Vec<(u32, f32)> = queries.iter().map(best).collect();
        let rows: Vec<f32> = queries.iter().flat_map(|&q| self.queries.row(q)).copied().collect();
        let mut scores = vec![0.0f32; queries.len() * BLOCK];
        let mut before = vec![0usize; queries.len()];
        for (block, documents) in self.documents.data().chunks(BLOCK * dim).enumerate() {
            let n = documents.len() / dim;
            product(&mut scores, (queries.len(), n, dim), &rows, (dim, 1), documents, (1, dim), false, 1.0);
            for (i, row) in scores[..queries.len() * n].chunks_exact(n).enumerate() {
                let (doc, score) = best[i];
                let first = (block * BLOCK) as u32;
                let is_before = |(d, s): (u32, &f32)| *s > score || (*s == score && d < doc);
                before[i] += (first..).zip(row).filter(|e| is_before(*e) && qrels.grade(queries[i], e.0) == 0).count();
            }
        }
        best.into_iter().zip(before).map(|((doc, _), before)| (doc, before + 1)).collect()
    }
}

/// 40 bins of 0.05 over the range of a cosine.
fn histogram(similarities: impl Iterator<Item = f32>) -> Histogram {
    let mut histogram = Histogram::new(-1.0, 1.0, 40);
    similarities.for_each(|s| histogram.add(s.into()));
    histogram
}

/// The `count` queries that rose most, then the `count` that fell most (the worst last), by the ratio of the ranks: from 10 to 1 is
/// more than from 500 to 400.
fn movers(collection: &Collection, before: &Seen, after: &Seen, count: usize) -> Vec<Mover> {
    let ranks = before.first_relevant(&collection.qrels).into_iter().zip(after.first_relevant(&collection.qrels)).enumerate();
    let mut moved: Vec<(f64, usize, u32, usize, usize)> = ranks
        .filter_map(|(query, (b, a))| b.zip(a).map(|((_, b), (doc, a))| (b as f64 / a as f64, query, doc, b, a)))
        .filter(|(ratio, ..)| *ratio != 1.0)
        .collect();
    moved.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)));
    let rose = moved.iter().take_while(|m| m.0 > 1.0).take(count);
    let fell = moved.iter().rev().take_while(|m| m.0 < 1.0).take(count).collect::<Vec<_>>().into_iter().rev();
    let document = |doc: u32| collection.corpus.texts[doc as usize].to_owned();
    let top = |seen: &Seen, query: usize| seen.rankings[query].first().map(|(doc, _)| document(*doc)).unwrap_or_default();
    rose.chain(fell)
        .map(|&(_, query, doc, rank_before, rank_after)| Mover {
            query: collection.queries.texts[query].to_owned(),
            positive: document(doc),
            rank_before,
            rank_after,
            top_before: top(before, query),
            top_after: top(after, query),
        })
        .collect()
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
