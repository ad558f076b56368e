//! Soft-InfoNCE (soft-infonce).
//!
//! In a batch of queries and functions some "negatives" answer the query too. Soft-InfoNCE gives each negative a weight from how related
//! it is, by BM25 of the queries, by an encoder's view of the queries, or by a model that was trained before. To have related
//! negatives for certain, a fifth of the training pairs are paraphrases of others: words of the query and lines of the function
//! dropped. The same is measured without them.

use crate::plot::{Plot, Series};
use crate::study::{Baseline, Better, Claim, Context, Outcome, Study};
use burn::tensor::{DType, Device, Tensor, TensorData};
use foils::data::registry::{self, Splits};
use foils::data::{Embeddings, Example, text};
use foils::losses::{InfoNce, RankingLoss, RelevanceInfoNce, SoftInfoNce, Targets};
use foils::metrics::mean_reciprocal_rank;
use foils::models::{self, Trainable};
use foils::weighting::{BatchBm25, Cancellation, SoftNegatives};
use foils::{Error, Result, seed};
use rand::RngExt;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// The study.
pub const STUDY: Study = Study {
    slug: "soft-infonce",
    says: "Weights on the negatives of InfoNCE, less for those that are related to the query, give better code search, whether they come \
           from BM25, from an encoder of queries or from a model trained before.",
    checks: "Mean reciprocal rank on another package, of a static encoder tuned in batches of 64 for five epochs, with a fifth of the \
             training pairs paraphrases of others. InfoNCE has 16 tries of temperature and learning rate on validation data; each of \
             the others then has 6 of the relevance's temperature (or of how many negatives are dropped).",
    data: "Code search, docstring → function: 1,200 pairs and 300 paraphrases of 100 of them, other ones in each seed; 600 pairs of \
           networkx to validate, 1,000 of django to test; the encoder wordllama. Queries are related as MiniLM sees them.",
    claims: &[
        Claim {
            says: "with weights from BM25 the right function ranks higher than with InfoNCE",
            metric: "MRR of soft, BM25",
            baseline: Baseline::Metric("MRR of InfoNCE"),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "with weights from the view that MiniLM has of the queries too",
            metric: "MRR of soft, queries",
            baseline: Baseline::Metric("MRR of InfoNCE"),
            margin: 0.0,
            better: Better::Higher,
        },
        Claim {
            says: "with weights from a model that InfoNCE trained too",
            metric: "MRR of soft, trained",
            baseline: Baseline::Metric("MRR of InfoNCE"),
            margin: 0.0,
            better: Better::Higher,
        },
    ],
    run,
};

const BATCH: usize = 64;
/// Paraphrases of each pair that has any.
const COPIES: usize = 3;
const TEMPERATURES: [f64; 4] = [0.02, 0.05, 0.1, 0.2];
const RATES: [f64; 4] = [3e-3, 1e-2, 3e-2, 1e-1];

/// Where relevance comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Relevance {
    Bm25,
    Queries,
    Trained,
}

const RELEVANCES: [(Relevance, &str); 3] = [(Relevance::Bm25, "BM25"), (Relevance::Queries, "queries"), (Relevance::Trained, "trained")];

impl Relevance {
    /// Divisors worth trying: BM25 scores reach tens, cosines 1.
    fn temperatures(self) -> [f64; 6] {
        match self {
            Self::Bm25 => [0.5, 1.0, 2.0, 5.0, 10.0, 30.0],
            _ => [0.02, 0.05, 0.1, 0.2, 0.5, 1.0],
        }
    }
}

/// What is done with the relevance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Nothing,
    Soft,
    Weighted,
    Bce,
    Kl,
    Cancel,
}

/// A way of training.
#[derive(Clone, Copy, Debug)]
struct Method {
    how: Use,
    relevance: Relevance,
    name: &'static str,
}

const fn method(how: Use, relevance: Relevance, name: &'static str) -> Method {
    Method { how, relevance, name }
}

/// InfoNCE, Soft-InfoNCE by three estimators, and the paper's alternatives by the encoder's view of the queries.
const METHODS: [Method; 8] = [
    method(Use::Nothing, Relevance::Bm25, "InfoNCE"),
    method(Use::Soft, Relevance::Bm25, "soft, BM25"),
    method(Use::Soft, Relevance::Queries, "soft, queries"),
    method(Use::Soft, Relevance::Trained, "soft, trained"),
    method(Use::Weighted, Relevance::Queries, "weighted, queries"),
    method(Use::Bce, Relevance::Queries, "BCE, queries"),
    method(Use::Kl, Relevance::Queries, "KL, queries"),
    method(Use::Cancel, Relevance::Queries, "most related dropped, queries"),
];

