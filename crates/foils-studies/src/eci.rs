//! Effective contrastive information (eci).
//!
//! Can a set of hard negatives be judged before any training, from frozen embeddings alone? ECI is the capacity log(1 + K) times
//! the harmonic mean of hardness (similarity of the negatives to the query) and safety (margin of the positive over the hardest).
//! Nine sets are made for the same queries; an adapter is trained on each with nothing but the set's own negatives; and the order
//! of the gains is compared with the order by ECI. Where the frozen encoder ranks the positives badly, safety measures the encoder
//! and not the negatives: how well it ranks them is printed beside.

use crate::study::{Baseline, Better, Claim, Context, Outcome, Study};
use foils::data::registry::{self, Splits};
use foils::data::{Collection, Embeddings, Example};
use foils::diagnostics::{EciSettings, Margin, NegativeSet, ScoreReport, ScoreSettings, eci_from_scores, score_embedded};
use foils::losses::{MultipleNegativesRanking, RankingLoss, Targets};
use foils::metrics::{of_run, rank_agreement};
use foils::models::{Adapter, Head, Trainable};
use foils::negatives::{Candidates, MineSettings, Sampling, mine};
use foils::search::{self, Similarity};
use foils::weighting::NegativeFilter;
use foils::{Error, Result, models, seed};
use rand::RngExt;

/// The study.
pub const STUDY: Study = Study {
    slug: "eci",
    says: "A score from frozen embeddings (capacity × harmonic mean of hardness and safety) orders sets of hard negatives as training \
           on them does, and punishes unsafe sets.",
    checks: "Nine sets of five negatives for each query. Spearman's correlation over the sets of ECI with the gain in nDCG@10 from \
             training a linear adapter on the explicit negatives alone. The verdict is over seeds, which draw other queries for the \
             same nine ways; for other ways of making sets, a correlation over nine below 0.68 is not significant. One learning \
             rate for all sets, by their mean gain on validation data.",
    data: "Code search, docstring → function: 1,000 queries and 6,000 functions to train, networkx to validate, django to test; the \
           static encoder wordllama, frozen.",
    claims: &[
        Claim {
            says: "ECI orders these nine sets as training does",
            metric: "Spearman of ECI and gain",
            baseline: Baseline::Value(0.0),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "ECI orders them better than mean similarity alone",
            metric: "Spearman of ECI and gain",
            baseline: Baseline::Metric("Spearman of mean similarity and gain"),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "the random and the unsafe set are in the lower half by ECI (ranks 5 to 9)",
            metric: "better ECI rank of random and unsafe",
            baseline: Baseline::Value(4.5),
            margin: 0.0,
            better: Better::Higher,
        },
    ],
    run,
};

const NEGATIVES: usize = 5;
const RATES: [f64; 5] = [3e-5, 1e-4, 3e-4, 1e-3, 3e-3];
const RANDOM: &str = "random";
const UNSAFE: &str = "dense, 30 % positives injected";

fn run(context: &Context, seed: u64) -> Result<Outcome> {
    let splits = context.once("data", registry::code_search)?;
    let rate = *context.once("learning rate", || search_rate(context, &splits))?;
    let mut bench = Bench::new(context, &splits, seed)?;
    let report = score_embedded(&bench.train, &bench.sets, &bench.query_vectors, &bench.document_vectors, &ScoreSettings::default())?;
    // Whether the encoder can be trusted is asked without the copies that were made of the positives.
    let known = bench.document_vectors.select(&(0..bench.mined.corpus.len() as u32).collect::<Vec<_>>());
    let trust = score_embedded(&bench.mined, &bench.sets[..1], &bench.query_vectors, &known, &ScoreSettings::default())?;
    context.note(format!("encoder, seed {seed}"), &trust.trust_reason)?;

    let (untuned, gains) = bench.gains(context, Split::Test, rate, seed)?;
    let mut outcome = Outcome::default();
    outcome.measure("nDCG@10 of the encoder on the training queries", trust.encoder_ndcg);
    outcome.measure("nDCG@10 on the test, untuned", untuned);
    let of = |set: &NegativeSet| report.sets.iter().find(|s| s.name == set.name).ok_or_else(|| Error::invalid("a set was not scored"));
    let scores = bench.sets.iter().map(of).collect::<Result<Vec<_>>>()?;
    for (score, gain) in scores.iter().zip(&gains) {
        outcome.measure(format!("ECI: {}", score.name), score.eci.mean);
        outcome.measure(format!("gain: {}", score.name), *gain);
    }
    let mut agreement = |name: &str, predicted: Vec<f64>| -> Result<()> {
        outcome.measure(format!("Spearman of {name} and gain"), rank_agreement(&predicted, &gains)?.spearman);
        Ok(())
    };
    agreement("ECI", scores.iter().map(|s| s.eci.mean).collect())?;
    agreement("ECI with mean margin", scores.iter().map(|s| s.eci_mean_margin.mean).collect())?;
    agreement("hardness", scores.iter().map(|s| s.hardness).collect())?;
    agreement("mean similarity", scores.iter().map(|s| s.baselines.mean_similarity).collect())?;
    agreement("initial InfoNCE", scores.iter().map(|s| s.baselines.info_nce).collect())?;
    outcome.measure("better ECI rank of random and unsafe", better_rank(&report));
    bench.identities(&mut outcome)?;
    Ok(outcome)
}

