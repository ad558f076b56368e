//! Mining hard negatives for the queries of a [`Collection`]: candidates, filters, choice, and an account of it all.

use super::candidates::{Candidates, Source};
use super::hard::negative_positive_warning;
use super::near_copy::WordSets;
use super::select::{Sampling, Selector, Tally};
use super::summary::{EqualToPositive, MineSummary, Quantiles, Removed, TooFew};
use crate::data::text::{self, Digests};
use crate::data::{Collection, Embeddings};
use crate::progress::Progress;
use crate::search::{Bm25Settings, Ranking};
use crate::seed;
use crate::weighting::{NegativeFilter, Rejection};
use crate::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Queries whose candidate lists are held at once: what bounds the memory of a run.
const BLOCK: usize = 1024;
/// Streams of the seed, one a query, apart from those of other uses.
const SAMPLING_STREAM: u64 = 11 << 40;
/// How many of the queries with too few negatives are named.
const TOO_FEW_NAMED: usize = 100;

/// What to mine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MineSettings {
    /// Where candidates come from.
    pub candidates: Candidates,
    /// Negatives for each query.
    pub num_negatives: usize,
    /// Which of the survivors become negatives.
    pub sampling: Sampling,
    /// For random candidates and random sampling.
    pub seed: u64,
    /// A candidate is a near-copy of a positive when the Jaccard similarity of their word sets is at least this; 0 turns the
    /// test off.
    pub near_copy: f64,
    /// Limits on the cosine similarity of a negative, and the window of ranks. Where `range_max` is not set it is
    /// `range_min` + 10 · `num_negatives` + the largest number of positives of a query.
    pub filter: NegativeFilter,
    /// For BM25 candidates.
    pub bm25: Bm25Settings,
}

impl Default for MineSettings {
    fn default() -> Self {
        Self {
            candidates: Candidates::Hybrid,
            num_negatives: 5,
            sampling: Sampling::Top,
            seed: 0,
            near_copy: 0.9,
            filter: NegativeFilter { relative_margin: Some(0.05), ..NegativeFilter::default() },
            bm25: Bm25Settings::default(),
        }
    }
}

impl MineSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// Says which setting is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.num_negatives == 0 {
            return Err(Error::invalid("num_negatives is 0; at least one negative must be asked for"));
        }
        if !(0.0..=1.0).contains(&self.near_copy) {
            return Err(Error::invalid(format!("near_copy is {}, it must be from 0 (off) to 1", self.near_copy)));
        }
        if let (Some(max), Some(min)) = (self.filter.max_score, self.filter.min_score)
            && min > max
        {
            return Err(Error::invalid(format!("min_score {min} is above max_score {max}, so that nothing could pass")));
        }
        self.filter.validate()?;
        self.bm25.validate()
    }
}

/// What the scores of negatives and positives are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoredBy {
    /// Cosine similarities of the encoder's vectors.
    Encoder,
    /// Cosine similarities of a teacher's vectors.
    Teacher,
    /// BM25 scores.
    Bm25,
    /// Nothing scored them: random candidates without an encoder. The numbers are 0.
    Nothing,
}

/// Negatives for each query of a collection.
#[derive(Clone, Debug)]
pub struct Mined {
    /// For each query its negatives (document, score), in rank order.
    pub negatives: Vec<Ranking>,
    /// For each query the scores of its positives, in the order of the relevance judgements.
    pub positive_scores: Vec<Vec<f32>>,
    /// What the scores are.
    pub scored_by: ScoredBy,
    /// The account.
    pub summary: MineSummary,
}

