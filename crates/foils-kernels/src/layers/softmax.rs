//! Softmax of rows, with the scale and the mask that attention needs.

use super::{piece, rows};
use crate::simd::{self, Float};
use rayon::prelude::*;

/// `softmax(scale · row + mask)` of every row of `x`, in place. `mask` is `[groups, width]`: the rows fall into so many equal
/// groups of consecutive rows, and each group's mask is added to its rows (an attention mask of a batch has a group for each text:
/// 0 for tokens, −∞ for padding). A row of nothing but −∞ becomes zeros, and has no gradient.
///
/// # Panics
/// When `x` is not rows of `width`, or they do not fall into the groups of the mask.
pub fn softmax<T: Float>(x: &mut [T], width: usize, scale: f64, mask: Option<&[T]>) {
    let rows_of_x = rows(x.len(), width);
    let scale = T::from_f64(scale);
    let piece = piece(width);
    let Some(mask) = mask else {
        x.par_chunks_mut(piece).for_each(|x| simd::softmax(x, width, scale, None));
        return;
    };
    let groups = rows(mask.len(), width);
    assert!(rows_of_x == 0 || (groups > 0 && rows_of_x.is_multiple_of(groups)), "{rows_of_x} rows do not fall into {groups} groups");
    let group = (x.len() / groups.max(1)).max(1);
    x.par_chunks_mut(group).zip(mask.par_chunks(width)).for_each(|(x, mask)| {
        x.par_chunks_mut(piece).for_each(|x| simd::softmax(x, width, scale, Some(mask)));
    });
}

/// The gradient of [`softmax`] with respect to `x` from its result `y`, in place of the gradient `g` of that result.
///
/// # Panics
/// When `y` is not rows of `width`, or `g` not as long.
pub fn softmax_backward<T: Float>(y: &[T], g: &mut [T], width: usize, scale: f64) {
    rows(y.len(), width);
    assert_eq!(y.len(), g.len(), "gradient of the output");
    let scale = T::from_f64(scale);
    let piece = piece(width);
    g.par_chunks_mut(piece).zip(y.par_chunks(piece)).for_each(|(g, y)| simd::softmax_backward(y, g, width, scale));
}
