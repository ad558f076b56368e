//! **foils**: learning from negatives.
//!
//! A *foil* is what a model must learn to move away from: a hard-negative passage, a wrong answer, a negative prompt.
//! Each module is a room that answers one question about foils; a method that touches two questions is two files in two
//! rooms, so that any loss can be put on any source of negatives.
//!
//! | room | the question it answers |
//! |---|---|
//! | [`data`] | what do we learn from? |
//! | [`models`] | what is being trained? |
//! | [`negatives`] | where do the foils come from? |
//! | [`weighting`] | which foils to trust, and how much? |
//! | [`losses`] | how do positives and foils become one number? |
//! | [`diagnostics`] | what did the foils do? |
//! | [`search`], [`metrics`] | what is near what, and how good is a ranking? |
//! | [`train`] | the loop |
//! | [`nn`] | what are networks made of? |
//!
//! [`device`] names where tensors are computed.

#[cfg(doctest)]
mod book;
mod check;
pub mod data;
pub mod device;
pub mod diagnostics;
mod error;
pub mod files;
pub mod losses;
pub mod metrics;
pub mod models;
pub mod negatives;
pub mod nn;
pub mod progress;
mod scratch;
pub mod search;
pub mod seed;
pub mod train;
pub mod weighting;

pub use error::{Error, Result};
pub use scratch::own_memory;