/// Hyper-parameters of one training.
#[derive(Clone, Copy, Debug, Serialize)]
struct Setting {
    temperature: f64,
    learning_rate: f64,
    /// The relevance's divisor; of the cancelling, how many negatives are dropped.
    relevance: f64,
}

fn run(context: &Context, seed: u64) -> Result<Outcome> {
    let data = context.once("data", || Data::new(context))?;
    let searched = context.once("settings", || search(context, &data))?;
    let mut outcome = Outcome::default();
    for (copies, label) in [(true, ""), (false, ", without paraphrases")] {
        let mut pool = Pool::new(context, &data, seed, copies)?;
        let progress = context.progress(METHODS.len(), format!("soft-infonce, seed {seed}{label}"));
        if copies {
            outcome.measure("MRR of the untuned encoder", pool.mrr(Split::Test)?);
        }
        let known = pool.known(context, searched.chosen[0], seed)?;
        for (method, setting) in METHODS.iter().zip(&searched.chosen) {
            if method.how != Use::Nothing {
                pool.train(context, *method, *setting, Some(&known), seed)?;
            }
            outcome.measure(format!("MRR of {}{label}", method.name), pool.mrr(Split::Test)?);
            progress.inc(1);
        }
        if copies {
            pool.weights(&searched.chosen, &known, seed, &mut outcome)?;
            pool.without_alpha(&known, seed, &mut outcome)?;
        }
    }
    let axes = ["relevance divided by", "MRR on validation pairs"];
    let look = "Large divisors make all weights 1, which is InfoNCE (the line without slope).";
    outcome.plot(Plot::lines("What the weights' sharpness does", look, axes, searched.curves.clone()).logarithmic());
    Ok(outcome)
}

/// What the search found.
struct Searched {
    /// For each of [`METHODS`].
    chosen: Vec<Setting>,
    /// Validation MRR by the relevance's divisor.
    curves: Vec<Series>,
}

/// For each method the setting with the best MRR on validation pairs, with the pool of seed 0.
fn search(context: &Context, data: &Data) -> Result<Searched> {
    let mut pool = Pool::new(context, data, 0, true)?;
    let temperatures = context.pick(&TEMPERATURES[..], &TEMPERATURES[1..2]);
    let rates = context.pick(&RATES[..], &RATES[1..2]);
    let progress =
        context.progress(temperatures.len() * rates.len() + 6 * (METHODS.len() - 1), "soft-infonce: settings by validation data");
    let (mut best, mut level) = (None, f64::NEG_INFINITY);
    for (&temperature, &learning_rate) in temperatures.iter().flat_map(|t| rates.iter().map(move |r| (t, r))) {
        let setting = Setting { temperature, learning_rate, relevance: 1.0 };
        pool.train(context, METHODS[0], setting, None, 0)?;
        let score = pool.mrr(Split::Validation)?;
        if score > level {
            (best, level) = (Some(setting), score);
        }
        progress.inc(1);
    }
    let plain = best.ok_or_else(|| Error::invalid("no try gave a mean reciprocal rank"))?;
    let known = pool.known(context, plain, 0)?;
    let (mut chosen, mut curves) = (vec![plain], Vec::new());
    for method in &METHODS[1..] {
        let values: Vec<f64> = match method.how {
            Use::Cancel => (1..=6).map(f64::from).collect(),
            _ => method.relevance.temperatures().to_vec(),
        };
        let (mut best, mut most, mut points) = (plain, f64::NEG_INFINITY, Vec::new());
        for &relevance in context.pick(&values[..], &values[2..3]) {
            let setting = Setting { relevance, ..plain };
            pool.train(context, *method, setting, Some(&known), 0)?;
            let score = pool.mrr(Split::Validation)?;
            points.push((relevance, score));
            if score > most {
                (best, most) = (setting, score);
            }
            progress.inc(1);
        }
        if method.how == Use::Soft {
            curves.push(Series::new(method.name, points));
        }
        chosen.push(best);
    }
    let ends = curves.iter().flat_map(|series| &series.points).map(|point| point.0);
    let (first, last) = ends.fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
    curves.push(Series::new("InfoNCE", [(first, level), (last, level)]));
    context.note("settings by validation MRR", METHODS.iter().map(|m| m.name).zip(&chosen).collect::<BTreeMap<_, _>>())?;
    Ok(Searched { chosen, curves })
}

