//! Several negative sets for the same queries, scored and compared before any training: what fills [`ScoreReport`] (`eci`, "Algorithm").

use super::eci::{Capacity, Eci, Margin, QueryParts};
use super::{Baselines, ComponentIntervals, ScoreReport, SetScore, UnsafePair};
use crate::data::{Collection, Embeddings, Example, Qrels};
use crate::metrics::{Bootstrap, Interval, of_run};
use crate::models::{Encoder, embed_collection};
use crate::search::{self, Ranking, Similarity};
use crate::{Error, Result};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// ECI is believed only of an encoder that ranks the positives at least this well (nDCG@10 among all documents): at 0.5 a typical
/// positive stands third.
pub const TRUSTED_NDCG: f64 = 0.5;

/// … and only when at most this share of the [`HARDEST`] other documents scores at or above the positive. Where more do,
/// safety is 0 for most queries whatever the negatives are. In the pilot that ECI failed in, nDCG@10 was 0.39 and the share 0.81.
pub const TRUSTED_UNSAFE: f64 = 0.5;

/// How many of the nearest other documents the encoder is judged by.
pub const HARDEST: usize = 5;

/// Negatives of every query of a [`Collection`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NegativeSet {
    /// How it is called in tables.
    pub name: String,
    /// For each query the indices of its negatives in the corpus; may be empty. One named twice counts once.
    pub negatives: Vec<Vec<u32>>,
}

/// How sets are scored.
#[derive(Clone, Copy, Debug)]
pub struct ScoreSettings {
    /// The size term of ECI.
    pub capacity: Capacity,
    /// For the intervals; 200 draws by default.
    pub bootstrap: Bootstrap,
    /// How many unsafe pairs are shown for each set.
    pub unsafe_pairs: usize,
}

impl Default for ScoreSettings {
    fn default() -> Self {
        Self { capacity: Capacity::default(), bootstrap: Bootstrap::ECI, unsafe_pairs: 5 }
    }
}

/// Brings sets that were read from files together: one collection, and each set by index into it. Anchors (and documents) are the same when
/// their normal form is; an anchor's positives are those of all sets and `pairs`. With `pairs`, these are the queries, and one
/// for which a set has nothing counts as without negatives.
///
/// # Errors
/// When there are no examples, an example has no positive or an empty text, or a set has an anchor that is not in `pairs`.
pub fn gather<E: AsRef<[Example]>>(pairs: Option<&[Example]>, sets: &[(String, E)]) -> Result<(Collection, Vec<NegativeSet>)> {
    let all: Vec<&Example> = pairs.into_iter().flatten().chain(sets.iter().flat_map(|(_, examples)| examples.as_ref())).collect();
    let (collection, places) = Collection::with_places(&all)?;
    let mut places = places.into_iter();
    // Queries are numbered in order of appearance, and the pairs come first.
    let known = pairs.map(|pairs| places.by_ref().take(pairs.len()).map(|place| place.query + 1).max().unwrap_or(0));
    let sets = sets
        .iter()
        .map(|(name, examples)| {
            let mut negatives = vec![Vec::new(); collection.queries.len()];
            for (example, place) in examples.as_ref().iter().zip(&mut places) {
                if known.is_some_and(|known| place.query >= known) {
                    let shown = shorten(&example.anchor);
                    return Err(Error::invalid(format!("the set {name} has the anchor {shown:?}, which is not among the pairs")));
                }
                negatives[place.query as usize].extend(place.negatives);
            }
            Ok(NegativeSet { name: name.clone(), negatives })
        })
        .collect::<Result<_>>()?;
    Ok((collection, sets))
}

/// Embeds the collection's texts once and scores the sets; see [`score_embedded`].
///
/// # Errors
/// As [`score_embedded`], and when a text cannot be embedded.
pub fn score_sets(encoder: &dyn Encoder, collection: &Collection, sets: &[NegativeSet], settings: &ScoreSettings) -> Result<ScoreReport> {
    let (queries, documents) = embed_collection(encoder, collection)?;
    score_embedded(collection, sets, &queries, &documents, settings)
}

