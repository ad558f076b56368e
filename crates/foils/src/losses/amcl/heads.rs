//! Heads and temperatures as one module that is trained along with an encoder.

use super::contrast::check_queue;
use super::temperature::uniform;
use super::{AdaptiveTemperature, Amcl, AmclBarlowTwins, EntryTemperatures, NegativeMode};
use crate::{Error, Result, check, nn, seed};
use burn::module::{Module, Param};
use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// What [`AmclHeads`] are made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AmclSettings {
    /// How many heads.
    pub heads: usize,
    /// Hidden units of each.
    pub hidden: usize,
    /// Numbers of a projection.
    pub dim: usize,
    /// Whether each head ends in a batch norm without scale and offset, without which losses of nearest negatives may collapse.
    pub centred: bool,
    /// Where temperatures come from.
    pub temperature: Temperature,
}

/// Where temperatures come from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Temperature {
    /// One for all pairs, which is not learned.
    Constant(f64),
    /// One for each pair, predicted from its projections ([`AdaptiveTemperature`]).
    Pairs {
        /// Hidden units of the network.
        hidden: usize,
        /// Lowest and highest temperature.
        bounds: [f64; 2],
        /// Whether one network serves all heads; otherwise each has its own.
        shared: bool,
    },
    /// For Barlow Twins: one for each entry of the cross-correlation, a parameter ([`EntryTemperatures`]).
    Entries {
        /// Lowest and highest temperature.
        bounds: [f64; 2],
    },
}

/// Three heads of 512 hidden units and 128 numbers; one network of 128 hidden units for temperatures from 0.05 to 2.
impl Default for AmclSettings {
    fn default() -> Self {
        let temperature = Temperature::Pairs { hidden: 128, bounds: [0.05, 2.0], shared: true };
        Self { heads: 3, hidden: 512, dim: 128, centred: false, temperature }
    }
}

/// Projection heads (linear, ReLU, linear), each by itself, and what gives their pairs temperatures (amcl). They take an encoder's
/// features to the losses of this room; what is used afterwards is the encoder, and they are thrown away.
///
/// With [`SelfSupervised`](crate::train::SelfSupervised) they are the loss's own module, and take the place of the encoder's own head:
/// the step's loss is `|heads, batch| heads.simclr(&loss, batch.features()?)` or `barlow_twins` in
/// [`fit_with`](crate::train::SelfSupervised::fit_with). For [`AmclHeads::moco`],
/// [`fit_with_keys`](crate::train::SelfSupervised::fit_with_keys) makes the keys by `|heads, encoded| heads.rows(encoded.features)`.
#[derive(Module, Debug)]
pub struct AmclHeads {
    heads: Vec<Head>,
    centre: Option<BatchNorm>,
    temperatures: Source,
}

#[derive(Module, Debug)]
struct Head {
    w1: Param<Tensor<2>>,
    b1: Param<Tensor<1>>,
    w2: Param<Tensor<2>>,
    b2: Param<Tensor<1>>,
}

impl Head {
    fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        let hidden = nn::relu(nn::linear(features, self.w1.val(), Some(self.b1.val())));
        nn::linear(hidden, self.w2.val(), Some(self.b2.val()))
    }
}

#[derive(Module, Debug)]
enum Source {
    Constant(f64),
    /// One, or one a head.
    Pairs(Vec<AdaptiveTemperature>),
    Entries(EntryTemperatures),
}

impl AmclHeads {
    /// For an encoder of so many `features`; weights are uniform in ±1/√(inputs) and depend on `seed` alone.
    ///
    /// # Errors
    /// When a size is 0, or a temperature or bounds are outside their range.
    pub fn new(settings: &AmclSettings, features: usize, seed: u64, device: &Device) -> Result<Self> {
        let AmclSettings { heads, hidden, dim, centred, temperature } = *settings;
        if [heads, hidden, dim, features].contains(&0) {
            let sizes = format!("{heads} heads of {hidden} hidden units from {features} features to {dim} numbers");
            return Err(Error::invalid(format!("{sizes}: each must be at least 1")));
        }
        let mut rng = seed::rng(seed, STREAM);
        let head = |_| Head {
            w1: uniform(&mut rng, [features, hidden], features, device),
            b1: uniform(&mut rng, [hidden], features, device),
            w2: uniform(&mut rng, [hidden, dim], hidden, device),
            b2: uniform(&mut rng, [dim], hidden, device),
        };
        let made = (0..heads).map(head).collect();
        let temperatures = match temperature {
            Temperature::Constant(tau) => Source::Constant(check::positive("temperature", tau)?),
            Temperature::Pairs { hidden, bounds: [low, high], shared } => {
                let network = |head: usize| AdaptiveTemperature::new(dim, hidden, low, high, seed.wrapping_add(head as u64), device);
                Source::Pairs((0..if shared { 1 } else { heads }).map(network).collect::<Result<_>>()?)
            }
            Temperature::Entries { bounds: [low, high] } => Source::Entries(EntryTemperatures::new(heads, dim, low, high, device)?),
        };
        let centre = centred.then(|| nn::centring(heads * dim, device));
        Ok(Self { heads: made, centre, temperatures })
    }

