//! What can be set about training.

use super::weights::check_weights;
use super::{Decay, WeightSettings};
use crate::device::DeviceName;
use crate::losses::{self, LossSettings, RankingLoss};
use crate::nn::Precision;
use crate::weighting::NegativeFilter;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the margin of a teacher is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarginKind {
    /// A difference of similarities.
    #[default]
    Absolute,
    /// A share of the positive's similarity, whatever its sign.
    Relative,
}

impl MarginKind {
    fn is_absolute(&self) -> bool {
        *self == Self::Absolute
    }
}

/// The settings of one training run; in a TOML file by these names, all optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// The objective, one of [`crate::losses::NAMES`].
    pub loss: String,
    /// Its hyper-parameters, but for the temperatures, which are settings of their own.
    #[serde(skip_serializing_if = "is_default")]
    pub loss_settings: LossSettings,
    /// Softmax temperature: cosine similarities are divided by it.
    pub temperature: f64,
    /// Passes over the examples.
    pub epochs: usize,
    /// Examples in a batch; each anchor sees the other examples' positives as negatives.
    pub batch_size: usize,
    /// The peak learning rate; 0: what suits the encoder ([`crate::models::Trainable::learning_rate`]).
    pub learning_rate: f64,
    /// Share of all steps in which the learning rate rises to its peak.
    pub warmup: f64,
    /// How it falls afterwards.
    pub decay: Decay,
    /// Mined negatives used for each anchor in each epoch, drawn anew where an example has more; 0: in-batch negatives only.
    pub negatives_per_anchor: usize,
    /// So many candidates of earlier batches are negatives too, with the vectors that they had then; 0: none.
    #[serde(skip_serializing_if = "is_default")]
    pub queue: usize,
    /// How much a candidate counts against an anchor that it may be related to: `HOW:RELEVANCE`. How: `soft-infonce` (less weight, for
    /// losses with a denominator), `cancel-top-k` or `cancel-ratio` (none). Relevance: `bm25` between the anchors' texts (of a mined negative
    /// its own), an encoder's cosine of anchor and candidate, or with `queries:` before the encoder of anchor and anchor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Hyper-parameters of the weights.
    #[serde(skip_serializing_if = "is_default")]
    pub weight_settings: WeightSettings,
    /// Steps between validations; 0: ten validations over the run.
    pub validate_every: usize,
    /// Stop after this many validations without a new best; 0: never.
    pub patience: usize,
    /// Fixes the batches and all that is drawn.
    pub seed: u64,
    /// Stop after this many minutes; 0: no limit.
    pub max_minutes: f64,
    /// Where vectors, losses and dense layers are computed. A token table and its optimiser stay in memory on every device.
    #[serde(skip_serializing_if = "DeviceName::is_cpu")]
    pub device: DeviceName,
    /// How exactly transformers multiply f32 on a processor that knows of less than f32 (x86-64 with AMX, where `high` is what is
    /// done unless said otherwise): `highest`, `high` (each as two bf16) or `medium` (bf16).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// A second encoder, by its name or folder ([`crate::models::load`]), `bm25` for the words of the anchors (as in
    /// [`TrainSettings::weights`]), or `file` for the scores that the examples have. For the
    /// losses `margin-mse`, `kl`, `weighted-infonce`, `bce-infonce` and `kl-infonce` its scores are what is learned. With any other loss it turns candidates away, as GISTEmbed does
    /// (Solatorio 2024, arXiv 2402.16829): one whose similarity to the anchor is above the positive's less the margin does not
    /// count against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// The margin; 0 where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_margin: Option<f64>,
    /// What the margin is.
    #[serde(skip_serializing_if = "MarginKind::is_absolute")]
    pub teacher_margin_kind: MarginKind,
    /// Losses that learn the teacher's scores divide them by it; where it is not given by 1, and for `kl` by the temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_temperature: Option<f64>,
    /// A folder for the teacher's vectors ([`crate::models::EmbeddingCache`]); not in the file, since it changes nothing.
    #[serde(skip)]
    pub embedding_cache: Option<PathBuf>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            loss: "mnrl".to_owned(),
            loss_settings: LossSettings::default(),
            temperature: 0.05,
            epochs: 3,
            batch_size: 256,
            learning_rate: 0.0,
            warmup: 0.1,
            decay: Decay::default(),
            negatives_per_anchor: 3,
            queue: 0,
            weights: None,
            weight_settings: WeightSettings::default(),
            validate_every: 0,
            patience: 4,
            seed: 0,
            max_minutes: 0.0,
            device: DeviceName::Cpu,
            precision: None,
            teacher: None,
            teacher_margin: None,
            teacher_margin_kind: MarginKind::default(),
            teacher_temperature: None,
            embedding_cache: None,
        }
    }
}