/// Rank by ECI, 1 being the best; the report has the sets in that order.
fn better_rank(report: &ScoreReport) -> f64 {
    report.sets.iter().position(|s| s.name == RANDOM || s.name == UNSAFE).map_or(f64::NAN, |at| at as f64 + 1.0)
}

/// The learning rate with the best mean gain of all sets on validation data, with seed 0.
fn search_rate(context: &Context, splits: &Splits) -> Result<f64> {
    let mut best = (f64::NEG_INFINITY, RATES[2]);
    if context.pick(true, false) {
        let mut bench = Bench::new(context, splits, 0)?;
        for rate in RATES {
            let (_, gains) = bench.gains(context, Split::Validation, rate, 0)?;
            let mean = gains.iter().sum::<f64>() / gains.len() as f64;
            if mean > best.0 {
                best = (mean, rate);
            }
        }
    }
    context.note("learning rate", best.1)?;
    Ok(best.1)
}

#[derive(Clone, Copy)]
enum Split {
    Validation,
    Test,
}

/// The texts of one seed, embedded once, the negative sets, and an adapter that is still the identity.
struct Bench {
    /// What is mined: queries and functions.
    mined: Collection,
    /// The same with copies of the positives behind.
    train: Collection,
    held_out: [Collection; 2],
    sets: Vec<NegativeSet>,
    query_vectors: Embeddings,
    document_vectors: Embeddings,
    model: Adapter,
    untrained: Vec<u8>,
}

impl Bench {
    fn new(context: &Context, splits: &Splits, seed: u64) -> Result<Self> {
        let mut rng = seed::rng(seed, 0);
        let mut pairs: Vec<&Example> = splits.train.iter().collect();
        seed::shuffle(&mut pairs, &mut rng);
        let (queries, documents) = (context.pick(1_000, 300), context.pick(6_000, 1_500).min(pairs.len()));
        let mined = collection(&pairs[..queries.min(documents)], &pairs[..documents])?;
        let train = with_copies(mined.clone(), &mut rng);
        let limit = |examples: &[Example]| Collection::from_examples(&examples[..examples.len().min(context.pick(usize::MAX, 500))]);
        let held_out = [limit(&splits.validation)?, limit(&splits.test)?];

        let mut model = Adapter::new(models::load("wordllama", 0)?, Head::Linear);
        let all = std::iter::once(&train).chain(&held_out).flat_map(|c| c.queries.texts.iter().chain(&c.corpus.texts));
        model.prepare(&all.collect::<Vec<_>>())?;
        let (n, m) = (train.queries.len() as u32, train.corpus.len() as u32);
        let query_vectors = model.embed_prepared(&(0..n).collect::<Vec<_>>())?;
        let document_vectors = model.embed_prepared(&(n..n + m).collect::<Vec<_>>())?;
        let vectors = (&query_vectors, &document_vectors.select(&(0..mined.corpus.len() as u32).collect::<Vec<_>>()));
        let sets = negative_sets(&mined, vectors, seed)?;
        let untrained = model.snapshot();
        Ok(Self { mined, train, held_out, sets, query_vectors, document_vectors, model, untrained })
    }

