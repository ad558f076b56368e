//! A table of token embeddings, averaged over the text's tokens: the smallest encoder worth tuning.

use super::folder::{FolderWriter, Tensors, write_tensors};
use super::tokens::{TokenCache, read_tokenizer};
use super::{Encoder, LazyAdamW, Trainable, from_bytes, to_bytes};
use crate::data::Embeddings;
use crate::{Error, Result, files, seed};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use foils_kernels::Bags;
use std::path::Path;
use tokenizers::Tokenizer;

/// Mean of token embeddings, as `StaticEmbedding` of sentence-transformers: no special tokens are added, a token counts as often
/// as it occurs, and the vectors are normalised only if the model says so (a `Normalize` module).
///
/// Training goes past the tensor framework where it can: the pooled vectors are the leaves of the graph, and
/// [`Trainable::step`] carries their gradient to the touched table rows by the transposed mean and updates those rows with
/// [`LazyAdamW`]. So a step's cost is that of its tokens.
pub struct StaticEncoder {
    tokens: TokenCache,
    dim: usize,
    table: Vec<f32>,
    normalize: bool,
    prepared: Bags,
    pending: Vec<(Tensor<2>, Vec<u32>)>,
    optimizer: LazyAdamW,
}

impl StaticEncoder {
    /// From a row-major table `[vocabulary, dim]` and a tokenizer. A tokenizer without truncation is cut at `max_tokens`
    /// (`None`: never); one with truncation keeps its own.
    ///
    /// # Errors
    /// When a token of the tokenizer has no row, a weight is NaN or infinite, or `max_tokens` is 0.
    pub fn new(table: Vec<f32>, dim: usize, tokenizer: Tokenizer, max_tokens: Option<usize>) -> Result<Self> {
        let table = Embeddings::new(dim, table)?;
        let rows = table.rows();
        if let Some((token, id)) = tokenizer.get_vocab(true).into_iter().filter(|&(_, id)| id as usize >= rows).min_by_key(|&(_, id)| id) {
            return Err(Error::invalid(format!("the tokenizer's token {token:?} has the id {id}, but the table has only {rows} rows")));
        }
        Ok(Self {
            tokens: TokenCache::new(tokenizer, max_tokens)?,
            dim,
            table: table.into_data(),
            normalize: false,
            prepared: Bags::default(),
            pending: Vec::new(),
            optimizer: LazyAdamW::default(),
        })
    }

    /// From a safetensors file with `embedding.weight` (or model2vec's `embeddings`), F16 to F64, `[vocabulary, dim]`, and a
    /// `tokenizer.json`.
    ///
    /// # Errors
    /// Names the file that is missing, truncated, of the wrong kind, or holds NaN.
    pub fn from_files(weights: &Path, tokenizer: &Path, max_tokens: Option<usize>) -> Result<Self> {
        let tensors = Tensors::open(weights)?;
        let names = tensors.names()?;
        let has = |name: &str| names.iter().any(|n| n == name);
        if !has("embedding.weight") && (has("mapping") || has("weights")) {
            return Err(Error::file(weights, None, "is a vocabulary-quantized model2vec table (mapping, weights), which is not supported"));
        }
        let name = if has("embeddings") { "embeddings" } else { "embedding.weight" };
        let ([_, dim], table) = tensors.get::<2>(name)?;
        let encoder = Self::new(table, dim, read_tokenizer(tokenizer)?, max_tokens);
        encoder.map_err(|e| Error::file(weights, None, e.to_string()))
    }

    /// A table of independent standard normal numbers (as PyTorch's `EmbeddingBag` starts) for a tokenizer's vocabulary.
    ///
    /// # Errors
    /// As [`StaticEncoder::new`].
    pub fn random(tokenizer: Tokenizer, dim: usize, max_tokens: Option<usize>, seed: u64) -> Result<Self> {
        let rows = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let mut rng = seed::rng(seed, 1);
        let table = (0..rows * dim).map(|_| seed::normal(&mut rng) as f32).collect();
        Self::new(table, dim, tokenizer, max_tokens)
    }

    /// The same encoder, with its vectors divided by their length or not.
    pub fn with_normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// The optimiser of the table, to set its hyper-parameters before training.
    pub fn optimizer_mut(&mut self) -> &mut LazyAdamW {
        &mut self.optimizer
    }

    /// Rows of the table.
    pub fn vocabulary(&self) -> usize {
        self.table.len() / self.dim
    }

    /// Where texts are cut, if they are.
    pub fn max_tokens(&self) -> Option<usize> {
        self.tokens.max_tokens()
    }

    fn pool(&self, bags: &Bags, rows: &[u32]) -> Result<Vec<f32>> {
        if let Some(row) = rows.iter().find(|&&r| r as usize >= bags.len()) {
            return Err(Error::invalid(format!("text {row} was not prepared: there are {}", bags.len())));
        }
        let mut out = vec![0.0; rows.len() * self.dim];
        bags.pool(&self.table, self.dim, rows, &mut out);
        Ok(out)
    }

