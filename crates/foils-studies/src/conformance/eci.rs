//! Functions of `eci.json`.

use super::{Array, Case, Function, Outputs};
use foils::diagnostics::{Capacity, Eci, EciSettings, Margin, eci_from_embeddings, eci_from_scores};
use foils::metrics::rank_agreement;
use foils::{Error, Result};

/// Every function of the file.
pub const FUNCTIONS: &[(&str, Function)] =
    &[("eci_from_embeddings", from_embeddings), ("eci_from_scores", from_scores), ("rank_agreement", agreement)];

fn from_embeddings(case: &Case) -> Result<Outputs> {
    let (query, positive, negatives, mask) = (case.input("query")?, case.input("positive")?, case.input("negatives")?, case.input("mask")?);
    let ([q, d], [_, k, _]) = (query.dims()?, negatives.dims()?);
    if positive.shape != [q, d] || negatives.shape != [q, k, d] || mask.shape != [q, k] {
        let shapes = [query, positive, negatives, mask].map(|a| &a.shape);
        return Err(Error::invalid(format!("the shapes of query, positive, negatives and mask do not fit: {shapes:?}")));
    }
    eci_from_embeddings(&query.data, &positive.data, &negatives.data, &mask.booleans(), d, settings(case)?).map(outputs)
}

fn from_scores(case: &Case) -> Result<Outputs> {
    let (positive, negatives, mask) = (case.input("pos_score")?, case.input("neg_score")?, case.input("mask")?);
    let [q] = positive.dims()?;
    let [rows, _] = negatives.dims()?;
    if rows != q || mask.shape != negatives.shape {
        let shapes = [positive, negatives, mask].map(|a| &a.shape);
        return Err(Error::invalid(format!("the shapes of pos_score, neg_score and mask do not fit: {shapes:?}")));
    }
    eci_from_scores(&positive.data, &negatives.data, &mask.booleans(), settings(case)?).map(outputs)
}

fn agreement(case: &Case) -> Result<Outputs> {
    let a = rank_agreement(&case.input("predicted")?.data, &case.input("observed")?.data)?;
    Ok(Outputs::new()
        .with("spearman", Array::scalar(a.spearman))
        .with("kendall_tau_b", Array::scalar(a.kendall_tau_b))
        .with("pearson", Array::scalar(a.pearson)))
}

fn settings(case: &Case) -> Result<EciSettings> {
    Ok(EciSettings {
        margin: case.param::<Option<Margin>>("margin")?.unwrap_or_default(),
        capacity: case.param::<Option<Capacity>>("capacity")?.unwrap_or_default(),
        strict: case.param::<Option<bool>>("strict")?.unwrap_or_default(),
    })
}

fn outputs(eci: Eci) -> Outputs {
    let names = ["eci", "capacity", "hardness", "safety", "efficiency", "unsafe_rate"];
    names.into_iter().zip(eci.values()).fold(Outputs::new(), |out, (name, value)| out.with(name, Array::scalar(value)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_golden_file_passes() {
        let results = crate::conformance::run_file(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/eci.json")).unwrap();
        assert_eq!(results.len(), 7);
        for result in results {
            assert!(result.failures.is_empty(), "{result:?}");
        }
    }
}
