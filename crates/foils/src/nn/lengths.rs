//! Texts of different lengths in one matrix, without padding.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use std::sync::{Arc, OnceLock};

/// How many rows each text has in a matrix `[tokens, width]` that holds the tokens of all texts one after the other. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lengths(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where each text begins, and the number of rows behind the last.
    offsets: Vec<usize>,
    longest: usize,
    padding: OnceLock<(Device, DType, Padding)>,
}

/// What turns rows of tokens into texts of one length and back.
#[derive(Clone, Debug)]
pub(super) struct Padding {
    /// For each of `texts · longest` places the row that comes there; behind a text its first row again.
    pub rows: Tensor<1, Int>,
    /// For each row its place.
    pub places: Tensor<1, Int>,
    /// `[texts, longest]`: 0 for tokens, −∞ behind them.
    pub mask: Tensor<2>,
}

impl Lengths {
    /// From the number of tokens of each text.
    ///
    /// # Panics
    /// When a text has none.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        let (mut offsets, mut longest) = (vec![0], 0);
        for length in lengths {
            assert!(length > 0, "text {} has no tokens", offsets.len());
            longest = longest.max(length);
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        Self(Arc::new(Inner { offsets, longest, padding: OnceLock::new() }))
    }

    /// How many texts.
    pub fn texts(&self) -> usize {
        self.0.offsets.len() - 1
    }

    /// How many tokens all texts have together.
    pub fn tokens(&self) -> usize {
        self.0.offsets[self.texts()]
    }

    /// The tokens of the longest text; 0 without texts.
    pub fn longest(&self) -> usize {
        self.0.longest
    }

    /// Where each text begins, and the number of rows behind the last: one more than there are texts.
    pub fn offsets(&self) -> &[usize] {
        &self.0.offsets
    }

    /// Whether all texts have the same length.
    pub fn are_equal(&self) -> bool {
        self.texts() * self.longest() == self.tokens()
    }

    /// Made at the first call: each layer asks for it, and on a graphics card it is a transfer.
    pub(super) fn padding(&self, device: &Device, dtype: DType) -> Padding {
        let (made_for, its_dtype, padding) = self.0.padding.get_or_init(|| (device.clone(), dtype, self.make_padding(device, dtype)));
        if made_for == device && *its_dtype == dtype { padding.clone() } else { self.make_padding(device, dtype) }
    }

    fn make_padding(&self, device: &Device, dtype: DType) -> Padding {
        let (texts, longest) = (self.texts(), self.longest());
        let (mut rows, mut places, mut mask) = (Vec::new(), Vec::new(), Vec::new());
        for (text, ends) in self.offsets().windows(2).enumerate() {
            let (from, length) = (ends[0], ends[1] - ends[0]);
            rows.extend((0..longest).map(|i| (if i < length { from + i } else { from }) as i64));
            places.extend((0..length).map(|i| (text * longest + i) as i64));
            mask.extend((0..longest).map(|i| if i < length { 0f32 } else { f32::NEG_INFINITY }));
        }
        let whole = |values: Vec<i64>| {
            let n = values.len();
            Tensor::from_data(TensorData::new(values, [n]), device)
        };
        let mask = Tensor::from_data(TensorData::new(mask, [texts, longest]), (device, dtype));
        Padding { rows: whole(rows), places: whole(places), mask }
    }
}