/// The pairs that the seeds draw from, and those that the settings and the verdict are made on.
struct Data {
    train: Vec<Example>,
    validation: Vec<Example>,
    test: Vec<Example>,
}

impl Data {
    fn new(context: &Context) -> Result<Self> {
        let Splits { mut train, mut validation, mut test } = registry::code_search()?;
        seed::shuffle(&mut train, &mut seed::rng(0, 0));
        train.truncate(context.pick(4_000, 300));
        validation.truncate(context.pick(600, 100));
        test.truncate(context.pick(1_000, 200));
        Ok(Self { train, validation, test })
    }
}

/// Queries and functions, row for row.
struct Pairs {
    queries: Embeddings,
    functions: Embeddings,
}

#[derive(Clone, Copy)]
enum Split {
    Validation,
    Test,
}

/// The training pairs of one seed, and the encoder that learns from them.
struct Pool {
    model: Box<dyn Trainable>,
    untrained: Vec<u8>,
    /// Pairs to train, to validate and to test on; of the prepared texts the first half are their queries.
    sizes: [usize; 3],
    /// Which pair each training pair is, or is a paraphrase of.
    source: Vec<u32>,
    /// The words of each training query, by number.
    words: Vec<Vec<i64>>,
    /// What another encoder sees in the training queries.
    seen: Embeddings,
}

impl Pool {
    fn new(context: &Context, data: &Data, seed: u64, copies: bool) -> Result<Self> {
        let mut rng = seed::rng(seed, 1);
        let mut order: Vec<u32> = (0..data.train.len() as u32).collect();
        seed::shuffle(&mut order, &mut rng);
        order.truncate(context.pick(1_200, 200));
        let mut source = order.clone();
        let mut pairs: Vec<Example> = order.iter().map(|&pair| data.train[pair as usize].clone()).collect();
        for &pair in order.iter().take(if copies { context.pick(100, 20) } else { 0 }) {
            for _ in 0..COPIES {
                let of = &data.train[pair as usize];
                pairs.push(Example::pair(fewer_words(&of.anchor, &mut rng), fewer_lines(&of.positives[0], &mut rng)));
                source.push(pair);
            }
        }
        let mut ids: HashMap<String, i64> = HashMap::new();
        let mut number = |word| {
            let next = ids.len() as i64;
            *ids.entry(word).or_insert(next)
        };
        let words = pairs.iter().map(|pair| text::words(&pair.anchor).map(&mut number).collect()).collect();
        let queries: Vec<&str> = pairs.iter().map(|e| e.anchor.as_str()).collect();
        let seen = models::load(context.pick("minilm", "wordllama"), 0)?.embed(&queries)?;
        let all = || pairs.iter().chain(&data.validation).chain(&data.test);
        let mut model = models::load("wordllama", 0)?;
        let functions = all().map(|e| e.positives[0].as_str());
        model.prepare(&all().map(|e| e.anchor.as_str()).chain(functions).collect::<Vec<_>>())?;
        let sizes = [pairs.len(), data.validation.len(), data.test.len()];
        Ok(Self { untrained: model.training_state(), model, sizes, source, words, seen })
    }

    /// Prepared queries (0) or functions (1) of training pairs.
    fn rows(&self, side: usize, pairs: &[u32]) -> Vec<u32> {
        let start = side * self.sizes.iter().sum::<usize>();
        pairs.iter().map(|&pair| start as u32 + pair).collect()
    }

    /// The vectors of pairs as the model is now.
    fn vectors(&self, first: usize, n: usize) -> Result<Pairs> {
        let pairs: Vec<u32> = (first as u32..(first + n) as u32).collect();
        let of = |side| self.model.embed_prepared(&self.rows(side, &pairs));
        Ok(Pairs { queries: of(0)?, functions: of(1)? })
    }

    /// Mean reciprocal rank of each query's function among all of the split.
    fn mrr(&self, split: Split) -> Result<f64> {
        let [train, validation, test] = self.sizes;
        let (first, n) = match split {
            Split::Validation => (train, validation),
            Split::Test => (train + validation, test),
        };
        let pairs = self.vectors(first, n)?;
        mean_reciprocal_rank(&cosines(&pairs.queries, &pairs.functions), &(0..n).collect::<Vec<_>>(), 1_000)
    }

    fn batches(&self, seed: u64, epoch: u64) -> Vec<Vec<u32>> {
        let mut order: Vec<u32> = (0..self.source.len() as u32).collect();
        seed::shuffle(&mut order, &mut seed::rng(seed, 10 + epoch));
        order.chunks_exact(BATCH).map(<[u32]>::to_vec).collect()
    }