    /// nDCG@10 of the untrained adapter, and what training on each set adds to it.
    fn gains(&mut self, context: &Context, split: Split, rate: f64, seed: u64) -> Result<(f64, Vec<f64>)> {
        self.model.restore(&self.untrained)?;
        let untuned = self.ndcg(split)?;
        let progress = context.progress(self.sets.len(), format!("eci, seed {seed}: training on each set, learning rate {rate}"));
        let mut gains = Vec::new();
        for set in 0..self.sets.len() {
            self.model.restore(&self.untrained)?;
            self.train_on(context, set, rate, seed)?;
            gains.push(self.ndcg(split)? - untuned);
            progress.inc(1);
        }
        Ok((untuned, gains))
    }

    /// Multiple negatives ranking where every anchor sees its positive and its own negatives and nothing else.
    fn train_on(&mut self, context: &Context, set: usize, rate: f64, seed: u64) -> Result<()> {
        let (device, epochs) = (context.device()?, context.pick(5, 3));
        let loss = MultipleNegativesRanking::new(20.0)?;
        let first_document = self.train.queries.len() as u32;
        let negatives = &self.sets[set].negatives;
        let mut order: Vec<u32> = (0..first_document).filter(|&q| !negatives[q as usize].is_empty()).collect();
        for epoch in 0..epochs {
            seed::shuffle(&mut order, &mut seed::rng(seed, 1 + epoch as u64));
            for anchors in order.chunks(64) {
                let (mut candidates, mut own) = (Vec::new(), Vec::new());
                for &q in anchors {
                    let positive = self.train.qrels.of(q as usize)[0].0;
                    let start = candidates.len() as u32;
                    candidates.extend(std::iter::once(positive).chain(negatives[q as usize].iter().copied()).map(|d| first_document + d));
                    own.push(start..candidates.len() as u32);
                }
                let others = |own: &std::ops::Range<u32>| (0..candidates.len() as u32).filter(|c| !own.contains(c)).collect();
                let targets = Targets::new(own.iter().map(|o| o.start).collect(), own.iter().map(others).collect());
                let (a, c) = (self.model.forward(anchors, &device, 0)?, self.model.forward(&candidates, &device, 0)?);
                self.model.step(&mut loss.forward(a, c, &targets)?.backward(), rate)?;
            }
        }
        Ok(())
    }

    fn ndcg(&self, split: Split) -> Result<f64> {
        let sizes = |c: &Collection| (c.queries.len() as u32, c.corpus.len() as u32);
        let mut start = sizes(&self.train).0 + sizes(&self.train).1;
        if let Split::Test = split {
            start += sizes(&self.held_out[0]).0 + sizes(&self.held_out[0]).1;
        }
        let collection = &self.held_out[split as usize];
        let (n, m) = sizes(collection);
        let queries = self.model.embed_prepared(&(start..start + n).collect::<Vec<_>>())?;
        let documents = self.model.embed_prepared(&(start + n..start + n + m).collect::<Vec<_>>())?;
        let found = search::top_k(&queries, &documents, 10, Similarity::Cosine, &[])?;
        let mean = of_run(&found, &collection.qrels, &[10])?.first().and_then(|per_query| per_query.mean());
        mean.map(|m| m.ndcg).ok_or_else(|| Error::invalid("no held-out query has a relevant document"))
    }

