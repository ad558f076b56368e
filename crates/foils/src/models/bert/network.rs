//! The network of a BERT without its table of words, and how its parameters lie in a file.

use super::Pooling;
use super::chunks::{Chunk, pool};
use super::config::Shape;
use super::lora::LoraParams;
use crate::models::folder::Tensors;
use crate::models::host::{host, transpose};
use crate::nn::Precision;
use crate::nn::{self, AffineParams, EncoderLayer, LayerSettings, NormParams};
use crate::{Error, Result};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};

/// Everything that computes, but for the table of words; fields in the order of [`specs`].
#[derive(Module, Debug)]
pub(super) struct Network {
    /// `[positions, width]`
    positions: Param<Tensor<2>>,
    /// `[types, width]`; a text by itself is of type 0.
    types: Param<Tensor<2>>,
    norm: NormParams,
    pub layers: Vec<EncoderLayer>,
    heads: usize,
    epsilon: f64,
}

/// What a [`Network`] is told beside its parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub pooling: Pooling,
    pub precision: Precision,
}

impl Network {
    /// The vectors `[texts, width]` of a chunk from the word vectors `[tokens, width]` of its tokens.
    pub fn forward(&self, words: Tensor<2>, chunk: &Chunk, pass: Pass, lora: Option<&LoraParams>) -> Tensor<2> {
        let (device, [_, width]) = (words.device(), words.dims());
        let places = self.positions.val().select(0, chunk.positions(&device)) + self.types.val().narrow(0, 0, 1).reshape([1, width]);
        let layer_settings = LayerSettings { heads: self.heads, epsilon: self.epsilon, precision: pass.precision };
        let mut x = nn::add_layer_norm(words, places, self.norm.gamma.val(), self.norm.beta.val(), self.epsilon);
        for (number, layer) in self.layers.iter().enumerate() {
            let mut weights = layer.weights();
            if let Some(lora) = lora {
                lora.add_to(number, &mut weights);
            }
            x = nn::encoder_layer(x, weights, &chunk.lengths, layer_settings);
        }
        pool(pass.pooling, x, &chunk.lengths)
    }

    /// Moves the layers out, so that nobody else holds their numbers and the optimiser can write to them in place.
    pub fn take(&mut self) -> Self {
        let layers = std::mem::take(&mut self.layers);
        Self { layers, ..self.clone() }
    }

    /// From values in the order of [`specs`].
    ///
    /// # Errors
    /// What `next` returns.
    pub fn build(shape: &Shape, device: &Device, mut next: impl FnMut(&Spec) -> Result<Vec<f32>>) -> Result<Self> {
        let specs = specs(shape);
        let mut specs = specs.iter();
        let mut tensor = || {
            let spec = specs.next().expect("as many as there are parameters");
            Ok::<_, Error>(TensorData::new(next(spec)?, spec.shape.clone()))
        };
        // Made one after the other, so that the order is that of the file.
        let positions = Param::from_data(tensor()?, device);
        let types = Param::from_data(tensor()?, device);
        let norm = norm_params(&mut tensor, device)?;
        let mut layers = Vec::with_capacity(shape.layers);
        for _ in 0..shape.layers {
            layers.push(EncoderLayer {
                query: affine_params(&mut tensor, device)?,
                key: affine_params(&mut tensor, device)?,
                value: affine_params(&mut tensor, device)?,
                out: affine_params(&mut tensor, device)?,
                attention_norm: norm_params(&mut tensor, device)?,
                wide: affine_params(&mut tensor, device)?,
                narrow: affine_params(&mut tensor, device)?,
                output_norm: norm_params(&mut tensor, device)?,
            });
        }
        Ok(Self { positions, types, norm, layers, heads: shape.heads, epsilon: shape.epsilon })
    }
}

fn affine_params(next: &mut impl FnMut() -> Result<TensorData>, device: &Device) -> Result<AffineParams> {
    Ok(AffineParams { weight: Param::from_data(next()?, device), bias: Param::from_data(next()?, device) })
}

fn norm_params(next: &mut impl FnMut() -> Result<TensorData>, device: &Device) -> Result<NormParams> {
    Ok(NormParams { gamma: Param::from_data(next()?, device), beta: Param::from_data(next()?, device) })
}

/// A parameter: its name in transformers, without the prefix `bert.`, and its shape here.
pub(super) struct Spec {
    pub name: String,
    pub shape: Vec<usize>,
    /// Stored as `[to, from]` by PyTorch and as `[from, to]` here.
    pub transposed: bool,
}

