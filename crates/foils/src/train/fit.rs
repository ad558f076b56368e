//! The training loop.

use super::candidates::{Assembler, Batch, Counts};
use super::checkpoint::{Checkpoints, Keeper, Saved, run_digest};
use super::queue::Queue;
use super::teacher::Teacher;
use super::validation::ValidationSet;
use super::weights::Weigher;
use super::{BatchSampler, Epoch, EventWriter, Schedule, StepRecord, TrainSettings, TrainSummary, TrainingSet, Validation};
use crate::data::{Collection, Example};
use crate::losses::RankingLoss;
use crate::models::{Role, Trainable, prompted};
use crate::progress::Progress;
use crate::{Error, Result, seed};
use burn::tensor::{Device, Tensor, TensorData};
use std::path::Path;
use std::time::{Duration, Instant};

/// Validations over a run when [`TrainSettings::validate_every`] is 0.
const VALIDATIONS: usize = 10;
/// Points of the loss curve that a summary keeps.
const POINTS: usize = 2000;

/// What a run writes on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunFiles<'a> {
    /// The folder for a TensorBoard event file with the curves. A run that goes on from a checkpoint adds another file.
    pub logs: Option<&'a Path>,
    /// Where the run can go on when it is stopped.
    pub checkpoints: Option<&'a Checkpoints>,
}

/// Trains `model` on `train` and leaves it with the weights of the best checkpoint by nDCG@10 on `validation`; when none beats
/// the untuned encoder, with the weights that it came with (and [`TrainSummary::improved`] false).
///
/// Each batch holds one positive and up to [`TrainSettings::negatives_per_anchor`] mined negatives of each of its examples;
/// every candidate serves every anchor, except that candidates whose text equals any positive that the training examples give
/// to the anchor are masked ([`crate::losses::Targets::excluded`]) and counted. Batches come from [`BatchSampler`].
/// With a queue ([`TrainSettings::queue`]) the candidates of earlier batches follow, as vectors without a graph. A teacher ([`TrainSettings::teacher`]), or
/// an encoder that weighs ([`TrainSettings::weights`]), embeds every training text once, at the start. What is written on the way, and from where a run
/// goes on that was stopped, is in [`RunFiles`].
///
/// The loss is computed on [`TrainSettings::device`]; the same seed, data, settings and number of threads give on the CPU the same weights to the bit, unless `max_minutes` cuts the run.
///
/// # Errors
/// On unusable settings, examples or texts (named), a teacher that is missing or has no scores, an empty validation set, and a loss
/// or gradient that is not finite (the step is named); the weights are then those of the best checkpoint so far.
pub fn fit(
    model: &mut dyn Trainable,
    train: &[Example],
    validation: &Collection,
    loss: &dyn RankingLoss,
    settings: &TrainSettings,
    run_files: &RunFiles,
) -> Result<TrainSummary> {
    settings.check()?;
    let settings = &with_learning_rate(settings, model.learning_rate());
    let device = settings.device.open()?.autodiff();
    let description = describe(settings, loss)?;
    let opened =
        run_files.checkpoints.map(|settings| Keeper::open(settings, run_digest(&description, train, validation, model))).transpose()?;
    let (keeper, saved) = opened.map_or((None, None), |(keeper, saved)| (Some(keeper), saved));
    let mut clock = Clock::start(saved.as_ref().map_or_else(Default::default, |saved| saved.seconds.clone()));
    let mut set = TrainingSet::new(train)?;
    settings.check_negatives(loss, train.iter().any(|example| !example.negatives.is_empty()))?;
    if (0..validation.qrels.len()).all(|q| validation.qrels.of(q).is_empty()) {
        return Err(Error::invalid("the validation set has no query with a relevant document: no checkpoint could be chosen"));
    }
    let sampler = BatchSampler::new(&set, settings.batch_size)?;
    let validation = ValidationSet::new(validation, &mut set);
    let total: usize = (0..settings.epochs).map(|e| sampler.epoch(settings.seed, e).len()).sum();
    if total == 0 {
        return Err(Error::invalid("all training examples share their texts, so that no two can be in one batch"));
    }
    let documents_from = prepare(model, set.texts())?;
    let validation = validation.with_documents_from(documents_from);
    clock.lap("prepare");
    let teacher = Teacher::new(settings, loss, train, &set)?;
    let weigher = Weigher::new(settings, loss, &set)?;
    if teacher.is_some() || weigher.is_some() {
        clock.lap("teacher");
    }
    let log = run_files.logs.map(EventWriter::create).transpose()?;
    let mut run = Run {
        untuned: model.snapshot(),
        best: None,
        since_best: 0,
        model,
        assembler: Assembler { set: &set, teacher, weigher, negatives: settings.negatives_per_anchor },
        queue: Queue::new(settings.queue),
        loss,
        settings,
        validation,
        documents_from,
        schedule: Schedule::new(settings.learning_rate, settings.warmup, total, settings.decay),
        every: if settings.validate_every > 0 { settings.validate_every } else { total.div_ceil(VALIDATIONS) },
        total,
        device,
        log,
        progress: Progress::new(total as u64, "training"),
        clock,
        counts: Counts::default(),
        summary: TrainSummary { settings: description, examples: set.len(), ..TrainSummary::default() },
        keeper,
        resumed: 0,
    };
    if let Some(saved) = saved {
        run.go_on(saved)?;
    }
    let result = run.all_epochs(&sampler);
    let best = run.best.as_ref().unwrap_or(&run.untuned);
    run.model.restore(best)?;
    result?;
    Ok(run.finish())
}

