//! The hot loops that everything else stands on, over plain slices, generic over f32 and f64 ([`Real`]).
//! No tensor framework, no files, no printing.

pub mod bm25;
mod real;
pub mod topk;

pub use real::{Real, product};