    /// `[n, heads · dim]` projections of features `[n, features]`, head after head: the form in which keys lie in a queue.
    pub fn rows(&self, features: Tensor<2>) -> Tensor<2> {
        let rows = Tensor::cat(self.heads.iter().map(|head| head.forward(features.clone())).collect(), 1);
        match &self.centre {
            Some(norm) => norm.forward(rows),
            None => rows,
        }
    }

    /// `[heads, n, dim]` projections of features `[n, features]`, not normalised.
    pub fn project(&self, features: Tensor<2>) -> Tensor<3> {
        by_head(self.rows(features), self.heads.len())
    }

    /// SimCLR's form ([`Amcl::forward`]) of two views' features, `[n, features]` each. With [`NegativeMode::Max`] only the
    /// temperatures of positives and nearest negatives are computed, with the same answer.
    ///
    /// # Errors
    /// As [`Amcl::forward`]; when temperatures are of entries.
    pub fn simclr(&self, loss: &Amcl, views: [Tensor<2>; 2]) -> Result<Tensor<1>> {
        let (z, n) = self.two_views(views)?;
        match loss.mode {
            NegativeMode::Max => {
                let [partners, nearest] = loss.partners_and_nearest(&z);
                loss.of_nearest(z, [partners, nearest], |a, b| self.pairs(a, b))
            }
            NegativeMode::LogSumExp => {
                let tau = self.all_pairs(z.clone(), z.clone())?;
                loss.forward(z.clone().narrow(1, 0, n), z.narrow(1, n, n), tau)
            }
        }
    }

    /// MoCo's form ([`Amcl::forward_queue`]) of queries' features `[n, features]`, their keys `[n, heads · dim]` and a queue
    /// `[k, heads · dim]`, both as [`AmclHeads::rows`] of a momentum copy makes them. Temperatures as in [`AmclHeads::simclr`].
    ///
    /// # Errors
    /// As [`Amcl::forward_queue`]; when keys or queue have another width, or temperatures are of entries.
    pub fn moco(&self, loss: &Amcl, query: Tensor<2>, keys: Tensor<2>, queue: Tensor<2>) -> Result<Tensor<1>> {
        check::rows("query", &query, 2)?;
        let rows = self.rows(query);
        check::same_shape(("the queries' projections", &rows), ("keys", &keys))?;
        check::same_width(("the queries' projections", &rows), ("queue", &queue))?;
        let [query, keys, queue] = [rows, keys.inner(), queue.inner()].map(|x| by_head(x, self.heads.len()));
        match loss.mode {
            NegativeMode::Max => {
                check_queue(&query, &keys, &queue)?;
                let nearest = loss.nearest(&query, queue, |_, _| false);
                loss.of_nearest(query, [keys, nearest], |a, b| self.pairs(a, b))
            }
            NegativeMode::LogSumExp => {
                let of_positives = self.pairs(query.clone(), keys.clone())?;
                let of_negatives = self.all_pairs(query.clone(), queue.clone())?;
                loss.forward_queue(query, keys, queue, of_positives, of_negatives)
            }
        }
    }

    /// Barlow Twins' form ([`AmclBarlowTwins::forward`]) of two views' features, `[n, features]` each.
    ///
    /// # Errors
    /// As [`AmclBarlowTwins::forward`]; when temperatures are of pairs.
    pub fn barlow_twins(&self, loss: &AmclBarlowTwins, views: [Tensor<2>; 2]) -> Result<Tensor<1>> {
        let (z, n) = self.two_views(views)?;
        let [heads, _, dim] = z.dims();
        let tau = match &self.temperatures {
            Source::Entries(entries) => entries.tau(),
            Source::Constant(tau) => full(*tau, [heads, dim, dim], &z),
            Source::Pairs(_) => return Err(Error::invalid("Barlow Twins has no pairs: its temperatures are of entries, or constant")),
        };
        loss.forward(z.clone().narrow(1, 0, n), z.narrow(1, n, n), tau)
    }

    /// The temperatures that the loss reads, of two views as in [`AmclHeads::simclr`]. Those of entries do not depend on the views:
    /// the diagonal counts as positive, the rest as negative.
    ///
    /// # Errors
    /// As [`AmclHeads::simclr`].
    pub fn temperatures(&self, mode: NegativeMode, views: [Tensor<2>; 2]) -> Result<ReadTemperatures> {
        let (z, n) = self.two_views(views)?;
        let z = z.inner();
        let (tau, positive): (Tensor<3>, fn(usize, usize, usize) -> bool) = match (&self.temperatures, mode) {
            (Source::Entries(entries), _) => (entries.tau(), |_, i, j| i == j),
            (_, NegativeMode::LogSumExp) => (self.all_pairs(z.clone(), z)?, |n, i, j| j == (i + n) % (2 * n)),
            (_, NegativeMode::Max) => {
                let pairs = Amcl::new(0.0)?.partners_and_nearest(&z).map(|other| self.pairs(z.clone(), other));
                let [own, nearest] = pairs;
                (Tensor::stack(vec![own?, nearest?], 2), |_, _, j| j == 0)
            }
        };
        let [_, rows, columns] = tau.dims();
        let mut read = ReadTemperatures { positive: Vec::new(), negative: Vec::new(), bounds: self.bounds() };
        for (at, tau) in tau.inner().into_data().iter::<f64>().enumerate() {
            let (i, j) = (at / columns % rows, at % columns);
            if positive(n, i, j) {
                read.positive.push(tau);
            } else if columns != rows || i != j {
                read.negative.push(tau);
            }
        }
        Ok(read)
    }