    /// What holds exactly on any data, on these sets.
    fn identities(&self, outcome: &mut Outcome) -> Result<()> {
        let (mut safety, mut hardness, mut order, mut zero) = (true, true, true, true);
        let cosine = |q: usize, d: u32| {
            f64::from(search::similarity(self.query_vectors.row(q), self.document_vectors.row(d as usize), Similarity::Cosine))
        };
        for set in &self.sets {
            let with: Vec<usize> = (0..set.negatives.len()).filter(|&q| !set.negatives[q].is_empty()).collect();
            let positive: Vec<f64> = with.iter().map(|&q| cosine(q, self.train.qrels.of(q)[0].0)).collect();
            let rows: Vec<Vec<f64>> = with.iter().map(|&q| set.negatives[q].iter().map(|&d| cosine(q, d)).collect()).collect();
            for margin in [Margin::Hardest, Margin::Mean] {
                let settings = EciSettings { margin, ..EciSettings::default() };
                let eci = |positive: &[f64], rows: &[Vec<f64>]| {
                    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
                    let padded: Vec<f64> = rows.iter().flat_map(|r| r.iter().copied().chain(std::iter::repeat(0.0)).take(width)).collect();
                    let mask: Vec<bool> = rows.iter().flat_map(|r| (0..width).map(|k| k < r.len())).collect();
                    eci_from_scores(positive, &padded, &mask, settings)
                };
                let changed = |change: &dyn Fn(&mut Vec<f64>, f64)| {
                    let mut rows = rows.clone();
                    rows.iter_mut().zip(&positive).for_each(|(row, p)| change(row, *p));
                    eci(&positive, &rows)
                };
                let plain = eci(&positive, &rows)?;
                safety &= changed(&|row, p| row.push(p))?.safety <= plain.safety;
                safety &= changed(&|row, p| row.push(p + 0.1))?.safety <= plain.safety;
                hardness &= changed(&|row, _| row[0] = -0.1)?.hardness <= plain.hardness;
                zero &= margin == Margin::Mean || changed(&|row, p| row[0] = p)?.eci == 0.0;
                let backwards: Vec<f64> = positive.iter().rev().copied().collect();
                let turned: Vec<Vec<f64>> = rows.iter().rev().map(|row| row.iter().rev().copied().collect()).collect();
                let difference = eci(&backwards, &turned)?.values().into_iter().zip(plain.values()).map(|(a, b)| (a - b).abs());
                order &= difference.fold(0.0, f64::max) < 1e-12;
            }
        }
        let found = format!("{} sets, both margins", self.sets.len());
        outcome.check("a negative at or above the positive, added, never raises safety", safety, &found);
        outcome.check("a negative of similarity ≤ 0, put in place of another, never raises hardness", hardness, &found);
        outcome.check("the order of queries and of negatives changes nothing", order, &found);
        outcome.check("an unsafe negative for every query makes ECI (hardest) 0", zero, format!("{} sets", self.sets.len()));
        Ok(())
    }
}

/// The queries of the first pairs, and the functions of all.
fn collection(asked: &[&Example], known: &[&Example]) -> Result<Collection> {
    let mut out = Collection::from_examples(asked.iter().copied())?;
    for (i, example) in known.iter().enumerate().skip(asked.len()) {
        out.corpus.push(format!("other{i}"), &example.positives[0]);
    }
    Ok(out)
}

/// Adds to the corpus, for each query in order, its positive again (a positive that nobody labelled) and five copies of it with
/// two words changed.
fn with_copies(mut collection: Collection, rng: &mut seed::Rng) -> Collection {
    let originals = collection.corpus.texts.clone();
    for query in 0..collection.queries.len() {
        let positive = &originals[collection.qrels.of(query)[0].0 as usize];
        collection.corpus.push(format!("again{query}"), positive);
        for copy in 0..NEGATIVES {
            let donor = &originals[rng.random_range(0..originals.len())];
            collection.corpus.push(format!("changed{query}.{copy}"), change_two_words(positive, donor, rng));
        }
    }
    collection
}

/// Two words of `text`, at different places, replaced by words of `donor`.
fn change_two_words(text: &str, donor: &str, rng: &mut seed::Rng) -> String {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = |text: &str| -> Vec<(usize, usize)> {
        let mut out: Vec<(usize, usize)> = Vec::new();
        for (at, c) in text.char_indices().filter(|(_, c)| in_word(*c)) {
            match out.last_mut() {
                Some(last) if last.1 == at => last.1 = at + c.len_utf8(),
                _ => out.push((at, at + c.len_utf8())),
            }
        }
        out
    };
    let (mut places, donors) = (words(text), words(donor));
    seed::shuffle(&mut places, rng);
    places.truncate(2);
    places.sort_unstable();
    let mut changed = text.to_owned();
    for &(from, to) in places.iter().rev().filter(|_| !donors.is_empty()) {
        let (a, b) = donors[rng.random_range(0..donors.len())];
        changed.replace_range(from..to, &donor[a..b]);
    }
    changed
}

