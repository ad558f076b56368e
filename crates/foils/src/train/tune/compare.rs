//! Every way of mining trained in full, and what each judge would have picked: the evidence for the default judge.

use super::judge::{by_eci, entrant, line_up, race};
use super::strategies::WAYS;
use super::{Judge, TuneData, TuneSettings, Tuner};
use crate::metrics::{RankAgreement, rank_agreement};
use crate::negatives::MineSettings;
use crate::train::RunFiles;
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::path::Path;
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
    /// The same within each seed, where it is defined.
    pub agreements: Vec<RankAgreement>,
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

/// What is compared.
#[derive(Clone, Debug)]
pub struct CompareSettings {
    /// One training of each way for each seed.
    pub seeds: Vec<u64>,
    /// The ways that are trained ([`WAYS`]); what a judge picks is trained as well.
    pub ways: Vec<String>,
    /// The judges that are asked. All eight ways are mined and scored for them.
    pub judges: Vec<Judge>,
}

impl CompareSettings {
    /// All eight ways and both judges, for so many seeds from `first` on.
    pub fn all(first: u64, seeds: u64) -> Self {
        let (ways, judges) = (WAYS.map(str::to_owned).to_vec(), vec![Judge::Eci, Judge::Race]);
        Self { seeds: (first..first + seeds).collect(), ways, judges }
    }

    fn check(&self) -> Result<()> {
        if self.seeds.is_empty() || self.ways.is_empty() {
            return Err(Error::invalid("a comparison needs at least one seed and one way of mining"));
        }
        match self.ways.iter().find(|way| !WAYS.contains(&way.as_str())) {
            Some(way) => Err(Error::invalid(format!("there is no way of mining called {way:?}; the ways are {}", WAYS.join(", ")))),
            None => Ok(()),
        }
    }
}

/// What has been done, kept in `compare.part.json` until all is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Done {
    /// A digest of all that the results depend on.
    run: String,
    trained: Vec<Trained>,
    judged: Vec<Judged>,
}

/// One way of mining, trained for one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Trained {
    seed: u64,
    way: String,
    validation: f64,
    untuned: f64,
    test: f64,
    seconds: f64,
}

/// What a judge picked for one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Judged {
    seed: u64,
    judge: Judge,
    picked: String,
    seconds: f64,
}

