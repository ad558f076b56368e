//! Mining hard negatives for the queries of a [`Collection`]: candidates, filters, choice, and an account of it all.

use super::candidates::{Room, Source};
use super::judge::{Account, Judge, Judged};
use super::mining::{MineSettings, Mined, check_collection, check_encoder};
use super::near_copy::Looks;
use super::resume::Blocks;
use super::select::Selector;
use super::vectors::{Given, UnitVectors};
use crate::data::{Collection, Embeddings};
use crate::models::Encoder;
use crate::progress::Progress;
use crate::{Error, Result, own_memory};
use rayon::prelude::*;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

/// Queries whose candidate lists are held at once, unless there is a limit on memory.
const BLOCK: usize = 1024;
/// The same with a limit: every block goes over the whole corpus, which may lie on a disk, so that larger blocks are better.
const LARGEST_BLOCK: usize = 1 << 16;
/// The smallest that is worth starting with.
const SMALLEST_BLOCK: usize = 64;
/// What a search takes besides what is counted.
const RESERVE: usize = 16 << 20;

/// Mines negatives for every query of a collection.
///
/// A candidate never becomes a negative when it is a positive of its query by id, has the same text as a positive or as the
/// query ([`crate::data::text::normalize`]), is a near-copy of a positive, or has the text of a candidate that ranks higher. The rest goes
/// through [`MineSettings::filter`]; with several positives, s⁺ is the lowest of their scores.
///
/// The same settings, data and seed give the same bits on any number of threads and with any memory.
///
/// ```
/// use foils::data::{Collection, Example};
/// use foils::negatives::{Candidates, Miner, MineSettings};
/// let pairs = ["red fox", "blue whale", "grey wolf"].map(|animal| Example::pair(format!("what is a {animal}"), format!("a {animal} is one")));
/// let collection = Collection::from_examples(&pairs)?;
/// let settings = MineSettings { candidates: Candidates::Bm25, num_negatives: 1, filter: Default::default(), ..Default::default() };
/// let mined = Miner::new(&collection, &settings).run()?;
/// assert_eq!(mined.negatives.len(), 3);
/// # Ok::<(), foils::Error>(())
/// ```
pub struct Miner<'a> {
    collection: &'a Collection,
    settings: &'a MineSettings,
    given: Option<Given<'a>>,
    teacher: Option<Given<'a>>,
    limit: Option<Limit<'a>>,
    resume: Option<&'a Path>,
}

struct Limit<'a> {
    bytes: usize,
    scratch: &'a Path,
    /// What the process had before mining; measured.
    taken: Option<usize>,
}

impl<'a> Miner<'a> {
    /// Without an encoder, in memory.
    pub fn new(collection: &'a Collection, settings: &'a MineSettings) -> Self {
        Self { collection, settings, given: None, teacher: None, limit: None, resume: None }
    }

    /// Scores candidates by these vectors of the queries and of the documents.
    pub fn with_vectors(mut self, queries: &'a Embeddings, documents: &'a Embeddings) -> Self {
        self.given = Some(Given::Vectors(queries, documents));
        self
    }

    /// Scores candidates by this encoder's vectors.
    pub fn with_encoder(mut self, encoder: &'a dyn Encoder) -> Self {
        self.given = Some(Given::Encoder(encoder));
        self
    }

    /// Lets a second encoder, the teacher, judge: candidates are found and ordered as without it, but it is its cosine similarities that
    /// limits compare, and that come out as scores.
    pub fn with_teacher(mut self, teacher: &'a dyn Encoder) -> Self {
        self.teacher = Some(Given::Encoder(teacher));
        self
    }

    /// The same with a teacher's vectors of the queries and of the documents, of any width.
    pub fn with_teacher_vectors(mut self, queries: &'a Embeddings, documents: &'a Embeddings) -> Self {
        self.teacher = Some(Given::Vectors(queries, documents));
        self
    }

