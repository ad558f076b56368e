//! The list of papers, and what of each is implemented. To add a study: its file, and a line in [`STUDIES`].

use crate::conformance;
use crate::study::Study;
use foils::{Error, Result};
use serde::{Deserialize, Serialize};

/// Every study.
pub const STUDIES: &[&Study] =
    &[&crate::amcl::STUDY, &crate::dcl::STUDY, &crate::eci::STUDY, &crate::meco::STUDY, &crate::soft_infonce::STUDY];

/// A paper about foils.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// Its short name here.
    pub slug: String,
    /// Its title.
    pub title: String,
    /// How many authors.
    pub authors: usize,
    /// When it first appeared.
    pub date: String,
    /// The group of papers it belongs to.
    pub family: String,
    /// The functions that its golden vectors exercise.
    pub functions: Vec<String>,
}

/// A paper and how far it is implemented.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// The paper.
    #[serde(flatten)]
    pub paper: Paper,
    /// Those of its functions that the conformance registry knows.
    pub implemented: Vec<String>,
    /// Whether `foils reproduce` runs it.
    pub study: bool,
}

/// All papers, in the order of the list.
///
/// # Errors
/// Never in a build whose tests passed: the list is part of the program.
pub fn papers() -> Result<Vec<Progress>> {
    let papers: Vec<Paper> =
        serde_json::from_str(include_str!("papers.json")).map_err(|e| Error::invalid(format!("the list of papers is damaged: {e}")))?;
    let known = conformance::functions();
    let progress = |paper: Paper| {
        let implemented = paper.functions.iter().filter(|f| known.contains_key(f.as_str())).cloned().collect();
        let study = STUDIES.iter().any(|s| s.slug == paper.slug);
        Progress { paper, implemented, study }
    };
    Ok(papers.into_iter().map(progress).collect())
}

/// A study and its paper by slug.
///
/// # Errors
/// When there is no such paper (names those that are spelt alike) or when it has no study yet.
pub fn study(slug: &str) -> Result<(&'static Study, Paper)> {
    let papers = papers()?;
    let Some(found) = papers.iter().find(|p| p.paper.slug == slug) else {
        let close = close_to(slug, papers.iter().map(|p| p.paper.slug.as_str()));
        let hint = if close.is_empty() { "`foils papers` lists them".to_owned() } else { format!("did you mean {}?", close.join(", ")) };
        return Err(Error::invalid(format!("there is no paper `{slug}`; {hint}")));
    };
    match STUDIES.iter().find(|s| s.slug == slug) {
        Some(study) => Ok((study, found.paper.clone())),
        None => {
            let have: Vec<&str> = STUDIES.iter().map(|s| s.slug).collect();
            Err(Error::invalid(format!("`{slug}` ({}) has no study yet; those that have one: {}", found.paper.title, have.join(", "))))
        }
    }
}

/// Up to three names that are at most a third of their letters away, or that contain or begin what was typed; closest first.
fn close_to<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = typed.to_lowercase();
    let mut ranked: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let distance = edit_distance(&typed, name);
            let part = typed.len() >= 2 && (name.contains(&typed) || typed.contains(name));
            (part || distance * 3 <= name.chars().count().max(3)).then_some((if part { 0 } else { distance }, name))
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Letters inserted, deleted, replaced or exchanged with their neighbour (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_list_has_every_paper_once_and_every_study_is_of_a_paper() {
        let papers = papers().unwrap();
        assert_eq!(papers.len(), 45);
        let slugs: HashSet<&str> = papers.iter().map(|p| p.paper.slug.as_str()).collect();
        assert_eq!(slugs.len(), 45);
        assert!(papers.iter().all(|p| !p.paper.functions.is_empty()));
        for study in STUDIES {
            assert!(slugs.contains(study.slug), "{}", study.slug);
            assert_eq!(super::study(study.slug).unwrap().0.slug, study.slug);
        }
        assert_eq!(STUDIES.iter().map(|s| s.slug).collect::<HashSet<_>>().len(), STUDIES.len());
    }

    #[test]
    fn a_slip_of_the_finger_is_answered_with_the_name_that_was_meant() {
        let error = |slug: &str| study(slug).unwrap_err().to_string();
        assert!(error("dlc").contains("dcl"), "{}", error("dlc"));
        assert!(error("softinfonce").contains("did you mean soft-infonce?"), "{}", error("softinfonce"));
        assert!(error("GroCo").contains("groco"));
        assert!(error("info").contains("soft-infonce"));
        assert!(error("zzzzzzzz").contains("foils papers"));
        assert!(error("sven").contains("no study yet"));
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("dlc", "dcl"), 1);
    }
}