/// Scores sets from the frozen vectors of the collection's queries and documents, by cosine. A query with several positives stands by
/// the weakest of them, as in mining.
///
/// # Errors
/// When there are no sets, two have one name, or one has no negatives at all; when the number of vectors is not that of
/// the texts, the widths differ or a vector is zero; when a query has no positive; when a negative is not in the corpus or is one of its
/// query's positives.
pub fn score_embedded(
    collection: &Collection,
    sets: &[NegativeSet],
    queries: &Embeddings,
    documents: &Embeddings,
    settings: &ScoreSettings,
) -> Result<ScoreReport> {
    check_sets(collection, sets)?;
    crate::metrics::check_embeddings(collection, queries, documents)?;
    let (queries, documents) = (queries.clone().normalized(), documents.clone().normalized());
    let similarity =
        |query: usize, doc: u32| f64::from(search::similarity(queries.row(query), documents.row(doc as usize), Similarity::Dot));
    let weakest = |query: usize| {
        let scored = collection.qrels.of(query).iter().map(|&(doc, _)| (doc, similarity(query, doc)));
        scored.reduce(|a, b| if b.1 < a.1 { b } else { a }).ok_or_else(|| {
            Error::invalid(format!(
                "query {} has no positive: {:?}",
                &collection.queries.ids[query],
                shorten(&collection.queries.texts[query])
            ))
        })
    };
    let positives = (0..queries.rows()).into_par_iter().map(weakest).collect::<Result<Vec<_>>>()?;
    let scored: Vec<Scored> = sets.iter().map(|set| Scored::new(set, &positives, &similarity)).collect();

    let intervals = intervals(&scored, settings)?;
    let mut report = ScoreReport {
        sets: sets.iter().zip(&scored).zip(&intervals.sets).map(|((set, s), i)| s.report(&set.name, i, collection, settings)).collect(),
        ..ScoreReport::default()
    };
    for (&(a, b), difference) in intervals.pairs.iter().zip(&intervals.differences) {
        if difference.low > 0.0 {
            report.different.push((sets[a].name.clone(), sets[b].name.clone()));
        } else if difference.high < 0.0 {
            report.different.push((sets[b].name.clone(), sets[a].name.clone()));
        }
    }
    report.sets.sort_by(|a, b| b.eci.mean.total_cmp(&a.eci.mean));
    let place: HashMap<&String, usize> = report.sets.iter().map(|s| &s.name).zip(0..).collect();
    report.different.sort_by_key(|(better, worse)| (place[better], place[worse]));
    judge_encoder(&mut report, collection, &queries, &documents, &positives, &scored)?;
    Ok(report)
}

fn check_sets(collection: &Collection, sets: &[NegativeSet]) -> Result<()> {
    if sets.is_empty() {
        return Err(Error::invalid("there is no negative set to score"));
    }
    let mut names = HashSet::new();
    for set in sets {
        let name = &set.name;
        if !names.insert(name) {
            return Err(Error::invalid(format!("two sets are called {name}")));
        }
        if set.negatives.len() != collection.queries.len() {
            let (lists, queries) = (set.negatives.len(), collection.queries.len());
            return Err(Error::invalid(format!("the set {name} has {lists} lists of negatives for {queries} queries")));
        }
        if set.negatives.iter().all(Vec::is_empty) {
            return Err(Error::invalid(format!("the set {name} has no negatives: there is nothing to score")));
        }
        for (query, doc) in set.negatives.iter().enumerate().flat_map(|(q, list)| list.iter().map(move |d| (q, *d))) {
            let id = &collection.queries.ids[query];
            let Some(shown) = collection.corpus.texts.get(doc as usize).map(shorten) else {
                let documents = collection.corpus.len();
                return Err(Error::invalid(format!("the set {name}, query {id}: negative {doc} is not among the {documents} documents")));
            };
            if collection.qrels.grade(query, doc) > 0 {
                return Err(Error::invalid(format!("the set {name}, query {id}: the negative {shown:?} is one of the query's positives")));
            }
        }
    }
    Ok(())
}

/// One set's similarities, query by query.
struct Scored {
    /// The weakest positive and its similarity.
    positives: Vec<(u32, f64)>,
    /// Each negative once, with its similarity.
    negatives: Vec<Vec<(u32, f64)>>,
    parts: Vec<QueryParts>,
}

impl Scored {
    fn new(set: &NegativeSet, positives: &[(u32, f64)], similarity: &(impl Fn(usize, u32) -> f64 + Sync)) -> Self {
        let of_query = |(query, list): (usize, &Vec<u32>)| {
            let mut list = list.clone();
            list.sort_unstable();
            list.dedup();
            list.into_iter().map(|doc| (doc, similarity(query, doc))).collect::<Vec<_>>()
        };
        let negatives: Vec<_> = set.negatives.par_iter().enumerate().map(of_query).collect();
        let scores = |list: &[(u32, f64)]| list.iter().map(|n| n.1).collect::<Vec<_>>();
        let parts = positives.iter().zip(&negatives).map(|(p, n)| QueryParts::new(p.1, &scores(n))).collect();
        Self { positives: positives.to_vec(), negatives, parts }
    }