    /// Trains from the beginning.
    fn train(&mut self, context: &Context, method: Method, setting: Setting, known: Option<&Pairs>, seed: u64) -> Result<()> {
        let (device, loss) = (context.device()?, method.loss(setting)?);
        self.model.set_training_state(&self.untrained)?;
        for epoch in 0..context.pick(5, 2) {
            for batch in self.batches(seed, epoch) {
                let targets = self.targets(method, setting, known, &batch)?;
                let [queries, functions] = [0, 1].map(|side| self.rows(side, &batch));
                let (queries, functions) = (self.model.forward(&queries, &device, 0)?, self.model.forward(&functions, &device, 0)?);
                self.model.step(&mut loss.forward(queries, functions, &targets)?.backward(), setting.learning_rate)?;
            }
        }
        Ok(())
    }

    /// The vectors of the training pairs by a model that InfoNCE trained; the model stays so.
    fn known(&mut self, context: &Context, setting: Setting, seed: u64) -> Result<Pairs> {
        self.train(context, METHODS[0], setting, None, seed)?;
        self.vectors(0, self.sizes[0])
    }

    fn targets(&self, method: Method, setting: Setting, known: Option<&Pairs>, batch: &[u32]) -> Result<Targets> {
        let n = batch.len();
        let mut targets = Targets::new((0..n as u32).collect(), vec![Vec::new(); n]);
        if method.how == Use::Nothing {
            return Ok(targets);
        }
        let relevance = self.relevance(method.relevance, known, batch)?;
        match method.how {
            Use::Soft => targets.weights = soft(setting)?.weights(&relevance, n, &targets.positive, &targets.excluded)?.weights,
            Use::Cancel => {
                let cancellation = Cancellation::TopK(setting.relevance as usize);
                targets.excluded = cancellation.excluded(&relevance, n, &targets.positive, &targets.excluded)?;
            }
            _ => targets.teacher = relevance,
        }
        Ok(targets)
    }

    /// `[n, n]` of a batch.
    fn relevance(&self, of: Relevance, known: Option<&Pairs>, batch: &[u32]) -> Result<Vec<f64>> {
        match of {
            Relevance::Bm25 => {
                let all: usize = self.words.iter().map(Vec::len).sum();
                let words: Vec<&[i64]> = batch.iter().map(|&q| &self.words[q as usize][..]).collect();
                BatchBm25::new(all as f64 / self.words.len() as f64, 0)?.relevance(&words, &words)
            }
            Relevance::Queries => {
                let queries = self.seen.select(batch);
                Ok(cosines(&queries, &queries))
            }
            Relevance::Trained => {
                let known = known.ok_or_else(|| Error::invalid("relevance by a trained model, and none was trained"))?;
                Ok(cosines(&known.queries.select(batch), &known.functions.select(batch)))
            }
        }
    }

    /// What paraphrases of an anchor's own pair weigh, and what the other negatives do.
    fn weights(&self, settings: &[Setting], known: &Pairs, seed: u64, outcome: &mut Outcome) -> Result<()> {
        for ((relevance, name), setting) in RELEVANCES.into_iter().zip(&settings[1..]) {
            let mut mean = [(0.0, 0.0); 2];
            for batch in (0..3).flat_map(|epoch| self.batches(seed, epoch)) {
                let (n, scores) = (batch.len(), self.relevance(relevance, Some(known), &batch)?);
                let positive: Vec<u32> = (0..n as u32).collect();
                let weights = soft(*setting)?.weights(&scores, n, &positive, &[])?.weights;
                for (k, weight) in weights.iter().enumerate().filter(|(k, _)| k / n != k % n) {
                    let related = self.source[batch[k / n] as usize] == self.source[batch[k % n] as usize];
                    let (sum, count) = &mut mean[usize::from(!related)];
                    *sum += weight;
                    *count += 1.0;
                }
            }
            let [related, others] = mean.map(|(sum, count)| sum / count);
            outcome.measure(format!("weight of paraphrases, {name}"), related);
            outcome.measure(format!("weight of other negatives, {name}"), others);
            let found = format!("{related:.3} and {others:.3}");
            outcome.check(
                format!("{name}: paraphrases of the own pair weigh less than 1 and less than others"),
                related < 1.0 && related < others,
                found,
            );
        }
        Ok(())
    }

