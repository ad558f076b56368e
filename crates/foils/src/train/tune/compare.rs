//! Every way of mining trained in full, and what each judge would have picked: the evidence for the default judge.

use super::judge::{by_eci, entrant, line_up, race};
use super::{TuneData, TuneSettings, Tuner};
use crate::metrics::rank_agreement;
use crate::{Result, metrics::RankAgreement};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// All ways of mining on one data set over some seeds: `compare.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ComparisonTable {
    /// What was tuned.
    pub encoder: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Held-out nDCG@10 of the untuned encoder.
    pub untuned: f64,
    /// Whether ECI was to be believed of this encoder.
    pub eci_trusted: bool,
    /// One row a way of mining.
    pub rows: Vec<ComparedStrategy>,
    /// Agreement of mean ECI with mean held-out nDCG@10, over the ways that mine.
    pub agreement: Option<RankAgreement>,
    /// What each judge picked, and what that cost.
    pub judges: Vec<JudgeRecord>,
}

/// One way of mining over the seeds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ComparedStrategy {
    /// Its name.
    pub name: String,
    /// ECI, by seed.
    pub eci: Vec<f64>,
    /// Share of negatives at or above their positive, by seed.
    pub unsafe_rate: Vec<f64>,
    /// Best validation nDCG@10, by seed.
    pub validation: Vec<f64>,
    /// Held-out nDCG@10, by seed.
    pub test: Vec<f64>,
    /// Seconds of training, by seed.
    pub seconds: Vec<f64>,
}

/// A judge over the seeds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JudgeRecord {
    /// `eci` or `race`.
    pub judge: String,
    /// What it picked, by seed.
    pub picked: Vec<String>,
    /// Held-out nDCG@10 of the best way minus that of the picked one, by seed.
    pub regret: Vec<f64>,
    /// Seconds that judging took beyond mining, by seed.
    pub seconds: Vec<f64>,
}

/// Trains every strategy in full for each seed and asks both judges. `settings.seed` is replaced by each of `seeds`.
///
/// # Errors
/// As [`super::tune`].
pub fn compare(data: &TuneData, settings: &TuneSettings, seeds: &[u64], say: &dyn Fn(&str)) -> Result<ComparisonTable> {
    let mut table = ComparisonTable { encoder: settings.encoder.clone(), seeds: seeds.to_vec(), ..ComparisonTable::default() };
    let mut judges = ["eci", "race"].map(|judge| JudgeRecord { judge: judge.into(), ..JudgeRecord::default() });
    for &seed in seeds {
        let mut settings = settings.clone();
        settings.seed = seed;
        settings.mine.seed = seed;
        let mut tuner = Tuner::new(data, &settings)?;
        let (runners, report) = line_up(&tuner)?;
        table.eci_trusted = report.trusted;

        let mut tests = Vec::new();
        for runner in &runners {
            let clock = Instant::now();
            let training = tuner.train(&runner.examples, &settings.train, None)?;
            let seconds = clock.elapsed().as_secs_f64();
            let (untuned, test) = super::ndcg_at_10(&tuner.evaluate(&data.test)?.evaluation)?;
            table.untuned = untuned;
            tests.push(test);
            say(&format!("seed {seed}, {}: held-out nDCG@10 {untuned:.4} -> {test:.4}", runner.strategy.name));
            let name = &runner.strategy.name;
            let place = table.rows.iter().position(|r| r.name == *name).unwrap_or_else(|| {
                table.rows.push(ComparedStrategy { name: name.clone(), ..ComparedStrategy::default() });
                table.rows.len() - 1
            });
            let row = &mut table.rows[place];
            if let Some(score) = report.sets.iter().find(|s| s.name == *name) {
                row.eci.push(score.eci.mean);
                row.unsafe_rate.push(score.unsafe_rate);
            }
            row.validation.push(training.best_ndcg);
            row.test.push(test);
            row.seconds.push(seconds);
        }

        let best = tests.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut entrants: Vec<_> = runners.iter().map(|r| entrant(r, &report)).collect();
        for judge in &mut judges {
            let clock = Instant::now();
            let winner = match judge.judge.as_str() {
                "eci" => by_eci(&entrants, &report).0,
                _ => race(&mut tuner, &runners, &mut entrants, say)?.0,
            };
            judge.picked.push(runners[winner].strategy.name.clone());
            judge.regret.push(best - tests[winner]);
            judge.seconds.push(clock.elapsed().as_secs_f64());
        }
    }
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let scored: Vec<_> = table.rows.iter().filter(|r| r.eci.len() == seeds.len()).collect();
    let (predicted, observed): (Vec<f64>, Vec<f64>) = scored.iter().map(|r| (mean(&r.eci), mean(&r.test))).unzip();
    table.agreement = rank_agreement(&predicted, &observed).ok();
    table.judges = judges.into();
    Ok(table)
}