/// Prepares the texts. A model that wants to see something else before queries than before documents gets each text twice, and the
/// second ones begin at the number that is returned.
fn prepare(model: &mut dyn Trainable, texts: &[&str]) -> Result<u32> {
    let [query, document] = [Role::Query, Role::Document].map(|role| model.prompts().map_or("", |p| p.of(role)).to_owned());
    let mut all = prompted(&query, texts);
    let documents_from = if query == document { 0 } else { all.len() };
    if documents_from > 0 {
        all.extend(prompted(&document, texts));
    }
    model.prepare(&all.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
    u32::try_from(documents_from).map_err(|_| Error::invalid("there are more than 2^32 texts"))
}

/// The settings with a learning rate of 0 replaced.
fn with_learning_rate(settings: &TrainSettings, suits: f64) -> TrainSettings {
    let learning_rate = if settings.learning_rate == 0.0 { suits } else { settings.learning_rate };
    TrainSettings { learning_rate, ..settings.clone() }
}

fn describe(settings: &TrainSettings, loss: &dyn RankingLoss) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(settings).map_err(|e| Error::invalid(format!("the settings have no JSON form: {e}")))?;
    value["objective"] = loss.describe().into();
    Ok(value)
}

/// Wall-clock seconds by part.
struct Clock {
    before: Duration,
    started: Instant,
    last: Instant,
    parts: std::collections::BTreeMap<String, f64>,
}

impl Clock {
    /// After the seconds of earlier processes.
    fn start(parts: std::collections::BTreeMap<String, f64>) -> Self {
        let now = Instant::now();
        Self { before: Duration::from_secs_f64(parts.values().sum()), started: now, last: now, parts }
    }

    fn elapsed(&self) -> Duration {
        self.before + self.started.elapsed()
    }

    /// Books the time since the last lap to `part`.
    fn lap(&mut self, part: &str) {
        let now = Instant::now();
        *self.parts.entry(part.to_owned()).or_default() += (now - self.last).as_secs_f64();
        self.last = now;
    }
}

