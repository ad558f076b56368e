//! One or two dense layers on top of an encoder that stays as it is.

use super::folder::{FolderWriter, Tensors, write_tensors};
use super::host::{host as values, transpose};
use super::static_encoder::{normalize_rows, write_normalize};
use super::{Encoder, Trainable, from_bytes, to_bytes};
use crate::data::Embeddings;
use crate::nn::{self, AdamW, AdamWState};
use crate::{Error, Result, files};
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What comes after a dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// x
    Identity,
    /// max(x, 0)
    Relu,
    /// x·Φ(x), with the exact error function
    Gelu,
    /// tanh x
    Tanh,
}

impl Activation {
    const NAMES: [(Self, &'static str); 4] = [
        (Self::Identity, "torch.nn.modules.linear.Identity"),
        (Self::Relu, "torch.nn.modules.activation.ReLU"),
        (Self::Gelu, "torch.nn.modules.activation.GELU"),
        (Self::Tanh, "torch.nn.modules.activation.Tanh"),
    ];

    fn python_name(self) -> &'static str {
        Self::NAMES.iter().find(|(a, _)| *a == self).expect("every activation has a name").1
    }

    fn from_python_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, n)| *n == name).map(|(a, _)| *a)
    }

    fn apply(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Identity => x,
            Self::Relu => nn::relu(x),
            Self::Gelu => nn::gelu(x),
            Self::Tanh => x.tanh(),
        }
    }
}

/// The form of a new adapter. Either starts as the identity, so that training starts from the inner encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// x·W + b with W = I and b = 0.
    Linear,
    /// Two layers with ReLU between them and 2d hidden units: relu(x) − relu(−x) = x.
    Relu,
    /// Two layers with GELU between them and 2d hidden units: gelu(x) − gelu(−x) = x·(Φ(x) + Φ(−x)) = x.
    Gelu,
}

/// The dense layers, as one module for the optimiser.
#[derive(Module, Debug)]
struct Layers {
    linear: Vec<Linear>,
}

/// Dense layers over the embeddings of a frozen encoder. [`Trainable::prepare`] embeds the texts once; training then costs
/// nothing but the layers. The optimiser is AdamW with PyTorch's defaults (epsilon 1e-8, weight decay 0.01).
pub struct Adapter {
    inner: Box<dyn Encoder>,
    layers: Layers,
    activations: Vec<Activation>,
    normalize: bool,
    device: Device,
    cached: Option<Embeddings>,
    optimizer: AdamW,
}

/// Shape `[in, out]`, weight and bias of a layer, on the host.
type HostLayer = ([usize; 2], Vec<f32>, Option<Vec<f32>>);

/// Rows that go through the layers at once when embedding: bounds the memory of the hidden layer.
const BLOCK: usize = 4096;

impl Adapter {
    /// A new adapter that gives what `inner` gives, until it is trained.
    pub fn new(inner: Box<dyn Encoder>, head: Head) -> Self {
        let dim = inner.dim();
        let identity = |rows: usize, columns: usize| {
            let mut weight = vec![0f32; rows * columns];
            for i in 0..rows.max(columns) {
                let sign = if i < dim { 1.0 } else { -1.0 };
                weight[(i % rows) * columns + i % columns] = sign;
            }
            (weight, rows, columns)
        };
        let (shapes, activations) = match head {
            Head::Linear => (vec![identity(dim, dim)], vec![Activation::Identity]),
            Head::Relu => (vec![identity(dim, 2 * dim), identity(2 * dim, dim)], vec![Activation::Relu, Activation::Identity]),
            Head::Gelu => (vec![identity(dim, 2 * dim), identity(2 * dim, dim)], vec![Activation::Gelu, Activation::Identity]),
        };
        let device = Device::flex().autodiff();
        let layer = |(weight, rows, columns)| linear(weight, rows, columns, Some(vec![0.0; columns]), &device);
        let layers = Layers { linear: shapes.into_iter().map(layer).collect() };
        Self::from_layers(inner, layers, activations, device)
    }

    fn from_layers(inner: Box<dyn Encoder>, layers: Layers, activations: Vec<Activation>, device: Device) -> Self {
        Self { inner, layers, activations, normalize: false, device, cached: None, optimizer: AdamW::default() }
    }

