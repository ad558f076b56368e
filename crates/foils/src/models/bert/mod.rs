//! BERT-family encoders: MiniLM, BGE, E5, GTE and others of that architecture, from sentence-transformers folders.
//!
//! Texts are computed without padding: the tokens of all texts of a chunk lie one after the other, sorted by length. A chunk has a
//! limited number of tokens, and training keeps the graph of no more than one, so that memory grows neither with the number of
//! texts nor with the batch. There is no dropout: with it a chunk that is computed a second time would be another chunk, and
//! contrastive batches of the usual sizes do without.

mod chunks;
mod config;
mod lora;
mod lora_files;
mod network;
mod save;
#[cfg(test)]
pub(super) mod tests;
mod tokens;
mod training;

pub use config::Pooling;
pub use lora::{LoraSettings, LoraTarget};
pub(super) use lora_files::{ADAPTER_CONFIG, base_model};

use super::host::host;
use super::tokens::read_tokenizer;
use super::{EmbeddingCache, Encoder, FolderWriter, LazyAdamW};
use crate::data::Embeddings;
use crate::nn::AdamW;
use crate::nn::Precision;
use crate::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use chunks::plan;
use config::{Shape, read_limits};
use lora::LoraParams;
use network::{Network, Pass, Spec, WORDS, WeightFile, collect};
use save::Kept;
use std::path::Path;
use tokens::{SequenceTokenizer, Sequences};
use training::Pending;

/// Tokens that go through the network at once, unless set otherwise ([`BertEncoder::with_chunk_tokens`]): the graph of a chunk takes
/// about 150 kB a token for MiniLM, four times that for BERT base.
pub const DEFAULT_CHUNK_TOKENS: usize = 4096;

/// A transformer encoder of BERT's architecture with mean, first-token or max pooling.
///
/// Trained with AdamW (weight decay 0.01, none on biases and norms). The table of word vectors stays in memory on every device and is
/// updated by [`LazyAdamW`], without decay: a batch touches a few thousand of its 30,000 rows, and dense AdamW would go over all of
/// them, and the moments, in every step, and move rows that no text of the batch has. With LoRA ([`BertEncoder::with_lora`]) only
/// the low-rank updates are trained.
pub struct BertEncoder {
    shape: Shape,
    tokens: SequenceTokenizer,
    /// `[vocabulary, width]`
    words: Vec<f32>,
    parameters: Parameters,
    pooling: Pooling,
    normalize: bool,
    precision: Precision,
    chunk_tokens: usize,
    /// And the fingerprint of the weights whose vectors are kept there.
    cache: Option<(EmbeddingCache, u128)>,
    device: Device,
    /// What the model was loaded by, while low-rank updates are updates of that.
    source: Option<String>,
    kept: Kept,
    prepared: Sequences,
    pending: Vec<Pending>,
    optimizer: AdamW,
    word_optimizer: LazyAdamW,
}

/// All that is on the device; with LoRA the network is frozen.
#[derive(Module, Debug)]
struct Parameters {
    network: Network,
    lora: Option<LoraParams>,
}

impl BertEncoder {
    /// Reads the folder of a `Transformer` module: `config.json`, `model.safetensors` (F16, BF16, F32 or F64), `tokenizer.json`, and
    /// `sentence_bert_config.json` or `tokenizer_config.json` for where texts are cut.
    ///
    /// # Errors
    /// Names the file that is missing, damaged, or of an architecture that is not BERT's.
    pub fn read(folder: &Path, pooling: Pooling) -> Result<Self> {
        let (shape, config) = Shape::read(&folder.join("config.json"))?;
        let (max_tokens, lowercase) = read_limits(folder, shape.positions)?;
        let tokenizer_path = folder.join("tokenizer.json");
        if !tokenizer_path.is_file() {
            let advice = "make it in Python: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)";
            return Err(Error::file(&tokenizer_path, None, format!("is missing; a fast tokenizer is needed: {advice}")));
        }
        let tokens = SequenceTokenizer::new(read_tokenizer(&tokenizer_path)?, max_tokens, lowercase, shape.vocabulary)
            .map_err(|e| Error::file(&tokenizer_path, None, e.to_string()))?;
        let weights_path = folder.join("model.safetensors");
        if !weights_path.is_file() {
            let advice = "make it in Python: SentenceTransformer(FOLDER).save(NEW_FOLDER)";
            return Err(Error::file(&weights_path, None, format!("is missing; other forms of weights are not read: {advice}")));
        }
        let file = WeightFile::open(&weights_path)?;
        let words = Spec { name: WORDS.into(), shape: vec![shape.vocabulary, shape.width], transposed: false };
        let device = Device::flex().autodiff();
        Ok(Self {
            words: file.values(&words)?,
            parameters: Parameters { network: Network::build(&shape, &device, |spec| file.values(spec))?, lora: None },
            kept: Kept::read(folder, config, file.pooler(shape.width)?)?,
            shape,
            tokens,
            pooling,
            normalize: false,
            precision: Precision::default(),
            chunk_tokens: DEFAULT_CHUNK_TOKENS,
            cache: None,
            device,
            source: None,
            prepared: Sequences::default(),
            pending: Vec::new(),
            optimizer: training::optimizer(),
            word_optimizer: LazyAdamW::default(),
        })
    }

    /// The same model, with its vectors divided by their length or not.
    pub fn with_normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// The same model, which multiplies f32 that exactly where the processor knows of less than f32 (x86-64 with AMX); elsewhere
    /// nothing changes.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The same model, with so many tokens going through the network at once ([`DEFAULT_CHUNK_TOKENS`]); a longer text goes alone.
    /// Results do not depend on it, memory and speed do.
    ///
    /// # Errors
    /// When it is 0.
    pub fn with_chunk_tokens(mut self, chunk_tokens: usize) -> Result<Self> {
        if chunk_tokens == 0 {
            return Err(Error::invalid("chunk_tokens is 0; at least 1 is needed"));
        }
        self.chunk_tokens = chunk_tokens;
        Ok(self)
    }

