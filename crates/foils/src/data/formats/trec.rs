//! TREC runs (`query Q0 document rank score tag`) and relevance judgements (`query 0 document relevance`): fields separated
//! by white space, no header, plain or compressed.

use super::lines::Lines;
use crate::data::Collection;
use crate::files::AtomicFile;
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;

/// The ranking of one query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// The query's id.
    pub query: String,
    /// Ids of documents and their scores, best first.
    pub documents: Vec<(String, f64)>,
}

/// The judgements of one query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// The query's id.
    pub query: String,
    /// Ids of documents and their relevance: above 0 relevant, 0 or below not (some tracks mark spam with −2).
    pub documents: Vec<(String, i64)>,
}

/// Writes a run; ranks count from 1 in the order given. `tag` names the system.
///
/// # Errors
/// On an id or tag that is empty or has white space in it, a score that is not finite or above the one before it (an
/// evaluator sorts by score, so that would be another ranking), a document that stands twice in a ranking, a query that
/// is ranked twice, or when writing fails; then there is no file, or the old one.
pub fn write_run(path: impl AsRef<Path>, run: &[Ranking], tag: &str) -> Result<()> {
    let path = path.as_ref();
    let mut out = AtomicFile::create(path)?;
    let mut queries = HashSet::new();
    check_id("tag", tag)?;
    for Ranking { query, documents } in run {
        check_id("query", query)?;
        if !queries.insert(query) {
            return Err(Error::invalid(format!("the query `{query}` is ranked twice")));
        }
        let mut seen = HashSet::new();
        let mut above = f64::INFINITY;
        for (i, (document, score)) in documents.iter().enumerate() {
            check_id("document", document)?;
            if !score.is_finite() || *score > above {
                return Err(Error::invalid(format!(
                    "query `{query}`, document `{document}`: the score {score} must be finite and at most that of the rank before ({above})"
                )));
            }
            if !seen.insert(document) {
                return Err(Error::invalid(format!("query `{query}`: the document `{document}` stands twice in the ranking")));
            }
            above = *score;
            writeln!(out, "{query} Q0 {document} {} {score} {tag}", i + 1).map_err(Error::io("write", path))?;
        }
    }
    out.commit()
}

/// Reads a run: queries in the order in which they appear, their documents by falling score (equal scores in the order of
/// the file). As trec_eval does, it goes by the scores and not by the ranks.
///
/// # Errors
/// Naming file and line: another number of fields than six, a score that is no finite number, a document twice for a query;
/// when the file cannot be read or is empty.
pub fn read_run(path: impl AsRef<Path>) -> Result<Vec<Ranking>> {
    let rows = read(path.as_ref(), "query Q0 document rank score tag", |fields| match fields {
        [query, _, document, _, score, _] => match score.parse::<f64>() {
            Ok(score) if score.is_finite() => Ok((*query, *document, score)),
            _ => Err(format!("the score `{score}` is not a finite number")),
        },
        _ => Err(String::new()),
    })?;
    let ranking = |(query, mut documents): (String, Vec<(String, f64)>)| {
        documents.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ranking { query, documents }
    };
    Ok(rows.into_iter().map(ranking).collect())
}

/// Reads relevance judgements: queries and their documents in the order in which they appear.
///
/// # Errors
/// Naming file and line: another number of fields than four, a relevance that is no whole number, a document judged twice
/// for a query; when the file cannot be read or is empty.
pub fn read_qrels(path: impl AsRef<Path>) -> Result<Vec<Judged>> {
    let rows = read(path.as_ref(), "query 0 document relevance", |fields| match fields {
        [query, _, document, relevance] => match relevance.parse::<i64>() {
            Ok(relevance) => Ok((*query, *document, relevance)),
            Err(_) => Err(format!("the relevance `{relevance}` is not a whole number")),
        },
        _ => Err(String::new()),
    })?;
    Ok(rows.into_iter().map(|(query, documents)| Judged { query, documents }).collect())
}