    /// Keeps the process's own memory under `bytes`, whatever the size of the corpus: vectors and words lie in files without a name on the
    /// disk of `scratch`, and are taken part by part. For each query 100 bytes and 40 for each negative stay in memory, and the texts
    /// where they are ([`Collection::from_stream`]). Where the system does not say what a process has (elsewhere than on Linux), it is
    /// what mining takes that stays under the limit.
    pub fn within(mut self, bytes: usize, scratch: &'a Path) -> Self {
        self.limit = Some(Limit { bytes, scratch, taken: None });
        self
    }

    /// Keeps what is done in this folder, block of queries by block, and goes on from there: a run that was killed ends with what it would
    /// have ended with. What another collection, encoder or settings left there is removed. Call [`forget`](super::forget) when the
    /// result is safe.
    pub fn resume_in(mut self, folder: &'a Path) -> Self {
        self.resume = Some(folder);
        self
    }

    /// Mines.
    ///
    /// # Errors
    /// When the collection is empty or has no more documents than negatives are asked for, a query has no positive, vectors do
    /// not fit the texts or are zero, a setting is out of range, candidates or limits are asked for that need an encoder, the memory does
    /// not suffice (saying what would), or a folder cannot be written.
    pub fn run(self) -> Result<Mined> {
        let Self { collection, settings, given, teacher, limit, resume } = self;
        settings.validate()?;
        check_encoder(given.is_some(), teacher.is_some(), settings)?;
        check_collection(collection, settings)?;
        let queries = collection.queries.len();
        let most_positives = (0..queries).map(|q| collection.qrels.of(q).len()).max().unwrap_or(0);
        // Copies of positives may take any number of the first ranks, so the reserve of a margin is always kept here.
        let reserve = settings.num_negatives.saturating_mul(10).saturating_add(most_positives);
        let range_max = settings.filter.range_max.unwrap_or(settings.filter.range_min.saturating_add(reserve));
        let depth = range_max.saturating_add(most_positives).min(collection.corpus.len());

        let mut blocks = resume.map(|folder| Blocks::open(folder, collection, &[given, teacher], settings)).transpose()?;
        let started = Instant::now();
        let unit = |given| match &limit {
            None => UnitVectors::held(collection, given),
            Some(Limit { scratch, .. }) => UnitVectors::filed(collection, given, scratch),
        };
        let vectors = given.map(unit).transpose()?;
        let judging = teacher.map(unit).transpose().map_err(|e| Error::invalid(format!("the teacher: {e}")))?;
        let embed_seconds = started.elapsed().as_secs_f64();
        let plan = match &limit {
            None => Plan { block: BLOCK, judged: BLOCK, room: None },
            Some(limit) => Plan::within(limit, collection, settings, depth, vectors.as_ref().map_or(0, UnitVectors::dim))?,
        };
        let block = blocks.as_mut().map_or(Ok(plan.block), |blocks| blocks.fix_size(plan.block))?;
        let mut source = Source::new(collection, vectors, judging, settings, depth, plan.room)?;
        let selector = Selector { filter: &settings.filter, range_max, num_negatives: settings.num_negatives };
        let judge = Judge { collection, settings, selector };
        let started = Instant::now();
        let words = settings.near_copy > 0.0;
        let all_looks = limit.is_none().then(|| Looks::of_all(&collection.corpus.texts, words));
        let mut filter_seconds = started.elapsed().as_secs_f64();

        let progress = Progress::new(queries as u64, "mining");
        let mut account = Account::default();
        let mut negatives = Vec::with_capacity(queries);
        let mut positive_scores = Vec::with_capacity(queries);
        for (number, start) in (0..queries).step_by(block).enumerate() {
            let range = start..(start + block).min(queries);
            let known = blocks.as_ref().and_then(|blocks| blocks.read(number, range.len()));
            let judged = match known {
                Some(judged) => judged,
                None => {
                    let lists = source.candidates(range.clone())?;
                    let started = Instant::now();
                    let judged = judge_lists(&judge, &source, start, lists, all_looks.as_ref(), plan.judged);
                    filter_seconds += started.elapsed().as_secs_f64();
                    if let Some(blocks) = &blocks {
                        blocks.write(number, &judged)?;
                    }
                    judged
                }
            };
            for (row, judged) in judged.into_iter().enumerate() {
                account.add(collection, start + row, &judged, settings.num_negatives);
                negatives.push(judged.negatives);
                positive_scores.push(judged.positives);
            }
            progress.inc(range.len() as u64);
        }
        let scored_by = source.scored_by();
        let mut summary = account.summary(collection, settings, scored_by, &negatives, &positive_scores)?;
        summary.seconds = source.seconds();
        summary.seconds.insert("filter".into(), filter_seconds);
        if [given, teacher].iter().any(|g| matches!(g, Some(Given::Encoder(_)))) {
            summary.seconds.insert("embed".into(), embed_seconds);
        }
        Ok(Mined { negatives, positive_scores, scored_by, summary })
    }
}

