//! The form that every study has. A study is a constant [`Study`]: what the paper says, what is checked, on which data, the
//! [`Claim`]s that were fixed before any run, and a `run` that reads like a recipe and ends in an [`Outcome`] for one seed.
//! [`Study::reproduce`] runs it over seeds and computes the verdict; nobody types it in.

use crate::plot::Plot;
use burn::tensor::Device;
use foils::device::DeviceName;
use foils::progress::Progress;
use foils::{Error, Result};
use serde::{Serialize, Serializer};
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// One paper's study.
#[derive(Clone, Copy, Debug)]
pub struct Study {
    /// The paper's slug in the list of papers.
    pub slug: &'static str,
    /// What the paper says, in a sentence or two.
    pub says: &'static str,
    /// What is checked here.
    pub checks: &'static str,
    /// On which data.
    pub data: &'static str,
    /// What must come out better than what, by how much. Fixed before the run.
    pub claims: &'static [Claim],
    /// One seed, from data to measurements. What all seeds share goes through [`Context::once`].
    pub run: fn(&Context, u64) -> Result<Outcome>,
}

/// A metric that must beat a baseline by more than a margin.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Claim {
    /// The claim in words.
    pub says: &'static str,
    /// The measurement's name.
    pub metric: &'static str,
    /// What it must beat.
    pub baseline: Baseline,
    /// By more than this, in the metric's unit.
    pub margin: f64,
    /// Which way is better.
    pub better: Better,
}

/// What a metric is compared with.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// Another measurement of the same seed: the comparison is paired.
    Metric(&'static str),
    /// A constant.
    Value(f64),
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// The metric must lie above the baseline.
    Higher,
    /// The metric must lie below the baseline.
    Lower,
}

/// How much to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// As the study describes it.
    Full,
    /// The same recipe on so little data that it ends within a minute: for tests of the recipe, not of the paper.
    Quick,
}

/// What a run is given besides its seed.
pub struct Context {
    budget: Budget,
    device: DeviceName,
    shared: Mutex<HashMap<&'static str, Arc<dyn Any + Send + Sync>>>,
    notes: Mutex<BTreeMap<String, serde_json::Value>>,
}

impl Context {
    /// For one study.
    pub fn new(budget: Budget) -> Self {
        Self { budget, device: DeviceName::Cpu, shared: Mutex::default(), notes: Mutex::default() }
    }

    /// Training on this device instead of the CPU.
    #[must_use]
    pub fn on(mut self, device: DeviceName) -> Self {
        self.device = device;
        self
    }

    /// Where models are trained, with autodiff.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn device(&self) -> Result<Device> {
        Ok(self.device.open()?.autodiff())
    }

    /// `full` or `quick`, as the budget says.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        match self.budget {
            Budget::Full => full,
            Budget::Quick => quick,
        }
    }

    /// What all seeds share (data, settings that were searched on validation data): made at the first call, kept for the rest.
    ///
    /// # Errors
    /// What `make` returns.
    ///
    /// # Panics
    /// When one name is used for two types; that is a mistake in the study.
    pub fn once<T: Send + Sync + 'static>(&self, name: &'static str, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let held = self.shared.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let value = match held {
            Some(value) => value,
            None => {
                // Made outside the lock, so that `make` may itself ask for something shared.
                let value: Arc<dyn Any + Send + Sync> = Arc::new(make()?);
                self.shared.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::clone(&value));
                value
            }
        };
        Ok(value.downcast().unwrap_or_else(|_| panic!("`{name}` is shared under two types")))
    }

    /// Puts something that a reader should know into the report: settings that were searched, sizes, what was left out.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn note(&self, name: impl Into<String>, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value).map_err(|e| Error::invalid(format!("a note has no JSON form: {e}")))?;
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), value);
        Ok(())
    }

    /// A progress bar for people, over `total` steps.
    pub fn progress(&self, total: usize, doing: impl Into<String>) -> Progress {
        Progress::new(total as u64, doing)
    }
}

/// What one seed gave.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Measurements by name, in the order in which they were made.
    #[serde(serialize_with = "as_map")]
    pub measured: Vec<(String, f64)>,
    /// What must hold whatever the data: identities, monotonicities of the mechanism.
    pub checks: Vec<Check>,
    /// What is worth seeing. The report draws those of the first seed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plots: Vec<Plot>,
    /// Measurements that are not to be trusted, and why. A claim on one of them is inconclusive.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unreliable: BTreeMap<String, String>,
}

