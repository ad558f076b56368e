use super::{Bm25, Idf};
use crate::topk::rank_order;
use proptest::prelude::*;

/// The formula as it is written, document by document.
fn naive(documents: &[Vec<u32>], query: &[u32], vocab: usize, k1: f64, b: f64, idf: Idf) -> Vec<f64> {
    let n = documents.len() as f64;
    let mean = documents.iter().map(Vec::len).sum::<usize>() as f64 / n;
    let df = |t: u32| documents.iter().filter(|d| d.contains(&t)).count() as f64;
    let okapi = |t: u32| (n - df(t) + 0.5).ln() - (df(t) + 0.5).ln();
    let seen: Vec<u32> = (0..vocab as u32).filter(|&t| df(t) > 0.0).collect();
    let mean_weight = seen.iter().map(|&t| okapi(t)).sum::<f64>() / seen.len() as f64;
    let weight = |t: u32| match idf {
        Idf::Lucene => (1.0 + (n - df(t) + 0.5) / (df(t) + 0.5)).ln(),
        Idf::Okapi if okapi(t) < 0.0 => 0.25 * mean_weight,
        Idf::Okapi => okapi(t),
    };
    documents
        .iter()
        .map(|d| {
            let term = |&t: &u32| {
                let tf = d.iter().filter(|&&u| u == t).count() as f64;
                if tf == 0.0 { 0.0 } else { weight(t) * tf * (k1 + 1.0) / (tf + k1 * (1.0 - b + b * d.len() as f64 / mean)) }
            };
            query.iter().map(term).sum()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn agrees_with_naive_code(
        mut documents in prop::collection::vec(prop::collection::vec(0u32..12, 0..20), 1..60),
        queries in prop::collection::vec(prop::collection::vec(0u32..14, 0..8), 0..9),
        k1 in prop_oneof![Just(0.0), 0.0f64..3.0], b in prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0],
        okapi in any::<bool>(), k in 0usize..20,
    ) {
        documents[0].push(3);
        let idf = if okapi { Idf::Okapi } else { Idf::Lucene };
        let tokens = documents.concat();
        let offsets: Vec<usize> = std::iter::once(0).chain(documents.iter().scan(0, |sum, d| { *sum += d.len(); Some(*sum) })).collect();
        let index = Bm25::<f64>::new(&tokens, &offsets, 14, k1, b, idf);
        let rankings = index.top_k(&queries, k, |q, d| (q + d as usize) % 5 == 4);
        for (q, query) in queries.iter().enumerate() {
            let mut row = vec![f64::NAN; documents.len()];
            index.scores(query, &mut row);
            for (d, &score) in row.iter().enumerate() {
                prop_assert_eq!(index.score(query, d as u32), score);
            }
            for (ours, theirs) in row.iter().zip(naive(&documents, query, 14, k1, b, idf)) {
                prop_assert!((ours - theirs).abs() <= 1e-12 * (1.0 + theirs.abs()), "{} {}", ours, theirs);
            }
            let mut expected: Vec<(u32, f64)> = row.iter().enumerate().map(|(d, &s)| (d as u32, s)).collect();
            expected.retain(|&(d, s)| s > 0.0 && (q + d as usize) % 5 != 4);
            expected.sort_by(rank_order);
            expected.truncate(k);
            prop_assert_eq!(&rankings[q], &expected);
        }
    }
}

#[test]
fn without_k1_a_term_counts_once() {
    let index = Bm25::<f64>::new(&[0, 0, 0, 1, 0], &[0, 3, 4, 5], 2, 0.0, 0.75, Idf::Lucene);
    let mut row = [0.0; 3];
    index.scores(&[0], &mut row);
    assert_eq!(row, [index.idf()[0], 0.0, index.idf()[0]]);
}

/// Texts of up to 24 words, where the first words of the vocabulary are common and the last rare, and some texts are copies.
fn skewed(documents: usize, vocab: u32, mut seed: u64) -> Vec<Vec<u32>> {
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f64 / f64::from(1 << 24)
    };
    let mut texts: Vec<Vec<u32>> = Vec::with_capacity(documents);
    for d in 0..documents {
        texts.push(match next() {
            copy if copy < 0.1 && d > 0 => texts[(next() * d as f64) as usize].clone(),
            _ => (0..(next() * 24.0) as usize).map(|_| (next().powi(4) * f64::from(vocab)) as u32).collect(),
        });
    }
    texts
}