/// Rankings by index ([`crate::search`]) as a run by id.
///
/// # Panics
/// When there are more rankings than queries, or an index is not in the corpus.
pub fn named_run(collection: &Collection, rankings: &[crate::search::Ranking]) -> Vec<Ranking> {
    let document = |&(index, score): &(u32, f32)| (collection.corpus.ids[index as usize].to_owned(), f64::from(score));
    let named = |(query, ranking): (usize, &crate::search::Ranking)| Ranking {
        query: collection.queries.ids[query].to_owned(),
        documents: ranking.iter().map(document).collect(),
    };
    rankings.iter().enumerate().map(named).collect()
}

/// The judgements of a collection by id.
pub fn named_qrels(collection: &Collection) -> Vec<Judged> {
    let document = |&(index, grade): &(u32, i64)| (collection.corpus.ids[index as usize].to_owned(), grade);
    let named = |query: usize| Judged {
        query: collection.queries.ids[query].to_owned(),
        documents: collection.qrels.of(query).iter().map(document).collect(),
    };
    (0..collection.queries.len()).map(named).collect()
}

/// Writes relevance judgements.
///
/// # Errors
/// On an id that is empty or has white space in it, or when writing fails; then there is no file, or the old one.
pub fn write_qrels(path: impl AsRef<Path>, qrels: &[Judged]) -> Result<()> {
    let path = path.as_ref();
    let mut out = AtomicFile::create(path)?;
    for Judged { query, documents } in qrels {
        check_id("query", query)?;
        for (document, relevance) in documents {
            check_id("document", document)?;
            writeln!(out, "{query} 0 {document} {relevance}").map_err(Error::io("write", path))?;
        }
    }
    out.commit()
}

fn check_id(what: &str, id: &str) -> Result<()> {
    if id.is_empty() || id.contains(char::is_whitespace) {
        return Err(Error::invalid(format!("the {what} {id:?} cannot stand in a TREC file: it is empty or has white space in it")));
    }
    Ok(())
}

type Grouped<T> = Vec<(String, Vec<(String, T)>)>;

