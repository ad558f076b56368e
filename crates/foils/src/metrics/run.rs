//! Runs that other tools (or an earlier `foils eval`) wrote: from ids to rankings and judgements that can be measured.

use crate::data::Qrels;
use crate::data::formats::trec;
use crate::search::Ranking;
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};

/// A run beside its judgements, query by query.
#[derive(Clone, Debug, Default)]
pub struct JudgedRun {
    /// One ranking for each judged query. Documents are numbered within a query, in the order of the run, so that ties stay as the run has them;
    /// relevant documents that it lacks follow.
    pub rankings: Vec<Ranking>,
    /// The judgements, by the same numbers.
    pub qrels: Qrels,
    /// Different documents in run and judgements together.
    pub documents: usize,
    /// Judged queries that the run lacks: they count as finding nothing.
    pub not_in_run: usize,
    /// Queries of the run that nobody judged: they are left out.
    pub not_judged: usize,
}

/// Brings a run and judgements together by id. A relevance of 0 or below is not relevant.
///
/// # Errors
/// When no query of the run is judged, or a document is judged twice for one query.
pub fn judged_run(run: &[trec::Ranking], judged: &[trec::Judged]) -> Result<JudgedRun> {
    let by_query: HashMap<&str, &trec::Ranking> = run.iter().map(|r| (r.query.as_str(), r)).collect();
    let mut documents: HashSet<&str> = HashSet::new();
    let (mut out, mut rows) = (JudgedRun::default(), Vec::new());
    for query in judged {
        let ranked = by_query.get(query.query.as_str()).map_or(&[][..], |r| &r.documents);
        out.not_in_run += usize::from(!by_query.contains_key(query.query.as_str()));
        let mut number: HashMap<&str, u32> = ranked.iter().map(|(id, _)| id.as_str()).zip(0..).collect();
        let mut row = Vec::with_capacity(query.documents.len());
        for (id, relevance) in &query.documents {
            let next = number.len() as u32;
            row.push((*number.entry(id).or_insert(next), (*relevance).max(0)));
        }
        documents.extend(number.into_keys());
        // Rank by rank: two scores that differ as f64 may be one as f32, and the lower number then goes first.
        out.rankings.push((0..).zip(ranked).map(|(doc, (_, score))| (doc, *score as f32)).collect());
        rows.push(row);
    }
    if out.not_in_run == judged.len() {
        let first = |ids: Option<&String>| ids.map_or("none".to_owned(), |id| format!("{id:?}"));
        return Err(Error::invalid(format!(
            "no query of the run is judged: the run's first query is {}, that of the judgements {}",
            first(run.first().map(|r| &r.query)),
            first(judged.first().map(|j| &j.query))
        )));
    }
    out.qrels = Qrels::new(rows)?;
    out.documents = documents.len();
    out.not_judged = run.len() - (judged.len() - out.not_in_run);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::of_run;

    fn ranking(query: &str, documents: &[(&str, f64)]) -> trec::Ranking {
        trec::Ranking { query: query.into(), documents: documents.iter().map(|(d, s)| ((*d).to_owned(), *s)).collect() }
    }

    fn judged(query: &str, documents: &[(&str, i64)]) -> trec::Judged {
        trec::Judged { query: query.into(), documents: documents.iter().map(|(d, s)| ((*d).to_owned(), *s)).collect() }
    }

    #[test]
    fn a_run_is_measured_by_id() {
        // "b" and "a" tie and stay in the run's order; q3 is missing from the run, q9 is not judged.
        let run = [ranking("q2", &[("c", 0.5)]), ranking("q1", &[("b", 0.9), ("a", 0.9), ("c", 0.1)]), ranking("q9", &[("a", 1.0)])];
        let judgements = [judged("q1", &[("a", 1), ("z", 2), ("c", -2)]), judged("q2", &[("c", 1)]), judged("q3", &[("a", 1)])];
        let joined = judged_run(&run, &judgements).unwrap();
        assert_eq!((joined.documents, joined.not_in_run, joined.not_judged), (4, 1, 1));
        let metrics = of_run(&joined.rankings, &joined.qrels, &[10]).unwrap();
        let rows: Vec<_> = metrics[0].rows.iter().map(|r| r.map(|m| (m.mrr, m.recall))).collect();
        assert_eq!(rows, [Some((0.5, 0.5)), Some((1.0, 1.0)), Some((0.0, 0.0))]);
        let close = [ranking("q1", &[("b", 1.0), ("a", 1.0 - 1e-12)])];
        let metrics = judged_run(&close, &judgements[..1]).and_then(|j| of_run(&j.rankings, &j.qrels, &[1])).unwrap();
        assert_eq!(metrics[0].rows[0].unwrap().mrr, 0.0);
    }

    #[test]
    fn ids_that_do_not_fit_are_an_error() {
        let said = judged_run(&[ranking("q-1", &[("a", 1.0)])], &[judged("1", &[("a", 1)])]).unwrap_err().to_string();
        assert!(said.contains("\"q-1\"") && said.contains("\"1\""), "{said}");
        assert!(judged_run(&[], &[]).is_err());
        let twice = judged_run(&[ranking("1", &[("a", 1.0)])], &[judged("1", &[("a", 1), ("a", 1)])]).unwrap_err().to_string();
        assert!(twice.contains("judged twice"), "{twice}");
    }
}
