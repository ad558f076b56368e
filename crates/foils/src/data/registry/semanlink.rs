//! Semanlink: bookmarks and notes that one person tagged over many years: documents, tags, and which tag belongs to which document.

use super::package::{Client, Package};
use super::{Dataset, keep_files};
use crate::data::{Collection, Qrels, Texts};
use crate::{Error, Result, files};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub(super) const DATASET: Dataset = Dataset {
    name: "semanlink",
    what_for: "text retrieval with human relevance: 7,240 documents -> 4,603 tags, 16,769 judgements, tag hierarchy",
    licence: "MIT (package)",
    kept_bytes: 12_911_988,
    revision: 1,
    packages: &[Package {
        client: Client::Pip,
        name: "cherche",
        version: "2.2.1",
        bytes: 1_915_769,
        sha256: "7984a88f0bf9349cd08907baefc2527deaacea95d3acf5f4a1692896c507fe34",
        // Only the source package has the data; "--no-binary" for it alone, so that what pip builds metadata with may be wheels.
        options: &["--no-binary=cherche"],
        keep: &[
            ("cherche-2.2.1/cherche/data/semanlink/docs.json", "docs.json"),
            ("cherche-2.2.1/cherche/data/semanlink/tags.json", "tags.json"),
        ],
    }],
    build: keep_files,
};

/// Documents as queries, tags as the corpus, and how tags are to each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Semanlink {
    /// Queries: the 7,240 tagged documents (title, then the arXiv abstract or the comment; ids are addresses). Corpus: the tags (their labels;
    /// ids are addresses). Relevance: the person's tags, grade 1.
    pub collection: Collection,
    /// (tag, broader tag), by index into the corpus.
    pub broader: Vec<(u32, u32)>,
    /// (tag, related tag), by index into the corpus.
    pub related: Vec<(u32, u32)>,
}

#[derive(Deserialize)]
struct Document {
    document: String,
    tag: Vec<String>,
    title: String,
    comment: String,
    arxiv_title: String,
    arxiv_summary: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tag {
    pref_label: Vec<String>,
    alt_label: Vec<String>,
    broader: Vec<String>,
    related: Vec<String>,
}

/// Semanlink.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn semanlink() -> Result<Semanlink> {
    read(&super::get(DATASET.name)?)
}

fn read(folder: &Path) -> Result<Semanlink> {
    // By address, so that the order does not depend on a hash.
    let tags: BTreeMap<String, Tag> = files::read_json(folder.join("tags.json"))?;
    let documents_path = folder.join("docs.json");
    let documents: Vec<Document> = files::read_json(&documents_path)?;
    let mut corpus = Texts::default();
    for (id, tag) in &tags {
        corpus.push(id, [tag.pref_label.as_slice(), &tag.alt_label].concat().join(", "));
    }
    let index: HashMap<&str, u32> = corpus.ids.iter().enumerate().map(|(i, id)| (id, i as u32)).collect();
    let links = |of: fn(&Tag) -> &[String]| -> Vec<(u32, u32)> {
        let of_tag = |(from, tag)| of(tag).iter().filter_map(|to| index.get(to.as_str())).map(move |&to| (from, to)).collect::<Vec<_>>();
        (0u32..).zip(tags.values()).flat_map(of_tag).collect()
    };
    let (broader, related) = (links(|t| &t.broader), links(|t| &t.related));

    let mut queries = Texts::default();
    let mut rows = Vec::new();
    for d in documents {
        let title = if d.title.trim().is_empty() { &d.arxiv_title } else { &d.title };
        let body = if d.arxiv_summary.trim().is_empty() { &d.comment } else { &d.arxiv_summary };
        let words: Vec<&str> = title.split_whitespace().chain(body.split_whitespace()).collect();
        if d.tag.is_empty() {
            continue;
        }
        let mut row = Vec::with_capacity(d.tag.len());
        for tag in &d.tag {
            let tag = index
                .get(tag.as_str())
                .ok_or_else(|| Error::file(&documents_path, None, format!("{}: there is no tag {tag}", d.document)))?;
            row.push((*tag, 1));
        }
        // Some bookmarks have nothing but their address, which says something too.
        let text = if words.is_empty() { d.document.clone() } else { words.join(" ") };
        queries.push(d.document, text);
        rows.push(row);
    }
    Ok(Semanlink { collection: Collection { queries, corpus, qrels: Qrels::new(rows)? }, broader, related })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_find_their_tags() {
        let folder = tempfile::tempdir().unwrap();
        let doc = |id: &str, title: &str, tags: &str| {
            format!(
                r#"{{"document":"{id}","tag":[{tags}],"title":"{title}","comment":"a\nnote","arxiv_title":"","arxiv_summary":"","other":1}}"#
            )
        };
        let tag = |id: &str, broader: &str| {
            format!(r#""{id}":{{"prefLabel":["{id}!"],"altLabel":["x"],"broader":[{broader}],"related":["t/b","t/none"]}}"#)
        };
        files::write(folder.path().join("tags.json"), format!("{{{},{}}}", tag("t/b", ""), tag("t/a", r#""t/b""#))).unwrap();
        files::write(folder.path().join("docs.json"), format!("[{},{}]", doc("d1", " One ", r#""t/b""#), doc("d2", "Two", ""))).unwrap();
        let s = read(folder.path()).unwrap();
        assert_eq!(s.collection.queries.texts, ["One a note"]);
        assert_eq!(s.collection.corpus.texts, ["t/a!, x", "t/b!, x"]);
        assert_eq!(s.collection.qrels.of(0), [(1, 1)]);
        assert_eq!((s.broader, s.related), (vec![(0, 1)], vec![(0, 1), (1, 1)]));

        files::write(folder.path().join("docs.json"), format!("[{}]", doc("d1", "One", r#""t/c""#))).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("d1: there is no tag t/c"));
    }
}
