//! From outcomes to a verdict: the paired difference over seeds and its 95 % interval (Student's t).

use crate::study::{Budget, Claim, Outcome, Study};
use foils::metrics::{SampleMean, sample_mean};
use foils::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// What the data say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole interval lies beyond the margin.
    Reproduced,
    /// The whole interval lies on the other side of the margin, or on it.
    NotReproduced,
    /// The interval holds the margin, there is no interval (one seed), or a measurement is not to be trusted.
    Inconclusive,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Reproduced => "reproduced",
            Self::NotReproduced => "not reproduced",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// The account of a study over its seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The paper's slug.
    pub slug: &'static str,
    /// What the paper says.
    pub says: &'static str,
    /// What was checked.
    pub checks: &'static str,
    /// On which data.
    pub data: &'static str,
    /// How much was run.
    pub budget: Budget,
    /// All claims together: reproduced when every one is, not reproduced when one is not, else inconclusive.
    pub verdict: Verdict,
    /// Whether every check that must hold held in every seed.
    pub must_hold: bool,
    /// Each claim with its interval and verdict.
    pub claims: Vec<JudgedClaim>,
    /// Mean and spread of each measurement.
    pub summary: Vec<Summary>,
    /// What each seed gave.
    pub runs: Vec<SeedRun>,
    /// What else a reader should know.
    pub notes: BTreeMap<String, serde_json::Value>,
    /// Threads that the run had.
    pub threads: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// One seed.
#[derive(Clone, Debug, Serialize)]
pub struct SeedRun {
    /// The seed.
    pub seed: u64,
    /// What it gave.
    pub outcome: Outcome,
    /// Wall-clock seconds, what the seeds share being counted to the first.
    pub seconds: f64,
}

/// A measurement over the seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Mean over the seeds.
    pub mean: f64,
    /// Standard deviation over the seeds (n − 1); absent with one seed.
    pub sd: Option<f64>,
}

/// A claim and what came out.
#[derive(Clone, Debug, Serialize)]
pub struct JudgedClaim {
    /// The claim.
    #[serde(flatten)]
    pub claim: Claim,
    /// By how much the metric beats the baseline in each seed (positive is better).
    pub differences: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// The 95 % interval of the mean; absent with one seed.
    pub interval: Option<(f64, f64)>,
    /// Reproduced or not.
    pub verdict: Verdict,
}

impl JudgedClaim {
    /// Judges a claim by its paired differences, one a seed.
    ///
    /// # Errors
    /// Without any difference.
    pub fn new(claim: Claim, differences: Vec<f64>) -> Result<Self> {
        let Some(SampleMean { mean, interval, .. }) = sample_mean(&differences) else {
            return Err(Error::invalid("a claim cannot be judged without a seed"));
        };
        let verdict = match interval {
            Some((low, _)) if low > claim.margin => Verdict::Reproduced,
            Some((_, high)) if high <= claim.margin => Verdict::NotReproduced,
            _ => Verdict::Inconclusive,
        };
        Ok(Self { claim, differences, mean, interval, verdict })
    }
}

impl Report {
    pub(crate) fn new(
        study: &Study,
        budget: Budget,
        runs: Vec<SeedRun>,
        notes: BTreeMap<String, serde_json::Value>,
        seconds: f64,
    ) -> Result<Self> {
        let outcomes = || runs.iter().map(|run| &run.outcome);
        let claims = study
            .claims
            .iter()
            .map(|claim| {
                let mut judged = JudgedClaim::new(*claim, Study::differences(claim, outcomes())?)?;
                if outcomes().any(|outcome| claim.is_doubtful(outcome)) {
                    judged.verdict = Verdict::Inconclusive;
                }
                Ok(judged)
            })
            .collect::<Result<Vec<_>>>()?;
        let names = runs.first().map_or(&[][..], |run| &run.outcome.measured);
        let summary = names
            .iter()
            .map(|(name, _)| {
                let values: Vec<f64> = outcomes().flat_map(|o| &o.measured).filter(|(n, _)| n == name).map(|(_, v)| *v).collect();
                let (mean, sd) = sample_mean(&values).map_or((f64::NAN, None), |m| (m.mean, m.sd));
                Summary { name: name.clone(), mean, sd }
            })
            .collect();
        let must_hold = outcomes().flat_map(|o| &o.checks).all(|check| check.holds);
        Ok(Self {
            slug: study.slug,
            says: study.says,
            checks: study.checks,
            data: study.data,
            budget,
            verdict: together(claims.iter().map(|c| c.verdict)),
            must_hold,
            claims,
            summary,
            runs,
            notes,
            threads: rayon::current_num_threads(),
            seconds,
        })
    }
}

