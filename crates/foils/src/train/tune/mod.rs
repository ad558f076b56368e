//! The way that most users take, as one call: mine → score → train → evaluate, each step leaving its file in the run folder.

mod compare;
mod judge;
mod settings;
mod split;
mod strategies;
mod tuner;

pub use compare::{CompareSettings, ComparedStrategy, ComparisonTable, JudgeRecord, compare};
pub use judge::{Entrant, Picked};
pub use settings::{Judge, TuneSettings};
pub use split::TuneData;
pub use strategies::{Strategy, WAYS, strategies};
pub use tuner::Tuner;

use crate::data::formats::{trec, write_examples};
use crate::data::{Collection, Example, Shape};
use crate::metrics::{Comparison, Evaluated, Evaluation};
use crate::search::Ranking;
use crate::train::RunFiles;
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// What a tuning run came to: `tune.json`, and what `--json` prints.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TuneResult {
    /// What was tuned.
    pub encoder: String,
    /// The seed.
    pub seed: u64,
    /// How the negatives were mined that were trained on.
    pub strategy: String,
    /// With `auto`: who picked, why, and what each way came to.
    #[serde(flatten)]
    pub picked: Option<Picked>,
    /// Held-out nDCG@10 of the untuned encoder.
    pub ndcg_before: f64,
    /// Held-out nDCG@10 of what was saved.
    pub ndcg_after: f64,
    /// after / before − 1.
    pub relative_gain: f64,
    /// False when no checkpoint beat the untuned encoder on validation data, which was then kept.
    pub improved: bool,
    /// Every metric at every cut, before and after.
    pub metrics: Vec<Comparison>,
    /// Negatives trained on, in all.
    pub negatives: u64,
    /// The first few examples with the negatives that were picked for them.
    pub negative_examples: Vec<Example>,
    /// Wall-clock seconds by step.
    pub seconds: BTreeMap<String, f64>,
}

/// Runs the whole way and writes everything into `out`: `tune.toml`, `negatives.jsonl.zst`, `mine.json`, `score.json`, `model/`,
/// `train.json`, `logs/`, `eval.json`, `before.run`, `after.run`, `qrels.txt`, `tune.json`. `say` is told what is being done.
///
/// # Errors
/// As the steps: bad data, a setting out of range, an unwritable folder, a loss that is not finite.
pub fn tune(data: &TuneData, settings: &TuneSettings, out: &Path, say: &dyn Fn(&str)) -> Result<TuneResult> {
    let begun = Instant::now();
    let mut seconds = BTreeMap::new();
    let mut timed = |name: &str, since: Instant| seconds.insert(name.to_owned(), since.elapsed().as_secs_f64());

    let clock = Instant::now();
    files::write(out.join("tune.toml"), settings.to_toml()?)?;
    say(&format!(
        "{} training pairs, {} validation and {} held-out queries",
        data.train.len(),
        data.validation.queries.len(),
        data.test.queries.len()
    ));
    let mut tuner = Tuner::new(data, settings)?;
    timed("load and embed", clock);

    let clock = Instant::now();
    let (strategy, picked) = match settings.auto {
        Some(judge) => {
            let (strategy, picked) = judge::pick(&mut tuner, judge, say)?;
            say(&format!("picked \"{}\": {}", strategy.name, picked.reason));
            (strategy, Some(picked))
        }
        None => (strategies::asked_for(settings), None),
    };
    if picked.is_some() {
        timed("pick", clock);
    }

    let clock = Instant::now();
    let (examples, mined) = tuner.examples(&strategy)?;
    let negatives = examples.iter().map(|e| e.negatives.len() as u64).sum();
    if let Some(summary) = &mined {
        files::write_json(out.join("mine.json"), summary)?;
        say(&format!("mined {negatives} negatives for {} queries", summary.queries));
        summary.warnings.iter().for_each(|w| say(&format!("warning: {w}")));
    }
    timed("mine", clock);

    let clock = Instant::now();
    // Writing takes one thread about as long as scoring takes all of them.
    let report = std::thread::scope(|scope| {
        let write = || write_examples(out.join("negatives.jsonl.zst"), Shape::Lists, examples.iter().cloned().map(Ok));
        let writer = scope.spawn(write);
        let report = (negatives > 0).then(|| tuner.score(&[(strategy.name.clone(), &examples)])).transpose()?;
        writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, Error>(report)
    })?;
    if let Some(report) = report {
        say(&format!("ECI {:.3}; {}", report.sets[0].eci.mean, report.trust_reason));
        files::write_json(out.join("score.json"), &report)?;
        timed("score", clock);
    }

    let clock = Instant::now();
    let (logs, checkpoints) = (out.join("logs"), settings.checkpoints(out));
    let training = tuner.train(&examples, &settings.train, &RunFiles { logs: Some(&logs), checkpoints: Some(&checkpoints) })?;
    files::write_json(out.join("train.json"), &training)?;
    say(&if training.improved {
        format!("validation nDCG@10 {:.4} -> {:.4} (step {})", training.untuned_ndcg, training.best_ndcg, training.best_step)
    } else {
        format!("no checkpoint beat the untuned encoder's validation nDCG@10 of {:.4}: the untuned encoder is kept", training.untuned_ndcg)
    });
    tuner.encoder().save(&out.join("model"))?;
    timed("train", clock);

    let clock = Instant::now();
    let evaluated = tuner.evaluate(&data.test)?;
    let (before, after) = ndcg_at_10(&evaluated.evaluation)?;
    files::write_json(out.join("eval.json"), &evaluated.evaluation)?;
    write_runs(out, &data.test, &evaluated)?;
    timed("evaluate", clock);
    timed("total", begun);

    let result = TuneResult {
        encoder: settings.encoder.clone(),
        seed: settings.seed,
        strategy: strategy.name,
        picked,
        ndcg_before: before,
        ndcg_after: after,
        relative_gain: after / before - 1.0,
        improved: training.improved,
        metrics: evaluated.evaluation.metrics,
        negatives,
        negative_examples: examples.into_iter().filter(|e| !e.negatives.is_empty()).take(5).collect(),
        seconds,
    };
    files::write_json(out.join("tune.json"), &result)?;
    checkpoints.forget()?;
    Ok(result)
}

/// nDCG@10 before and after.
fn ndcg_at_10(evaluation: &Evaluation) -> Result<(f64, f64)> {
    let row = evaluation.metrics.iter().find(|m| m.metric == "ndcg" && m.k == 10);
    let row = row.ok_or_else(|| Error::invalid("nDCG@10 is not among the metrics that were evaluated"))?;
    Ok((row.before.map_or(f64::NAN, |b| b.mean), row.after.mean))
}

/// TREC runs of both encoders, and the judgements they are measured by.
fn write_runs(out: &Path, collection: &Collection, evaluated: &Evaluated) -> Result<()> {
    let run = |file: &str, rankings: &[Ranking], tag: &str| trec::write_run(out.join(file), &trec::named_run(collection, rankings), tag);
    let (before, after) = rayon::join(
        || evaluated.before.as_ref().map_or(Ok(()), |before| run("before.run", before, "untuned")),
        || run("after.run", &evaluated.after, "tuned"),
    );
    before.and(after)?;
    trec::write_qrels(out.join("qrels.txt"), &trec::named_qrels(collection))
}