/// Why the loop goes on or ends.
enum Next {
    GoOn,
    Stop(&'static str),
}

struct Run<'a> {
    model: &'a mut dyn Trainable,
    assembler: Assembler<'a>,
    queue: Queue,
    loss: &'a dyn RankingLoss,
    settings: &'a TrainSettings,
    validation: ValidationSet<'a>,
    /// Where the prepared texts begin that are documents.
    documents_from: u32,
    schedule: Schedule,
    every: usize,
    total: usize,
    device: Device,
    log: Option<EventWriter>,
    progress: Progress,
    clock: Clock,
    untuned: Vec<u8>,
    /// Weights of the best checkpoint that beat the untuned encoder.
    best: Option<Vec<u8>>,
    since_best: usize,
    counts: Counts,
    summary: TrainSummary,
    keeper: Option<Keeper>,
    /// The step of the checkpoint that the run goes on from.
    resumed: usize,
}

impl Run<'_> {
    /// Puts everything as it was when the checkpoint was written.
    fn go_on(&mut self, saved: Saved) -> Result<()> {
        self.model.set_training_state(&saved.model)?;
        self.progress.println(format!("going on after step {} of {}, from a checkpoint", saved.step, self.total));
        self.progress.inc(saved.step as u64);
        self.resumed = saved.step;
        (self.best, self.since_best, self.counts, self.queue) = (saved.best, saved.since_best, saved.counts, saved.queue);
        (self.summary.steps, self.summary.validations) = (saved.steps, saved.validations);
        (self.summary.untuned_ndcg, self.summary.best_ndcg, self.summary.best_step) =
            (saved.untuned_ndcg, saved.best_ndcg, saved.best_step);
        Ok(())
    }

    fn checkpoint(&mut self, step: usize) -> Result<()> {
        let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.is_due()) else { return Ok(()) };
        keeper.write(Saved {
            run: 0,
            step,
            model: self.model.training_state(),
            best: self.best.clone(),
            since_best: self.since_best,
            counts: self.counts,
            queue: self.queue.clone(),
            steps: self.summary.steps.clone(),
            validations: self.summary.validations.clone(),
            untuned_ndcg: self.summary.untuned_ndcg,
            best_ndcg: self.summary.best_ndcg,
            best_step: self.summary.best_step,
            seconds: self.clock.parts.clone(),
        })?;
        self.clock.lap("checkpoint");
        Ok(())
    }

    fn all_epochs(&mut self, sampler: &BatchSampler) -> Result<()> {
        if self.resumed == 0 {
            self.validate(0, 0.0)?;
        }
        let mut step = 0;
        for number in 0..self.settings.epochs {
            let epoch = sampler.epoch(self.settings.seed, number);
            self.summary.left_out = epoch.left_out();
            if step + epoch.len() <= self.resumed {
                step += epoch.len();
                continue;
            }
            if let Next::Stop(why) = self.one_epoch(&epoch, number, &mut step)? {
                self.summary.stopped = why.to_owned();
                return Ok(());
            }
        }
        self.summary.stopped = "epochs".to_owned();
        Ok(())
    }

    fn one_epoch(&mut self, epoch: &Epoch, number: usize, step: &mut usize) -> Result<Next> {
        // Streams of the seed: 2·epoch shuffles, 2·epoch + 1 draws positives and negatives.
        let mut rng = seed::rng(self.settings.seed, 2 * number as u64 + 1);
        for b in 0..epoch.len() {
            *step += 1;
            let stopped = |e: Error| Error::invalid(format!("training stopped at step {step}: {e}"));
            let batch = self.assembler.batch(epoch.batch(b), &self.queue, &mut rng).map_err(stopped)?;
            if *step <= self.resumed {
                // An earlier process has done it; only what is drawn for it counts here.
                continue;
            }
            let loss = self.one_step(&batch, *step).map_err(stopped)?;
            self.clock.lap("train");
            let over_time =
                self.settings.max_minutes > 0.0 && self.clock.elapsed() > Duration::from_secs_f64(60.0 * self.settings.max_minutes);
            if step.is_multiple_of(self.every) || *step == self.total || over_time {
                self.validate(*step, number as f64 + (b + 1) as f64 / epoch.len() as f64)?;
            }
            let ndcg = self.summary.validations.last().map_or(0.0, |v| v.ndcg);
            self.progress.say(format!("epoch {}/{} loss {loss:.4} nDCG@10 {ndcg:.4}", number + 1, self.settings.epochs));
            self.progress.inc(1);
            if over_time && *step < self.total {
                return Ok(Next::Stop("time"));
            }
            if self.settings.patience > 0 && self.since_best >= self.settings.patience && *step < self.total {
                return Ok(Next::Stop("early stopping"));
            }
            self.checkpoint(*step)?;
        }
        Ok(Next::GoOn)
    }

    fn one_step(&mut self, batch: &Batch, step: usize) -> Result<f64> {
        let rate = self.schedule.at(step);
        let dropout = self.settings.seed.wrapping_add(2 * step as u64);
        let anchors = self.model.forward(&batch.anchors, &self.device, dropout)?;
        let candidates: Vec<u32> = batch.candidates.iter().map(|c| c + self.documents_from).collect();
        let candidates = self.model.forward(&candidates, &self.device, dropout.wrapping_add(1))?;
        let fresh = (self.settings.queue > 0).then(|| candidates.clone().inner());
        let candidates = if self.queue.len() == 0 {
            candidates
        } else {
            let queued = TensorData::new(self.queue.vectors(), [self.queue.len(), candidates.dims()[1]]);
            Tensor::cat(vec![candidates, Tensor::from_data(queued, &self.device)], 0)
        };
        let loss = self.loss.forward(anchors, candidates, &batch.targets)?;
        let value = loss.clone().into_scalar::<f64>();
        if !value.is_finite() {
            let hint = "a lower learning rate or a higher temperature may help";
            return Err(Error::invalid(format!("the loss is {value} at learning rate {rate}; {hint}")));
        }
        self.model.step(&mut loss.backward(), rate)?;
        if let Some(fresh) = fresh {
            let vectors: Vec<f32> = fresh.into_data().iter().collect();
            self.queue.push(batch.candidates.iter().copied().zip(batch.keys.iter().copied()), &vectors);
        }
        self.counts.add(batch.counts);
        self.summary.steps.push(StepRecord { step, loss: value, learning_rate: rate });
        if let Some(log) = &mut self.log {
            log.scalar("train/loss", step, value)?;
            log.scalar("train/learning_rate", step, rate)?;
        }
        Ok(value)
    }

    /// Looks at the validation queries and keeps the weights if they are the best so far.
    fn validate(&mut self, step: usize, epoch: f64) -> Result<()> {
        let ndcg = self.validation.ndcg(&*self.model)?;
        self.summary.validations.push(Validation { step, epoch, ndcg });
        if step == 0 {
            (self.summary.untuned_ndcg, self.summary.best_ndcg) = (ndcg, ndcg);
        } else if ndcg > self.summary.best_ndcg {
            (self.summary.best_ndcg, self.summary.best_step) = (ndcg, step);
            self.best = Some(self.model.snapshot());
            self.since_best = 0;
        } else {
            self.since_best += 1;
        }
        if let Some(log) = &mut self.log {
            log.scalar("validation/ndcg@10", step, ndcg)?;
            log.flush()?;
        }
        self.clock.lap("validate");
        Ok(())
    }

    fn finish(mut self) -> TrainSummary {
        self.summary.improved = self.best.is_some();
        self.summary.negatives = self.counts.per_anchor();
        let (all, kept) = (std::mem::take(&mut self.summary.steps), POINTS);
        let (count, stride) = (all.len(), all.len().div_ceil(kept).max(1));
        // The last step is always among them.
        self.summary.steps = all.into_iter().filter(|s| (count - s.step).is_multiple_of(stride)).collect();
        self.clock.lap("train");
        self.summary.seconds = std::mem::take(&mut self.clock.parts);
        if !self.summary.improved {
            let best = self.summary.validations[1..].iter().map(|v| v.ndcg).fold(f64::NEG_INFINITY, f64::max);
            self.progress.println(format!(
                "no checkpoint beat the untuned encoder on the validation queries (nDCG@10 {:.4}, best checkpoint {best:.4}): the untuned encoder is kept",
                self.summary.untuned_ndcg
            ));
        }
        self.summary
    }
}

#[cfg(test)]
mod tests;