    /// Reads the `Dense` modules in `folders`, in order, on top of `inner`.
    ///
    /// # Errors
    /// When a file is missing or damaged, widths do not fit, or an activation is unknown.
    pub(super) fn read(inner: Box<dyn Encoder>, folders: &[impl AsRef<Path>]) -> Result<Self> {
        let device = Device::flex().autodiff();
        let (mut linears, mut activations, mut width) = (Vec::new(), Vec::new(), inner.dim());
        for folder in folders {
            let path = folder.as_ref().join("config.json");
            let config: DenseConfig = files::read_json(&path)?;
            let wrong = |message: String| Error::file(&path, None, message);
            if config.in_features != width {
                return Err(wrong(format!("in_features is {}, but the module before gives {width} values", config.in_features)));
            }
            if config.use_residual || config.module_input_name.as_deref().is_some_and(|n| n != "sentence_embedding") {
                return Err(wrong("a residual or token-wise dense layer is not supported".into()));
            }
            let name = config.activation_function.as_deref().unwrap_or("torch.nn.modules.activation.Tanh");
            activations.push(
                Activation::from_python_name(name).ok_or_else(|| {
                    wrong(format!("unknown activation_function {name:?}; known: {:?}", Activation::NAMES.map(|(_, n)| n)))
                })?,
            );
            let weights = folder.as_ref().join("model.safetensors");
            let tensors = Tensors::open(&weights)?;
            let ([out, columns], transposed) = tensors.get::<2>("linear.weight")?;
            if (columns, out) != (config.in_features, config.out_features) {
                let needed = format!("[{}, {}]", config.out_features, config.in_features);
                return Err(Error::file(&weights, None, format!("linear.weight is [{out}, {columns}], config.json says {needed}")));
            }
            let bias = if config.bias { Some(tensors.get::<1>("linear.bias")?) } else { None };
            if let Some(([len], _)) = bias.as_ref().filter(|([len], _)| *len != out) {
                return Err(Error::file(&weights, None, format!("linear.bias has {len} values, needs {out}")));
            }
            linears.push(linear(transpose(&transposed, out, columns), columns, out, bias.map(|b| b.1), &device));
            width = out;
        }
        Ok(Self::from_layers(inner, Layers { linear: linears }, activations, device))
    }

    /// The same model, with its vectors divided by their length or not.
    pub fn with_normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// Moves the layers to an autodiff device.
    fn move_to(&mut self, device: &Device) {
        if self.device != *device {
            self.layers = self.layers.clone().fork(device);
            self.device = device.clone();
        }
    }

    fn apply(&self, layers: &Layers, x: Tensor<2>) -> Tensor<2> {
        let dense = |x, layer: &Linear| nn::linear(x, layer.weight.val(), layer.bias.as_ref().map(Param::val));
        let x = layers.linear.iter().zip(&self.activations).fold(x, |x, (layer, activation)| activation.apply(dense(x, layer)));
        if self.normalize { normalize_rows(x) } else { x }
    }

    /// The vectors of frozen `inner` embeddings, off the graph, a block at a time.
    fn project(&self, inner: &Embeddings, rows: impl ExactSizeIterator<Item = u32> + Clone) -> Result<Embeddings> {
        let layers = self.layers.valid();
        let device = self.device.clone().without_autodiff();
        let mut out = Vec::with_capacity(rows.len() * self.dim());
        for begin in (0..rows.len()).step_by(BLOCK) {
            let block: Vec<u32> = rows.clone().skip(begin).take(BLOCK).collect();
            let x = TensorData::new(inner.select(&block).into_data(), [block.len(), inner.dim()]);
            out.extend(values(self.apply(&layers, Tensor::from_data(x, &device))));
        }
        Embeddings::new(self.dim(), out)
    }

    fn prepared(&self, rows: &[u32]) -> Result<&Embeddings> {
        let cached = self.cached.as_ref().ok_or_else(|| Error::invalid("no texts were prepared"))?;
        match rows.iter().find(|&&r| r as usize >= cached.rows()) {
            Some(row) => Err(Error::invalid(format!("text {row} was not prepared: there are {}", cached.rows()))),
            None => Ok(cached),
        }
    }

    /// Weight (`[in, out]`) and bias of every layer, on the host.
    fn weights(&self) -> Vec<HostLayer> {
        let host = |l: &Linear| (l.weight.val().dims(), values(l.weight.val()), l.bias.as_ref().map(|b| values(b.val())));
        self.layers.linear.iter().map(host).collect()
    }
}

#[derive(Serialize, Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    activation_function: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    module_input_name: Option<String>,
    #[serde(default, skip_serializing)]
    use_residual: bool,
}

fn yes() -> bool {
    true
}

fn linear(weight: Vec<f32>, rows: usize, columns: usize, bias: Option<Vec<f32>>, device: &Device) -> Linear {
    Linear {
        weight: Param::from_data(TensorData::new(weight, [rows, columns]), device),
        bias: bias.map(|b| Param::from_data(TensorData::new(b, [columns]), device)),
    }
}

impl Encoder for Adapter {
    fn dim(&self) -> usize {
        self.layers.linear.last().map_or_else(|| self.inner.dim(), |l| l.weight.val().dims()[1])
    }

    fn embed(&self, texts: &[&str]) -> Result<Embeddings> {
        let inner = self.inner.embed(texts)?;
        self.project(&inner, 0..inner.rows() as u32)
    }

    fn to_device(&mut self, device: &Device) {
        self.inner.to_device(device);
        self.move_to(&device.clone().autodiff());
    }