/// Seven mined sets, one with unlabelled positives among the negatives, one made of changed copies of the positive.
fn negative_sets(mined: &Collection, vectors: (&Embeddings, &Embeddings), seed: u64) -> Result<Vec<NegativeSet>> {
    let none = NegativeFilter::default();
    let margin = NegativeFilter { relative_margin: Some(0.05), ..none.clone() };
    let window = NegativeFilter { range_min: 20, range_max: Some(50), ..none.clone() };
    let ways = [
        (RANDOM, Candidates::Random, &none, Sampling::Top),
        ("bm25", Candidates::Bm25, &none, Sampling::Top),
        ("bm25, ranks 21 to 50", Candidates::Bm25, &window, Sampling::Random),
        ("dense", Candidates::Dense, &none, Sampling::Top),
        ("dense, ranks 21 to 50", Candidates::Dense, &window, Sampling::Random),
        ("dense, at most 95 % of the positive", Candidates::Dense, &margin, Sampling::Top),
        ("bm25 + dense, at most 95 %", Candidates::Hybrid, &margin, Sampling::Top),
    ];
    let mut sets = Vec::new();
    for (name, candidates, filter, sampling) in ways {
        let filter = filter.clone();
        let settings = MineSettings { candidates, num_negatives: NEGATIVES, sampling, seed, filter, ..MineSettings::default() };
        let found = mine(mined, Some(vectors), &settings)?.negatives;
        sets.push(NegativeSet { name: name.into(), negatives: found.iter().map(|list| list.iter().map(|n| n.0).collect()).collect() });
    }
    // Where `with_copies` put them.
    let copies = |query: usize| (mined.corpus.len() + query * (1 + NEGATIVES)) as u32;
    let mut rng = seed::rng(seed, 100);
    let mut injected = sets[3].negatives.clone();
    for (query, list) in injected.iter_mut().enumerate() {
        list.iter_mut().filter(|_| rng.random_bool(0.3)).for_each(|negative| *negative = copies(query));
        list.sort_unstable();
        list.dedup();
    }
    sets.push(NegativeSet { name: UNSAFE.into(), negatives: injected });
    let changed = |query: usize| (1..=NEGATIVES as u32).map(|copy| copies(query) + copy).collect();
    sets.push(NegativeSet { name: "positive with two words changed".into(), negatives: (0..mined.queries.len()).map(changed).collect() });
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_differ_in_two_words_and_stand_where_the_sets_look_for_them() {
        let text = "def area(width, height):\n    return width * height";
        let mut rng = seed::rng(1, 0);
        for _ in 0..50 {
            let changed = change_two_words(text, "zeta_0 zeta_0", &mut rng);
            assert_eq!(changed.matches("zeta_0").count(), 2, "{changed}");
            let words = |t: &str| t.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty()).count();
            assert_eq!(words(&changed), words(text));
        }
        assert_eq!(change_two_words("()", "x", &mut rng), "()");

        let pairs: Vec<Example> =
            (0..40).map(|i| Example::pair(format!("query {i}"), format!("def f{i}(a, b): return a + b + {i}"))).collect();
        let pairs: Vec<&Example> = pairs.iter().collect();
        let mined = collection(&pairs[..10], &pairs).unwrap();
        assert_eq!((mined.queries.len(), mined.corpus.len()), (10, 40));
        let all = with_copies(mined.clone(), &mut rng);
        let mut rng = seed::rng(2, 0);
        let mut vectors = |n: usize| Embeddings::new(4, (0..4 * n).map(|_| rng.random_range(-1.0..1.0f32)).collect()).unwrap();
        let sets = negative_sets(&mined, (&vectors(10), &vectors(40)), 3).unwrap();
        assert_eq!(sets.len(), 9);
        let (injected, changed) = (&sets[7].negatives, &sets[8].negatives);
        assert!(injected.iter().flatten().any(|&d| d >= 40), "some positives are injected");
        for query in 0..10 {
            let positive = &all.corpus.texts[mined.qrels.of(query)[0].0 as usize];
            for &d in injected[query].iter().filter(|d| **d >= 40) {
                assert_eq!(&all.corpus.texts[d as usize], positive);
            }
            for &d in &changed[query] {
                assert_eq!(all.corpus.ids[d as usize].split('.').next(), Some(format!("changed{query}").as_str()));
            }
        }
    }
}
