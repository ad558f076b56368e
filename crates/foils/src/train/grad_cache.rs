//! Batches larger than memory: embed without a graph, take the loss's gradient by the embeddings, then walk back chunk by chunk
//! (GradCache; baselines-mining). The parameters' gradient is that of the whole batch.

use crate::losses::{RankingLoss, Targets};
use crate::{Error, Result};
use burn::tensor::{Gradients, Tensor};
use std::ops::Range;

/// Which of the two inputs of a [`RankingLoss`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The anchors.
    Anchors,
    /// The candidates.
    Candidates,
}

/// Consecutive rows of one side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// Of what.
    pub side: Side,
    /// Which rows.
    pub rows: Range<usize>,
}

/// A model that embeds chunks of a batch.
pub trait ChunkEncoder {
    /// The vectors `[rows, d]` of a chunk; with `graph`, on the graph of the parameters. Both times the same vectors: whatever is
    /// random must depend on the chunk alone.
    ///
    /// # Errors
    /// When the chunk cannot be embedded.
    fn embed(&mut self, chunk: &Chunk, graph: bool) -> Result<Tensor<2>>;

    /// Adds the gradients of one chunk to those before.
    ///
    /// # Errors
    /// When a gradient cannot be used.
    fn collect(&mut self, gradients: Gradients) -> Result<()>;
}

/// The loss of `targets.positive.len()` anchors against `candidates` candidates, whose gradient by the parameters goes to
/// [`ChunkEncoder::collect`] in pieces. No more than `chunk_size` rows are on the encoder's graph at a time.
///
/// # Errors
/// When `chunk_size` is 0, the encoder returns another number of rows, or encoder or loss refuse.
pub fn cached_gradients(
    loss: &dyn RankingLoss,
    encoder: &mut dyn ChunkEncoder,
    targets: &Targets,
    candidates: usize,
    chunk_size: usize,
) -> Result<f64> {
    if chunk_size == 0 {
        return Err(Error::invalid("chunk_size = 0, must be at least 1"));
    }
    let sides = [(Side::Anchors, targets.positive.len()), (Side::Candidates, candidates)];
    let mut leaves = Vec::new();
    for (side, rows) in sides {
        let parts = chunks(side, rows, chunk_size).map(|c| embed(encoder, &c, false)).collect::<Result<Vec<_>>>()?;
        if parts.is_empty() {
            return Err(Error::invalid(format!("there are no {}", if side == Side::Anchors { "anchors" } else { "candidates" })));
        }
        leaves.push(Tensor::cat(parts, 0).autodiff().require_grad());
    }
    let value = loss.forward(leaves[0].clone(), leaves[1].clone(), targets)?;
    let number = value.clone().inner().into_scalar();
    let gradients = value.backward();
    for ((side, rows), leaf) in sides.into_iter().zip(&leaves) {
        // A loss that does not depend on a side has no gradient for it.
        let Some(gradient) = leaf.grad(&gradients) else { continue };
        for chunk in chunks(side, rows, chunk_size) {
            let vectors = embed(encoder, &chunk, true)?;
            let surrogate = (vectors * gradient.clone().slice([chunk.rows])).sum();
            encoder.collect(surrogate.backward())?;
        }
    }
    Ok(number)
}

fn chunks(side: Side, rows: usize, size: usize) -> impl Iterator<Item = Chunk> {
    (0..rows).step_by(size).map(move |from| Chunk { side, rows: from..(from + size).min(rows) })
}

fn embed(encoder: &mut dyn ChunkEncoder, chunk: &Chunk, graph: bool) -> Result<Tensor<2>> {
    let vectors = encoder.embed(chunk, graph)?;
    if vectors.dims()[0] != chunk.rows.len() {
        return Err(Error::invalid(format!("the encoder returned {} vectors for {} rows", vectors.dims()[0], chunk.rows.len())));
    }
    Ok(if graph { vectors } else { vectors.inner() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::{Dclw, InfoNce};
    use burn::tensor::{DType, Device, TensorData};

    /// z = tanh(x W), and how many rows were on the graph at once.
    struct Layer {
        anchors: Tensor<2>,
        candidates: Tensor<2>,
        weight: Tensor<2>,
        gradient: Option<Tensor<2>>,
        most_rows: usize,
    }

    impl ChunkEncoder for Layer {
        fn embed(&mut self, chunk: &Chunk, graph: bool) -> Result<Tensor<2>> {
            let x = if chunk.side == Side::Anchors { &self.anchors } else { &self.candidates };
            let weight = if graph { self.weight.clone() } else { self.weight.clone().inner() };
            if graph {
                self.most_rows = self.most_rows.max(chunk.rows.len());
            }
            Ok(x.clone().slice([chunk.rows.clone()]).matmul(weight).tanh())
        }

        fn collect(&mut self, gradients: Gradients) -> Result<()> {
            let gradient = self.weight.grad(&gradients).unwrap();
            self.gradient = Some(match self.gradient.take() {
                Some(sum) => sum + gradient,
                None => gradient,
            });
            Ok(())
        }
    }

    fn wave(rows: usize, columns: usize, step: f64) -> Tensor<2> {
        let values: Vec<f64> = (0..rows * columns).map(|i| (i as f64 * step).sin()).collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), (&Device::flex(), DType::F64))
    }

    #[test]
    fn equals_the_direct_gradient_for_every_chunk_size() {
        let targets = Targets::new(vec![0, 1, 2, 3, 4], vec![vec![1], vec![], vec![0], vec![], vec![6]]);
        let losses: [&dyn RankingLoss; 2] = [&InfoNce::new(0.1).unwrap().symmetric(true), &Dclw::new(0.1, 0.5).unwrap()];
        for loss in losses {
            let weight = wave(4, 3, 0.9).autodiff().require_grad();
            let layer = |weight: &Tensor<2>| Layer {
                anchors: wave(5, 4, 0.37),
                candidates: wave(8, 4, 0.51),
                weight: weight.clone(),
                gradient: None,
                most_rows: 0,
            };
            let mut direct = layer(&weight);
            let whole = |side, n| Chunk { side, rows: 0..n };
            let a = direct.embed(&whole(Side::Anchors, 5), true).unwrap();
            let c = direct.embed(&whole(Side::Candidates, 8), true).unwrap();
            let value = loss.forward(a, c, &targets).unwrap();
            let expected = weight.grad(&value.backward()).unwrap();
            for size in [1, 2, 3, 8, 100] {
                let mut cached = layer(&weight);
                let number = cached_gradients(loss, &mut cached, &targets, 8, size).unwrap();
                assert!((number - value.clone().inner().into_scalar::<f64>()).abs() < 1e-13);
                assert_eq!(cached.most_rows, size.min(8));
                let error: f64 = (cached.gradient.unwrap() - expected.clone()).abs().max().into_scalar();
                assert!(error < 1e-10, "chunks of {size}: {error:e}");
            }
        }
    }

    #[test]
    fn refuses_no_rows_and_no_chunks() {
        let weight = wave(4, 3, 0.9).autodiff().require_grad();
        let mut layer = Layer { anchors: wave(5, 4, 0.3), candidates: wave(8, 4, 0.5), weight, gradient: None, most_rows: 0 };
        let loss = InfoNce::new(0.1).unwrap();
        let targets = Targets::new(vec![0], vec![]);
        assert!(cached_gradients(&loss, &mut layer, &targets, 8, 0).unwrap_err().to_string().contains("chunk_size"));
        assert!(cached_gradients(&loss, &mut layer, &Targets::default(), 8, 2).unwrap_err().to_string().contains("no anchors"));
    }
}
