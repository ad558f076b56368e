//! A queue of older keys as negatives (MoCo): first in, first out, of fixed length.

use crate::{Error, Result, check, seed};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

/// Writes `keys` `[n, d]` over the rows of `queue` `[k, d]` from `ptr` on: key r goes to slot (ptr + r) mod k. Returns the new
/// queue and the next slot, (ptr + n) mod k (baselines-contrastive, 3). Neither takes part in a graph.
///
/// # Errors
/// When the queue is empty, n > k, ptr ≥ k, the widths or types differ, or a value is not finite.
pub fn queue_update(queue: Tensor<2>, keys: Tensor<2>, ptr: usize) -> Result<(Tensor<2>, usize)> {
    check::values("queue", &queue, false)?;
    put(queue, keys, ptr)
}

/// [`queue_update`] of a queue that is known to be finite.
fn put(queue: Tensor<2>, keys: Tensor<2>, ptr: usize) -> Result<(Tensor<2>, usize)> {
    check::rows("queue", &queue, 1)?;
    check::same_width(("queue", &queue), ("keys", &keys))?;
    let ([k, d], [n, _]) = (queue.dims(), keys.dims());
    if n > k {
        return Err(Error::invalid(format!("{n} keys do not fit a queue of {k}")));
    }
    if ptr >= k {
        return Err(Error::invalid(format!("ptr = {ptr} is outside a queue of {k}")));
    }
    check::values("keys", &keys, false)?;
    let (mut queue, keys) = (queue.inner(), keys.inner());
    let until_end = n.min(k - ptr);
    if until_end > 0 {
        queue = queue.slice_assign([ptr..ptr + until_end, 0..d], keys.clone().slice([0..until_end, 0..d]));
    }
    if n > until_end {
        queue = queue.slice_assign([0..n - until_end, 0..d], keys.slice([until_end..n, 0..d]));
    }
    Ok((queue, (ptr + n) % k))
}

/// A queue of keys and where the next one goes.
#[derive(Clone, Debug)]
pub struct Queue {
    rows: Tensor<2>,
    ptr: usize,
}

impl Queue {
    /// `length` random unit rows of width `dim`, f32.
    ///
    /// # Errors
    /// When `length` or `dim` is 0.
    pub fn new(length: usize, dim: usize, seed: u64, device: &Device) -> Result<Self> {
        if length == 0 || dim == 0 {
            return Err(Error::invalid(format!("a queue of shape [{length}, {dim}] holds nothing")));
        }
        let mut rng = seed::rng(seed, STREAM);
        let rows = crate::data::Embeddings::new(dim, (0..length * dim).map(|_| normal(&mut rng)).collect())?.normalized();
        Ok(Self { rows: Tensor::from_data(TensorData::new(rows.into_data(), [length, dim]), &device.clone().without_autodiff()), ptr: 0 })
    }

    /// The rows `[length, dim]`, without a graph.
    pub fn rows(&self) -> Tensor<2> {
        self.rows.clone()
    }

    /// The slot that the next key takes.
    pub fn ptr(&self) -> usize {
        self.ptr
    }

    /// Puts `keys` `[n, dim]` in the place of the oldest. Do it after the loss of the same keys.
    ///
    /// # Errors
    /// As [`queue_update`]; the queue is then unchanged.
    pub fn push(&mut self, keys: Tensor<2>) -> Result<()> {
        (self.rows, self.ptr) = put(self.rows.clone(), keys, self.ptr)?;
        Ok(())
    }
}

/// The stream of a seed that fills queues.
const STREAM: u64 = 0x51;

/// A standard normal number (Box–Muller).
fn normal(rng: &mut seed::Rng) -> f32 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[f32]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), &Device::flex())
    }

    fn values(x: &Tensor<2>) -> Vec<f32> {
        x.clone().into_data().iter().collect()
    }

    #[test]
    fn wraps_fills_and_takes_nothing() {
        let queue = || column(&[0.0, 1.0, 2.0]);
        let (rows, ptr) = queue_update(queue(), column(&[7.0, 8.0]), 2).unwrap();
        assert_eq!((values(&rows), ptr), (vec![8.0, 1.0, 7.0], 1));
        let (rows, ptr) = queue_update(queue(), column(&[7.0, 8.0, 9.0]), 1).unwrap();
        assert_eq!((values(&rows), ptr), (vec![9.0, 7.0, 8.0], 1));
        let (rows, ptr) = queue_update(queue(), column(&[7.0]), 2).unwrap();
        assert_eq!((values(&rows), ptr), (vec![0.0, 1.0, 7.0], 0));
        let none = Tensor::<2>::zeros([0, 1], &Device::flex());
        let (rows, ptr) = queue_update(queue(), none, 2).unwrap();
        assert_eq!((values(&rows), ptr), (vec![0.0, 1.0, 2.0], 2));
    }

    #[test]
    fn starts_with_unit_rows_and_forgets_the_oldest() {
        let mut queue = Queue::new(3, 2, 7, &Device::flex().autodiff()).unwrap();
        assert_eq!(values(&queue.rows()), values(&Queue::new(3, 2, 7, &Device::flex()).unwrap().rows()));
        assert!(values(&queue.rows()).chunks(2).all(|r| (r[0] * r[0] + r[1] * r[1] - 1.0).abs() < 1e-6));
        let before = values(&queue.rows());
        queue.push(Tensor::from_floats([[5.0, 6.0], [7.0, 8.0]], &Device::flex().autodiff())).unwrap();
        assert_eq!(values(&queue.rows()), [5.0, 6.0, 7.0, 8.0, before[4], before[5]]);
        assert_eq!(queue.ptr(), 2);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let says = |result: Result<(Tensor<2>, usize)>, word: &str| {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        };
        says(queue_update(column(&[1.0]), column(&[1.0, 2.0]), 0), "2 keys do not fit a queue of 1");
        says(queue_update(column(&[1.0]), column(&[1.0]), 1), "ptr = 1");
        says(queue_update(column(&[1.0]), column(&[f32::NAN]), 0), "keys: row 0, column 0 is NaN");
        says(queue_update(column(&[1.0, f32::INFINITY]), column(&[1.0]), 0), "queue: row 1, column 0 is inf");
        says(queue_update(Tensor::zeros([0, 1], &Device::flex()), column(&[1.0]), 0), "0 rows");
        says(queue_update(column(&[1.0]), Tensor::zeros([1, 2], &Device::flex()), 0), "widths differ");
        assert!(Queue::new(0, 3, 1, &Device::flex()).is_err());
    }
}