    fn forget_texts(&self) {
        self.inner.forget_texts();
    }

    fn fingerprint(&self) -> u128 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&self.inner.fingerprint().to_le_bytes());
        hash.update(&[u8::from(self.normalize)]);
        for activation in &self.activations {
            hash.update(activation.python_name().as_bytes());
        }
        hash.update(&self.snapshot());
        hash.digest128()
    }

    fn write_modules(&self, folder: &mut FolderWriter) -> Result<()> {
        self.inner.write_modules(folder)?;
        for (([rows, columns], weight, bias), activation) in self.weights().into_iter().zip(&self.activations) {
            let module = folder.add_module("Dense")?;
            let config = DenseConfig {
                in_features: rows,
                out_features: columns,
                bias: bias.is_some(),
                activation_function: Some(activation.python_name().to_owned()),
                module_input_name: None,
                use_residual: false,
            };
            files::write_json(module.join("config.json"), &config)?;
            let (shape, bias_shape) = ([columns, rows], [columns]);
            let weight = transpose(&weight, rows, columns);
            let mut tensors: Vec<(&str, &[usize], &[f32])> = vec![("linear.weight", &shape, &weight)];
            if let Some(bias) = &bias {
                tensors.push(("linear.bias", &bias_shape, bias));
            }
            write_tensors(&module.join("model.safetensors"), &tensors)?;
        }
        if self.normalize { write_normalize(folder) } else { Ok(()) }
    }
}

impl Trainable for Adapter {
    fn prepare(&mut self, texts: &[&str]) -> Result<()> {
        self.cached = Some(self.inner.embed(texts)?);
        self.optimizer = AdamW::default();
        Ok(())
    }

    fn forward(&mut self, rows: &[u32], device: &Device, _: u64) -> Result<Tensor<2>> {
        let cached = self.prepared(rows)?;
        let x = TensorData::new(cached.select(rows).into_data(), [rows.len(), cached.dim()]);
        let x = Tensor::from_data(x, device);
        if !device.is_autodiff() {
            return Ok(self.apply(&self.layers.valid().to_device(device), x));
        }
        self.move_to(device);
        Ok(self.apply(&self.layers, x))
    }

    fn embed_prepared(&self, rows: &[u32]) -> Result<Embeddings> {
        self.project(self.prepared(rows)?, rows.iter().copied())
    }

    fn step(&mut self, gradients: &mut Gradients, learning_rate: f64) -> Result<()> {
        for (i, layer) in self.layers.linear.iter().enumerate() {
            let weight = layer.weight.val().grad(gradients).map(values);
            let bias = layer.bias.as_ref().and_then(|b| b.val().grad(gradients)).map(values);
            if let Some(value) = weight.iter().chain(&bias).flatten().find(|v| !v.is_finite()) {
                return Err(Error::invalid(format!("the gradient of dense layer {} holds {value}", i + 1)));
            }
        }
        let gradients = GradientsParams::from_module(gradients, &self.layers);
        self.layers = self.optimizer.step(learning_rate, self.layers.clone(), gradients);
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        1e-3
    }

    fn snapshot(&self) -> Vec<u8> {
        self.weights().iter().flat_map(|(_, w, b)| w.iter().chain(b.iter().flatten())).flat_map(|v| v.to_le_bytes()).collect()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        let shapes = self.weights();
        let needed = shapes.iter().map(|(_, w, b)| w.len() + b.as_ref().map_or(0, Vec::len)).sum::<usize>() * 4;
        if snapshot.len() != needed {
            return Err(Error::invalid(format!("a snapshot of this model has {needed} bytes, not {}", snapshot.len())));
        }
        let mut all = snapshot.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut take = |n: usize| all.by_ref().take(n).collect::<Vec<f32>>();
        let restored: Vec<_> = shapes.iter().map(|(shape, w, b)| (*shape, take(w.len()), b.as_ref().map(|b| take(b.len())))).collect();
        if let Some(value) = restored.iter().flat_map(|(_, w, b)| w.iter().chain(b.iter().flatten())).find(|v| !v.is_finite()) {
            return Err(Error::invalid(format!("the snapshot holds {value}")));
        }
        let rebuild = |([rows, columns], w, b): ([usize; 2], _, _)| linear(w, rows, columns, b, &self.device);
        self.layers = Layers { linear: restored.into_iter().map(rebuild).collect() };
        // New parameters: the old moments belong to nobody.
        self.optimizer = AdamW::default();
        Ok(())
    }

    fn training_state(&self) -> Vec<u8> {
        to_bytes(&(self.snapshot(), self.optimizer.state(&self.layers)))
    }

    fn set_training_state(&mut self, state: &[u8]) -> Result<()> {
        let (weights, optimizer): (Vec<u8>, AdamWState) = from_bytes(state)?;
        self.restore(&weights)?;
        self.optimizer.set_state(&self.layers, optimizer)
    }
}
