//! The function `retrieval_metrics` of `baselines-mining.json`.

use super::{Array, Case, Function, Outputs};
use foils::metrics::{Gain, MapDenominator, RankMetrics, RetrievalSettings, retrieval_metrics};
use foils::{Error, Result};

/// The one function here; the others of the file are beside it.
pub const FUNCTIONS: &[(&str, Function)] = &[("retrieval_metrics", metrics)];

fn metrics(case: &Case) -> Result<Outputs> {
    let (scores, relevance) = (case.input("scores")?, case.input("relevance")?);
    let [queries, documents] = scores.dims()?;
    if relevance.shape != scores.shape {
        return Err(Error::invalid(format!("scores have shape {:?}, relevance {:?}", scores.shape, relevance.shape)));
    }
    let settings = RetrievalSettings {
        k: case.param("k")?,
        gain: case.param::<Option<Gain>>("gain")?.unwrap_or_default(),
        map_denominator: case.param::<Option<MapDenominator>>("map_denominator")?.unwrap_or_default(),
    };
    let rows = retrieval_metrics(&scores.data, &relevance.integers()?, documents, &settings)?.rows;
    // A query without relevant documents has no metrics; a dense array shows 0 there.
    let column = |of: fn(&RankMetrics) -> f64| Array::new([queries], rows.iter().map(|r| r.as_ref().map_or(0.0, of)).collect::<Vec<_>>());
    Ok(Outputs::new()
        .with("recall", column(|m| m.recall))
        .with("precision", column(|m| m.precision))
        .with("hit", column(|m| m.hit))
        .with("mrr", column(|m| m.mrr))
        .with("ndcg", column(|m| m.ndcg))
        .with("map", column(|m| m.map)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_golden_cases_pass() {
        let mut results = crate::conformance::run_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/baselines-mining.json")).unwrap();
        results.retain(|r| r.function == "retrieval_metrics");
        assert_eq!(results.len(), 2);
        for result in results {
            assert!(result.failures.is_empty(), "{result:?}");
        }
    }
}