    /// (query, positive's similarity, (negative, similarity)) of every pair.
    fn pairs(&self) -> impl Iterator<Item = (usize, f64, (u32, f64))> + '_ {
        self.negatives.iter().enumerate().flat_map(move |(q, list)| list.iter().map(move |n| (q, self.positives[q].1, *n)))
    }

    fn report(&self, name: &str, intervals: &[Interval; 7], collection: &Collection, settings: &ScoreSettings) -> SetScore {
        let [eci, capacity, hardness, safety, efficiency, unsafe_rate, eci_mean_margin] = *intervals;
        SetScore {
            name: name.to_owned(),
            eci,
            eci_mean_margin,
            capacity: capacity.mean,
            hardness: hardness.mean,
            safety: safety.mean,
            efficiency: efficiency.mean,
            unsafe_rate: unsafe_rate.mean,
            intervals: ComponentIntervals { capacity, hardness, safety, efficiency, unsafe_rate },
            queries_without_negatives: self.parts.iter().filter(|p| p.negatives == 0).count(),
            baselines: self.baselines(),
            unsafe_pairs: self.unsafe_pairs(collection, settings.unsafe_pairs),
        }
    }

    /// `eci`, "Baseline scores to print beside it".
    fn baselines(&self) -> Baselines {
        const TEMPERATURE: f64 = 0.05;
        let size = self.pairs().count();
        let mean = |of: fn(f64, f64) -> f64| self.pairs().map(|(_, p, (_, n))| of(p, n)).sum::<f64>() / size as f64;
        let losses: Vec<f64> = self
            .positives
            .iter()
            .zip(&self.negatives)
            .filter(|(_, negatives)| !negatives.is_empty())
            // −log softmax of the positive = log Σ exp((s − s⁺)/τ) over it and the negatives; cosines at τ = 0.05 cannot overflow.
            .map(|((_, p), negatives)| negatives.iter().map(|(_, n)| ((n - p) / TEMPERATURE).exp()).sum::<f64>().ln_1p())
            .collect();
        Baselines {
            mean_similarity: mean(|_, n| n),
            mean_margin: mean(|p, n| p - n),
            size,
            // The positive-aware filter in the form that also holds below 0.
            near_positive: mean(|p, n| f64::from(u8::from(n > p - 0.05 * p.abs()))),
            info_nce: losses.iter().sum::<f64>() / losses.len() as f64,
        }
    }

    /// The unsafe pairs with the most similar negatives.
    fn unsafe_pairs(&self, collection: &Collection, count: usize) -> Vec<UnsafePair> {
        let mut pairs: Vec<_> = self.pairs().filter(|(_, p, (_, n))| n >= p).collect();
        pairs.sort_by(|a, b| b.2.1.total_cmp(&a.2.1));
        let shown = pairs.into_iter().take(count).map(|(query, positive_score, (negative, negative_score))| UnsafePair {
            query: collection.queries.texts[query].to_owned(),
            positive: collection.corpus.texts[self.positives[query].0 as usize].to_owned(),
            negative: collection.corpus.texts[negative as usize].to_owned(),
            positive_score,
            negative_score,
        });
        shown.collect()
    }
}

struct Intervals {
    /// [`Eci::values`] under the hardest margin, then ECI under the mean margin.
    sets: Vec<[Interval; 7]>,
    pairs: Vec<(usize, usize)>,
    /// ECI of the first of a pair minus that of the second, over the same queries.
    differences: Vec<Interval>,
}

fn intervals(scored: &[Scored], settings: &ScoreSettings) -> Result<Intervals> {
    let pairs: Vec<(usize, usize)> = (0..scored.len()).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
    let statistics = |drawn: &[u32]| {
        let of_set = |set: &Scored| {
            let eci = |margin| Eci::of(drawn.iter().map(|&q| &set.parts[q as usize]), margin, settings.capacity);
            let (hardest, mean) = (eci(Margin::Hardest), eci(Margin::Mean));
            hardest.map_or([f64::NAN; 6], |e| e.values()).into_iter().chain([mean.map_or(f64::NAN, |e| e.eci)]).collect::<Vec<_>>()
        };
        let mut all: Vec<f64> = scored.iter().flat_map(of_set).collect();
        let differences: Vec<f64> = pairs.iter().map(|&(a, b)| all[7 * a] - all[7 * b]).collect();
        all.extend(differences);
        all
    };
    let queries = scored.first().map_or(0, |s| s.parts.len());
    let mut all = settings.bootstrap.statistics(queries, statistics)?;
    let differences = all.split_off(7 * scored.len());
    Ok(Intervals { sets: all.as_chunks::<7>().0.to_vec(), pairs, differences })
}