/// Judges the candidates of the queries from `first` on, `most` queries at a time where the looks of all documents are not at hand.
fn judge_lists(
    judge: &Judge,
    source: &Source,
    first: usize,
    mut lists: Vec<crate::search::Ranking>,
    all: Option<&Looks>,
    most: usize,
) -> Vec<Judged> {
    let mut out = Vec::with_capacity(lists.len());
    for start in (0..lists.len()).step_by(most) {
        let part: Range<usize> = start..(start + most).min(lists.len());
        let looks;
        let looks = match all {
            Some(all) => all,
            None => {
                let listed = lists[part.clone()].iter().flatten().map(|c| c.0);
                let positives = part.clone().flat_map(|row| judge.collection.qrels.of(first + row)).map(|p| p.0);
                looks = Looks::of(&judge.collection.corpus.texts, listed.chain(positives), judge.settings.near_copy > 0.0);
                &looks
            }
        };
        let judged = lists[part].par_iter_mut().enumerate();
        out.par_extend(judged.map(|(row, list)| judge.judge(first + start + row, std::mem::take(list), source, looks)));
    }
    out
}

/// How a run is cut so that it stays within its memory.
struct Plan<'a> {
    /// Queries whose candidates are listed at once.
    block: usize,
    /// Queries that are judged at once.
    judged: usize,
    room: Option<Room<'a>>,
}

