//! Where the miner's candidates come from: words, vectors, both, or chance.

use super::mining::{MineSettings, ScoredBy};
use crate::data::{Collection, Embeddings};
use crate::search::{Bm25Index, Ranking, check_directions, check_widths, rank_order};
use crate::seed;
use crate::{Error, Result};
use foils_kernels::topk::{self, Corpus};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Instant;

/// The stream of the seed that draws random candidates, one a query.
const STREAM: u64 = 10 << 40;
/// The constant of reciprocal rank fusion.
const RRF: f64 = 60.0;

/// A source of candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Candidates {
    /// The documents with the best BM25 scores, in that order.
    Bm25,
    /// The documents with the highest cosine similarity.
    Dense,
    /// Those of both, by cosine similarity.
    #[default]
    Hybrid,
    /// Those of both, by reciprocal rank fusion: Σ 1/(60 + rank), ranks from 1.
    Rrf,
    /// Documents drawn with the seed, in the order of the draw.
    Random,
}

impl Candidates {
    /// As the setting is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bm25 => "bm25",
            Self::Dense => "dense",
            Self::Hybrid => "hybrid",
            Self::Rrf => "rrf",
            Self::Random => "random",
        }
    }

    /// Whether it needs vectors.
    pub fn needs_encoder(self) -> bool {
        matches!(self, Self::Dense | Self::Hybrid | Self::Rrf)
    }

    fn needs_bm25(self) -> bool {
        matches!(self, Self::Bm25 | Self::Hybrid | Self::Rrf)
    }
}

/// Vectors of unit length.
struct Vectors {
    dim: usize,
    queries: Vec<f32>,
    documents: Corpus<'static, f32>,
}

impl Vectors {
    fn cosine(&self, query: usize, document: u32) -> f32 {
        topk::dot(&self.queries[query * self.dim..][..self.dim], self.documents.row(document))
    }
}

/// Lists candidates for blocks of queries and scores any pair.
pub(crate) struct Source<'a> {
    collection: &'a Collection,
    candidates: Candidates,
    seed: u64,
    /// How many candidates each list has.
    depth: usize,
    vectors: Option<Vectors>,
    /// Those of a teacher, which gives the scores; the order stays that of the candidates.
    teacher: Option<Vectors>,
    bm25: Option<Bm25Index>,
    seconds: BTreeMap<String, f64>,
}

impl<'a> Source<'a> {
    pub fn new(
        collection: &'a Collection,
        vectors: Option<(&Embeddings, &Embeddings)>,
        teacher: Option<(&Embeddings, &Embeddings)>,
        settings: &MineSettings,
        depth: usize,
    ) -> Result<Self> {
        let unit = |(queries, documents)| unit_vectors(collection, queries, documents);
        let vectors = vectors.map(unit).transpose()?;
        let teacher = teacher.map(unit).transpose().map_err(|e| Error::invalid(format!("the teacher: {e}")))?;
        let mut seconds = BTreeMap::new();
        let started = Instant::now();
        let bm25 = settings.candidates.needs_bm25().then(|| Bm25Index::new(&collection.corpus.texts, &settings.bm25)).transpose()?;
        if bm25.is_some() {
            seconds.insert("bm25".into(), started.elapsed().as_secs_f64());
        }
        Ok(Self { collection, candidates: settings.candidates, seed: settings.seed, depth, vectors, teacher, bm25, seconds })
    }

    pub fn scored_by(&self) -> ScoredBy {
        match (&self.teacher, &self.vectors, &self.bm25) {
            (Some(_), ..) => ScoredBy::Teacher,
            (None, Some(_), _) => ScoredBy::Encoder,
            (None, None, Some(_)) => ScoredBy::Bm25,
            (None, None, None) => ScoredBy::Nothing,
        }
    }

    /// Seconds spent by part.
    pub fn seconds(&self) -> BTreeMap<String, f64> {
        self.seconds.clone()
    }

    /// The score of a document for a query, by [`Source::scored_by`].
    pub fn score(&self, query: usize, document: u32) -> f32 {
        self.teacher.as_ref().map_or_else(|| self.own_score(query, document), |teacher| teacher.cosine(query, document))
    }

    /// The score that candidates are found and ordered by.
    fn own_score(&self, query: usize, document: u32) -> f32 {
        match (&self.vectors, &self.bm25) {
            (Some(v), _) => v.cosine(query, document),
            (None, Some(index)) => index.score(&self.collection.queries.texts[query], document),
            (None, None) => 0.0,
        }
    }