/// Is the frozen encoder good enough for ECI to say something about the negatives, and not about the encoder?
fn judge_encoder(
    report: &mut ScoreReport,
    collection: &Collection,
    queries: &Embeddings,
    documents: &Embeddings,
    positives: &[(u32, f64)],
    scored: &[Scored],
) -> Result<()> {
    let rankings = search::top_k(queries, documents, 10, Similarity::Dot, &[])?;
    let mean = of_run(&rankings, &collection.qrels, &[10])?[0].mean();
    let others = nearest_others(queries, documents, &collection.qrels, &rankings)?;
    let nearest = others.iter().zip(positives).flat_map(|(list, p)| list.iter().map(move |n| f64::from(n.1) >= p.1));
    let (mut pairs, mut above) = (0usize, 0usize);
    nearest.for_each(|is_above| {
        pairs += 1;
        above += usize::from(is_above);
    });
    report.encoder_ndcg = mean.map_or(0.0, |m| m.ndcg);
    report.encoder_hardest_unsafe = if pairs == 0 { 0.0 } else { above as f64 / pairs as f64 };
    report.encoder_positive_above = positive_above_its_negatives(positives, scored);

    let weak = report.encoder_ndcg < TRUSTED_NDCG;
    let crowded = report.encoder_hardest_unsafe > TRUSTED_UNSAFE;
    report.trusted = !weak && !crowded;
    let facts = format!(
        "the frozen encoder ranks the positives among {} documents at nDCG@10 {:.3} (asked: at least {TRUSTED_NDCG:.2}), and {:.0} % of the {HARDEST} \
         nearest other documents of a query score at or above its positive (asked: at most {:.0} %)",
        documents.rows(),
        report.encoder_ndcg,
        100.0 * report.encoder_hardest_unsafe,
        100.0 * TRUSTED_UNSAFE,
    );
    report.trust_reason = if report.trusted {
        format!("ECI can be read as a hint: {facts}.")
    } else {
        format!(
            "ECI is not to be trusted here: {facts}, so a low safety says more about the encoder than about the negatives; \
             let short trainings on validation data decide instead."
        )
    };
    Ok(())
}

/// The [`HARDEST`] best documents of each query that are not relevant. Nearly always they are in `rankings`; where those hold too many
/// relevant ones, they are searched for.
fn nearest_others(queries: &Embeddings, documents: &Embeddings, qrels: &Qrels, rankings: &[Ranking]) -> Result<Vec<Ranking>> {
    let others = |(query, ranking): (usize, &Ranking)| -> Ranking {
        ranking.iter().filter(|(doc, _)| qrels.grade(query, *doc) == 0).take(HARDEST).copied().collect()
    };
    let mut others: Vec<Ranking> = rankings.iter().enumerate().map(others).collect();
    let short: Vec<u32> = (0u32..).zip(&others).filter(|(_, list)| list.len() < HARDEST).map(|(query, _)| query).collect();
    let relevant: Vec<Vec<u32>> = short.iter().map(|&q| qrels.of(q as usize).iter().map(|r| r.0).collect()).collect();
    let found = search::top_k(&queries.select(&short), documents, HARDEST, Similarity::Dot, &relevant)?;
    short.into_iter().zip(found).for_each(|(query, list)| others[query as usize] = list);
    Ok(others)
}

/// The share of queries whose positive scores above the mean of its negatives in all sets together.
fn positive_above_its_negatives(positives: &[(u32, f64)], scored: &[Scored]) -> f64 {
    let (mut with, mut above) = (0usize, 0usize);
    for (query, (_, positive)) in positives.iter().enumerate() {
        let mut negatives: Vec<(u32, f64)> = scored.iter().flat_map(|s| s.negatives[query].iter().copied()).collect();
        negatives.sort_unstable_by_key(|n| n.0);
        negatives.dedup_by_key(|n| n.0);
        if !negatives.is_empty() {
            with += 1;
            above += usize::from(*positive > negatives.iter().map(|n| n.1).sum::<f64>() / negatives.len() as f64);
        }
    }
    above as f64 / with.max(1) as f64
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
#[path = "negative_sets_tests.rs"]
mod tests;
