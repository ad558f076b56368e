//! Losses by name, for commands and settings files.

use super::groco::{Distribution, Groco, Network, SortingNetwork};
use super::{
    AlignmentUniformity, BarlowTwins, Cacr, Dcl, Dclw, Distance, DistillKl, HardContrastive, InfoNce, MarginMse, MultipleNegativesRanking,
    NtXent, RankingLoss, RelevanceInfoNce, Similarity, SimpleContrastive, SoftInfoNce, TripletMargin,
};
use crate::{Error, Result, check};
use serde::{Deserialize, Serialize};

/// The names that [`by_name`] knows.
pub const NAMES: [&str; 19] = [
    "mnrl",
    "infonce",
    "nt-xent",
    "dcl",
    "dclw",
    "hard-contrastive",
    "simple-contrastive",
    "hard-simple-contrastive",
    "cacr",
    "soft-infonce",
    "weighted-infonce",
    "bce-infonce",
    "kl-infonce",
    "triplet",
    "groco",
    "alignment-uniformity",
    "barlow-twins",
    "margin-mse",
    "kl",
];

/// What people look for under a name that [`by_name`] does not know, and what there is instead.
pub const ELSEWHERE: [(&str, &str); 3] =
    [("moco", "MoCo is `infonce` with a queue of negatives, `--negatives queue:N`"), ("sup-con", SUP_CON), ("supcon", SUP_CON)];

const SUP_CON: &str = "SupCon needs classes, which pairs do not have; the library has it as `losses::SupCon`";

/// Hyper-parameters of the losses that can be picked by name; each takes what it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossSettings {
    /// τ, the divisor of similarities; 0.05 when neither it nor `scale` is given.
    pub temperature: Option<f64>,
    /// 1/τ; only one of the two may be given.
    pub scale: Option<f64>,
    /// The divisor of the teacher's scores, for losses that learn them; when it is not given 1, and for KL τ.
    pub teacher_temperature: Option<f64>,
    /// DCLW: σ of the weights.
    pub sigma: f64,
    /// Hard losses: the share of an anchor's negatives that counts.
    pub alpha: f64,
    /// CACR: the sharpness of the negatives' weights.
    pub tau_neg: f64,
    /// Simple losses: λ; when it is not given 1/(number of negatives).
    pub lambda_neg: Option<f64>,
    /// KL-InfoNCE: the weight of InfoNCE.
    pub info_nce_weight: f64,
    /// KL-InfoNCE: the weight of the divergence.
    pub kl_weight: f64,
    /// GroCo: how many of an anchor's nearest negatives are sorted with its positive.
    pub topk_neg: usize,
    /// GroCo: how sure comparators are of small differences.
    pub steepness: f64,
    /// Triplet: how much farther than the positive a negative must be, in cosine distance; with inner products in Euclidean distance.
    pub margin: f64,
    /// Alignment and uniformity: how much uniformity counts.
    pub uniformity_weight: f64,
    /// Alignment and uniformity: the sharpness of uniformity.
    pub uniformity_t: f64,
    /// Barlow Twins: λ, how much correlations between dimensions count.
    pub lambda_offdiag: f64,
    /// Cosine or inner product.
    pub similarity: Similarity,
    /// InfoNCE: positives look for their anchors too.
    pub symmetric: bool,
}

impl Default for LossSettings {
    fn default() -> Self {
        Self {
            temperature: None,
            scale: None,
            teacher_temperature: None,
            sigma: 0.5,
            alpha: 0.1,
            tau_neg: 1.0,
            lambda_neg: None,
            info_nce_weight: 1.0,
            kl_weight: 0.1,
            topk_neg: 10,
            steepness: 1.0,
            margin: 0.5,
            uniformity_weight: 1.0,
            uniformity_t: 2.0,
            lambda_offdiag: 0.0051,
            similarity: Similarity::Cosine,
            symmetric: false,
        }
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

/// The loss of one of the [`NAMES`].
///
/// # Errors
/// On another name, or settings that the loss refuses.
pub fn by_name(name: &str, settings: &LossSettings) -> Result<Box<dyn RankingLoss>> {
    let scale = settings.scale()?;
    let (temperature, normalize) = (1.0 / scale, settings.similarity.normalizes());
    let of_relevance = settings.teacher_temperature.unwrap_or(1.0);
    Ok(match name {
        "mnrl" => Box::new(MultipleNegativesRanking::new(scale)?.similarity(settings.similarity)),
        "infonce" => Box::new(InfoNce::new(temperature)?.normalize(normalize).symmetric(settings.symmetric)),
        "nt-xent" => Box::new(NtXent::new(temperature)?.normalize(normalize)),
        "dcl" => Box::new(Dcl::new(temperature)?.normalize(normalize)),
        "dclw" => Box::new(Dclw::new(temperature, settings.sigma)?.normalize(normalize)),
        "hard-contrastive" => Box::new(HardContrastive::new(temperature, settings.alpha)?.normalize(normalize)),
        "simple-contrastive" => Box::new(SimpleContrastive::new(settings.lambda_neg)?.normalize(normalize)),
        "hard-simple-contrastive" => Box::new(SimpleContrastive::new(settings.lambda_neg)?.hardest(settings.alpha)?.normalize(normalize)),
        // Of one positive the sharpness of the positives' weights changes nothing.
        "cacr" => Box::new(Cacr::new(1.0, settings.tau_neg)?.normalize(normalize)),
        "soft-infonce" => Box::new(SoftInfoNce::new(temperature)?.normalize(normalize)),
        "weighted-infonce" => Box::new(RelevanceInfoNce::weighted(temperature, of_relevance)?.normalize(normalize)),
        "bce-infonce" => Box::new(RelevanceInfoNce::bce(temperature, of_relevance)?.normalize(normalize)),
        "kl-infonce" => {
            let (v, w) = (settings.info_nce_weight, settings.kl_weight);
            Box::new(RelevanceInfoNce::kl(temperature, of_relevance, v, w)?.normalize(normalize))
        }
        "triplet" => {
            let distance = if normalize { Distance::Cosine } else { Distance::Euclidean };
            Box::new(TripletMargin::new(settings.margin)?.distance(distance))
        }
        "groco" => {
            let network = SortingNetwork::new(Network::OddEven, Distribution::Cauchy, settings.steepness)?;
            // Candidates are anchors of nothing: without a gradient they would not learn.
            Box::new(Groco::new(settings.topk_neg)?.network(network).stop_grad(false))
        }
        "alignment-uniformity" => {
            Box::new(AlignmentUniformity::new(settings.uniformity_weight, settings.uniformity_t)?.normalize(normalize))
        }
        "barlow-twins" => Box::new(BarlowTwins::new(settings.lambda_offdiag)?),
        "margin-mse" => Box::new(MarginMse::new(settings.teacher_temperature.unwrap_or(1.0))?.similarity(settings.similarity)),
        "kl" => {
            let teacher = settings.teacher_temperature.unwrap_or(temperature);
            Box::new(DistillKl::new(temperature, teacher)?.similarity(settings.similarity))
        }
        _ => {
            let instead = ELSEWHERE.iter().find(|(other, _)| *other == name).map(|(_, instead)| format!(": {instead}"));
            let instead = instead.unwrap_or_else(|| format!("; there are {}", NAMES.join(", ")));
            return Err(Error::invalid(format!("there is no loss `{name}`{instead}")));
        }
    })
}