/// All claims together; without a claim nothing was decided.
fn together(verdicts: impl Iterator<Item = Verdict> + Clone) -> Verdict {
    let mut each = verdicts.clone();
    if each.any(|v| v == Verdict::NotReproduced) {
        Verdict::NotReproduced
    } else if verdicts.clone().count() > 0 && verdicts.clone().all(|v| v == Verdict::Reproduced) {
        Verdict::Reproduced
    } else {
        Verdict::Inconclusive
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::{Baseline, Better, Context};
    use foils::device::DeviceName;

    const CLAIM: Claim = Claim { says: "a beats b", metric: "a", baseline: Baseline::Metric("b"), margin: 0.01, better: Better::Higher };

    fn verdict(claim: Claim, pairs: &[(f64, f64)]) -> JudgedClaim {
        let outcomes: Vec<Outcome> =
            pairs.iter().map(|(a, b)| Outcome { measured: vec![("a".into(), *a), ("b".into(), *b)], ..Outcome::default() }).collect();
        JudgedClaim::new(claim, Study::differences(&claim, outcomes.iter()).unwrap()).unwrap()
    }

    #[test]
    fn the_verdict_follows_from_the_interval_of_the_paired_difference() {
        // The seeds differ far more than the pairs: only a paired comparison can see this.
        let judged = verdict(CLAIM, &[(0.55, 0.50), (0.755, 0.70), (0.95, 0.905)]);
        assert_eq!(judged.verdict, Verdict::Reproduced);
        let (low, high) = judged.interval.unwrap();
        // Differences .05, .055, .045: mean .05, sd .005, half width 4.30265 × .005 / √3.
        assert!((judged.mean - 0.05).abs() < 1e-12);
        assert!((high - low - 2.0 * 4.302_652_73 * 0.005 / 3f64.sqrt()).abs() < 1e-9);

        assert_eq!(verdict(CLAIM, &[(0.50, 0.55), (0.70, 0.755), (0.905, 0.95)]).verdict, Verdict::NotReproduced);
        assert_eq!(verdict(CLAIM, &[(0.55, 0.50), (0.70, 0.75), (0.95, 0.90)]).verdict, Verdict::Inconclusive);
        // Better in every seed, yet by less than the margin: refuted, not merely unclear.
        assert_eq!(verdict(CLAIM, &[(0.505, 0.50), (0.705, 0.70), (0.9051, 0.90)]).verdict, Verdict::NotReproduced);
        // One seed has no spread, however large the difference.
        let one = verdict(CLAIM, &[(0.9, 0.1)]);
        assert_eq!((one.verdict, one.interval), (Verdict::Inconclusive, None));
        // No difference at all beats nothing.
        let same = Claim { margin: 0.0, ..CLAIM };
        assert_eq!(verdict(same, &[(0.5, 0.5), (0.6, 0.6)]).verdict, Verdict::NotReproduced);
    }

    #[test]
    fn lower_is_better_and_constants_are_baselines_too() {
        let lower = Claim { better: Better::Lower, ..CLAIM };
        assert_eq!(verdict(lower, &[(0.50, 0.55), (0.70, 0.755), (0.905, 0.95)]).verdict, Verdict::Reproduced);
        let constant = Claim { baseline: Baseline::Value(0.3), ..CLAIM };
        let judged = verdict(constant, &[(0.5, 9.0), (0.51, 9.0), (0.52, 9.0)]);
        assert_eq!(judged.verdict, Verdict::Reproduced);
        assert!((judged.mean - 0.21).abs() < 1e-12);
    }

    #[test]
    fn claims_together_and_checks_are_reported_apart() {
        use Verdict::{Inconclusive, NotReproduced, Reproduced};
        assert_eq!(together([Reproduced, Reproduced].into_iter()), Reproduced);
        assert_eq!(together([Reproduced, Inconclusive].into_iter()), Inconclusive);
        assert_eq!(together([Inconclusive, NotReproduced].into_iter()), NotReproduced);
        assert_eq!(together(std::iter::empty()), Inconclusive);

        fn run(context: &Context, seed: u64) -> Result<Outcome> {
            context.note("rate", 0.5)?;
            let mut outcome = Outcome::default();
            outcome.measure("a", 0.5 + 0.01 * seed as f64);
            outcome.measure("b", 0.4 + 0.012 * seed as f64);
            outcome.check("seed below 3", seed < 3, format!("{seed}"));
            Ok(outcome)
        }
        let study = Study { slug: "x", says: "", checks: "", data: "", claims: &[CLAIM], run };
        let report = study.reproduce(1..3, Budget::Quick, DeviceName::Cpu).unwrap();
        assert!(report.must_hold);
        let report = study.reproduce(1..4, Budget::Quick, DeviceName::Cpu).unwrap();
        assert_eq!((report.verdict, report.must_hold), (Reproduced, false));
        assert!((report.summary[0].mean - 0.52).abs() < 1e-12 && (report.summary[0].sd.unwrap() - 0.01).abs() < 1e-12);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["verdict"], "reproduced");
        assert_eq!(json["claims"][0]["baseline"]["metric"], "b");
        assert_eq!(json["runs"][1]["outcome"]["measured"]["a"], 0.52);
        assert_eq!(json["notes"]["rate"], 0.5);
        assert!(study.reproduce(1..1, Budget::Quick, DeviceName::Cpu).is_err());
        assert!(study.reproduce(0..3, Budget::Quick, DeviceName::Cpu).unwrap_err().to_string().contains("seed 0"));
    }

    #[test]
    fn a_measurement_that_is_not_to_be_trusted_decides_nothing() {
        fn run(_: &Context, seed: u64) -> Result<Outcome> {
            let mut outcome = Outcome::default();
            for (name, value) in [("a", 0.9), ("b", 0.1), ("c", 0.1)] {
                outcome.measure(name, value);
            }
            if seed == 2 {
                outcome.doubt("b", "guessed");
            }
            Ok(outcome)
        }
        let other = Claim { baseline: Baseline::Metric("c"), ..CLAIM };
        let study = |claims| Study { slug: "x", says: "", checks: "", data: "", claims, run };
        const ONE: &[Claim] = &[CLAIM];
        let report = study(ONE).reproduce(1..4, Budget::Quick, DeviceName::Cpu).unwrap();
        assert_eq!((report.claims[0].verdict, report.verdict), (Verdict::Inconclusive, Verdict::Inconclusive));
        assert!((report.claims[0].mean - 0.8).abs() < 1e-12, "it is shown all the same");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["runs"][1]["outcome"]["unreliable"]["b"], "guessed");
        assert!(json["runs"][0]["outcome"].get("unreliable").is_none());
        let mut doubted = Outcome::default();
        doubted.doubt("b", "guessed");
        assert!(CLAIM.is_doubtful(&doubted) && !other.is_doubtful(&doubted));
        assert!(Claim { metric: "b", ..other }.is_doubtful(&doubted));
    }

    #[test]
    fn a_claim_on_what_was_not_measured_is_an_error() {
        let outcome = Outcome { measured: vec![("a".into(), f64::NAN)], ..Outcome::default() };
        let error = |claim| Study::differences(&claim, std::iter::once(&outcome)).unwrap_err().to_string();
        assert!(error(CLAIM).contains("`b`"));
        assert!(error(Claim { baseline: Baseline::Value(0.0), ..CLAIM }).contains("NaN"));
    }
}
