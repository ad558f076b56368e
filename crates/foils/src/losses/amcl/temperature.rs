//! A temperature for every pair, predicted from its two rows.

use crate::{Error, Result, check, nn, seed};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::RngExt;

/// τ = τ_min + (τ_max − τ_min)·sigmoid(W2·relu(W1·[z_a; z_b] + b1) + b2) of projections that are not normalised (amcl). Not the same
/// for (a, b) as for (b, a). One network serves all heads, or each head has its own.
#[derive(Module, Debug)]
pub struct AdaptiveTemperature {
    w1: Param<Tensor<2>>,
    b1: Param<Tensor<1>>,
    w2: Param<Tensor<2>>,
    b2: Param<Tensor<1>>,
    bounds: [f64; 2],
}

impl AdaptiveTemperature {
    /// For rows of `dim` numbers, with `hidden` units (128 is usual), drawn as PyTorch draws linear layers, on `device`. 2 is a usual upper
    /// bound; the paper's lower one of 1e-5 allows logits of 1e5, 0.05 is safe.
    ///
    /// # Errors
    /// When a size is 0, or not 0 < `tau_min` < `tau_max`.
    pub fn new(dim: usize, hidden: usize, tau_min: f64, tau_max: f64, seed: u64, device: &Device) -> Result<Self> {
        if dim == 0 || hidden == 0 {
            return Err(Error::invalid(format!("a temperature network of {dim} numbers a row and {hidden} hidden units")));
        }
        let bounds = check_bounds(tau_min, tau_max)?;
        let mut rng = seed::rng(seed, 0);
        Ok(Self {
            w1: uniform(&mut rng, [hidden, 2 * dim], 2 * dim, device),
            b1: uniform(&mut rng, [hidden], 2 * dim, device),
            w2: uniform(&mut rng, [1, hidden], hidden, device),
            b2: uniform(&mut rng, [1], hidden, device),
            bounds,
        })
    }

    /// Lowest and highest temperature.
    pub fn bounds(&self) -> [f64; 2] {
        self.bounds
    }

    /// Its weights on the graph.
    pub fn weights(&self) -> TemperatureWeights {
        let (w1, b1, w2, b2) = (self.w1.val(), self.b1.val(), self.w2.val(), self.b2.val());
        TemperatureWeights { w1, b1, w2, b2, bounds: self.bounds }
    }
}

/// Parameters of a layer of so many inputs, uniform in ±1/√inputs.
pub(super) fn uniform<const D: usize>(rng: &mut seed::Rng, shape: [usize; D], inputs: usize, device: &Device) -> Param<Tensor<D>> {
    let limit = 1.0 / (inputs as f32).sqrt();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-limit..limit)).collect();
    Param::from_data(TensorData::new(values, shape), device)
}

/// A temperature for each head and entry of Barlow Twins' cross-correlation: a parameter squashed into its bounds, in the middle of
/// them at first (amcl leaves open which network would predict it).
#[derive(Module, Debug)]
pub struct EntryTemperatures {
    logits: Param<Tensor<3>>,
    bounds: [f64; 2],
}

impl EntryTemperatures {
    /// For so many `heads` of projections of `dim` numbers.
    ///
    /// # Errors
    /// When a size is 0, or not 0 < `tau_min` < `tau_max`.
    pub fn new(heads: usize, dim: usize, tau_min: f64, tau_max: f64, device: &Device) -> Result<Self> {
        if heads == 0 || dim == 0 {
            return Err(Error::invalid(format!("temperatures of {heads} heads of {dim} × {dim} entries")));
        }
        let bounds = check_bounds(tau_min, tau_max)?;
        Ok(Self { logits: Param::from_tensor(Tensor::zeros([heads, dim, dim], device)), bounds })
    }

    /// The temperatures `[heads, dim, dim]`, on the graph.
    pub fn tau(&self) -> Tensor<3> {
        squash(self.logits.val(), self.bounds)
    }

    /// Lowest and highest temperature.
    pub fn bounds(&self) -> [f64; 2] {
        self.bounds
    }
}

fn squash<const D: usize>(x: Tensor<D>, [low, high]: [f64; 2]) -> Tensor<D> {
    activation::sigmoid(x).mul_scalar(high - low).add_scalar(low)
}