/// Mines negatives for every query of `collection`.
///
/// `vectors` are those of the queries and of the documents, from one encoder. With them, every candidate (those of BM25 too)
/// is scored by cosine similarity, and limits on the score can be set; without, candidates are those of BM25 or random ones.
///
/// A candidate never becomes a negative when it is a positive of its query by id, has the same text as a positive or as the
/// query ([`text::normalize`]), is a near-copy of a positive, or has the text of a candidate that ranks higher. The rest goes
/// through [`MineSettings::filter`]; with several positives, s⁺ is the lowest of their scores.
///
/// The same settings, data and seed give the same bits on any number of threads. Memory is that of the inputs, the index, unit
/// vectors and the 8-bit copies of the documents' ([`foils_kernels::topk::Corpus`]), and the result, and of the candidate lists of
/// 1,024 queries.
///
/// # Errors
/// When the collection is empty or has no more documents than negatives are asked for, a query has no positive, vectors do
/// not fit the texts or are zero, a setting is out of range, or candidates or limits are asked for that need an encoder.
pub fn mine(collection: &Collection, vectors: Option<(&Embeddings, &Embeddings)>, settings: &MineSettings) -> Result<Mined> {
    run(collection, vectors, None, settings)
}

/// [`mine`], with the scores of a second encoder, the teacher: candidates are found and ordered as without it, but it is its cosine
/// similarities that limits compare, and that come out as scores. `teacher` is its vectors of the queries and of the documents, of any
/// width.
///
/// # Errors
/// As [`mine`]; limits on scores need no vectors but the teacher's.
pub fn mine_with_teacher(
    collection: &Collection,
    vectors: Option<(&Embeddings, &Embeddings)>,
    teacher: (&Embeddings, &Embeddings),
    settings: &MineSettings,
) -> Result<Mined> {
    run(collection, vectors, Some(teacher), settings)
}

fn run(
    collection: &Collection,
    vectors: Option<(&Embeddings, &Embeddings)>,
    teacher: Option<(&Embeddings, &Embeddings)>,
    settings: &MineSettings,
) -> Result<Mined> {
    settings.validate()?;
    check_encoder(vectors.is_some(), teacher.is_some(), settings)?;
    check_collection(collection, settings)?;
    let queries = collection.queries.len();
    let most_positives = (0..queries).map(|q| collection.qrels.of(q).len()).max().unwrap_or(0);
    // Copies of positives may take any number of the first ranks, so the reserve of a margin is always kept here.
    let reserve = settings.num_negatives.saturating_mul(10).saturating_add(most_positives);
    let range_max = settings.filter.range_max.unwrap_or(settings.filter.range_min.saturating_add(reserve));
    let depth = range_max.saturating_add(most_positives).min(collection.corpus.len());

    let mut source = Source::new(collection, vectors, teacher, settings, depth)?;
    let started = Instant::now();
    let judge = Judge {
        collection,
        settings,
        selector: Selector { filter: &settings.filter, range_max, num_negatives: settings.num_negatives },
        digests: collection.corpus.texts.par_iter().map(|t| text::digest(t)).collect(),
        word_sets: (settings.near_copy > 0.0).then(|| WordSets::new(&collection.corpus.texts)),
    };
    let mut filter_seconds = started.elapsed().as_secs_f64();

    let progress = Progress::new(queries as u64, "mining");
    let mut account = Account::default();
    let mut negatives = Vec::with_capacity(queries);
    let mut positive_scores = Vec::with_capacity(queries);
    for start in (0..queries).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(queries);
        let lists = source.candidates(block.clone())?;
        let started = Instant::now();
        let scorer = &source;
        let judged: Vec<Judged> = lists.into_par_iter().enumerate().map(|(row, list)| judge.judge(start + row, list, scorer)).collect();
        filter_seconds += started.elapsed().as_secs_f64();
        for (row, judged) in judged.into_iter().enumerate() {
            account.add(collection, start + row, &judged, settings.num_negatives);
            negatives.push(judged.negatives);
            positive_scores.push(judged.positives);
        }
        progress.inc(block.len() as u64);
    }
    let scored_by = source.scored_by();
    let mut summary = account.summary(collection, settings, scored_by, &negatives, &positive_scores)?;
    summary.seconds = source.seconds();
    summary.seconds.insert("filter".into(), filter_seconds);
    Ok(Mined { negatives, positive_scores, scored_by, summary })
}