impl TrainSettings {
    /// The name of the teacher that stands for the scores that the examples have.
    pub const SCORES_OF_THE_FILE: &str = "file";
    /// The name of the teacher that compares words.
    pub const WORDS: &str = "bm25";

    /// The objective that these settings name.
    ///
    /// # Errors
    /// On an unknown name, a temperature that is not above 0, or a loss that needs a teacher when none is named.
    pub fn objective(&self) -> Result<Box<dyn RankingLoss>> {
        let (temperature, teacher_temperature) = (Some(self.temperature), self.teacher_temperature);
        let more = &self.loss_settings;
        if more.temperature.is_some() || more.scale.is_some() || more.teacher_temperature.is_some() {
            return Err(Error::invalid("loss_settings holds a temperature or scale: give temperature and teacher_temperature beside it"));
        }
        let loss = losses::by_name(&self.loss, &LossSettings { temperature, teacher_temperature, ..more.clone() })?;
        self.check_teacher(&*loss)?;
        check_weights(self, &*loss)?;
        self.check_negatives(&*loss, false)?;
        Ok(loss)
    }

    /// Whether negatives beside the batch's positives, `mined` ones or a queue, have a meaning for the loss.
    pub(super) fn check_negatives(&self, loss: &dyn RankingLoss, mined: bool) -> Result<()> {
        let mined = mined && self.negatives_per_anchor > 0;
        if loss.takes_negatives() || !mined && self.queue == 0 {
            return Ok(());
        }
        let (what, instead) = if mined { ("mined negatives have", "negatives_per_anchor") } else { ("a queue has", "queue") };
        let name = loss.describe();
        Err(Error::invalid(format!("{what} no meaning for {name}: it knows anchors and their positives only; set {instead} to 0")))
    }

    /// Whether the teacher and what is said of it fit the loss.
    pub(super) fn check_teacher(&self, loss: &dyn RankingLoss) -> Result<()> {
        let invalid = |message: String| Err(Error::invalid(message));
        let name = loss.describe();
        match (&self.teacher, self.teacher_margin, self.teacher_temperature) {
            (None, ..) if loss.needs_teacher() => invalid(format!(
                "{name} learns from a teacher's scores: name a teacher, an encoder or `file` for the scores in the examples"
            )),
            (None, Some(margin), _) => invalid(format!("teacher_margin is {margin}, and no teacher is named")),
            (None, _, Some(t)) => invalid(format!("teacher_temperature is {t}, and no teacher is named")),
            (Some(teacher), ..) if !loss.needs_teacher() && !loss.takes_exclusions() => invalid(format!(
                "teacher {teacher:?} has no meaning for {name}: it compares no anchor with candidates that could be turned away"
            )),
            (Some(_), Some(margin), _) if loss.needs_teacher() => {
                invalid(format!("teacher_margin is {margin}, and {name} turns no candidate away: it learns the teacher's scores"))
            }
            (Some(_), _, Some(t)) if !loss.needs_teacher() => {
                invalid(format!("teacher_temperature is {t}, and {name} does not learn the teacher's scores; margin-mse and kl do"))
            }
            _ => Ok(()),
        }
    }