fn check_bounds(tau_min: f64, tau_max: f64) -> Result<[f64; 2]> {
    if check::positive("tau_min", tau_min)? >= check::positive("tau_max", tau_max)? {
        return Err(Error::invalid(format!("tau_min = {tau_min} must be below tau_max = {tau_max}")));
    }
    Ok([tau_min, tau_max])
}

/// The weights of an [`AdaptiveTemperature`], as tensors.
#[derive(Clone, Debug)]
pub struct TemperatureWeights {
    pub(super) w1: Tensor<2>,
    pub(super) b1: Tensor<1>,
    w2: Tensor<2>,
    pub(super) b2: Tensor<1>,
    bounds: [f64; 2],
}

impl TemperatureWeights {
    /// `w1` `[hidden, 2·dim]`, `b1` `[hidden]`, `w2` `[1, hidden]`, `b2` `[1]`.
    ///
    /// # Errors
    /// When shapes do not fit, or not 0 < `tau_min` < `tau_max`.
    pub fn new(w1: Tensor<2>, b1: Tensor<1>, w2: Tensor<2>, b2: Tensor<1>, tau_min: f64, tau_max: f64) -> Result<Self> {
        let bounds = check_bounds(tau_min, tau_max)?;
        let [hidden, width] = w1.dims();
        let fits =
            hidden > 0 && width > 0 && width.is_multiple_of(2) && b1.dims() == [hidden] && w2.dims() == [1, hidden] && b2.dims() == [1];
        if !fits {
            let shapes = format!("{:?}, {:?}, {:?} and {:?}", w1.dims(), b1.dims(), w2.dims(), b2.dims());
            return Err(Error::invalid(format!("w1, b1, w2 and b2 have the shapes {shapes}, not [h, 2d], [h], [1, h] and [1]")));
        }
        Ok(Self { w1, b1, w2, b2, bounds })
    }

    /// `[p]` temperatures of pairs of rows, `[p, dim]` each.
    ///
    /// # Errors
    /// When the shapes do not fit, there are no rows, or a value is not finite.
    pub fn pairs(&self, z_a: Tensor<2>, z_b: Tensor<2>) -> Result<Tensor<1>> {
        check::same_shape(("z_a", &z_a), ("z_b", &z_b))?;
        let (left, right) = self.halves(z_a, z_b)?;
        let rows = left.dims()[0];
        let hidden = nn::relu(left + right);
        Ok(self.bounded((hidden * self.w2.clone()).sum_dim(1).reshape([rows])))
    }

    /// `[n, m]` temperatures of every row of `z_a` `[n, dim]` with every row of `z_b` `[m, dim]`. The first layer is applied to rows, not to
    /// pairs.
    ///
    /// # Errors
    /// As [`TemperatureWeights::pairs`].
    pub fn all_pairs(&self, z_a: Tensor<2>, z_b: Tensor<2>) -> Result<Tensor<2>> {
        let (left, right) = self.halves(z_a, z_b)?;
        Ok(self.bounded(nn::pair_scores(left, right, self.w2.clone())))
    }

    /// W1 of each side, with the bias on the left.
    fn halves(&self, z_a: Tensor<2>, z_b: Tensor<2>) -> Result<(Tensor<2>, Tensor<2>)> {
        let dim = self.w1.dims()[1] / 2;
        for (name, z) in [("z_a", &z_a), ("z_b", &z_b)] {
            check::rows(name, z, 1)?;
            if z.dims()[1] != dim {
                return Err(Error::invalid(format!("{name} has {} columns, and the network takes {dim}", z.dims()[1])));
            }
            check::values(name, z, false)?;
        }
        let half = |from: usize| self.w1.clone().slice([0..self.w1.dims()[0], from..from + dim]).transpose();
        let bias = self.b1.clone().unsqueeze::<2>();
        Ok((z_a.matmul(half(0)) + bias, z_b.matmul(half(dim))))
    }

    fn bounded<const D: usize>(&self, sums: Tensor<D>) -> Tensor<D> {
        squash(sums + self.b2.clone().reshape([1; D]), self.bounds)
    }
}