/// Something that must hold. If it does not, the implementation or the paper's mathematics is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// In words, the same for every seed.
    pub says: String,
    /// Whether it holds.
    pub holds: bool,
    /// The figures.
    pub found: String,
}

impl Outcome {
    /// Adds a measurement.
    pub fn measure(&mut self, name: impl Into<String>, value: f64) {
        self.measured.push((name.into(), value));
    }

    /// Says that a measurement is not to be trusted: it is shown, and decides no claim.
    pub fn doubt(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.unreliable.insert(name.into(), why.into());
    }

    /// Adds a check with the figures that decided it.
    pub fn check(&mut self, says: impl Into<String>, holds: bool, found: impl Into<String>) {
        self.checks.push(Check { says: says.into(), holds, found: found.into() });
    }

    /// Adds a plot.
    pub fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    fn value(&self, name: &str) -> Result<f64> {
        match self.measured.iter().find(|(n, _)| n == name) {
            Some((_, value)) if value.is_finite() => Ok(*value),
            Some((_, value)) => Err(Error::invalid(format!("the measurement `{name}` is {value}"))),
            None => Err(Error::invalid(format!("the claim names the measurement `{name}`, which the run does not make"))),
        }
    }
}

fn as_map<S: Serializer>(pairs: &[(String, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

impl Claim {
    /// Whether a measurement that it uses is not to be trusted.
    pub(crate) fn is_doubtful(&self, outcome: &Outcome) -> bool {
        let of_baseline = matches!(self.baseline, Baseline::Metric(name) if outcome.unreliable.contains_key(name));
        of_baseline || outcome.unreliable.contains_key(self.metric)
    }

    /// How far the metric beats the baseline in one seed (positive is better), without the margin.
    fn difference(&self, outcome: &Outcome) -> Result<f64> {
        let baseline = match self.baseline {
            Baseline::Metric(name) => outcome.value(name)?,
            Baseline::Value(value) => value,
        };
        let difference = outcome.value(self.metric)? - baseline;
        Ok(if self.better == Better::Higher { difference } else { -difference })
    }
}

impl Study {
    /// Runs `seeds` on `device` and judges the claims. Verdicts that are told come from 1..4; seed 0 is left to searches on validation
    /// data, and who changes a recipe tries it on seeds beyond those that will judge it.
    ///
    /// # Errors
    /// What the run returns; no seeds, or seed 0 among them; a device that is not to be had.
    pub fn reproduce(&self, seeds: Range<u64>, budget: Budget, device: DeviceName) -> Result<super::report::Report> {
        if seeds.is_empty() {
            return Err(Error::invalid("0 seeds asked for; at least 1 is needed, and a verdict needs 2"));
        }
        if seeds.contains(&0) {
            return Err(Error::invalid("seed 0 is for searches on validation data; it judges nothing"));
        }
        let context = Context::new(budget).on(device);
        context.device()?;
        let started = Instant::now();
        let mut runs = Vec::new();
        for seed in seeds {
            let began = Instant::now();
            let outcome = (self.run)(&context, seed)?;
            runs.push(super::report::SeedRun { seed, outcome, seconds: began.elapsed().as_secs_f64() });
        }
        let notes = context.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
        super::report::Report::new(self, budget, runs, notes, started.elapsed().as_secs_f64())
    }

    /// The paired differences of a claim over `outcomes`.
    pub(crate) fn differences<'a>(claim: &Claim, outcomes: impl Iterator<Item = &'a Outcome>) -> Result<Vec<f64>> {
        outcomes.map(|outcome| claim.difference(outcome)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_made_once_and_a_failure_is_not_kept() {
        let context = Context::new(Budget::Quick);
        assert!(context.once::<u32>("n", || Err(Error::invalid("no"))).is_err());
        let mut made = 0;
        for _ in 0..3 {
            let value = context.once("n", || {
                made += 1;
                context.once("inner", || Ok(41u32)).map(|inner| *inner + 1)
            });
            assert_eq!(*value.unwrap(), 42);
        }
        assert_eq!((made, context.pick("full", "quick")), (1, "quick"));
    }
}
