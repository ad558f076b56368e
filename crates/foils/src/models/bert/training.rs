//! Training: forward by chunks, and back by chunks.
//!
//! The pooled vectors are the leaves of the loss's graph. [`Trainable::step`] takes their gradient and walks back through the
//! network chunk by chunk, computing each chunk a second time unless the batch was no more than one (GradCache, Gao et al. 2021), so
//! that no more than one chunk's graph is in memory for each forward. The parameters' gradient is that of the whole batch.

use super::chunks::{Chunk, plan};
use super::network::{collect, replace};
use super::{BertEncoder, Parameters, on_pool, scatter};
use crate::data::Embeddings;
use crate::models::host::host;
use crate::models::static_encoder::normalize_rows;
use crate::models::{LazyAdamW, Trainable, from_bytes, to_bytes};
use crate::nn::{AdamW, AdamWState};
use crate::{Error, Result};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use foils_kernels::Bags;
use std::collections::HashMap;

/// What a forward left for the step.
pub(super) struct Pending {
    /// `[rows, width]`, what the loss was computed from.
    pub leaf: Tensor<2>,
    rows: Vec<u32>,
    chunks: Vec<Chunk>,
    /// That of the only chunk.
    graph: Option<Graph>,
}

/// A chunk's computation.
struct Graph {
    /// `[tokens, width]`, a leaf, unless the table is frozen.
    words: Tensor<2>,
    /// `[texts, width]`
    pooled: Tensor<2>,
}

/// AdamW as transformers are trained with: no decay of biases and norms.
pub(super) fn optimizer() -> AdamW {
    let mut optimizer = AdamW::default();
    optimizer.decay_matrices_only = true;
    optimizer
}

/// The gradient of each word vector that a step touches.
pub(super) struct WordGradients {
    width: usize,
    pub tokens: Vec<u32>,
    place: HashMap<u32, usize>,
    pub sums: Vec<f32>,
}

impl WordGradients {
    pub fn new(width: usize) -> Self {
        Self { width, tokens: Vec::new(), place: HashMap::new(), sums: Vec::new() }
    }

    fn add(&mut self, ids: &[u32], gradients: &[f32]) {
        for (&id, gradient) in ids.iter().zip(gradients.chunks_exact(self.width)) {
            let place = *self.place.entry(id).or_insert_with(|| {
                self.tokens.push(id);
                self.sums.resize(self.sums.len() + self.width, 0.0);
                self.tokens.len() - 1
            });
            for (sum, g) in self.sums[place * self.width..][..self.width].iter_mut().zip(gradient) {
                *sum += g;
            }
        }
    }
}

impl BertEncoder {
    /// Moves the network to an autodiff device.
    pub(super) fn move_to(&mut self, device: &Device) {
        if self.device != *device {
            let Parameters { network, lora } = self.parameters.clone().fork(device);
            let network = if lora.is_some() { network.no_grad() } else { network };
            self.parameters = Parameters { network, lora };
            self.device = device.clone();
        }
    }

    fn check_rows(&self, rows: &[u32]) -> Result<()> {
        match rows.iter().find(|&&row| row as usize >= self.prepared.len()) {
            Some(row) => Err(Error::invalid(format!("text {row} was not prepared: there are {}", self.prepared.len()))),
            None => Ok(()),
        }
    }

    fn graph(&self, chunk: &Chunk, rows: &[u32]) -> Graph {
        let words = self.words_of(&chunk.ids(&self.prepared, rows), &self.device);
        let words = if self.parameters.lora.is_some() { words } else { words.require_grad() };
        let Parameters { network, lora } = &self.parameters;
        Graph { pooled: network.forward(words.clone(), chunk, self.pass(), lora.as_ref()), words }
    }

    /// Adds up the gradients of the parameters and of the touched words.
    pub(super) fn walk_back(
        &self,
        pending: Pending,
        above: &[f32],
        parameters: &mut GradientsAccumulator<Parameters>,
        words: &mut WordGradients,
    ) {
        let width = self.shape.width;
        let Pending { rows, chunks, mut graph, .. } = pending;
        for chunk in chunks {
            let values: Vec<f32> = chunk.places.iter().flat_map(|&place| &above[place * width..][..width]).copied().collect();
            let above = Tensor::from_data(TensorData::new(values, [chunk.places.len(), width]), &self.device);
            let Graph { words: leaf, pooled } = graph.take().unwrap_or_else(|| self.graph(&chunk, &rows));
            let mut gradients = (pooled * above).sum().backward();
            if let Some(gradient) = leaf.grad_remove(&mut gradients) {
                words.add(&chunk.ids(&self.prepared, &rows), &host(gradient));
            }
            parameters.accumulate(&self.parameters, GradientsParams::from_module(&mut gradients, &self.parameters));
        }
    }
}

/// The sums of all gradients, in one transfer: not finite when one of them is not.
fn all_finite(module: &Parameters, gradients: &GradientsParams) -> bool {
    struct Sums<'a>(&'a GradientsParams, Vec<Tensor<1>>);
    impl ModuleVisitor for Sums<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.extend(self.0.get::<D>(param.id).map(Tensor::sum));
        }
    }
    let mut sums = Sums(gradients, Vec::new());
    module.visit(&mut sums);
    sums.1.is_empty() || host(Tensor::cat(sums.1, 0)).iter().all(|sum| sum.is_finite())
}