fn index<T: crate::Real>(documents: &[Vec<u32>], vocab: usize, idf: Idf) -> Bm25<T> {
    let offsets: Vec<usize> = std::iter::once(0)
        .chain(documents.iter().scan(0, |sum, d| {
            *sum += d.len();
            Some(*sum)
        }))
        .collect();
    Bm25::new(&documents.concat(), &offsets, vocab, 1.2, 0.75, idf)
}

/// All of the ways to answer a query have the bits and the order of a sort of all scores, on one thread or three.
fn agrees_with_a_sort<T: crate::Real>(documents: &[Vec<u32>], queries: &[Vec<u32>], vocab: usize, idf: Idf, k: usize) {
    let pool = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let excluded = |q: usize, d: u32| (q + d as usize).is_multiple_of(7);
    let run = |threads| pool(threads).install(|| index::<T>(documents, vocab, idf).top_k(queries, k, excluded));
    let rankings = run(1);
    assert_eq!(rankings, run(3));
    let index = index::<T>(documents, vocab, idf);
    let mut row = vec![T::ZERO; documents.len()];
    for (q, query) in queries.iter().enumerate() {
        index.scores(query, &mut row);
        let mut expected: Vec<(u32, T)> = row.iter().enumerate().map(|(d, &s)| (d as u32, s)).collect();
        expected.retain(|&(d, s)| s > T::ZERO && !excluded(q, d));
        expected.sort_by(rank_order);
        expected.truncate(k);
        assert_eq!(rankings[q], expected, "query {q}, k {k}, {idf:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn pruned_searches_agree_with_a_sort(
        documents in 2000usize..6000, seed in any::<u64>(), k in prop_oneof![Just(1usize), 2usize..40, Just(6000)], okapi in any::<bool>(), single in any::<bool>(),
    ) {
        const VOCAB: u32 = 400;
        let texts = skewed(documents, VOCAB, seed);
        let mut queries: Vec<Vec<u32>> = texts.iter().take(25).cloned().collect();
        queries.extend([vec![], vec![VOCAB], vec![0, 1, 0, 2, VOCAB, 0], vec![0], (0..30).collect(), (370..400).collect()]);
        let idf = if okapi { Idf::Okapi } else { Idf::Lucene };
        if single {
            agrees_with_a_sort::<f32>(&texts, &queries, VOCAB as usize + 1, idf, k);
        } else {
            agrees_with_a_sort::<f64>(&texts, &queries, VOCAB as usize + 1, idf, k);
        }
    }
}

#[test]
fn several_windows_agree_with_a_sort() {
    let texts = skewed(150_000, 3000, 5);
    let mut queries: Vec<Vec<u32>> = texts.iter().skip(70_000).take(12).cloned().collect();
    queries.extend([vec![0], vec![2999], vec![0, 1], vec![2998, 2999]]);
    for idf in [Idf::Lucene, Idf::Okapi] {
        agrees_with_a_sort::<f32>(&texts, &queries, 3000, idf, 50);
    }
}

/// With one text in every document all weights of Okapi are negative, and so is their mean.
#[test]
fn negative_scores_are_no_results() {
    let texts = vec![vec![0, 1]; 5];
    assert_eq!(index::<f32>(&texts, 2, Idf::Okapi).top_k(&[[0, 1]], 3, |_, _| false), [[]]);
    // The mean of a negative and a positive weight is negative here: term 1 alone adds, term 0 takes away.
    let texts: Vec<Vec<u32>> = (0..40u32).map(|d| if d == 7 { vec![0, 1, 1] } else { vec![0] }).collect();
    for k in [1, 2, 50] {
        agrees_with_a_sort::<f64>(&texts, &[vec![0, 1], vec![1], vec![0]], 2, Idf::Okapi, k);
    }
}

#[test]
fn the_ends_of_every_size() {
    let none = index::<f32>(&[], 3, Idf::Lucene);
    assert_eq!(none.top_k(&[vec![0u32], vec![]], 2, |_, _| false), [[], []]);
    let empty = index::<f32>(&[vec![], vec![]], 0, Idf::Lucene);
    assert_eq!(empty.top_k(&[[]], 2, |_, _| false), [[]]);
    let one = index::<f64>(&[vec![0, 0, 1]], 3, Idf::Lucene);
    let found = one.top_k(&[vec![0, 2], vec![2], vec![]], usize::MAX, |_, _| false);
    assert_eq!(found, [vec![(0, one.score(&[0], 0))], vec![], vec![]]);
    assert!(one.top_k(&[[0u32]], 0, |_, _| false)[0].is_empty());
    assert!(one.top_k::<[u32; 0]>(&[], 3, |_, _| false).is_empty());
}

#[test]
#[should_panic(expected = "the offsets ascend")]
fn offsets_must_ascend() {
    Bm25::<f32>::new(&[0, 1], &[0, 2, 1, 2], 2, 1.2, 0.75, Idf::Lucene);
}

/// Parts with the statistics of the whole, and with the tokens of queries alone, score as the whole does.
#[test]
fn parts_score_as_the_whole() {
    let documents: Vec<Vec<u32>> = (0..90u32).map(|d| (0..d % 7).map(|i| (d * i + i) % 11).collect()).collect();
    let offsets = |documents: &[Vec<u32>]| -> Vec<usize> {
        let mut ends = vec![0];
        documents.iter().for_each(|d| ends.push(ends[ends.len() - 1] + d.len()));
        ends
    };
    let queries = [vec![0u32, 4, 4], vec![5], vec![2, 4, 9]];
    let asked = [0u32, 2, 4, 5, 9];
    for idf in [Idf::Lucene, Idf::Okapi] {
        let whole = Bm25::<f32>::new(&documents.concat(), &offsets(&documents), 11, 1.2, 0.75, idf);
        let df = |t: u32| documents.iter().filter(|d| d.contains(&t)).count() as u32;
        let mut counts = std::collections::BTreeMap::new();
        (0..11).map(df).filter(|&df| df > 0).for_each(|df| *counts.entry(df).or_insert(0) += 1);
        let weight = idf.weights(90, &counts);
        let weights: Vec<f64> = (0..11).map(|t| weight(df(t))).collect();
        let mean = documents.concat().len() as f64 / 90.0;
        for (at, part) in documents.chunks(37).enumerate() {
            let lengths: Vec<u32> = part.iter().map(|d| d.len() as u32).collect();
            let kept: Vec<Vec<u32>> = part.iter().map(|d| d.iter().copied().filter(|t| asked.contains(t)).collect()).collect();
            let index = Bm25::<f32>::of_part(&kept.concat(), &offsets(&kept), &lengths, mean, weights.clone(), (1.2, 0.75));
            for (query, found) in queries.iter().zip(index.top_k(&queries, 9, |_, _| false)) {
                let score = |d: u32| whole.score(query, (at * 37) as u32 + d);
                let mut expected: Vec<(u32, f32)> = (0..part.len() as u32).map(|d| (d, score(d))).filter(|e| e.1 > 0.0).collect();
                expected.sort_by(rank_order);
                expected.truncate(9);
                assert_eq!(found, expected, "{idf:?} part {at}");
            }
        }
    }
}
