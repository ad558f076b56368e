//! Losses by name, for commands and settings files.

use super::{Dcl, Dclw, DistillKl, InfoNce, MarginMse, MultipleNegativesRanking, RankingLoss, Similarity};
use crate::{Error, Result, check};
use serde::{Deserialize, Serialize};

/// The names that [`by_name`] knows.
pub const NAMES: [&str; 6] = ["mnrl", "infonce", "dcl", "dclw", "margin-mse", "kl"];

/// Hyper-parameters of the losses that can be picked by name; each takes what it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossSettings {
    /// τ, the divisor of similarities; 0.05 when neither it nor `scale` is given.
    pub temperature: Option<f64>,
    /// 1/τ; only one of the two may be given.
    pub scale: Option<f64>,
    /// Margin-MSE and KL: the divisor of the teacher's scores; when it is not given 1 for margin-MSE, and for KL τ.
    pub teacher_temperature: Option<f64>,
    /// DCLW: σ of the weights.
    pub sigma: f64,
    /// Cosine or inner product.
    pub similarity: Similarity,
    /// InfoNCE: positives look for their anchors too.
    pub symmetric: bool,
}

impl Default for LossSettings {
    fn default() -> Self {
        Self { temperature: None, scale: None, teacher_temperature: None, sigma: 0.5, similarity: Similarity::Cosine, symmetric: false }
    }
}

impl LossSettings {
    /// 1/τ.
    ///
    /// # Errors
    /// When both forms are given or the value is not a finite number above 0.
    pub fn scale(&self) -> Result<f64> {
        match (self.temperature, self.scale) {
            (Some(t), Some(s)) => Err(Error::invalid(format!("temperature {t} and scale {s} are both given: scale is 1/temperature"))),
            (Some(t), None) => Ok(1.0 / check::positive("temperature", t)?),
            (None, Some(s)) => check::positive("scale", s),
            (None, None) => Ok(20.0),
        }
    }
}

/// The loss called `mnrl`, `infonce`, `dcl`, `dclw`, `margin-mse` or `kl`.
///
/// # Errors
/// On another name, or settings that the loss refuses.
pub fn by_name(name: &str, settings: &LossSettings) -> Result<Box<dyn RankingLoss>> {
    let scale = settings.scale()?;
    let (temperature, normalize) = (1.0 / scale, settings.similarity.normalizes());
    Ok(match name {
        "mnrl" => Box::new(MultipleNegativesRanking::new(scale)?.similarity(settings.similarity)),
        "infonce" => Box::new(InfoNce::new(temperature)?.normalize(normalize).symmetric(settings.symmetric)),
        "dcl" => Box::new(Dcl::new(temperature)?.normalize(normalize)),
        "dclw" => Box::new(Dclw::new(temperature, settings.sigma)?.normalize(normalize)),
        "margin-mse" => Box::new(MarginMse::new(settings.teacher_temperature.unwrap_or(1.0))?.similarity(settings.similarity)),
        "kl" => {
            let teacher = settings.teacher_temperature.unwrap_or(temperature);
            Box::new(DistillKl::new(temperature, teacher)?.similarity(settings.similarity))
        }
        _ => return Err(Error::invalid(format!("there is no loss `{name}`; there are {}", NAMES.join(", ")))),
    })
}