    /// The candidates of each query of a block, in rank order, with their scores.
    pub fn candidates(&mut self, block: Range<usize>) -> Result<Vec<Ranking>> {
        let mut lists = match self.candidates {
            Candidates::Dense => self.dense(&block),
            Candidates::Bm25 => {
                let mut lists = self.lexical(&block)?;
                if self.vectors.is_some() {
                    self.rescore(&mut lists, block.start);
                }
                lists
            }
            Candidates::Hybrid | Candidates::Rrf => {
                let (dense, lexical) = (self.dense(&block), self.lexical(&block)?);
                let join = if self.candidates == Candidates::Rrf { Self::fuse } else { Self::union };
                dense.into_par_iter().zip(lexical).enumerate().map(|(row, (d, l))| join(self, block.start + row, d, l)).collect()
            }
            Candidates::Random => block.clone().into_par_iter().map(|query| self.drawn(query)).collect(),
        };
        if self.teacher.is_some() {
            self.rescore(&mut lists, block.start);
        }
        Ok(lists)
    }

    /// Scores candidates anew, in the same order; `first` is the query of the first list.
    fn rescore(&self, lists: &mut [Ranking], first: usize) {
        let rescore = |(row, list): (usize, &mut Ranking)| list.iter_mut().for_each(|entry| entry.1 = self.score(first + row, entry.0));
        lists.par_iter_mut().enumerate().for_each(rescore);
    }

    fn dense(&mut self, block: &Range<usize>) -> Vec<Ranking> {
        let started = Instant::now();
        let v = self.vectors.as_ref().expect("checked before: these candidates need vectors");
        let lists = v.documents.top_k(&v.queries[block.start * v.dim..block.end * v.dim], self.depth, |_, _| false);
        *self.seconds.entry("dense".into()).or_default() += started.elapsed().as_secs_f64();
        lists
    }

    fn lexical(&mut self, block: &Range<usize>) -> Result<Vec<Ranking>> {
        let started = Instant::now();
        let index = self.bm25.as_ref().expect("built for these candidates");
        let lists = index.top_k(&self.collection.queries.texts[block.clone()], self.depth)?;
        *self.seconds.entry("bm25".into()).or_default() += started.elapsed().as_secs_f64();
        Ok(lists)
    }

    /// The union of two lists, by cosine similarity; the dense one has it already.
    fn union(&self, query: usize, dense: Ranking, lexical: Ranking) -> Ranking {
        let mut known: Vec<u32> = dense.iter().map(|entry| entry.0).collect();
        known.sort_unstable();
        let mut ranking = dense;
        let new = lexical.into_iter().filter(|entry| known.binary_search(&entry.0).is_err());
        ranking.extend(new.map(|(document, _)| (document, self.own_score(query, document))));
        ranking.sort_unstable_by(rank_order);
        ranking
    }

    /// The union of two lists, by reciprocal rank fusion; the scores are cosine similarities.
    fn fuse(&self, query: usize, dense: Ranking, lexical: Ranking) -> Ranking {
        let mut union: HashMap<u32, f64> = HashMap::with_capacity(dense.len() + lexical.len());
        for list in [&dense, &lexical] {
            for (rank, entry) in list.iter().enumerate() {
                *union.entry(entry.0).or_default() += 1.0 / (RRF + 1.0 + rank as f64);
            }
        }
        let mut fused: Vec<(u32, f64)> = union.into_iter().collect();
        fused.sort_unstable_by(rank_order);
        fused.into_iter().map(|(document, _)| (document, self.own_score(query, document))).collect()
    }

    fn drawn(&self, query: usize) -> Ranking {
        let mut rng = seed::rng(self.seed, STREAM + query as u64);
        let drawn = rand::seq::index::sample(&mut rng, self.collection.corpus.len(), self.depth);
        drawn.into_iter().map(|document| (document as u32, self.own_score(query, document as u32))).collect()
    }
}

fn unit_vectors(collection: &Collection, queries: &Embeddings, documents: &Embeddings) -> Result<Vectors> {
    for (what, vectors, texts) in [("query", queries, &collection.queries), ("document", documents, &collection.corpus)] {
        if vectors.rows() != texts.len() {
            return Err(Error::invalid(format!("{} {what} vectors for {} texts", vectors.rows(), texts.len())));
        }
        check_directions(what, vectors)?;
    }
    check_widths(queries, documents)?;
    let dim = documents.dim();
    let (queries, documents) = (topk::unit_rows(queries.data(), dim), topk::unit_rows(documents.data(), dim));
    Ok(Vectors { dim, queries, documents: Corpus::new(documents, dim) })
}