/// The parameters of a [`Network`] in the order of its fields.
pub(super) fn specs(shape: &Shape) -> Vec<Spec> {
    let (width, hidden) = (shape.width, shape.hidden);
    let table = |name: &str, rows| Spec { name: format!("embeddings.{name}.weight"), shape: vec![rows, width], transposed: false };
    let mut specs = vec![table("position_embeddings", shape.positions), table("token_type_embeddings", shape.types)];
    let norm = |specs: &mut Vec<Spec>, name: &str| {
        for part in ["weight", "bias"] {
            specs.push(Spec { name: format!("{name}.LayerNorm.{part}"), shape: vec![width], transposed: false });
        }
    };
    let affine = |specs: &mut Vec<Spec>, name: String, from, to| {
        specs.push(Spec { name: format!("{name}.weight"), shape: vec![from, to], transposed: true });
        specs.push(Spec { name: format!("{name}.bias"), shape: vec![to], transposed: false });
    };
    norm(&mut specs, "embeddings");
    for layer in 0..shape.layers {
        let layer = format!("encoder.layer.{layer}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            affine(&mut specs, format!("{layer}.attention.{part}"), width, width);
        }
        norm(&mut specs, &format!("{layer}.attention.output"));
        affine(&mut specs, format!("{layer}.intermediate.dense"), width, hidden);
        affine(&mut specs, format!("{layer}.output.dense"), hidden, width);
        norm(&mut specs, &format!("{layer}.output"));
    }
    specs
}

/// The table of words in a file.
pub(super) const WORDS: &str = "embeddings.word_embeddings.weight";

/// The weights of a BERT in a safetensors file, with and without the prefix that models with a head on top have.
pub(super) struct WeightFile {
    tensors: Tensors,
    names: Vec<String>,
    prefix: &'static str,
}

impl WeightFile {
    /// # Errors
    /// Names the file when it is missing, damaged, or none of a BERT's.
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let tensors = Tensors::open(path)?;
        let names = tensors.names()?;
        let prefix = ["", "bert."].into_iter().find(|prefix| names.iter().any(|name| *name == format!("{prefix}{WORDS}")));
        match prefix {
            Some(prefix) => Ok(Self { tensors, names, prefix }),
            None => Err(Error::file(path, None, format!("has no tensor {WORDS:?}, with or without \"bert.\" before it: this is no BERT"))),
        }
    }

    /// Values as they are used here, in the shape that the specification asks for.
    ///
    /// # Errors
    /// Names file and tensor when that is missing, of another shape, or holds NaN.
    pub fn values(&self, spec: &Spec) -> Result<Vec<f32>> {
        let mut name = format!("{}{}", self.prefix, spec.name);
        if !self.names.contains(&name) {
            // What norms' parameters were called in the first BERT files.
            let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            name = if self.names.contains(&old) { old } else { name };
        }
        let wrong_shape = |found: &[usize], needed: &[usize]| {
            Err(Error::file(
                self.tensors.path(),
                None,
                format!("{name:?} has the shape {found:?}, but by config.json {needed:?} is needed"),
            ))
        };
        match spec.shape.as_slice() {
            &[rows, columns] => {
                let (found, values) = self.tensors.get::<2>(&name)?;
                let needed = if spec.transposed { [columns, rows] } else { [rows, columns] };
                if found != needed {
                    return wrong_shape(&found, &needed);
                }
                Ok(if spec.transposed { transpose(&values, columns, rows) } else { values })
            }
            needed => {
                let (found, values) = self.tensors.get::<1>(&name)?;
                if found != needed { wrong_shape(&found, needed) } else { Ok(values) }
            }
        }
    }

    /// What stands beside the encoder and is not computed here but kept for the saved model: the pooler of BERT's pre-training.
    ///
    /// # Errors
    /// As [`WeightFile::values`].
    pub fn pooler(&self, width: usize) -> Result<Vec<(Spec, Vec<f32>)>> {
        let spec = |part: &str, shape: Vec<usize>| Spec { name: format!("pooler.dense.{part}"), shape, transposed: false };
        let specs = [spec("weight", vec![width, width]), spec("bias", vec![width])];
        if !specs.iter().all(|s| self.names.contains(&format!("{}{}", self.prefix, s.name))) {
            return Ok(Vec::new());
        }
        specs.into_iter().map(|spec| self.values(&spec).map(|values| (spec, values))).collect()
    }
}

/// All numbers of a module's parameters, in the order of its fields.
pub(super) fn collect<M: Module>(module: &M) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(host(param.val()));
        }
    }
    let mut collect = Collect(Vec::new());
    module.visit(&mut collect);
    collect.0
}

/// The module with its parameters' numbers replaced, in the order of its fields.
///
/// # Panics
/// When there are too few.
pub(super) fn replace<M: Module>(module: M, values: &[f32]) -> M {
    struct Replace<'a>(&'a [f32]);
    impl ModuleMapper for Replace<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, tensor, mapper) = param.consume();
            let (mine, rest) = self.0.split_at(tensor.shape().num_elements());
            self.0 = rest;
            let tracked = tensor.is_require_grad();
            let new = Tensor::from_data(TensorData::new(mine.to_vec(), tensor.dims()), &tensor.device());
            Param::from_mapped_value(id, if tracked { new.require_grad() } else { new }, mapper)
        }
    }
    module.map(&mut Replace(values))
}
