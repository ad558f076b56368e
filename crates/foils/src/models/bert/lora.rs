//! Low-rank updates of frozen weights (LoRA, Hu et al. 2021).

use super::config::Shape;
use super::network::Network;
use crate::nn::{Affine, AffineParams, EncoderLayer, LayerWeights};
use crate::{Error, Result, seed};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The linear layers of a transformer's layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoraTarget {
    /// Queries of the attention.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// What joins the heads.
    Out,
    /// Into the hidden units.
    Wide,
    /// Out of them.
    Narrow,
}

impl LoraTarget {
    /// All of them, by the names that settings have.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Query, "query"),
        (Self::Key, "key"),
        (Self::Value, "value"),
        (Self::Out, "out"),
        (Self::Wide, "wide"),
        (Self::Narrow, "narrow"),
    ];

    /// Its name in transformers, inside a layer.
    pub(super) fn module(self) -> &'static str {
        match self {
            Self::Query => "attention.self.query",
            Self::Key => "attention.self.key",
            Self::Value => "attention.self.value",
            Self::Out => "attention.output.dense",
            Self::Wide => "intermediate.dense",
            Self::Narrow => "output.dense",
        }
    }

    fn of(self, weights: &mut LayerWeights) -> &mut Affine {
        match self {
            Self::Query => &mut weights.query,
            Self::Key => &mut weights.key,
            Self::Value => &mut weights.value,
            Self::Out => &mut weights.out,
            Self::Wide => &mut weights.wide,
            Self::Narrow => &mut weights.narrow,
        }
    }

    fn of_layer(self, layer: &mut EncoderLayer) -> &mut AffineParams {
        match self {
            Self::Query => &mut layer.query,
            Self::Key => &mut layer.key,
            Self::Value => &mut layer.value,
            Self::Out => &mut layer.out,
            Self::Wide => &mut layer.wide,
            Self::Narrow => &mut layer.narrow,
        }
    }

    /// Rows and columns of its weights.
    fn sizes(self, shape: &Shape) -> [usize; 2] {
        match self {
            Self::Wide => [shape.width, shape.hidden],
            Self::Narrow => [shape.hidden, shape.width],
            _ => [shape.width; 2],
        }
    }
}

impl FromStr for LoraTarget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.map(|(_, name)| name);
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(target, _)| *target);
        found.ok_or_else(|| Error::invalid(format!("there is no LoRA target {text:?}; there are {}", known.join(", "))))
    }
}

/// Which weights get a low-rank update: `W + alpha / rank · A B` with A `[from, rank]`, B `[rank, to]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraSettings {
    /// The inner width of the update.
    pub rank: usize,
    /// Its factor, times the rank; 0: twice the rank.
    pub alpha: f64,
    /// Of which linear layers, in every layer of the transformer.
    pub targets: Vec<LoraTarget>,
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self { rank: 8, alpha: 0.0, targets: LoraTarget::ALL.map(|(target, _)| target).to_vec() }
    }
}

impl LoraSettings {
    /// alpha, with 0 replaced by what it stands for.
    pub fn effective_alpha(&self) -> f64 {
        if self.alpha == 0.0 { 2.0 * self.rank as f64 } else { self.alpha }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn check(&self) -> Result<()> {
        if self.rank == 0 {
            return Err(Error::invalid("the rank of LoRA is 0; at least 1 is needed"));
        }
        if !(self.alpha >= 0.0 && self.alpha.is_finite()) {
            return Err(Error::invalid(format!(
                "the alpha of LoRA is {}; 0 (twice the rank) or a finite number above is needed",
                self.alpha
            )));
        }
        if self.targets.is_empty() {
            return Err(Error::invalid("LoRA has no targets"));
        }
        Ok(())
    }
}

/// The update of one weight matrix.
#[derive(Module, Debug)]
pub(super) struct Pair {
    /// A, `[from, rank]`
    pub down: Param<Tensor<2>>,
    /// B, `[rank, to]`
    pub up: Param<Tensor<2>>,
}

/// The updates of all layers: those of the first layer's targets, then those of the second's …
#[derive(Module, Debug)]
pub(super) struct LoraParams {
    pub pairs: Vec<Pair>,
    #[module(skip)]
    pub targets: Vec<LoraTarget>,
    pub scale: f64,
}

impl LoraParams {
    /// A with independent normal numbers of variance 1 / from, B zero: the model starts as it was.
    pub fn new(settings: &LoraSettings, shape: &Shape, seed: u64, device: &Device) -> Self {
        let mut rng = seed::rng(seed, 2);
        Self::build(settings, shape, device, |_, _, [from, to]| {
            let down = (0..from * settings.rank).map(|_| (seed::normal(&mut rng) / (from as f64).sqrt()) as f32).collect();
            Ok([down, vec![0.0; settings.rank * to]])
        })
        .expect("numbers are always to be had")
    }

    /// `next` gives A and B for a layer, a target and its weights' sizes.
    ///
    /// # Errors
    /// What `next` returns.
    pub fn build(
        settings: &LoraSettings,
        shape: &Shape,
        device: &Device,
        mut next: impl FnMut(usize, LoraTarget, [usize; 2]) -> Result<[Vec<f32>; 2]>,
    ) -> Result<Self> {
        let mut targets = settings.targets.clone();
        targets.sort_unstable();
        targets.dedup();
        let mut pairs = Vec::with_capacity(shape.layers * targets.len());
        for layer in 0..shape.layers {
            for &target in &targets {
                let [from, to] = target.sizes(shape);
                let [down, up] = next(layer, target, [from, to])?;
                let param = |values: Vec<f32>, shape: [usize; 2]| Param::from_data(TensorData::new(values, shape), device);
                pairs.push(Pair { down: param(down, [from, settings.rank]), up: param(up, [settings.rank, to]) });
            }
        }
        Ok(Self { pairs, targets, scale: settings.effective_alpha() / settings.rank as f64 })
    }

    /// The rank, factor and targets that it was made with.
    pub fn settings(&self) -> LoraSettings {
        let rank = self.pairs.first().map_or(1, |pair| pair.up.dims()[0]);
        LoraSettings { rank, alpha: self.scale * rank as f64, targets: self.targets.clone() }
    }

    /// The pairs of one layer, with what they are for.
    pub fn of_layer(&self, layer: usize) -> impl Iterator<Item = (LoraTarget, &Pair)> {
        let pairs = &self.pairs[layer * self.targets.len()..][..self.targets.len()];
        self.targets.iter().copied().zip(pairs)
    }

    fn update(&self, pair: &Pair) -> Tensor<2> {
        pair.down.val().matmul(pair.up.val()).mul_scalar(self.scale)
    }

    /// Updates the weights of layer `number`, on the graph if the pairs are on one.
    pub fn add_to(&self, number: usize, weights: &mut LayerWeights) {
        for (target, pair) in self.of_layer(number) {
            let affine = target.of(weights);
            affine.weight = affine.weight.clone() + self.update(pair);
        }
    }

    /// The network with its weights updated.
    pub fn merged(&self, mut network: Network) -> Network {
        for (number, layer) in network.layers.iter_mut().enumerate() {
            for (target, pair) in self.of_layer(number) {
                let affine = target.of_layer(layer);
                affine.weight = affine.weight.clone().map(|weight| weight + self.update(pair));
            }
        }
        network
    }
}