    fn finish(&self, pooled: Vec<f32>) -> Result<Embeddings> {
        let embeddings = Embeddings::new(self.dim, pooled)?;
        Ok(if self.normalize { embeddings.normalized() } else { embeddings })
    }
}

impl Encoder for StaticEncoder {
    fn dim(&self) -> usize {
        self.dim
    }

    fn embed(&self, texts: &[&str]) -> Result<Embeddings> {
        let bags = self.tokens.bags(texts)?;
        let all: Vec<u32> = (0..bags.len() as u32).collect();
        self.finish(self.pool(&bags, &all)?)
    }

    fn forget_texts(&self) {
        self.tokens.forget();
    }

    fn fingerprint(&self) -> u128 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&(self.dim as u64).to_le_bytes());
        hash.update(&[u8::from(self.normalize)]);
        hash.update(bytemuck::cast_slice(&self.table));
        hash.update(self.tokens.tokenizer_json().as_bytes());
        hash.digest128()
    }

    fn write_modules(&self, folder: &mut FolderWriter) -> Result<()> {
        let module = folder.add_module("StaticEmbedding")?;
        write_tensors(&module.join("model.safetensors"), &[("embedding.weight", &[self.vocabulary(), self.dim], &self.table)])?;
        files::write(module.join("tokenizer.json"), self.tokens.tokenizer_json())?;
        if self.normalize { write_normalize(folder) } else { Ok(()) }
    }
}

/// Adds a `Normalize` module, which has no weights.
pub(super) fn write_normalize(folder: &mut FolderWriter) -> Result<()> {
    let module = folder.add_module("Normalize")?;
    let key = "sentence_embedding";
    files::write_json(module.join("config.json"), &serde_json::json!({ "module_input_name": key, "module_output_name": key }))
}

/// Rows divided by max(‖row‖, 1e-12), on the graph.
pub(super) fn normalize_rows(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}

impl Trainable for StaticEncoder {
    fn prepare(&mut self, texts: &[&str]) -> Result<()> {
        self.prepared = self.tokens.bags(texts)?;
        self.pending.clear();
        self.optimizer.reset();
        Ok(())
    }

    fn forward(&mut self, rows: &[u32], device: &Device, _: u64) -> Result<Tensor<2>> {
        let pooled = self.pool(&self.prepared, rows)?;
        let mut pooled = Tensor::<2>::from_data(TensorData::new(pooled, [rows.len(), self.dim]), device);
        if pooled.is_autodiff() {
            pooled = pooled.require_grad();
            self.pending.push((pooled.clone(), rows.to_vec()));
        }
        Ok(if self.normalize { normalize_rows(pooled) } else { pooled })
    }

    fn embed_prepared(&self, rows: &[u32]) -> Result<Embeddings> {
        self.finish(self.pool(&self.prepared, rows)?)
    }

    fn step(&mut self, gradients: &mut Gradients, learning_rate: f64) -> Result<()> {
        let (mut rows, mut gradient) = (Vec::new(), Vec::new());
        for (leaf, selected) in std::mem::take(&mut self.pending) {
            let Some(part) = leaf.grad_remove(gradients) else { continue };
            let part = part.into_data().try_into_vec::<f32>().map_err(|e| Error::invalid(format!("the gradient is not f32: {e}")))?;
            if let Some(at) = part.iter().position(|v| !v.is_finite()) {
                return Err(Error::invalid(format!("the gradient of text {} is {}", selected[at / self.dim], part[at])));
            }
            rows.extend(selected);
            gradient.extend(part);
        }
        let touched = self.prepared.touched(&rows);
        self.optimizer.step(&mut self.table, self.dim, &touched, &gradient, learning_rate);
        Ok(())
    }

    /// For numbers that are about 1 in size.
    fn learning_rate(&self) -> f64 {
        0.03
    }

    fn snapshot(&self) -> Vec<u8> {
        bytemuck::cast_slice(&self.table).to_vec()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        if snapshot.len() != self.table.len() * 4 {
            let needed = self.table.len() * 4;
            return Err(Error::invalid(format!("a snapshot of this model has {needed} bytes, not {}", snapshot.len())));
        }
        let values: Vec<f32> = snapshot.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect();
        self.table = Embeddings::new(self.dim, values)?.into_data();
        Ok(())
    }

    fn training_state(&self) -> Vec<u8> {
        to_bytes(&(self.snapshot(), &self.optimizer))
    }

    fn set_training_state(&mut self, state: &[u8]) -> Result<()> {
        let (weights, optimizer): (Vec<u8>, LazyAdamW) = from_bytes(state)?;
        self.restore(&weights)?;
        self.optimizer = optimizer;
        Ok(())
    }
}
