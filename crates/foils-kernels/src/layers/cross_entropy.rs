//! Cross-entropy from logits and class numbers.

use super::{piece, rows};
use crate::simd::{self, Float};
use rayon::prelude::*;

/// The mean over rows of `−log softmax(row)[target]`; `logits`, `[targets.len(), classes]`, become the gradient of that mean.
/// A logit of −∞ is a class that cannot be; the loss is +∞ when it is the target, and NaN when all of a row are.
/// Without rows the loss is NaN, as the mean of nothing.
///
/// # Panics
/// When `logits` do not have their shape, `classes` is 0, or a target is not below `classes`.
pub fn cross_entropy<T: Float>(logits: &mut [T], classes: usize, targets: &[u32]) -> f64 {
    assert_eq!(rows(logits.len(), classes), targets.len(), "as many targets as rows");
    if let Some(target) = targets.iter().find(|&&t| t as usize >= classes) {
        panic!("target {target} of {classes} classes");
    }
    let factor = T::from_f64(1.0 / targets.len() as f64);
    let piece = piece(classes);
    let parts: Vec<f64> = logits
        .par_chunks_mut(piece)
        .zip(targets.par_chunks(piece / classes))
        .map(|(rows, targets)| simd::cross_entropy(rows, classes, targets, factor))
        .collect();
    parts.iter().sum::<f64>() / targets.len() as f64
}
