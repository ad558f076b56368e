//! k-nearest-neighbour probe: how well do the neighbours of an embedding know its class?

use crate::{Error, Result};
use foils_kernels::simd::Row;
use foils_kernels::{Real, product};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Settings of [`knn_predict`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnnSettings {
    /// How many neighbours vote.
    pub k: usize,
    /// τ: a neighbour's vote is exp(cosine/τ).
    pub temperature: f64,
    /// How many classes there are; labels are below it.
    pub num_classes: usize,
}

/// What the neighbours say.
#[derive(Clone, Debug, PartialEq)]
pub struct KnnPrediction {
    /// `[m, num_classes]`: the summed votes.
    pub scores: Vec<f64>,
    /// The class with the largest score; of equals the smallest class.
    pub predictions: Vec<usize>,
}

/// Weighted vote of the k nearest of `bank` `[b, dim]` by cosine, for each of `features` `[m, dim]` (baselines-contrastive, 8). Of
/// equally near neighbours the one with the lower index is taken. f32 or f64, row-major; rows are normalised here, and a zero row
/// is as near to everything.
///
/// # Errors
/// When there are no features, rows are ragged, a value is not finite, labels are not one for each row of the bank
/// or not in `0..num_classes`, k is not in `1..=b`, or the temperature is not a finite number above 0.
pub fn knn_predict<T: Row>(features: &[T], bank: &[T], dim: usize, labels: &[i64], settings: &KnnSettings) -> Result<KnnPrediction> {
    let KnnSettings { k, temperature, num_classes } = *settings;
    let temperature = crate::check::positive("temperature", temperature)?;
    let features = unit_rows("features", features, dim)?;
    let bank = unit_rows("bank", bank, dim)?;
    let (m, b) = (features.len() / dim, bank.len() / dim);
    if m == 0 {
        return Err(Error::invalid("there are no features"));
    }
    if k == 0 || k > b {
        return Err(Error::invalid(format!("k = {k}, must be from 1 to the {b} rows of the bank")));
    }
    if labels.len() != b {
        return Err(Error::invalid(format!("{} labels for the {b} rows of the bank", labels.len())));
    }
    if let Some((i, label)) = labels.iter().enumerate().find(|(_, l)| !(0..num_classes as i64).contains(l)) {
        return Err(Error::invalid(format!("label {i} is {label}, not one of {num_classes} classes")));
    }
    let fits = m.checked_mul(num_classes).is_some_and(|scores| Vec::<f64>::new().try_reserve_exact(scores).is_ok());
    if !fits {
        return Err(Error::invalid(format!("scores of {num_classes} classes for {m} features do not fit into memory")));
    }

    /// The similarities of a block of features are kept below this many values.
    const BLOCK_VALUES: usize = 1 << 20;
    let block = (BLOCK_VALUES / b).clamp(1, 128);
    let of_block = |block: &[T]| -> Vec<(Vec<f64>, usize)> {
        let rows = block.len() / dim;
        let mut similarities = vec![T::ZERO; rows * b];
        product(&mut similarities, (rows, b, dim), block, (dim, 1), &bank, (1, dim), false, T::ONE);
        similarities.chunks(b).map(|row| vote(row, k, labels, temperature, num_classes)).collect()
    };
    let votes: Vec<_> = features.par_chunks(block * dim).flat_map_iter(of_block).collect();
    Ok(KnnPrediction { predictions: votes.iter().map(|v| v.1).collect(), scores: votes.into_iter().flat_map(|v| v.0).collect() })
}

/// The scores of all classes and the best class.
fn vote<T: Real>(similarities: &[T], k: usize, labels: &[i64], temperature: f64, num_classes: usize) -> (Vec<f64>, usize) {
    let mut order: Vec<usize> = (0..similarities.len()).collect();
    // + 0: both zeros tie.
    let nearer = |&i: &usize, &j: &usize| (similarities[j].to_f64() + 0.0).total_cmp(&(similarities[i].to_f64() + 0.0)).then(i.cmp(&j));
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, nearer);
        order.truncate(k);
    }
    // In order of nearness, so that the sum does not depend on how the selection left them.
    order.sort_unstable_by(nearer);
    let nearest = similarities[order[0]].to_f64();
    let (mut scores, mut shifted) = (vec![0.0; num_classes], vec![0.0; num_classes]);
    for i in order {
        let (class, s) = (labels[i] as usize, similarities[i].to_f64());
        scores[class] += (s / temperature).exp();
        shifted[class] += ((s - nearest) / temperature).exp();
    }
    // At tiny temperatures the scores overflow or vanish; then the shifted ones tell the classes apart.
    let ranked = if scores.iter().all(|s| s.is_finite()) && scores.iter().any(|&s| s > 0.0) { &scores } else { &shifted };
    let best = (1..num_classes).fold(0, |best, c| if ranked[c] > ranked[best] { c } else { best });
    (scores, best)
}

