//! The hot loops that everything else stands on, over plain slices, generic over f32 and f64 ([`Real`]).
//! No tensor framework, no files, no printing.

pub mod contrastive;
mod lists;
mod real;
pub mod simd;

pub use lists::Lists;
pub use real::{Real, product};