/// Trains ways of mining in full for each seed and asks the judges, and writes `compare.json` into `out`. A comparison that was stopped
/// goes on from the training that it was at. `settings.seed` is replaced by each of the seeds.
///
/// # Errors
/// As [`super::tune`]; on an unknown way, and without seeds or ways.
pub fn compare(
    data: &TuneData,
    settings: &TuneSettings,
    compared: &CompareSettings,
    out: &Path,
    say: &dyn Fn(&str),
) -> Result<ComparisonTable> {
    compared.check()?;
    let (part, checkpoints) = (out.join("compare.part.json"), settings.checkpoints(out));
    let mut done = Done::default();
    let mut table = ComparisonTable { encoder: settings.encoder.clone(), seeds: compared.seeds.clone(), ..ComparisonTable::default() };
    let mut judges: Vec<JudgeRecord> =
        compared.judges.iter().map(|j| JudgeRecord { judge: j.name().into(), ..Default::default() }).collect();
    for &seed in &compared.seeds {
        let mut settings = settings.clone();
        settings.seed = seed;
        settings.mine.seed = seed;
        let mut tuner = Tuner::new(data, &settings)?;
        if done.run.is_empty() {
            // Without the seed, which each result has.
            let mine = MineSettings { seed: 0, ..settings.mine.clone() };
            let digest = format!("{:032x}", tuner.digest(&TuneSettings { seed: 0, mine, ..settings.clone() })?);
            done = files::read_json::<Done>(&part).ok().filter(|done| done.run == digest).unwrap_or_default();
            if !done.trained.is_empty() {
                say(&format!("going on after {} trainings", done.trained.len()));
            }
            done.run = digest;
        }
        let (runners, report) = line_up(&tuner)?;
        table.eci_trusted = report.trusted;

        let mut entrants: Vec<_> = runners.iter().map(|r| entrant(r, &report)).collect();
        for &judge in &compared.judges {
            if done.judged.iter().any(|j| (j.seed, j.judge) == (seed, judge)) {
                continue;
            }
            let clock = Instant::now();
            let winner = match judge {
                Judge::Eci => by_eci(&entrants, &report).0,
                Judge::Race => race(&mut tuner, &runners, &mut entrants, say)?.0,
            };
            let picked = runners[winner].strategy.key.to_owned();
            done.judged.push(Judged { seed, judge, picked, seconds: clock.elapsed().as_secs_f64() });
            files::write_json(&part, &done)?;
        }

        let picked = |way: &str| done.judged.iter().any(|j| j.seed == seed && j.picked == way && compared.judges.contains(&j.judge));
        let wanted: Vec<_> =
            runners.iter().filter(|r| compared.ways.iter().any(|w| w == r.strategy.key) || picked(r.strategy.key)).collect();
        for runner in &wanted {
            let (key, name) = (runner.strategy.key, &runner.strategy.name);
            if !done.trained.iter().any(|t| t.seed == seed && t.way == key) {
                let clock = Instant::now();
                let files_of_run = RunFiles { logs: None, checkpoints: Some(&checkpoints) };
                let training = tuner.train(&runner.examples, &settings.train, &files_of_run)?;
                let seconds = clock.elapsed().as_secs_f64();
                let (untuned, test) = super::ndcg_at_10(&tuner.evaluate(&data.test)?.evaluation)?;
                done.trained.push(Trained { seed, way: key.into(), validation: training.best_ndcg, untuned, test, seconds });
                files::write_json(&part, &done)?;
                checkpoints.forget()?;
                say(&format!("seed {seed}, {name}: held-out nDCG@10 {untuned:.4} -> {test:.4}, {seconds:.0} s"));
            }
            let trained = done.trained.iter().find(|t| t.seed == seed && t.way == key).expect("trained now or before");
            table.untuned = trained.untuned;
            let place = table.rows.iter().position(|r| r.name == *name).unwrap_or_else(|| {
                table.rows.push(ComparedStrategy { name: name.clone(), ..ComparedStrategy::default() });
                table.rows.len() - 1
            });
            let row = &mut table.rows[place];
            if let Some(score) = report.sets.iter().find(|s| s.name == *name) {
                row.eci.push(score.eci.mean);
                row.unsafe_rate.push(score.unsafe_rate);
            }
            row.validation.push(trained.validation);
            row.test.push(trained.test);
            row.seconds.push(trained.seconds);
        }
        let test = |way: &str| done.trained.iter().find(|t| t.seed == seed && t.way == way).map_or(f64::NAN, |t| t.test);
        let best = wanted.iter().map(|r| test(r.strategy.key)).fold(f64::NEG_INFINITY, f64::max);
        for (record, &judge) in judges.iter_mut().zip(&compared.judges) {
            let Some(judged) = done.judged.iter().find(|j| (j.seed, j.judge) == (seed, judge)) else { continue };
            let winner = runners.iter().find(|r| r.strategy.key == judged.picked);
            record.picked.push(winner.map_or_else(|| judged.picked.clone(), |r| r.strategy.name.clone()));
            record.regret.push(best - test(&judged.picked));
            record.seconds.push(judged.seconds);
        }
    }
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let scored: Vec<_> = table.rows.iter().filter(|r| r.eci.len() == compared.seeds.len()).collect();
    let (predicted, observed): (Vec<f64>, Vec<f64>) = scored.iter().map(|r| (mean(&r.eci), mean(&r.test))).unzip();
    table.agreement = rank_agreement(&predicted, &observed).ok();
    let of_seed = |i: usize| {
        let (predicted, observed): (Vec<f64>, Vec<f64>) = scored.iter().map(|r| (r.eci[i], r.test[i])).unzip();
        rank_agreement(&predicted, &observed).ok()
    };
    table.agreements = (0..compared.seeds.len()).filter_map(of_seed).collect();
    table.judges = judges;
    files::write_json(out.join("compare.json"), &table)?;
    std::fs::remove_file(&part).map_err(Error::io("remove", &part))?;
    Ok(table)
}