fn check_collection(collection: &Collection, settings: &MineSettings) -> Result<()> {
    let (queries, documents) = (collection.queries.len(), collection.corpus.len());
    if queries == 0 {
        return Err(Error::invalid("there are no queries to mine for"));
    }
    if documents == 0 {
        return Err(Error::invalid("the corpus is empty"));
    }
    if collection.qrels.len() != queries {
        return Err(Error::invalid(format!("relevance is given for {} queries and there are {queries}", collection.qrels.len())));
    }
    for (query, id) in collection.queries.ids.iter().enumerate() {
        match collection.qrels.of(query).last() {
            None => return Err(Error::invalid(format!("query {id} has no positive"))),
            Some(&(last, _)) if last as usize >= documents => {
                return Err(Error::invalid(format!("query {id}: its positive {last} is not among the {documents} documents")));
            }
            Some(_) => {}
        }
    }
    if documents <= settings.num_negatives {
        let asked = settings.num_negatives;
        return Err(Error::invalid(format!(
            "{asked} negatives are asked for and there are only {documents} documents, positives included"
        )));
    }
    Ok(())
}

fn check_encoder(present: bool, teacher: bool, settings: &MineSettings) -> Result<()> {
    if present {
        return Ok(());
    }
    if settings.candidates.needs_encoder() {
        let name = settings.candidates.name();
        return Err(Error::invalid(format!("`{name}` candidates need an encoder's vectors; give an encoder, or ask for bm25 or random")));
    }
    if settings.filter.needs_scores() && !teacher {
        let message = "a margin, max_score or min_score compares cosine similarities, which need an encoder's vectors; give an encoder or \
                       leave the limits out (BM25 scores have no common scale)";
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// What became of one query's candidates.
#[derive(Default)]
struct Judged {
    negatives: Ranking,
    positives: Vec<f32>,
    candidates: u64,
    equal: EqualToPositive,
    equals_query: u64,
    repeated: u64,
    above_positive: u64,
    tally: Tally,
}

struct Judge<'a> {
    collection: &'a Collection,
    settings: &'a MineSettings,
    selector: Selector<'a>,
    digests: Vec<u128>,
    word_sets: Option<WordSets>,
}

impl Judge<'_> {
    fn judge(&self, query: usize, candidates: Ranking, source: &Source) -> Judged {
        let positives = self.collection.qrels.of(query);
        let mut out = Judged { candidates: candidates.len() as u64, ..Judged::default() };
        out.positives = positives.iter().map(|&(document, _)| source.score(query, document)).collect();
        let lowest = out.positives.iter().copied().fold(f32::INFINITY, f32::min);

        let positive_texts: Digests = positives.iter().map(|&(p, _)| self.digests[p as usize]).collect();
        let query_text = text::digest(&self.collection.queries.texts[query]);
        let mut seen = Digests::default();
        let mut left = candidates;
        left.retain(|&(document, _)| {
            let digest = self.digests[document as usize];
            let counter = if positives.binary_search_by_key(&document, |p| p.0).is_ok() {
                &mut out.equal.by_id
            } else if positive_texts.contains(&digest) {
                &mut out.equal.by_text
            } else if self.nearly_a_positive(document, positives) {
                &mut out.equal.nearly
            } else if digest == query_text {
                &mut out.equals_query
            } else if !seen.insert(digest) {
                &mut out.repeated
            } else {
                return true;
            };
            *counter += 1;
            false
        });
        out.above_positive = left.iter().filter(|c| c.1 > lowest).count() as u64;
        let mut rng = match self.settings.sampling {
            Sampling::Top => None,
            Sampling::Random => Some(seed::rng(self.settings.seed, SAMPLING_STREAM + query as u64)),
        };
        let (picked, tally) = self.selector.select(left.iter().map(|c| f64::from(c.1)), f64::from(lowest), rng.as_mut());
        out.negatives = picked.into_iter().map(|at| left[at]).collect();
        out.tally = tally;
        out
    }

    fn nearly_a_positive(&self, document: u32, positives: &[(u32, i64)]) -> bool {
        let near = |sets: &WordSets| positives.iter().any(|&(p, _)| sets.near(document, p, self.settings.near_copy));
        self.word_sets.as_ref().is_some_and(near)
    }
}

