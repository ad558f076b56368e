//! Which texts go through the network together, and the pooling of what comes out.

use super::Pooling;
use super::tokens::Sequences;
use crate::nn::Lengths;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// Texts of similar length that go through the network at once.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// Their places in the list that was asked for.
    pub places: Vec<usize>,
    pub lengths: Lengths,
}

/// Sorts by length, longest first, and cuts where `limit` tokens are reached; a longer text is a chunk of its own. Where a device
/// needs padding, that is no more than the tokens again.
pub(super) fn plan(sequences: &Sequences, rows: &[u32], limit: usize) -> Vec<Chunk> {
    let length = |place: usize| sequences.get(rows[place]).len();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&place| std::cmp::Reverse(length(place)));
    let mut chunks: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for place in order {
        match chunks.last_mut() {
            Some(chunk) if tokens + length(place) <= limit && (chunk.len() + 1) * length(chunk[0]) <= 2 * limit => chunk.push(place),
            _ => {
                chunks.push(vec![place]);
                tokens = 0;
            }
        }
        tokens += length(place);
    }
    let chunk = |places: Vec<usize>| Chunk { lengths: Lengths::new(places.iter().map(|&p| length(p))), places };
    chunks.into_iter().map(chunk).collect()
}

impl Chunk {
    /// The token ids of its texts, one after the other.
    pub fn ids(&self, sequences: &Sequences, rows: &[u32]) -> Vec<u32> {
        self.places.iter().flat_map(|&place| sequences.get(rows[place])).copied().collect()
    }

    /// Where in its text each token stands.
    pub fn positions(&self, device: &Device) -> Tensor<1, Int> {
        indices(self.lengths.offsets().windows(2).flat_map(|ends| 0..ends[1] - ends[0]), device)
    }
}

/// `[tokens, width]` to `[texts, width]`.
pub(super) fn pool(pooling: Pooling, tokens: Tensor<2>, lengths: &Lengths) -> Tensor<2> {
    let (device, [_, width]) = (tokens.device(), tokens.dims());
    let (texts, longest) = (lengths.texts(), lengths.longest());
    let spans = || lengths.offsets().windows(2).map(|ends| (ends[0], ends[1] - ends[0]));
    match pooling {
        Pooling::Cls => tokens.select(0, indices(spans().map(|(from, _)| from), &device)),
        Pooling::Mean => {
            let shares: Vec<f32> = spans().map(|(_, length)| 1.0 / length as f32).collect();
            let shares = Tensor::<2>::from_data(TensorData::new(shares, [texts, 1]), (&device, tokens.dtype()));
            let text_of = indices(spans().enumerate().flat_map(|(text, (_, length))| std::iter::repeat_n(text, length)), &device);
            let sums = Tensor::zeros([texts, width], (&device, tokens.dtype()));
            sums.select_assign(0, text_of, tokens, IndexingUpdateOp::Add) * shares
        }
        Pooling::Max => {
            // Behind a short text its first token again, which changes no maximum.
            let rows = spans().flat_map(|(from, length)| (0..longest).map(move |i| from + if i < length { i } else { 0 }));
            tokens.select(0, indices(rows, &device)).reshape([texts, longest, width]).max_dim(1).reshape([texts, width])
        }
    }
}

fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.map(|v| v as i64).collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}
