//! The hot loops that everything else stands on, over plain slices, generic over f32 and f64 ([`Real`]).
//! No tensor framework, no formats of files (bytes of one can be mapped: [`Mapped`]), no printing.

mod bag;
pub mod bm25;
pub mod contrastive;
pub mod conv;
pub mod encoder;
pub mod layers;
mod lists;
mod mapped;
pub mod matrix;
mod real;
pub mod simd;
pub mod sorting;
pub mod sparse;
pub mod topk;

pub use bag::{Bags, Touched};
pub use lists::Lists;
pub use mapped::Mapped;
pub use matrix::{product, product_threaded};
pub use real::Real;