/// Sums over queries.
#[derive(Default)]
struct Account {
    candidates: u64,
    equal: EqualToPositive,
    equals_query: u64,
    repeated: u64,
    above_positive: u64,
    tally: Tally,
    too_few: usize,
    too_few_examples: Vec<TooFew>,
}

impl Account {
    fn add(&mut self, collection: &Collection, query: usize, judged: &Judged, asked: usize) {
        self.candidates += judged.candidates;
        self.equal.by_id += judged.equal.by_id;
        self.equal.by_text += judged.equal.by_text;
        self.equal.nearly += judged.equal.nearly;
        self.equals_query += judged.equals_query;
        self.repeated += judged.repeated;
        self.above_positive += judged.above_positive;
        self.tally.add(&judged.tally);
        if judged.negatives.len() < asked {
            self.too_few += 1;
            if self.too_few_examples.len() < TOO_FEW_NAMED {
                let (id, text) = (collection.queries.ids[query].clone(), collection.queries.texts[query].clone());
                self.too_few_examples.push(TooFew { id, text, found: judged.negatives.len() });
            }
        }
    }

    fn summary(
        self,
        collection: &Collection,
        settings: &MineSettings,
        scored_by: ScoredBy,
        negatives: &[Ranking],
        positives: &[Vec<f32>],
    ) -> Result<MineSummary> {
        let removed = |filter: &str, count: u64| {
            let share = if self.candidates == 0 { 0.0 } else { count as f64 / self.candidates as f64 };
            Removed { filter: filter.to_owned(), count, share }
        };
        let mut filters = vec![removed("equals_query", self.equals_query), removed("repeated_text", self.repeated)];
        filters.extend(Rejection::ALL.iter().map(|&why| removed(why.name(), self.tally.removed[why as usize])));
        let lowest: Vec<f64> = positives.iter().map(|p| f64::from(p.iter().copied().fold(f32::INFINITY, f32::min))).collect();
        let pairs = || negatives.iter().zip(&lowest).flat_map(|(list, &positive)| list.iter().map(move |n| (f64::from(n.1), positive)));
        let mut summary = MineSummary {
            settings: serde_json::to_value(settings).map_err(|e| Error::invalid(format!("settings have no JSON form: {e}")))?,
            queries: collection.queries.len(),
            documents: collection.corpus.len(),
            candidates: self.candidates,
            removed: filters,
            equal_to_positive: self.equal,
            unused: self.tally.unused,
            kept: self.tally.kept,
            scored_by: Some(scored_by),
            too_few: self.too_few,
            too_few_examples: self.too_few_examples,
            ..MineSummary::default()
        };
        if scored_by != ScoredBy::Nothing {
            summary.candidates_above_positive = self.above_positive;
            summary.kept_above_positive = pairs().filter(|(negative, positive)| negative > positive).count() as u64;
            summary.positive_scores = Quantiles::of(positives.iter().flatten().map(|&s| f64::from(s)).collect());
            summary.negative_scores = Quantiles::of(pairs().map(|p| p.0).collect());
            summary.differences = Quantiles::of(pairs().map(|(negative, positive)| positive - negative).collect());
        }
        let below_zero = lowest.iter().filter(|s| **s < 0.0).count();
        summary.warnings.extend(negative_positive_warning(&settings.filter, below_zero, lowest.len()));
        if !matches!(scored_by, ScoredBy::Encoder | ScoredBy::Teacher) {
            summary.warnings.push("no encoder was given: only copies of positives were removed, unlabelled positives were not".into());
        } else if !settings.filter.needs_positive_scores() && settings.filter.max_score.is_none() {
            summary.warnings.push("no margin and no max_score is set: unlabelled positives among the candidates are kept".into());
        }
        if summary.kept == 0 {
            summary.warnings.push("no negative was left for any query".into());
        }
        Ok(summary)
    }
}