/// `rows` `[n, dim]` divided by their norms; a zero row stays zero.
pub(crate) fn unit_rows<T: Row>(name: &str, rows: &[T], dim: usize) -> Result<Vec<T>> {
    if dim == 0 || !rows.len().is_multiple_of(dim) {
        return Err(Error::invalid(format!("{name}: {} values do not fill rows of {dim}", rows.len())));
    }
    crate::check::slice(name, rows, dim, false)?;
    let mut unit = rows.to_vec();
    unit.par_chunks_mut(dim).for_each(|row| {
        // By the largest entry first: squares of huge or tiny values leave the range.
        let largest = row.iter().fold(0.0, |l: f64, v| l.max(v.to_f64().abs()));
        if largest > 0.0 {
            let norm = largest * row.iter().map(|v| (v.to_f64() / largest).powi(2)).sum::<f64>().sqrt();
            row.iter_mut().for_each(|v| *v = T::from_f64(v.to_f64() / norm.max(1e-12)));
        }
    });
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(features: &[f64], bank: &[f64], dim: usize, labels: &[i64], s: &KnnSettings) -> KnnPrediction {
        let cos = |x: &[f64], y: &[f64]| {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
        };
        let (mut scores, mut predictions) = (vec![], vec![]);
        for x in features.chunks(dim) {
            let mut near: Vec<(f64, i64)> = bank.chunks(dim).zip(labels).map(|(y, &l)| (cos(x, y), l)).collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut row = vec![0.0; s.num_classes];
            near[..s.k].iter().for_each(|(c, l)| row[*l as usize] += (c / s.temperature).exp());
            let best = row.iter().copied().fold(0.0, f64::max);
            predictions.push(row.iter().position(|v| *v == best).unwrap());
            scores.extend(row);
        }
        KnnPrediction { scores, predictions }
    }

    proptest! {
        #[test]
        fn equals_a_full_sort(
            features in prop::collection::vec(0.05..1.0f64, 3 * 6),
            bank in prop::collection::vec(-1.0..-0.05f64, 3 * 20),
            labels in prop::collection::vec(0..4i64, 20),
            k in 1usize..=20,
        ) {
            let s = KnnSettings { k, temperature: 0.2, num_classes: 4 };
            let (ours, theirs) = (knn_predict(&features, &bank, 3, &labels, &s).unwrap(), naive(&features, &bank, 3, &labels, &s));
            prop_assert!(ours.scores.iter().zip(&theirs.scores).all(|(a, b)| (a - b).abs() < 1e-9 * (1.0 + b)));
            prop_assert_eq!(ours.predictions, theirs.predictions);
        }

        #[test]
        fn of_equal_neighbours_the_first_vote(row in prop::collection::vec(0.1..1.0f32, 7), b in 1usize..70, k in 1usize..70) {
            let k = k.min(b);
            let bank: Vec<f32> = row.repeat(b);
            let labels: Vec<i64> = (0..b as i64).collect();
            let s = KnnSettings { k, temperature: 1.0, num_classes: b };
            let scores = knn_predict(&row, &bank, 7, &labels, &s).unwrap().scores;
            prop_assert!(scores[..k].iter().all(|s| *s > 0.0) && scores[k..].iter().all(|s| *s == 0.0));
        }
    }

    #[test]
    fn equal_scores_go_to_the_smallest_class_and_tiny_temperatures_are_ranked() {
        let s = |k, temperature| KnnSettings { k, temperature, num_classes: 3 };
        let bank = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        let at = |k, t, labels: [i64; 3], x: [f64; 2]| knn_predict(&x, &bank, 2, &labels, &s(k, t)).unwrap();
        assert_eq!(at(2, 0.1, [2, 1, 0], [1.0, 0.0]).predictions, [1]);
        // exp(1/1e-4) overflows, exp(-1/1e-4) vanishes: class 2 is nearer both times.
        assert_eq!(at(1, 0.1, [2, 1, 0], [0.0, 0.0]).scores, [0.0, 0.0, 1.0]);
        assert_eq!(at(3, 1e-4, [0, 0, 2], [0.1, 1.0]).predictions, [2]);
        assert_eq!(at(3, 1e-4, [0, 0, 2], [-1.0, -0.5]).predictions, [2]);
    }

    #[test]
    fn both_zeros_are_as_near() {
        assert_eq!(vote(&[-0.0, 0.0, -1.0], 1, &[1, 0, 0], 1.0, 2), (vec![0.0, 1.0], 1));
    }

    #[test]
    fn refuses_bad_input() {
        let bank = [1.0f32, 0.0, 0.0, 1.0];
        let run = |features: &[f32], labels: &[i64], k, temperature| {
            knn_predict(features, &bank, 2, labels, &KnnSettings { k, temperature, num_classes: 2 }).map(|_| ()).unwrap_err().to_string()
        };
        let x = [1.0, 1.0];
        assert!(run(&x, &[0, 2], 1, 0.1).contains("label 1 is 2"));
        assert!(run(&x, &[0, -1], 1, 0.1).contains("label 1 is -1"));
        assert!(run(&x, &[0], 1, 0.1).contains("1 labels"));
        assert!(run(&x, &[0, 1], 0, 0.1).contains("k = 0"));
        assert!(run(&x, &[0, 1], 3, 0.1).contains("k = 3"));
        assert!(run(&x, &[0, 1], 1, 0.0).contains("temperature"));
        assert!(run(&[], &[0, 1], 1, 0.1).contains("no features"));
        assert!(run(&[1.0], &[0, 1], 1, 0.1).contains("do not fill"));
        assert!(run(&[f32::NAN, 1.0], &[0, 1], 1, 0.1).contains("NaN"));
        let settings = KnnSettings { k: 1, temperature: 1.0, num_classes: usize::MAX / 64 };
        let huge = knn_predict(&[1.0, 0.0], &bank, 2, &[0, 1], &settings).unwrap_err().to_string();
        assert!(huge.contains("do not fit into memory"), "{huge}");
    }
}
