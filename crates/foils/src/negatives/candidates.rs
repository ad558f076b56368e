//! Where the miner's candidates come from: words, vectors, both, or chance.

use super::mining::{MineSettings, ScoredBy};
use super::vectors::UnitVectors;
use crate::data::Collection;
use crate::search::{Bm25Index, Bm25Parts, Ranking, rank_order};
use crate::{Result, seed};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
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

/// What may be kept in memory of a run that has a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room<'a> {
    /// For the 8-bit copies of documents, at a time.
    pub codes: usize,
    /// For the part of the BM25 index that is searched.
    pub index: usize,
    /// The folder on whose disk the rest lies.
    pub scratch: &'a Path,
}

/// An index of words: of the whole corpus in memory, or in parts.
enum Words {
    Whole(Bm25Index),
    Parts(Bm25Parts),
}

/// Lists candidates for blocks of queries and scores any pair.
pub(super) struct Source<'a> {
    collection: &'a Collection,
    candidates: Candidates,
    seed: u64,
    /// How many candidates each list has.
    depth: usize,
    vectors: Option<UnitVectors>,
    /// Those of a teacher, which gives the scores; the order stays that of the candidates.
    teacher: Option<UnitVectors>,
    words: Option<Words>,
    codes: usize,
    /// BM25 scores of the positives of the block's queries, where an index in parts gives the scores.
    positives: (usize, Vec<Vec<f32>>),
    seconds: BTreeMap<String, f64>,
}

impl<'a> Source<'a> {
    pub fn new(
        collection: &'a Collection,
        vectors: Option<UnitVectors>,
        teacher: Option<UnitVectors>,
        settings: &MineSettings,
        depth: usize,
        room: Option<Room>,
    ) -> Result<Self> {
        let mut seconds = BTreeMap::new();
        let started = Instant::now();
        let (corpus, bm25) = (&collection.corpus.texts, &settings.bm25);
        let words = match room {
            _ if !settings.candidates.needs_bm25() => None,
            None => Some(Words::Whole(Bm25Index::new(&corpus.refs(0..corpus.len()), bm25)?)),
            Some(room) => Some(Words::Parts(Bm25Parts::new(corpus, &collection.queries.texts, bm25, room.index, room.scratch)?)),
        };
        if words.is_some() {
            seconds.insert("bm25".into(), started.elapsed().as_secs_f64());
        }
        let codes = room.map_or(usize::MAX, |room| room.codes);
        let (candidates, seed, positives) = (settings.candidates, settings.seed, (0, Vec::new()));
        Ok(Self { collection, candidates, seed, depth, vectors, teacher, words, codes, positives, seconds })
    }

    pub fn scored_by(&self) -> ScoredBy {
        match (&self.teacher, &self.vectors, &self.words) {
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
    fn score(&self, query: usize, document: u32) -> f32 {
        self.teacher.as_ref().or(self.vectors.as_ref()).map_or(0.0, |vectors| vectors.score(query, document))
    }

    /// The score that candidates are found and ordered by, where that is a similarity.
    fn own_score(&self, query: usize, document: u32) -> f32 {
        self.vectors.as_ref().map_or(0.0, |vectors| vectors.score(query, document))
    }

    /// The scores of a query's positives; the query is one of the last block that candidates were listed for.
    pub fn positive_scores(&self, query: usize) -> Vec<f32> {
        let positives = self.collection.qrels.of(query).iter().map(|&(document, _)| document);
        match (self.scored_by(), &self.words) {
            (ScoredBy::Bm25, Some(Words::Whole(index))) => {
                let text = &self.collection.queries.texts[query];
                positives.map(|document| index.score(text, document)).collect()
            }
            (ScoredBy::Bm25, Some(Words::Parts(_))) => self.positives.1[query - self.positives.0].clone(),
            _ => positives.map(|document| self.score(query, document)).collect(),
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
        let vectors = self.vectors.as_ref().expect("checked before: these candidates need vectors");
        let lists = vectors.top_k(block.clone(), self.depth, self.codes);
        *self.seconds.entry("dense".into()).or_default() += started.elapsed().as_secs_f64();
        lists
    }

    fn lexical(&mut self, block: &Range<usize>) -> Result<Vec<Ranking>> {
        let started = Instant::now();
        let texts = self.collection.queries.texts.refs(block.clone());
        let lists = match self.words.as_ref().expect("built for these candidates") {
            Words::Whole(index) => index.top_k(&texts, self.depth)?,
            Words::Parts(parts) => {
                let positives = |query: usize| self.collection.qrels.of(query).iter().map(|p| p.0).collect();
                let asked: Vec<Vec<u32>> = block.clone().map(positives).collect();
                let (lists, scores) = parts.top_k(&texts, self.depth, &asked);
                self.positives = (block.start, scores);
                lists
            }
        };
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
