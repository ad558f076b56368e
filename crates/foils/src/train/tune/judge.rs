//! Which way of mining is best for this data and this encoder? Two judges: ECI, which trains nothing, and a race of short trainings.

use super::strategies::{Strategy, strategies};
use super::{Judge, Tuner};
use crate::data::Example;
use crate::data::text::digest;
use crate::diagnostics::ScoreReport;
use crate::train::{RunFiles, TrainSettings};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Share of the training queries in each round of a race; half of the entrants leave after each.
const ROUNDS: [f64; 3] = [0.125, 0.25, 0.5];

/// One way of mining and what it came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Entrant {
    /// The strategy.
    pub name: String,
    /// ECI of its negatives; none for in-batch negatives alone.
    pub eci: Option<f64>,
    /// Validation nDCG@10 after each round that it took part in.
    pub rounds: Vec<f64>,
    /// The last of them.
    pub validation_ndcg: Option<f64>,
    /// Whether it was picked.
    pub chosen: bool,
}

/// Who was picked, by whom and why.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Picked {
    /// `eci` or `race`.
    pub judge: String,
    /// In a sentence.
    pub reason: String,
    /// Whether the encoder is good enough for ECI to be believed.
    pub eci_trusted: bool,
    /// All entrants, in the order of [`strategies`].
    pub strategies: Vec<Entrant>,
}

/// A strategy with its examples, mined once.
pub(super) struct Runner {
    pub strategy: Strategy,
    pub examples: Vec<Example>,
}

/// Mines with every strategy and scores what comes out.
pub(super) fn line_up(tuner: &Tuner) -> Result<(Vec<Runner>, ScoreReport)> {
    let mut runners = Vec::new();
    for strategy in strategies(&tuner.settings().mine) {
        let (examples, _) = tuner.examples(&strategy)?;
        // Filters may leave nothing at all: then there is nothing to judge.
        if strategy.mine.is_none() || examples.iter().any(|e| !e.negatives.is_empty()) {
            runners.push(Runner { strategy, examples });
        }
    }
    let sets: Vec<(String, &[Example])> =
        runners.iter().filter(|r| r.strategy.mine.is_some()).map(|r| (r.strategy.name.clone(), &r.examples[..])).collect();
    if sets.is_empty() {
        return Err(Error::invalid("no way of mining found a negative: there are too few documents beside the positives"));
    }
    let report = tuner.score(&sets)?;
    Ok((runners, report))
}

/// Lets `judge` pick.
pub(super) fn pick(tuner: &mut Tuner, judge: Judge, say: &dyn Fn(&str)) -> Result<(Strategy, Picked)> {
    let (runners, report) = line_up(tuner)?;
    let mut entrants: Vec<Entrant> = runners.iter().map(|r| entrant(r, &report)).collect();
    let (winner, reason) = match judge {
        Judge::Eci => by_eci(&entrants, &report),
        Judge::Race => race(tuner, &runners, &mut entrants, say)?,
    };
    entrants[winner].chosen = true;
    let picked = Picked { judge: judge.name().into(), reason, eci_trusted: report.trusted, strategies: entrants };
    Ok((runners[winner].strategy.clone(), picked))
}

pub(super) fn entrant(runner: &Runner, report: &ScoreReport) -> Entrant {
    let eci = report.sets.iter().find(|s| s.name == runner.strategy.name).map(|s| s.eci.mean);
    Entrant { name: runner.strategy.name.clone(), eci, ..Entrant::default() }
}

/// The highest ECI.
pub(super) fn by_eci(entrants: &[Entrant], report: &ScoreReport) -> (usize, String) {
    let best = (0..entrants.len()).filter(|&i| entrants[i].eci.is_some()).max_by(|&a, &b| {
        let eci = |i: usize| entrants[i].eci.unwrap_or(f64::NEG_INFINITY);
        eci(a).total_cmp(&eci(b)).then(b.cmp(&a))
    });
    let winner = best.unwrap_or(0);
    let caution = if report.trusted { String::new() } else { format!("; but {}", report.trust_reason) };
    (winner, format!("its ECI of {:.3} is the highest of {}{caution}", entrants[winner].eci.unwrap_or(0.0), report.sets.len()))
}

/// Successive halving: every round trains the entrants that are left on a larger share of the queries, from the untuned encoder, and
/// the better half by validation nDCG@10 goes on. All entrants of a round see the same queries.
pub(super) fn race(tuner: &mut Tuner, runners: &[Runner], entrants: &mut [Entrant], say: &dyn Fn(&str)) -> Result<(usize, String)> {
    let mut left: Vec<usize> = (0..runners.len()).collect();
    let settings = TrainSettings { patience: 0, validate_every: usize::MAX, ..tuner.settings().train.clone() };
    let mut rounds = 0;
    for share in ROUNDS {
        if left.len() == 1 {
            break;
        }
        rounds += 1;
        for &i in &left {
            let summary = tuner.train(&sample(&runners[i].examples, share, tuner.settings().seed), &settings, &RunFiles::default())?;
            let last = summary.validations.last().map_or(summary.untuned_ndcg, |v| v.ndcg);
            entrants[i].rounds.push(last);
            entrants[i].validation_ndcg = Some(last);
            say(&format!("race, round {rounds}, {}: validation nDCG@10 {last:.4}", entrants[i].name));
        }
        // Equal results keep the order of the strategies, so that the simpler one wins.
        left.sort_by(|&a, &b| entrants[b].rounds[rounds - 1].total_cmp(&entrants[a].rounds[rounds - 1]).then(a.cmp(&b)));
        left.truncate(left.len().div_ceil(2));
    }
    let winner = left[0];
    let ndcg = entrants[winner].validation_ndcg.unwrap_or(f64::NAN);
    Ok((winner, format!("its validation nDCG@10 of {ndcg:.4} was the best after {rounds} rounds of short trainings")))
}

/// About `share` of the queries, the same for every entrant: which ones depends on the anchor's text and the seed alone.
fn sample(examples: &[Example], share: f64, seed: u64) -> Vec<Example> {
    let drawn = |example: &&Example| {
        let mut bytes = digest(&example.anchor).to_le_bytes().to_vec();
        bytes.extend(seed.to_le_bytes());
        (xxhash_rust::xxh3::xxh3_64(&bytes) as f64 / u64::MAX as f64) < share
    };
    examples.iter().filter(drawn).cloned().collect()
}