    /// Which candidates the teacher turns away.
    pub(super) fn teacher_filter(&self) -> NegativeFilter {
        let margin = Some(self.teacher_margin.unwrap_or(0.0));
        match self.teacher_margin_kind {
            MarginKind::Absolute => NegativeFilter { absolute_margin: margin, ..NegativeFilter::default() },
            MarginKind::Relative => NegativeFilter { relative_margin: margin, ..NegativeFilter::default() },
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Names the first setting that cannot be used, and its value.
    pub fn check(&self) -> Result<()> {
        let positive = |name: &str, value: f64| {
            if value > 0.0 && value.is_finite() {
                Ok(())
            } else {
                Err(Error::invalid(format!("{name} is {value}; a finite number above 0 is needed")))
            }
        };
        positive("temperature", self.temperature)?;
        self.teacher_temperature.map_or(Ok(()), |t| positive("teacher_temperature", t))?;
        if let Some(margin) = self.teacher_margin.filter(|m| !m.is_finite()) {
            return Err(Error::invalid(format!("teacher_margin is {margin}; a finite number is needed")));
        }
        if self.learning_rate != 0.0 {
            positive("learning_rate", self.learning_rate)?;
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return Err(Error::invalid(format!("warmup is {}; a share of the steps from 0 to 1 is needed", self.warmup)));
        }
        if self.epochs == 0 {
            return Err(Error::invalid("epochs is 0; at least 1 is needed"));
        }
        if self.batch_size < 2 {
            return Err(Error::invalid(format!("batch_size is {}; at least 2 is needed", self.batch_size)));
        }
        if self.max_minutes < 0.0 || !self.max_minutes.is_finite() {
            return Err(Error::invalid(format!("max_minutes is {}; 0 (no limit) or more is needed", self.max_minutes)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_sets_some_and_defaults_the_rest_and_unknown_names_are_refused() {
        let settings: TrainSettings = toml::from_str("loss = \"dclw\"\ndecay = \"cosine\"\nepochs = 7\ndevice = \"cuda:1\"").unwrap();
        assert_eq!(
            settings,
            TrainSettings { loss: "dclw".into(), decay: Decay::Cosine, epochs: 7, device: DeviceName::Cuda(1), ..TrainSettings::default() }
        );
        assert!(toml::from_str::<TrainSettings>("epoch = 7").unwrap_err().to_string().contains("epoch"));
        assert!(toml::from_str::<TrainSettings>("device = \"tpu\"").unwrap_err().to_string().contains("\"tpu\""));
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<TrainSettings>(&text).unwrap(), settings);
    }

    #[test]
    fn negatives_have_a_meaning_only_for_losses_that_know_them() {
        let twins = TrainSettings { loss: "barlow-twins".into(), ..TrainSettings::default() };
        let loss = twins.objective().unwrap();
        let refused = twins.check_negatives(&*loss, true).unwrap_err().to_string();
        assert!(
            refused.contains("mined negatives have no meaning for BarlowTwins") && refused.contains("negatives_per_anchor"),
            "{refused}"
        );
        TrainSettings { negatives_per_anchor: 0, ..twins.clone() }.check_negatives(&*loss, true).unwrap();
        let queued = TrainSettings { queue: 64, ..twins.clone() };
        assert!(queued.objective().err().unwrap().to_string().contains("a queue has no meaning"));
        let teacher = TrainSettings { teacher: Some("minilm".into()), ..twins };
        assert!(teacher.objective().err().unwrap().to_string().contains("turned away"));
    }

    #[test]
    fn unusable_values_are_named() {
        let defaults = TrainSettings::default;
        for (bad, name) in [
            (TrainSettings { temperature: 0.0, ..defaults() }, "temperature is 0"),
            (TrainSettings { learning_rate: f64::NAN, ..defaults() }, "learning_rate is NaN"),
            (TrainSettings { warmup: 1.5, ..defaults() }, "warmup is 1.5"),
            (TrainSettings { epochs: 0, ..defaults() }, "epochs"),
            (TrainSettings { batch_size: 1, ..defaults() }, "batch_size is 1"),
            (TrainSettings { max_minutes: -1.0, ..defaults() }, "max_minutes is -1"),
            (TrainSettings { teacher_margin: Some(f64::NAN), ..defaults() }, "teacher_margin is NaN"),
            (TrainSettings { teacher_temperature: Some(0.0), ..defaults() }, "teacher_temperature is 0"),
        ] {
            assert!(bad.check().unwrap_err().to_string().contains(name), "{name}");
        }
        defaults().check().unwrap();
        assert!(defaults().objective().unwrap().describe().contains("20"));
        assert!(TrainSettings { loss: "hinge".into(), ..defaults() }.objective().err().unwrap().to_string().contains("hinge"));
    }

    #[test]
    fn a_teacher_and_what_is_said_of_it_must_fit_the_loss() {
        let settings: TrainSettings =
            toml::from_str("teacher = \"minilm\"\nteacher_margin = 0.05\nteacher_margin_kind = \"relative\"").unwrap();
        assert_eq!((settings.teacher.as_deref(), settings.teacher_margin_kind), (Some("minilm"), MarginKind::Relative));
        assert_eq!(settings.teacher_filter().relative_margin, Some(0.05));
        settings.objective().unwrap();
        assert_eq!(toml::from_str::<TrainSettings>(&toml::to_string(&settings).unwrap()).unwrap(), settings);
        let gist = TrainSettings { teacher_margin: None, teacher_margin_kind: MarginKind::Absolute, ..settings.clone() };
        assert_eq!(gist.teacher_filter().absolute_margin, Some(0.0));

        let kl = TrainSettings { loss: "kl".into(), teacher_margin: None, ..settings.clone() };
        assert_eq!(kl.objective().unwrap().describe(), "DistillKL(temperature 0.05, teacher temperature 0.05, cosine)");
        for (bad, words) in [
            (TrainSettings { teacher: None, ..kl.clone() }, "DistillKL(temperature 0.05, teacher temperature 0.05, cosine) learns"),
            (TrainSettings { loss: "margin-mse".into(), ..settings.clone() }, "turns no candidate away"),
            (TrainSettings { teacher_temperature: Some(2.0), ..settings.clone() }, "teacher_temperature is 2"),
            (TrainSettings { teacher: None, ..settings.clone() }, "teacher_margin is 0.05, and no teacher"),
            (TrainSettings { teacher_temperature: Some(2.0), ..TrainSettings::default() }, "no teacher is named"),
        ] {
            let message = bad.objective().err().unwrap().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