impl Trainable for BertEncoder {
    fn prepare(&mut self, texts: &[&str]) -> Result<()> {
        self.prepared = self.tokens.sequences(texts)?;
        self.pending.clear();
        self.optimizer = optimizer();
        self.word_optimizer.reset();
        Ok(())
    }

    fn forward(&mut self, rows: &[u32], device: &Device, _: u64) -> Result<Tensor<2>> {
        self.check_rows(rows)?;
        let shape = [rows.len(), self.shape.width];
        let finish = |x: Tensor<2>| if self.normalize { normalize_rows(x) } else { x };
        if !device.is_autodiff() {
            return Ok(finish(Tensor::from_data(TensorData::new(self.pooled(&self.prepared, rows), shape), device)));
        }
        self.move_to(device);
        let chunks = plan(&self.prepared, rows, self.chunk_tokens);
        let (values, graph) = match chunks.as_slice() {
            [chunk] => {
                let graph = on_pool(|| self.graph(chunk, rows));
                let mut values = vec![0.0; rows.len() * self.shape.width];
                scatter(&host(graph.pooled.clone().inner()), &chunk.places, &mut values);
                (values, Some(graph))
            }
            _ => (self.pooled(&self.prepared, rows), None),
        };
        let leaf = Tensor::<2>::from_data(TensorData::new(values, shape), device).require_grad();
        self.pending.push(Pending { leaf: leaf.clone(), rows: rows.to_vec(), chunks, graph });
        Ok(if self.normalize { normalize_rows(leaf) } else { leaf })
    }

    fn embed_prepared(&self, rows: &[u32]) -> Result<Embeddings> {
        self.check_rows(rows)?;
        self.finish(self.pooled(&self.prepared, rows))
    }

    fn step(&mut self, gradients: &mut Gradients, learning_rate: f64) -> Result<()> {
        let (mut parameters, mut words) = (GradientsAccumulator::new(), WordGradients::new(self.shape.width));
        for pending in std::mem::take(&mut self.pending) {
            let Some(above) = pending.leaf.grad_remove(gradients) else { continue };
            let above = host(above);
            if let Some(at) = above.iter().position(|v| !v.is_finite()) {
                return Err(Error::invalid(format!("the gradient of text {} is {}", pending.rows[at / self.shape.width], above[at])));
            }
            on_pool(|| self.walk_back(pending, &above, &mut parameters, &mut words));
        }
        let gradients = parameters.grads();
        if !all_finite(&self.parameters, &gradients) || words.sums.iter().any(|v| !v.is_finite()) {
            return Err(Error::invalid("the gradient of the transformer's weights is not finite"));
        }
        let Parameters { network, lora } = &mut self.parameters;
        let parameters = Parameters { network: network.take(), lora: lora.take() };
        self.parameters = on_pool(|| self.optimizer.step(learning_rate, parameters, gradients));
        if !words.tokens.is_empty() {
            let mut bags = Bags::default();
            words.tokens.iter().for_each(|&token| bags.push_mean(&mut [token]));
            let all: Vec<u32> = (0..words.tokens.len() as u32).collect();
            self.word_optimizer.step(&mut self.words, self.shape.width, &bags.touched(&all), &words.sums, learning_rate);
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        if self.parameters.lora.is_some() { 3e-4 } else { 3e-5 }
    }

    /// With LoRA the updates alone.
    fn snapshot(&self) -> Vec<u8> {
        match &self.parameters.lora {
            Some(lora) => bytemuck::cast_slice(&collect(lora)).to_vec(),
            None => [bytemuck::cast_slice(&self.words), bytemuck::cast_slice::<f32, u8>(&collect(&self.parameters.network))].concat(),
        }
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        let Parameters { network, lora } = &self.parameters;
        let (words, numbers) = match lora {
            Some(lora) => (0, lora.num_params()),
            None => (self.words.len(), self.words.len() + network.num_params()),
        };
        if snapshot.len() != 4 * numbers {
            return Err(Error::invalid(format!("a snapshot of this model has {} bytes, not {}", 4 * numbers, snapshot.len())));
        }
        let values: Vec<f32> = snapshot.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect();
        if let Some(value) = values.iter().find(|v| !v.is_finite()) {
            return Err(Error::invalid(format!("the snapshot holds {value}")));
        }
        let (of_words, rest) = values.split_at(words);
        self.words[..words].copy_from_slice(of_words);
        let Parameters { network, lora } = self.parameters.clone();
        self.parameters = match lora {
            Some(lora) => Parameters { network, lora: Some(replace(lora, rest)) },
            None => Parameters { network: replace(network, rest), lora: None },
        };
        // Other weights: the old moments belong to nobody.
        self.optimizer = optimizer();
        self.word_optimizer = LazyAdamW::default();
        Ok(())
    }

    fn training_state(&self) -> Vec<u8> {
        to_bytes(&(self.snapshot(), self.optimizer.state(&self.parameters), &self.word_optimizer))
    }

    fn set_training_state(&mut self, state: &[u8]) -> Result<()> {
        let (weights, optimizer, words): (Vec<u8>, AdamWState, LazyAdamW) = from_bytes(state)?;
        self.restore(&weights)?;
        self.optimizer.set_state(&self.parameters, optimizer)?;
        self.word_optimizer = words;
        Ok(())
    }
}