    /// In f64, with α = 0: the loss is InfoNCE's.
    fn without_alpha(&self, known: &Pairs, seed: u64, outcome: &mut Outcome) -> Result<()> {
        let device = Device::flex();
        let mut worst: f64 = 0.0;
        for batch in self.batches(seed, 0).into_iter().take(4) {
            let n = batch.len();
            let rows = |of: &Embeddings| tensor(&of.select(&batch), DType::F64, &device);
            let (queries, functions) = (rows(&known.queries), rows(&known.functions));
            let targets = Targets::new((0..n as u32).collect(), vec![]);
            let relevance = self.relevance(Relevance::Trained, Some(known), &batch)?;
            let weights = SoftNegatives::new(1.0, 0.0, 1.0, 0.1)?.weights(&relevance, n, &targets.positive, &[])?.weights;
            let weighted = Targets { weights, ..targets.clone() };
            let plain = RankingLoss::forward(&InfoNce::new(0.1)?, queries.clone(), functions.clone(), &targets)?.into_scalar::<f64>();
            let soft = SoftInfoNce::new(0.1)?.forward(queries, functions, &weighted)?.into_scalar::<f64>();
            worst = worst.max((plain - soft).abs());
        }
        outcome.check("with α = 0 Soft-InfoNCE is InfoNCE to 1e-9", worst < 1e-9, format!("differences up to {worst:.1e}"));
        Ok(())
    }
}

impl Method {
    fn loss(self, setting: Setting) -> Result<Box<dyn RankingLoss>> {
        let (t, relevance) = (setting.temperature, setting.relevance);
        Ok(match self.how {
            Use::Nothing | Use::Cancel => Box::new(InfoNce::new(t)?),
            Use::Soft => Box::new(SoftInfoNce::new(t)?),
            Use::Weighted => Box::new(RelevanceInfoNce::weighted(t, relevance)?),
            Use::Bce => Box::new(RelevanceInfoNce::bce(t, relevance)?),
            Use::Kl => Box::new(RelevanceInfoNce::kl(t, relevance, 1.0, 0.1)?),
        })
    }
}

fn soft(setting: Setting) -> Result<SoftNegatives> {
    SoftNegatives::new(setting.relevance, 1.0, 1.0, 0.1)
}

fn tensor(rows: &Embeddings, dtype: DType, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(rows.data().to_vec(), [rows.rows(), rows.dim()]), (device, dtype))
}

/// `[a, b]`.
fn cosines(a: &Embeddings, b: &Embeddings) -> Vec<f64> {
    let [a, b] = [a, b].map(|rows| tensor(&rows.clone().normalized(), DType::F32, &Device::flex()));
    a.matmul(b.transpose()).into_data().iter::<f32>().map(f64::from).collect()
}

/// The text with about a third of its words left out, but at least three kept.
fn fewer_words(text: &str, rng: &mut seed::Rng) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    fewer(&words, 3, rng).join(" ")
}

/// The function with about a third of its lines left out, but not the first.
fn fewer_lines(function: &str, rng: &mut seed::Rng) -> String {
    let lines: Vec<&str> = function.lines().collect();
    let (first, rest) = lines.split_at(1.min(lines.len()));
    [first.to_vec(), fewer(rest, 1, rng)].concat().join("\n")
}

/// Each kept with probability 2/3, in their order; if fewer than `least` would be left, the first `least`.
fn fewer<'a>(all: &[&'a str], least: usize, rng: &mut seed::Rng) -> Vec<&'a str> {
    let kept: Vec<&str> = all.iter().copied().filter(|_| rng.random_range(0..3) > 0).collect();
    if kept.len() < least { all[..least.min(all.len())].to_vec() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Budget;
    use foils::device::DeviceName;

    /// The whole recipe on little data.
    #[test]
    fn the_recipe_runs() {
        let report = STUDY.reproduce(1..2, Budget::Quick, DeviceName::Cpu).unwrap();
        assert!(report.must_hold, "{:?}", report.runs[0].outcome.checks);
        let measured = |name: &str| report.runs[0].outcome.measured.iter().find(|(n, _)| n == name).unwrap().1;
        assert!(measured("MRR of InfoNCE") > measured("MRR of the untuned encoder"));
    }

    #[test]
    fn paraphrases_are_shorter_and_in_order() {
        let mut rng = seed::rng(1, 0);
        let query = "find the first index at which the value is larger than a limit";
        let shorter = fewer_words(query, &mut rng);
        let mut words = query.split(' ');
        assert!(shorter.len() < query.len() && shorter.split(' ').all(|word| words.any(|w| w == word)), "{shorter}");
        assert_eq!(fewer_words("two words", &mut rng), "two words");
        assert!(fewer_lines("def f(x):\n    y = 1\n    return y", &mut rng).starts_with("def f(x):\n"));
    }
}