    /// The same model, which looks for the vectors of its present weights in a cache and leaves there what it computes. Those of weights
    /// that training makes of them are not kept: nobody asks for them again.
    pub fn with_cache(mut self, cache: EmbeddingCache) -> Self {
        self.cache = Some((cache, self.fingerprint()));
        self
    }

    /// The same model with low-rank updates that start at nothing and are all that is trained from here on. Updates that it had are
    /// merged first.
    ///
    /// # Errors
    /// On a rank of 0, no targets, or an alpha that is no positive number.
    pub fn with_lora(mut self, settings: &LoraSettings, seed: u64) -> Result<Self> {
        settings.check()?;
        let lora = LoraParams::new(settings, &self.shape, seed, &self.device);
        self.set_lora(lora);
        Ok(self)
    }

    /// The same model, that remembers what it was loaded by: peft's files of low-rank updates name it.
    pub(super) fn with_source(mut self, source: &str) -> Self {
        self.source = Some(source.to_owned());
        self
    }

    fn set_lora(&mut self, lora: LoraParams) {
        let network = match self.parameters.lora.take() {
            Some(before) => {
                self.source = None;
                self.device_network(before)
            }
            None => self.parameters.network.clone(),
        };
        self.parameters = Parameters { network: network.no_grad(), lora: Some(lora) };
        self.optimizer = training::optimizer();
    }

    /// The network with `lora` merged, on the autodiff device.
    fn device_network(&self, lora: LoraParams) -> Network {
        lora.valid().merged(self.parameters.network.valid()).train()
    }

    /// The low-rank updates' settings, where the model has any.
    pub fn lora(&self) -> Option<LoraSettings> {
        self.parameters.lora.as_ref().map(LoraParams::settings)
    }

    /// How tokens become a text's vector.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Where texts are cut, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.tokens.max_tokens()
    }

    fn pass(&self) -> Pass {
        Pass { pooling: self.pooling, precision: self.precision }
    }

    /// The network as it computes, on the CPU or its device, without a graph and with LoRA merged.
    fn merged(&self) -> Network {
        let Parameters { network, lora } = self.parameters.valid();
        match lora {
            Some(lora) => lora.merged(network),
            None => network,
        }
    }

    /// The word vectors `[ids.len(), width]`.
    fn words_of(&self, ids: &[u32], device: &Device) -> Tensor<2> {
        let width = self.shape.width;
        let values: Vec<f32> = ids.iter().flat_map(|&id| &self.words[id as usize * width..][..width]).copied().collect();
        Tensor::from_data(TensorData::new(values, [ids.len(), width]), device)
    }

    /// The pooled vectors of texts, off the graph, in the order of `rows`.
    fn pooled(&self, sequences: &Sequences, rows: &[u32]) -> Vec<f32> {
        on_pool(|| {
            let (network, device) = (self.merged(), self.device.clone().without_autodiff());
            let mut out = vec![0.0; rows.len() * self.shape.width];
            for chunk in plan(sequences, rows, self.chunk_tokens) {
                let words = self.words_of(&chunk.ids(sequences, rows), &device);
                let vectors = host(network.forward(words, &chunk, self.pass(), None));
                scatter(&vectors, &chunk.places, &mut out);
            }
            out
        })
    }

    fn finish(&self, pooled: Vec<f32>) -> Result<Embeddings> {
        let embeddings = Embeddings::new(self.shape.width, pooled)?;
        Ok(if self.normalize { embeddings.normalized() } else { embeddings })
    }
}

/// Row i of `from` becomes row `places[i]` of `to`.
fn scatter(from: &[f32], places: &[usize], to: &mut [f32]) {
    let width = from.len() / places.len().max(1);
    for (row, &place) in from.chunks_exact(width.max(1)).zip(places) {
        to[place * width..][..width].copy_from_slice(row);
    }
}

/// Runs on a thread of the pool: from any other, each of the hundreds of operations would put that thread to sleep and wake another.
fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

impl Encoder for BertEncoder {
    fn dim(&self) -> usize {
        self.shape.width
    }

    fn embed(&self, texts: &[&str]) -> Result<Embeddings> {
        let compute = |texts: &[&str]| {
            let sequences = self.tokens.sequences(texts)?;
            let all: Vec<u32> = (0..texts.len() as u32).collect();
            Ok(self.finish(self.pooled(&sequences, &all))?.into_data())
        };
        let vectors = match &self.cache {
            Some((cache, model)) if *model == self.fingerprint() => cache.embed(*model, self.shape.width, texts, compute)?,
            _ => compute(texts)?,
        };
        Embeddings::new(self.shape.width, vectors)
    }

    fn to_device(&mut self, device: &Device) {
        self.move_to(&device.clone().autodiff());
    }

    fn fingerprint(&self) -> u128 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(self.pooling.name().as_bytes());
        hash.update(&[u8::from(self.normalize)]);
        if self.precision.here() != Precision::Highest {
            hash.update(&[self.precision as u8]);
        }
        hash.update(&(self.shape.heads as u64).to_le_bytes());
        hash.update(&self.shape.epsilon.to_le_bytes());
        hash.update(bytemuck::cast_slice(&self.words));
        hash.update(bytemuck::cast_slice(&collect(&self.merged())));
        hash.update(self.tokens.json().as_bytes());
        hash.digest128()
    }

    fn write_modules(&self, folder: &mut FolderWriter) -> Result<()> {
        self.write_transformer(folder)
    }
}
