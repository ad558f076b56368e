//! Vectors that several threads fill.

use rayon::prelude::*;
use std::mem::MaybeUninit;

/// A vector of `len` numbers made in pieces of `piece` (the last may be shorter), in parallel: `fill` gets the number of a piece
/// and the piece itself, all zeros. Zeroing a piece just before it is filled keeps it in the cache, and lets the threads share
/// the cost of memory that is touched for the first time, which `vec![0; len]` leaves to one of them.
pub(crate) fn fill_pieces<T: bytemuck::Pod + Send>(len: usize, piece: usize, fill: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    let one = |i: usize, memory: &mut [MaybeUninit<T>]| {
        memory.fill(MaybeUninit::zeroed());
        // SAFETY: every element has just been written with zero bytes, which are a value of any `Pod` type.
        fill(i, unsafe { memory.assume_init_mut() });
    };
    let memory = &mut out.spare_capacity_mut()[..len];
    if len <= piece {
        one(0, memory);
    } else {
        memory.par_chunks_mut(piece.max(1)).enumerate().for_each(|(i, memory)| one(i, memory));
    }
    // SAFETY: the pieces cover the first `len` elements, and each was written above; had `fill` panicked, this would not be reached.
    unsafe { out.set_len(len) };
    out
}

#[cfg(test)]
mod tests {
    use super::fill_pieces;

    #[test]
    fn pieces_are_numbered_and_start_as_zeros() {
        for (len, piece) in [(0, 4), (3, 4), (4, 4), (11, 4), (5, 1), (3, 0)] {
            let made = fill_pieces::<f32>(len, piece, |i, out| {
                assert!(out.iter().all(|&v| v == 0.0));
                let start = if piece == 0 { i } else { i * piece };
                out.iter_mut().enumerate().for_each(|(j, v)| *v = (start + j) as f32);
            });
            assert_eq!(made, (0..len).map(|i| i as f32).collect::<Vec<_>>(), "{len} in pieces of {piece}");
        }
    }
}