    fn bounds(&self) -> Option<[f64; 2]> {
        match &self.temperatures {
            Source::Constant(_) => None,
            Source::Pairs(networks) => networks.first().map(AdaptiveTemperature::bounds),
            Source::Entries(entries) => Some(entries.bounds()),
        }
    }

    /// `[heads, 2n, dim]`, first view first, and n.
    fn two_views(&self, views: [Tensor<2>; 2]) -> Result<(Tensor<3>, usize)> {
        let [first, second] = &views;
        check::same_shape(("the first view", first), ("the second view", second))?;
        check::rows("each view", first, 2)?;
        let n = first.dims()[0];
        // Together, so that a batch norm sees both.
        let z = self.project(Tensor::cat(views.to_vec(), 0));
        check::values("projections", &z, false)?;
        Ok((z, n))
    }

    /// `[heads, r]` temperatures of rows with rows, `[heads, r, dim]` each.
    pub(super) fn pairs(&self, a: Tensor<3>, b: Tensor<3>) -> Result<Tensor<2>> {
        let [heads, r, dim] = a.dims();
        match &self.temperatures {
            Source::Constant(tau) => Ok(full(*tau, [heads, r], &a)),
            Source::Pairs(networks) if networks.len() == 1 => {
                let [a, b] = [a, b].map(|z| z.reshape([heads * r, dim]));
                Ok(networks[0].weights().pairs(a, b)?.reshape([heads, r]))
            }
            Source::Pairs(networks) => {
                let of = |(head, network): (usize, &AdaptiveTemperature)| network.weights().pairs(one(&a, head), one(&b, head));
                Ok(Tensor::stack(networks.iter().enumerate().map(of).collect::<Result<Vec<_>>>()?, 0))
            }
            Source::Entries(_) => Err(entries_only()),
        }
    }

    /// `[heads, n, m]` temperatures of all rows `[heads, n, dim]` with all rows `[heads, m, dim]`.
    pub(super) fn all_pairs(&self, a: Tensor<3>, b: Tensor<3>) -> Result<Tensor<3>> {
        let ([heads, n, _], [_, m, _]) = (a.dims(), b.dims());
        match &self.temperatures {
            Source::Constant(tau) => Ok(full(*tau, [heads, n, m], &a)),
            Source::Pairs(networks) => {
                let of = |head: usize| networks[head % networks.len()].weights().all_pairs(one(&a, head), one(&b, head));
                Ok(Tensor::stack((0..heads).map(of).collect::<Result<Vec<_>>>()?, 0))
            }
            Source::Entries(_) => Err(entries_only()),
        }
    }
}

/// The stream of a seed that weights of heads come from.
const STREAM: u64 = 0xa3c1;

fn entries_only() -> Error {
    Error::invalid("temperatures of entries are for Barlow Twins; pairs have temperatures of pairs, or a constant one")
}

/// `[n, heads · dim]` to `[heads, n, dim]`.
pub(super) fn by_head(rows: Tensor<2>, heads: usize) -> Tensor<3> {
    let [n, width] = rows.dims();
    rows.reshape([n, heads, width / heads]).swap_dims(0, 1)
}

/// One head's `[n, dim]`.
fn one(z: &Tensor<3>, head: usize) -> Tensor<2> {
    let [_, n, dim] = z.dims();
    z.clone().narrow(0, head, 1).reshape([n, dim])
}

/// A constant beside `beside`, off the graph.
fn full<const D: usize>(value: f64, shape: [usize; D], beside: &Tensor<3>) -> Tensor<D> {
    Tensor::full(shape, value, (&beside.device().without_autodiff(), beside.dtype()))
}

/// Temperatures that a loss reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadTemperatures {
    /// Of positives.
    pub positive: Vec<f64>,
    /// Of negatives.
    pub negative: Vec<f64>,
    pub(super) bounds: Option<[f64; 2]>,
}

impl ReadTemperatures {
    /// Which shares of all are within 1 % of the lowest and of the highest temperature allowed: near 1 in sum, temperatures have
    /// collapsed to their bounds. None of constant temperatures, which have no bounds.
    pub fn near_bounds(&self) -> Option<[f64; 2]> {
        let [low, high] = self.bounds?;
        let share = |near: &dyn Fn(f64) -> bool| {
            let all = self.positive.len() + self.negative.len();
            self.positive.iter().chain(&self.negative).filter(|tau| near(**tau)).count() as f64 / all as f64
        };
        Some([share(&|tau| tau <= 1.01 * low), share(&|tau| tau >= 0.99 * high)])
    }
}
