//! The mining functions of `baselines-mining`.

use super::{Array, Case, Function, Outputs};
use foils::negatives::{HardNegativeSettings, Sampling, mine_hard_negatives};
use foils::search::{Bm25, Bm25Settings};
use foils::weighting::{MarginRule, NegativeFilter};
use foils::{Error, Result};

/// Function name → library call.
pub const FUNCTIONS: &[(&str, Function)] = &[("bm25_scores", bm25_scores), ("mine_hard_negatives", hard_negatives)];

fn bm25_scores(case: &Case) -> Result<Outputs> {
    let settings = Bm25Settings { k1: case.param("k1")?, b: case.param("b")?, idf: case.param("idf")?, stop_words: false };
    let vocab_size: usize = case.param("vocab_size")?;
    let index = Bm25::<f64>::new(&unsigned(case, "doc_tokens")?, &unsigned(case, "doc_offsets")?, vocab_size, &settings)?;
    let scores = index.all_scores(&unsigned(case, "query_tokens")?, &unsigned(case, "query_offsets")?)?;
    let queries = case.input("query_offsets")?.data.len() - 1;
    Ok(Outputs::new()
        .with("scores", Array::new([queries, index.documents()], scores))
        .with("idf_weight", Array::new([vocab_size], index.idf())))
}

fn hard_negatives(case: &Case) -> Result<Outputs> {
    let filter = NegativeFilter {
        range_min: case.param::<Option<usize>>("range_min")?.unwrap_or(0),
        range_max: case.param("range_max")?,
        absolute_margin: case.param("absolute_margin")?,
        relative_margin: case.param("relative_margin")?,
        margin_rule: MarginRule::Factor,
        max_score: case.param("max_score")?,
        min_score: case.param("min_score")?,
    };
    let num_negatives: usize = case.param("num_negatives")?;
    let settings = HardNegativeSettings { num_negatives, filter, sampling: Sampling::Top, seed: 0 };
    let (query, corpus) = (case.input("query")?, case.input("corpus")?);
    let ([queries, dim], [_, corpus_dim]) = (query.dims::<2>()?, corpus.dims::<2>()?);
    if dim != corpus_dim {
        return Err(Error::invalid(format!("queries have {dim} dimensions and documents {corpus_dim}")));
    }
    let (ids, offsets) = (unsigned(case, "positive_ids")?, unsigned(case, "positive_offsets")?);
    let found = mine_hard_negatives(&query.data, &corpus.data, dim, &ids, &offsets, &settings)?;

    // Padded to [queries, num_negatives] with −1, 0 and false.
    let slot = |query: usize, at: usize| found.negatives[query].get(at);
    let table = |value: fn(Option<&(u32, f64)>) -> f64| {
        let entries: Vec<f64> = (0..queries * num_negatives).map(|i| value(slot(i / num_negatives, i % num_negatives))).collect();
        Array::new([queries, num_negatives], entries)
    };
    Ok(Outputs::new()
        .with("negative_index", table(|entry| entry.map_or(-1.0, |e| f64::from(e.0))))
        .with("negative_score", table(|entry| entry.map_or(0.0, |e| e.1)))
        .with("valid", table(|entry| f64::from(u8::from(entry.is_some())))))
}

/// An array of indices or offsets.
fn unsigned<T: TryFrom<i64>>(case: &Case, name: &str) -> Result<Vec<T>> {
    let convert = |(at, value): (usize, i64)| {
        T::try_from(value).map_err(|_| Error::invalid(format!("`{name}`: {value} at position {at} is no index")))
    };
    case.input(name)?.integers()?.into_iter().enumerate().map(convert).collect()
}
