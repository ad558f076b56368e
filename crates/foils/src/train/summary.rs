//! What training did: `train.json`.

use serde::{Deserialize, Serialize};

/// The account of one training run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TrainSummary {
    /// The settings, by name, as they were used.
    pub settings: serde_json::Value,
    /// Examples trained on.
    pub examples: usize,
    /// Examples that the batch sampler could not place (duplicates within every batch), in the last epoch.
    pub left_out: usize,
    /// Loss by step (thinned to at most 2,000 points).
    pub steps: Vec<StepRecord>,
    /// Validation by step.
    pub validations: Vec<Validation>,
    /// Validation nDCG@10 of the untuned encoder.
    pub untuned_ndcg: f64,
    /// Validation nDCG@10 of the best checkpoint.
    pub best_ndcg: f64,
    /// The step of the best checkpoint; 0 when the untuned encoder was kept.
    pub best_step: usize,
    /// False when no checkpoint beat the untuned encoder, which was then kept.
    pub improved: bool,
    /// Why training ended: `epochs`, `early stopping`, `time`.
    pub stopped: String,
    /// How many negatives an anchor really saw.
    pub negatives: NegativesSeen,
    /// Wall-clock seconds of training and of validation.
    pub seconds: std::collections::BTreeMap<String, f64>,
}

/// One optimiser step.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct StepRecord {
    /// From 1.
    pub step: usize,
    /// The batch's loss.
    pub loss: f64,
    /// The learning rate.
    pub learning_rate: f64,
}

/// One look at the validation queries.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Validation {
    /// After this step.
    pub step: usize,
    /// In epochs.
    pub epoch: f64,
    /// nDCG@10.
    pub ndcg: f64,
}

/// Effective negatives per anchor, averaged over all batches.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct NegativesSeen {
    /// Other examples' positives in the batch.
    pub in_batch: f64,
    /// The anchor's own mined negatives.
    pub own: f64,
    /// Other examples' mined negatives.
    pub others: f64,
    /// Candidates of earlier batches ([`super::TrainSettings::queue`]).
    #[serde(default)]
    pub queued: f64,
    /// Candidates masked because their text equals a positive of the anchor.
    pub masked: f64,
    /// Other candidates masked because the teacher finds them too near ([`super::TrainSettings::teacher`]), or because
    /// they are cancelled ([`super::TrainSettings::weights`]).
    #[serde(default)]
    pub masked_by_teacher: f64,
    /// What the loss really saw: in_batch + own + others + queued (masked ones already taken off).
    pub effective: f64,
}