impl<'a> Plan<'a> {
    /// A quarter of what is left for each of: the candidates of a block, the documents' codes, the index of words, and the texts
    /// that are compared.
    fn within(limit: &Limit<'a>, collection: &Collection, settings: &MineSettings, depth: usize, dim: usize) -> Result<Self> {
        let Limit { bytes, scratch, taken } = *limit;
        let taken = taken.or_else(own_memory).unwrap_or(0);
        let results = collection.queries.len() * (100 + 40 * settings.num_negatives);
        // Two lists of candidates, their union, and the query's vector and its codes.
        let query = 64 * depth + 2 * dim + 512;
        // A text's words as digests take somewhat more than the text.
        let text = 64 + 2 * collection.corpus.texts.bytes() / collection.corpus.len().max(1);
        // What the search holds of the queries that are searched together (`foils_kernels::topk`).
        let shortlists = rayon::current_num_threads() * 1020 * (8 * depth + 512) * 12;
        let fixed = taken + results + RESERVE + if dim > 0 { shortlists } else { 0 };
        let least = fixed + 4 * (SMALLEST_BLOCK * query).max(16 * depth * text).max(256 * (dim + 16));
        if bytes < least {
            let megabytes = |bytes: usize| bytes.div_ceil(1 << 20);
            return Err(Error::invalid(format!(
                "{} MB of memory are allowed and {} MB are needed at least: {} MB are taken already (the encoder, ids, relevance), the \
                 results take {} MB and a search for {depth} candidates the rest; allow more, or lower range_max",
                megabytes(bytes),
                megabytes(least),
                megabytes(taken),
                megabytes(results)
            )));
        }
        let quarter = (bytes - fixed) / 4;
        Ok(Self {
            block: (quarter / query).clamp(SMALLEST_BLOCK, LARGEST_BLOCK),
            judged: (quarter / (depth * text).max(1)).clamp(1, BLOCK),
            room: Some(Room { codes: quarter, index: quarter, scratch }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::mining_tests::random_problem;
    use super::super::{Candidates, mine};
    use super::*;
    use crate::weighting::NegativeFilter;

    /// Little memory, in blocks and parts, gives what much memory gives; so does going on after any number of blocks.
    #[test]
    fn neither_memory_nor_interruptions_change_the_result() {
        let scratch = tempfile::tempdir().unwrap();
        let part = scratch.path().join("part");
        let (collection, queries, documents) = random_problem(3, 300, 500);
        for candidates in [Candidates::Bm25, Candidates::Dense, Candidates::Hybrid, Candidates::Rrf, Candidates::Random] {
            for encoder in [true, false] {
                let filter = NegativeFilter { relative_margin: encoder.then_some(0.05), ..NegativeFilter::default() };
                let settings = MineSettings { candidates, filter, ..MineSettings::default() };
                let vectors = encoder.then_some((&queries, &documents));
                let Ok(expected) = mine(&collection, vectors, &settings) else {
                    assert!(!encoder && candidates.needs_encoder());
                    continue;
                };
                let run = |bytes: usize, part: Option<&Path>| {
                    let mut miner = Miner::new(&collection, &settings).within(bytes, scratch.path());
                    if encoder {
                        miner = miner.with_vectors(&queries, &documents);
                    }
                    miner.limit.as_mut().unwrap().taken = Some(0);
                    miner.resume = part;
                    miner.run()
                };
                let error = run(0, None).unwrap_err().to_string();
                assert!(error.contains("0 MB of memory are allowed"), "{error}");
                let least = (1..).map(|mb| mb << 20).find(|&bytes| run(bytes, None).is_ok()).unwrap();
                for bytes in [least, 1 << 30] {
                    let found = run(bytes, Some(&part)).unwrap();
                    assert_eq!(
                        (&found.negatives, &found.positive_scores),
                        (&expected.negatives, &expected.positive_scores),
                        "{candidates:?}"
                    );
                    // As if it had been killed: a block is missing or damaged, and a file was being written.
                    let blocks = std::fs::read_dir(&part).unwrap().count() - 1;
                    assert_eq!(blocks == 1, bytes == 1 << 30);
                    std::fs::write(part.join("block-000000"), "x").unwrap();
                    std::fs::write(part.join(".foils-1234.tmp"), "x").unwrap();
                    let found = run(1 << 30, Some(&part)).unwrap();
                    assert_eq!(found.negatives, expected.negatives);
                    assert_eq!(std::fs::read_dir(&part).unwrap().count(), blocks + 2, "its blocks are those of the first run");
                    let (mut ours, mut theirs) = (found.summary, expected.summary.clone());
                    (ours.seconds, theirs.seconds) = Default::default();
                    assert_eq!(serde_json::to_value(ours).unwrap(), serde_json::to_value(theirs).unwrap());
                    super::super::forget(&part).unwrap();
                }
            }
        }
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "only what is kept has a name");
    }

    #[test]
    fn what_another_run_left_is_not_used_and_other_files_are_not_removed() {
        let home = tempfile::tempdir().unwrap();
        let part = home.path().join("part");
        let (collection, queries, documents) = random_problem(4, 30, 60);
        let run = |num_negatives: usize| {
            let settings = MineSettings { num_negatives, ..MineSettings::default() };
            Miner::new(&collection, &settings).with_vectors(&queries, &documents).resume_in(&part).run().map(|mined| mined.negatives)
        };
        let three = run(3).unwrap();
        assert!(run(2).unwrap().iter().all(|list| list.len() <= 2));
        assert_eq!(run(3).unwrap(), three);
        std::fs::write(part.join("thesis.txt"), "x").unwrap();
        assert_eq!(run(3).unwrap(), three, "the same run does not mind");
        assert!(run(2).unwrap_err().to_string().contains("thesis.txt"));
        assert!(super::super::forget(&part).is_err());
        std::fs::remove_file(part.join("thesis.txt")).unwrap();
        super::super::forget(&part).unwrap();
        assert!(!part.exists());
        super::super::forget(&part).unwrap();
    }
}
