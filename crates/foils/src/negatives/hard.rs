//! Hard negatives by cosine similarity over plain slices: the function as `baselines-mining` tables it.
//! [`crate::negatives::mine`] is the pipeline over texts that is built of the same parts.

use super::Sampling;
use super::select::{Selector, Tally};
use crate::search::check_offsets;
use crate::seed;
use crate::weighting::{MarginRule, NegativeFilter};
use crate::{Error, Result};
use foils_kernels::Real;
use foils_kernels::topk::{self, Corpus};
use rayon::prelude::*;

/// Queries whose candidate lists are held at once.
const BLOCK: usize = 1024;

/// How [`mine_hard_negatives`] chooses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HardNegativeSettings {
    /// Negatives for each query; at least 1.
    pub num_negatives: usize,
    /// Limits on the score and the window of ranks. (The function as tabled uses [`MarginRule::Factor`].)
    pub filter: NegativeFilter,
    /// Which of the survivors.
    pub sampling: Sampling,
    /// For random sampling.
    pub seed: u64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct HardNegatives<T> {
    /// For each query at most `num_negatives` (document, cosine), best first.
    pub negatives: Vec<Vec<(u32, T)>>,
    /// For each query the lowest cosine among its positives.
    pub positive_score: Vec<T>,
    /// What became of the candidates that were no positives.
    pub tally: Tally,
    /// Candidates that were positives.
    pub positives_among_candidates: u64,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// Mines negatives for `queries [q, dim]` in `corpus [n, dim]` by cosine similarity.
///
/// Query i's positives are `positive_ids[positive_offsets[i]..positive_offsets[i + 1]]`. The candidates are the
/// `range_max` + max|P| most similar documents (ties to the lower index); positives and what the filter rejects are removed;
/// of the first `range_max` survivors the first `range_min` are skipped, and `num_negatives` of the rest are taken.
/// Memory is that of the input and the result, and O(1,024 · `range_max`).
///
/// # Errors
/// When rows are ragged, a value is not finite, a vector is zero, the corpus is empty, offsets are wrong, a query has no
/// positive, a positive is not in the corpus, `num_negatives` is 0, or a filter is out of range.
pub fn mine_hard_negatives<T: Real>(
    queries: &[T],
    corpus: &[T],
    dim: usize,
    positive_ids: &[u32],
    positive_offsets: &[usize],
    settings: &HardNegativeSettings,
) -> Result<HardNegatives<T>> {
    let HardNegativeSettings { num_negatives, filter, sampling, seed } = settings;
    filter.validate()?;
    if *num_negatives == 0 {
        return Err(Error::invalid("num_negatives is 0; at least one negative must be asked for"));
    }
    check_rows("query", queries, dim)?;
    check_rows("corpus", corpus, dim)?;
    let (q, n) = (queries.len() / dim, corpus.len() / dim);
    if n == 0 {
        return Err(Error::invalid("the corpus is empty"));
    }
    if positive_offsets.len() != q + 1 {
        return Err(Error::invalid(format!("{} positive offsets for {q} queries, expected {}", positive_offsets.len(), q + 1)));
    }
    check_offsets(positive_offsets, positive_ids.len())?;
    if let Some(at) = positive_ids.iter().position(|&id| id as usize >= n) {
        return Err(Error::invalid(format!("positive id {} is not below {n}, the size of the corpus", positive_ids[at])));
    }
    if let Some(query) = positive_offsets.windows(2).position(|w| w[0] == w[1]) {
        return Err(Error::invalid(format!("query {query} has no positive")));
    }
    let positives_of = |query: usize| &positive_ids[positive_offsets[query]..positive_offsets[query + 1]];

    let most_positives = (0..q).map(|i| positives_of(i).len()).max().unwrap_or(0);
    let range_max = filter.range_max_for(*num_negatives, most_positives);
    let selector = Selector { filter, range_max, num_negatives: *num_negatives };
    let depth = range_max.saturating_add(most_positives).min(n);
    let (queries, corpus) = (topk::unit_rows(queries, dim), Corpus::new(topk::unit_rows(corpus, dim), dim));

    let mut out = HardNegatives {
        negatives: Vec::with_capacity(q),
        positive_score: Vec::with_capacity(q),
        tally: Tally::default(),
        positives_among_candidates: 0,
        warnings: Vec::new(),
    };
    for start in (0..q).step_by(BLOCK) {
        let block = &queries[start * dim..(start + BLOCK).min(q) * dim];
        let found: Vec<_> = corpus
            .top_k(block, depth, |_, _| false)
            .into_par_iter()
            .enumerate()
            .map(|(row, mut candidates)| {
                let query = start + row;
                let lowest = |a: T, b: T| if b < a { b } else { a };
                let vector = &queries[query * dim..][..dim];
                let scores = positives_of(query).iter().map(|&p| topk::dot(vector, corpus.row(p)));
                let positive = scores.reduce(lowest).expect("every query has a positive");
                let before = candidates.len();
                candidates.retain(|(d, _)| !positives_of(query).contains(d));
                let mut rng = (*sampling == Sampling::Random).then(|| seed::rng(*seed, query as u64));
                let (picked, tally) = selector.select(candidates.iter().map(|c| c.1.to_f64()), positive.to_f64(), rng.as_mut());
                (picked.into_iter().map(|at| candidates[at]).collect(), positive, tally, (before - candidates.len()) as u64)
            })
            .collect();
        for (negatives, positive, tally, positives) in found {
            out.negatives.push(negatives);
            out.positive_score.push(positive);
            out.tally.add(&tally);
            out.positives_among_candidates += positives;
        }
    }
    let below_zero = out.positive_score.iter().filter(|s| **s < T::ZERO).count();
    out.warnings.extend(negative_positive_warning(filter, below_zero, q));
    Ok(out)
}

/// A relative margin means little where the positive's own score is below 0.
pub(crate) fn negative_positive_warning(filter: &NegativeFilter, below_zero: usize, queries: usize) -> Option<String> {
    let margin = filter.relative_margin.filter(|_| below_zero > 0)?;
    let effect = match filter.margin_rule {
        MarginRule::Factor => "there the rule `factor` puts the limit above the positive and lets false negatives through",
        MarginRule::Magnitude => "there only candidates even further from the query pass",
    };
    Some(format!("relative_margin {margin}: the positive of {below_zero} of {queries} queries scores below 0; {effect}"))
}

fn check_rows<T: Real>(what: &str, values: &[T], dim: usize) -> Result<()> {
    if dim == 0 || !values.len().is_multiple_of(dim) {
        return Err(Error::invalid(format!("{what}: {} values do not fill rows of {dim}", values.len())));
    }
    if let Some(at) = values.iter().position(|v| !v.to_f64().is_finite()) {
        let value = values[at].to_f64();
        return Err(Error::invalid(format!("{what} row {}, column {}: {value} is not a finite number", at / dim, at % dim)));
    }
    match values.chunks_exact(dim).position(|row| row.iter().all(|v| *v == T::ZERO)) {
        Some(row) => Err(Error::invalid(format!("{what} row {row} is the zero vector, which has no cosine with anything"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Problem {
        queries: Vec<f64>,
        corpus: Vec<f64>,
        dim: usize,
        ids: Vec<u32>,
        offsets: Vec<usize>,
    }

    /// The specification word for word, over the whole matrix. Returns (document, score) of at most `num` negatives a query.
    fn naive(p: &Problem, s: &HardNegativeSettings) -> Vec<Vec<(u32, f64)>> {
        let cosine = |a: &[f64], b: &[f64]| {
            let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
            a.iter().zip(b).map(|(x, y)| x / length(a) * (y / length(b))).sum::<f64>()
        };
        let f = &s.filter;
        let positives = |q: usize| &p.ids[p.offsets[q]..p.offsets[q + 1]];
        let q = p.offsets.len() - 1;
        let most = (0..q).map(|i| positives(i).len()).max().unwrap_or(0);
        let margins = f.absolute_margin.is_some() || f.relative_margin.is_some() || f.max_score.is_some();
        let range_max = f.range_max.unwrap_or(f.range_min + if margins { 10 * s.num_negatives } else { s.num_negatives } + most);
        p.queries
            .chunks(p.dim)
            .enumerate()
            .map(|(i, query)| {
                let scores: Vec<f64> = p.corpus.chunks(p.dim).map(|d| cosine(query, d)).collect();
                let mut order: Vec<u32> = (0..scores.len() as u32).collect();
                order.sort_by(|&a, &b| scores[b as usize].partial_cmp(&scores[a as usize]).unwrap());
                order.truncate(range_max + most);
                let positive = positives(i).iter().map(|&d| scores[d as usize]).fold(f64::INFINITY, f64::min);
                let survivors: Vec<u32> = order
                    .into_iter()
                    .filter(|d| !positives(i).contains(d))
                    .filter(|&d| {
                        let score = scores[d as usize];
                        let limit = |m: f64| match f.margin_rule {
                            MarginRule::Factor => positive * (1.0 - m),
                            MarginRule::Magnitude => positive - positive.abs() * m,
                        };
                        !(f.absolute_margin.is_some_and(|m| score + m > positive)
                            || f.relative_margin.is_some_and(|m| score > limit(m))
                            || f.max_score.is_some_and(|m| score > m)
                            || f.min_score.is_some_and(|m| score < m))
                    })
                    .collect();
                let window = survivors.into_iter().take(range_max).skip(f.range_min);
                window.take(s.num_negatives).map(|d| (d, scores[d as usize])).collect()
            })
            .collect()
    }

    /// Directions whose cosines differ clearly (or are equal, for copies), so that rounding cannot decide.
    fn vectors(count: usize, salt: usize) -> Vec<f64> {
        (0..count)
            .flat_map(|i| {
                let a = ((i * 7 + salt) % 29) as f64 * 0.21 + salt as f64 * 0.001;
                [a.cos(), a.sin()]
            })
            .collect()
    }

    fn problem(q: usize, n: usize, picks: &[u32]) -> Problem {
        let (mut ids, mut offsets) = (Vec::new(), vec![0]);
        for i in 0..q {
            for j in 0..=picks[i % picks.len()] % 3 {
                ids.push((picks[(i + j as usize) % picks.len()] + j) % n as u32);
            }
            offsets.push(ids.len());
        }
        Problem { queries: vectors(q, 3), corpus: vectors(n, 0), dim: 2, ids, offsets }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn agrees_with_the_specification(
            q in 0usize..9, n in 1usize..80, picks in prop::collection::vec(0u32..1000, 1..6), num_negatives in 1usize..7,
            range_min in 0usize..9, above in prop::option::of(1usize..30),
            absolute_margin in prop::option::of(-0.2f64..0.9), relative_margin in prop::option::of(0.0f64..0.9),
            factor in any::<bool>(), max_score in prop::option::of(-0.5f64..1.0), min_score in prop::option::of(-1.0f64..0.5),
        ) {
            let problem = problem(q, n, &picks);
            let margin_rule = if factor { MarginRule::Factor } else { MarginRule::Magnitude };
            let range_max = above.map(|a| range_min + a);
            let filter = NegativeFilter { range_min, range_max, absolute_margin, relative_margin, margin_rule, max_score, min_score };
            let settings = HardNegativeSettings { num_negatives, filter, ..HardNegativeSettings::default() };
            let ours = mine_hard_negatives(&problem.queries, &problem.corpus, 2, &problem.ids, &problem.offsets, &settings).unwrap();
            let expected = naive(&problem, &settings);
            for (a, b) in ours.negatives.iter().zip(&expected) {
                prop_assert_eq!(a.iter().map(|e| e.0).collect::<Vec<_>>(), b.iter().map(|e| e.0).collect::<Vec<_>>());
                prop_assert!(a.iter().zip(b).all(|(x, y)| (x.1 - y.1).abs() < 1e-12));
            }
            let candidates: u64 = (0..q).map(|_| {
                let most = problem.offsets.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
                (settings.filter.range_max_for(num_negatives, most) + most).min(n) as u64
            }).sum();
            let t = ours.tally;
            prop_assert_eq!(t.removed.iter().sum::<u64>() + t.unused + t.kept + ours.positives_among_candidates, candidates);
            // f32 finds the same documents; random sampling finds some of the window.
            let narrow = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<_>>();
            let random = HardNegativeSettings { sampling: Sampling::Random, seed: 5, ..settings.clone() };
            let f32s = mine_hard_negatives(&narrow(&problem.queries), &narrow(&problem.corpus), 2, &problem.ids, &problem.offsets, &random).unwrap();
            let again = mine_hard_negatives(&narrow(&problem.queries), &narrow(&problem.corpus), 2, &problem.ids, &problem.offsets, &random).unwrap();
            prop_assert_eq!(&f32s, &again);
            for list in &f32s.negatives {
                prop_assert!(list.is_sorted_by(|a, b| topk::rank_order(a, b).is_le()));
                prop_assert!(list.len() <= num_negatives);
            }
        }
    }

    #[test]
    fn a_copy_of_the_positive_is_kept_by_a_margin_of_zero() {
        let corpus = [0.3, 0.7, 0.1, 0.9, 0.3, 0.7, 0.9, 0.1];
        let filter = NegativeFilter { absolute_margin: Some(0.0), relative_margin: Some(0.0), ..NegativeFilter::default() };
        let settings = HardNegativeSettings { num_negatives: 3, filter, ..HardNegativeSettings::default() };
        let found = mine_hard_negatives(&[0.2, 0.9], &corpus, 2, &[0], &[0, 1], &settings).unwrap();
        assert_eq!(found.negatives[0].iter().map(|e| e.0).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(found.negatives[0][0].1, found.positive_score[0]);
        assert!(found.warnings.is_empty());
        let below = mine_hard_negatives(&[-0.2, -0.9], &corpus, 2, &[0], &[0, 1], &settings).unwrap();
        assert!(below.warnings[0].contains("1 of 1 queries scores below 0"), "{:?}", below.warnings);
    }

    #[test]
    fn bad_input_is_named() {
        let good = HardNegativeSettings { num_negatives: 1, ..HardNegativeSettings::default() };
        let fails = |queries: &[f64], corpus: &[f64], ids: &[u32], offsets: &[usize], settings: &HardNegativeSettings, part: &str| {
            let message = mine_hard_negatives(queries, corpus, 2, ids, offsets, settings).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        let (one, two) = ([1.0, 0.0], [1.0, 0.0, 0.0, 1.0]);
        fails(&one, &[], &[], &[0, 0], &good, "corpus is empty");
        fails(&one, &two, &[], &[0, 0], &good, "query 0 has no positive");
        fails(&one, &two, &[2], &[0, 1], &good, "positive id 2 is not below 2");
        fails(&two, &two, &[0, 1], &[0, 2, 1], &good, "2 is followed by 1");
        fails(&one, &two, &[0, 1], &[0, 1], &good, "end at 2");
        fails(&two, &two, &[0, 1], &[1, 2, 2], &good, "begin with 0");
        fails(&two, &two, &[0], &[0, 1], &good, "2 positive offsets for 2 queries");
        fails(&one, &[1.0, 0.0, f64::NAN, 1.0], &[0], &[0, 1], &good, "corpus row 1, column 0: NaN");
        fails(&[f64::INFINITY, 0.0], &two, &[0], &[0, 1], &good, "query row 0, column 0: inf");
        fails(&one, &[1.0, 0.0, 0.0, 0.0], &[0], &[0, 1], &good, "corpus row 1 is the zero vector");
        fails(&[1.0], &two, &[0], &[0, 1], &good, "query: 1 values do not fill rows of 2");
        fails(&one, &two, &[0], &[0, 1], &HardNegativeSettings::default(), "num_negatives is 0");
        let filter = NegativeFilter { range_max: Some(0), ..NegativeFilter::default() };
        fails(&one, &two, &[0], &[0, 1], &HardNegativeSettings { filter, ..good.clone() }, "range_max is 0");
    }
}
