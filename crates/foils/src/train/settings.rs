//! What can be set about training.

use super::Decay;
use crate::device::DeviceName;
use crate::losses::{self, LossSettings, RankingLoss};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The settings of one training run; in a TOML file by these names, all optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// The objective, by its name in [`crate::losses`]: `mnrl`, `infonce`, `dcl`, `dclw`.
    pub loss: String,
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
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            loss: "mnrl".to_owned(),
            temperature: 0.05,
            epochs: 3,
            batch_size: 256,
            learning_rate: 0.0,
            warmup: 0.1,
            decay: Decay::default(),
            negatives_per_anchor: 3,
            validate_every: 0,
            patience: 4,
            seed: 0,
            max_minutes: 0.0,
            device: DeviceName::Cpu,
        }
    }
}

impl TrainSettings {
    /// The objective that these settings name.
    ///
    /// # Errors
    /// On an unknown name or a temperature that is not above 0.
    pub fn objective(&self) -> Result<Box<dyn RankingLoss>> {
        losses::by_name(&self.loss, &LossSettings { temperature: Some(self.temperature), ..LossSettings::default() })
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
    fn unusable_values_are_named() {
        let defaults = TrainSettings::default;
        for (bad, name) in [
            (TrainSettings { temperature: 0.0, ..defaults() }, "temperature is 0"),
            (TrainSettings { learning_rate: f64::NAN, ..defaults() }, "learning_rate is NaN"),
            (TrainSettings { warmup: 1.5, ..defaults() }, "warmup is 1.5"),
            (TrainSettings { epochs: 0, ..defaults() }, "epochs"),
            (TrainSettings { batch_size: 1, ..defaults() }, "batch_size is 1"),
            (TrainSettings { max_minutes: -1.0, ..defaults() }, "max_minutes is -1"),
        ] {
            assert!(bad.check().unwrap_err().to_string().contains(name), "{name}");
        }
        defaults().check().unwrap();
        assert!(defaults().objective().unwrap().describe().contains("20"));
        assert!(TrainSettings { loss: "hinge".into(), ..defaults() }.objective().err().unwrap().to_string().contains("hinge"));
    }
}
