//! How good is a ranking, and do two rankings agree? Rank metrics with their bootstrap intervals.

mod evaluation;
mod knn;

pub use evaluation::{Comparison, Evaluation, Histogram, Interval, Mover};
pub use knn::{KnnPrediction, KnnSettings, knn_predict};
