//! The hot loops that everything else stands on, over plain slices, generic over f32 and f64 ([`Real`]).
//! No tensor framework, no files, no printing.

mod bag;
mod real;

pub use bag::{Bags, Touched};
pub use real::{Real, product};