/// Rows grouped by query. `parse` gives the values of the fields of a line; an empty message means a wrong number of them.
fn read<T>(
    path: &Path,
    fields: &str,
    parse: impl for<'a> Fn(&'a [&'a str]) -> Result<(&'a str, &'a str, T), String>,
) -> Result<Grouped<T>> {
    let mut lines = Lines::open(path)?;
    let mut out: Grouped<T> = Vec::new();
    let mut places: HashMap<String, (usize, HashSet<String>)> = HashMap::new();
    while lines.advance_filled()? {
        let split: Vec<&str> = lines.text().split_whitespace().collect();
        let (query, document, value) = match parse(&split) {
            Ok(row) => row,
            Err(m) if m.is_empty() => return Err(lines.error(format!("{} fields; `{fields}` is needed", split.len()))),
            Err(m) => return Err(lines.error(m)),
        };
        if !places.contains_key(query) {
            places.insert(query.to_owned(), (out.len(), HashSet::new()));
            out.push((query.to_owned(), Vec::new()));
        }
        let Some((at, seen)) = places.get_mut(query) else { continue };
        if !seen.insert(document.to_owned()) {
            let message = format!("the document `{document}` stands twice for the query `{query}`");
            return Err(lines.error(message));
        }
        out[*at].1.push((document.to_owned(), value));
    }
    if out.is_empty() {
        return Err(Error::file(path, None, format!("is empty; lines of `{fields}` are needed")));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(content: &[u8], read: impl Fn(&Path) -> Option<Error>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.trec");
        std::fs::write(&path, content).unwrap();
        let error = read(&path).unwrap().to_string();
        error[error.find("a.trec").unwrap()..].to_owned()
    }

    #[test]
    fn rankings_go_by_score_and_keep_the_order_of_the_file_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.trec");
        std::fs::write(&path, "q2 Q0 d1 1 0.5 x\r\nq1 Q0 d1 1 1 x\nq2\tQ0\td2  2 7e-1 x\n\nq2 Q0 d3 3 .5 x").unwrap();
        let run = read_run(&path).unwrap();
        let own = |ids: &[(&str, f64)]| ids.iter().map(|(d, s)| (d.to_string(), *s)).collect::<Vec<_>>();
        assert_eq!(run[0], Ranking { query: "q2".into(), documents: own(&[("d2", 0.7), ("d1", 0.5), ("d3", 0.5)]) });
        assert_eq!(run[1], Ranking { query: "q1".into(), documents: own(&[("d1", 1.0)]) });
    }

    #[test]
    fn bad_input_is_named_with_file_and_line() {
        let run = |content: &str| error(content.as_bytes(), |p| read_run(p).err());
        assert_eq!(run("q Q0 d 1 1 x\n\nq Q0 d 1 x\n"), "a.trec:3: 5 fields; `query Q0 document rank score tag` is needed");
        assert_eq!(run("q Q0 d 1 NaN x\n"), "a.trec:1: the score `NaN` is not a finite number");
        assert_eq!(run("q Q0 d 1 1 x\nq Q0 d 2 0.5 x\n"), "a.trec:2: the document `d` stands twice for the query `q`");
        assert_eq!(run(" \n"), "a.trec: is empty; lines of `query Q0 document rank score tag` are needed");
        let qrels = |content: &str| error(content.as_bytes(), |p| read_qrels(p).err());
        assert_eq!(qrels("q 0 d 1.5\n"), "a.trec:1: the relevance `1.5` is not a whole number");
        assert_eq!(qrels("q 0 d 1\nq 0 d 0\n"), "a.trec:2: the document `d` stands twice for the query `q`");
        assert_eq!(error(b"q 0 \xff 1\n", |p| read_qrels(p).err()), "a.trec:1: byte 5 of the line is not UTF-8");
    }

    #[test]
    fn a_run_that_would_be_read_as_another_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.trec");
        let write = |documents: &[(&str, f64)], query: &str| {
            let documents = documents.iter().map(|(d, s)| (d.to_string(), *s)).collect();
            write_run(&path, &[Ranking { query: query.into(), documents }], "x").unwrap_err().to_string()
        };
        assert!(write(&[("a", 1.0), ("b", 2.0)], "q").contains("the score 2 must be finite and at most that of the rank before (1)"));
        assert!(write(&[("a", f64::NAN)], "q").contains("the score NaN must be finite"));
        assert!(write(&[("a", 1.0), ("a", 1.0)], "q").contains("stands twice"));
        assert!(write(&[("a b", 1.0)], "q").contains("white space"));
        assert!(write(&[], "").contains("it is empty"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn runs_and_judgements_come_back_as_they_were(scores in proptest::collection::vec(proptest::collection::vec(-1e9f64..1e9, 1..6), 1..5), id in "[^\\s]{1,8}") {
            let folder = tempfile::tempdir().unwrap();
            let run: Vec<Ranking> = scores.iter().enumerate().map(|(q, scores)| {
                let mut scores = scores.clone();
                scores.sort_by(|a, b| b.total_cmp(a));
                Ranking { query: format!("{q}{id}"), documents: scores.iter().enumerate().map(|(d, s)| (format!("{id}{d}"), *s)).collect() }
            }).collect();
            prop_assume!(!id.contains('\u{feff}'));
            let path = folder.path().join("a.trec.gz");
            write_run(&path, &run, &id).unwrap();
            prop_assert_eq!(&read_run(&path).unwrap(), &run);
            let qrels: Vec<Judged> = run.iter().map(|r| Judged { query: r.query.clone(), documents: r.documents.iter().map(|(d, s)| (d.clone(), *s as i64)).collect() }).collect();
            write_qrels(&path, &qrels).unwrap();
            prop_assert_eq!(&read_qrels(&path).unwrap(), &qrels);
        }
    }
}
