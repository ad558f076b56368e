//! A BEIR folder: `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and a table of judgements for
//! each split, `qrels/SPLIT.tsv` (`query-id`, `corpus-id`, `score`). Each file may be compressed with gzip or zstd.

use super::jsonl::{kind, next_object};
use super::lines::Lines;
use crate::data::collection::TextsBuilder;
use crate::data::text::{ByDigest, Digests};
use crate::data::{Collection, Example, Qrels, Texts};
use crate::files::{self, AtomicFile};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

const HEADER: &str = "query-id\tcorpus-id\tscore";

/// What to read of a BEIR folder, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The split; by default `test`, or else the only one.
    pub split: Option<String>,
    /// Leave out, and count, documents and queries without text, judgements of them, and queries without a relevant
    /// document, instead of ending with an error.
    pub skip_bad: bool,
    /// Keep the texts on the disk of this folder, in files without a name, instead of in memory.
    pub scratch: Option<PathBuf>,
}

/// A collection that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// All documents, and the queries of the split, in the order of their files.
    pub collection: Collection,
    /// The split.
    pub split: String,
    /// Documents, queries and judgements left out ([`Options::skip_bad`]).
    pub skipped: u64,
}

/// Reads a folder with the default [`Options`].
///
/// # Errors
/// See [`read_with`].
pub fn read(folder: impl AsRef<Path>) -> Result<Collection> {
    Ok(read_with(folder, &Options::default())?.collection)
}

/// Reads a folder: all documents (title and text joined by a space), and the queries that the split judges.
///
/// # Errors
/// Naming file and line: broken JSON or a wrong type, an id that is missing or stands twice, an empty text, an id in the
/// judgements that is not among the queries or documents, a pair judged twice, a score that is negative or no whole
/// number, a query without a relevant document. When a file is missing, empty or cut off, or there is no such split.
pub fn read_with(folder: impl AsRef<Path>, options: &Options) -> Result<Read> {
    let folder = folder.as_ref();
    let (split, judgements) = find_split(folder, options.split.as_deref())?;
    let corpus_path = find(folder, "corpus.jsonl")?;
    let queries_path = find(folder, "queries.jsonl")?;
    let mut out = Read { split, ..Read::default() };
    let rows = read_judgements(&judgements)?;
    let judged: HashSet<&str> = rows.iter().map(|r| r.query.as_str()).collect();
    let corpus = read_texts(&corpus_path, options, None, &mut out.skipped)?;
    let queries = read_texts(&queries_path, options, Some(&judged), &mut out.skipped)?;
    let mut kept_queries = TextsBuilder::new(options.scratch.as_deref())?;

    // Row of a query → its relevant documents, and the line of its first judgement.
    let mut relevant: Vec<(Vec<(u32, i64)>, u64)> = vec![(Vec::new(), 0); queries.texts.len()];
    let mut seen = HashSet::new();
    for Judgement { line, query, document, score } in &rows {
        let place = |ids: &Ids, id: &str, path: &Path| match ids.places.get(&key(id)) {
            Some(place) => Ok(*place),
            None => Err(Error::file(&judgements, *line, format!("the id `{id}` is not in {}", path.display()))),
        };
        let (Some(query_at), Some(document_at)) = (place(&queries, query, &queries_path)?, place(&corpus, document, &corpus_path)?) else {
            out.skipped += 1;
            continue;
        };
        if !seen.insert((query_at, document_at)) {
            return Err(Error::file(&judgements, *line, format!("the document `{document}` is judged twice for the query `{query}`")));
        }
        let (documents, first) = &mut relevant[query_at as usize];
        if *first == 0 {
            *first = *line;
        }
        if *score > 0 {
            documents.push((document_at, *score));
        }
    }
    let mut kept = Vec::new();
    for ((id, text), (documents, line)) in queries.texts.ids.iter().zip(&queries.texts.texts).zip(relevant) {
        if !documents.is_empty() {
            kept_queries.push(id, text)?;
            kept.push(documents);
        } else if options.skip_bad {
            out.skipped += 1;
        } else {
            return Err(Error::file(&judgements, line, format!("the query `{id}` has no relevant document (no score above 0)")));
        }
    }
    if kept.is_empty() {
        return Err(Error::file(&judgements, None, "no query is left that has a relevant document"));
    }
    out.collection.queries = kept_queries.finish()?;
    out.collection.corpus = corpus.texts;
    out.collection.qrels = Qrels::new(kept)?;
    Ok(out)
}

/// The collection as examples: for each query all its relevant documents, ascending by their place in the corpus.
pub fn examples(collection: &Collection) -> impl Iterator<Item = Example> + '_ {
    collection.queries.texts.iter().enumerate().map(|(query, text)| Example {
        anchor: text.to_owned(),
        positives: collection.qrels.of(query).iter().map(|&(d, _)| collection.corpus.texts[d as usize].to_owned()).collect(),
        ..Example::default()
    })
}

/// Writes a collection as a new BEIR folder with one split (titles are empty: the text holds all).
///
/// # Errors
/// When the folder is there and not empty, an id stands twice or cannot stand in a table (empty, or with a tab or line
/// break in it), or writing fails; then there is no folder.
pub fn write(folder: impl AsRef<Path>, collection: &Collection, split: &str) -> Result<()> {
    let folder = folder.as_ref();
    if split.is_empty() || split.contains(['/', '\\']) {
        return Err(Error::invalid(format!("the split {split:?} cannot be the name of a file")));
    }
    if folder.exists() && !is_empty_folder(folder)? {
        return Err(Error::file(folder, None, "is already there; a BEIR folder is written only as a whole, into a new or empty folder"));
    }
    for texts in [&collection.queries, &collection.corpus] {
        check_ids(texts)?;
    }
    let parent = files::folder_of(folder);
    std::fs::create_dir_all(parent).map_err(Error::io("create the folder", parent))?;
    // Everything is written beside its place, and moved there when it is whole.
    let temporary = tempfile::Builder::new()
        .prefix(files::TEMPORARY_PREFIX)
        .suffix(".tmp")
        .tempdir_in(parent)
        .map_err(Error::io("write in the folder", parent))?;
    write_texts(&temporary.path().join("corpus.jsonl"), &collection.corpus, true)?;
    write_texts(&temporary.path().join("queries.jsonl"), &collection.queries, false)?;
    let path = temporary.path().join("qrels").join(format!("{split}.tsv"));
    let mut out = AtomicFile::create(&path)?;
    writeln!(out, "{HEADER}").map_err(Error::io("write", &path))?;
    for (query, id) in collection.queries.ids.iter().enumerate() {
        for &(document, score) in collection.qrels.of(query) {
            writeln!(out, "{id}\t{}\t{score}", &collection.corpus.ids[document as usize]).map_err(Error::io("write", &path))?;
        }
    }
    out.commit()?;
    #[cfg(unix)]
    {
        // A temporary folder is for its owner only; this one is an ordinary result.
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755));
    }
    if folder.exists() {
        std::fs::remove_dir(folder).map_err(Error::io("replace the folder", folder))?;
    }
    std::fs::rename(temporary.path(), folder).map_err(Error::io("create the folder", folder))
}

fn is_empty_folder(folder: &Path) -> Result<bool> {
    if !folder.is_dir() {
        return Err(Error::file(folder, None, "is a file; a folder is needed here"));
    }
    Ok(std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))?.next().is_none())
}

fn check_ids(texts: &Texts) -> Result<()> {
    let mut seen = HashSet::new();
    for id in &texts.ids {
        if id.trim().is_empty() || id.contains(['\t', '\n', '\r']) {
            return Err(Error::invalid(format!("the id {id:?} cannot stand in a table: it is empty, or has a tab or line break in it")));
        }
        if !seen.insert(id) {
            return Err(Error::invalid(format!("the id `{id}` stands twice")));
        }
    }
    Ok(())
}

fn write_texts(path: &Path, texts: &Texts, titled: bool) -> Result<()> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        _id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        text: &'a str,
    }
    let mut out = AtomicFile::create(path)?;
    for (id, text) in texts.ids.iter().zip(&texts.texts) {
        let line = Line { _id: id, title: titled.then_some(""), text };
        let written = serde_json::to_writer(&mut out, &line).map_err(Into::into).and_then(|()| out.write_all(b"\n"));
        written.map_err(Error::io("write", path))?;
    }
    out.commit()
}

/// `name` in the folder, plain or compressed.
fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = ["", ".gz", ".zst", ".zstd"].iter().map(|suffix| folder.join(format!("{name}{suffix}"))).find(|p| p.is_file());
    path.ok_or_else(|| Error::file(folder, None, format!("is no BEIR folder: there is no {name} (or {name}.gz, .zst) in it")))
}

/// The table of the split that is asked for, or `test`, or the only one.
fn find_split(folder: &Path, wanted: Option<&str>) -> Result<(String, PathBuf)> {
    let qrels = folder.join("qrels");
    if !folder.is_dir() || !qrels.is_dir() {
        return Err(Error::file(folder, None, "is no BEIR folder: there is no folder qrels in it"));
    }
    let mut splits = Vec::new();
    for entry in std::fs::read_dir(&qrels).map_err(Error::io("read the folder", &qrels))? {
        let path = entry.map_err(Error::io("read the folder", &qrels))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if let (true, Some((split, "" | ".gz" | ".zst" | ".zstd"))) = (path.is_file(), name.split_once(".tsv")) {
            splits.push((split.to_owned(), path));
        }
    }
    splits.sort();
    let names = splits.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let there = if names.is_empty() { "there is no table at all".to_owned() } else { format!("there are: {names}") };
    let found = match wanted {
        Some(name) => splits.into_iter().find(|(s, _)| s == name).ok_or_else(|| format!("has no split `{name}`; {there}")),
        None if splits.len() == 1 => Ok(splits.remove(0)),
        None => splits.into_iter().find(|(s, _)| s == "test").ok_or_else(|| format!("has no split `test`; {there}; name one")),
    };
    found.map_err(|message| Error::file(&qrels, None, message))
}

struct Judgement {
    line: u64,
    query: String,
    document: String,
    score: i64,
}

fn read_judgements(path: &Path) -> Result<Vec<Judgement>> {
    let mut lines = Lines::open(path)?;
    let mut out = Vec::new();
    let mut first = true;
    while lines.advance_filled()? {
        let fields: Vec<&str> = lines.text().split('\t').collect();
        let &[query, document, score] = fields.as_slice() else {
            return Err(lines.error(format!("{} fields; `query-id`, `corpus-id` and `score`, separated by tabs, are needed", fields.len())));
        };
        let number = score.trim().parse::<i64>();
        // A header has words where the score would be.
        if std::mem::take(&mut first) && number.is_err() && score.trim().parse::<f64>().is_err() {
            continue;
        }
        let score = number.map_err(|_| lines.error(format!("the score `{score}` is not a whole number")))?;
        if score < 0 {
            return Err(lines.error(format!("the score {score} is negative")));
        }
        out.push(Judgement { line: lines.number(), query: query.to_owned(), document: document.to_owned(), score });
    }
    if out.is_empty() {
        return Err(Error::file(path, None, "there are no judgements in it"));
    }
    Ok(out)
}

/// Texts, and where each id is; an id whose text was left out has no place.
struct Ids {
    texts: Texts,
    places: ByDigest<Option<u32>>,
}

/// Ids are kept as digests: a corpus may have many millions.
fn key(id: &str) -> u128 {
    xxhash_rust::xxh3::xxh3_128(id.as_bytes())
}

/// Reads `corpus.jsonl` or `queries.jsonl`; with `wanted`, only those ids are kept (the others are checked all the same,
/// except for being empty).
fn read_texts(path: &Path, options: &Options, wanted: Option<&HashSet<&str>>, skipped: &mut u64) -> Result<Ids> {
    let mut lines = Lines::open(path)?;
    let mut texts = TextsBuilder::new(options.scratch.as_deref())?;
    let (mut places, mut others) = (ByDigest::default(), Digests::default());
    while let Some(mut object) = next_object(&mut lines)? {
        let id = match object.remove("_id") {
            Some(Value::String(id)) if !id.trim().is_empty() => id,
            Some(Value::Number(id)) => id.to_string(),
            Some(other) => return Err(lines.error(format!("`_id` is {} or empty; a text is needed", kind(&other)))),
            None => return Err(lines.error("there is no `_id`")),
        };
        let mut field = |name: &str, needed: bool| match object.remove(name) {
            Some(Value::String(text)) => Ok(text),
            Some(Value::Null) => Ok(String::new()),
            None if !needed => Ok(String::new()),
            None => Err(lines.error(format!("there is no `{name}`"))),
            Some(other) => Err(lines.error(format!("`{name}` is {}; a text is needed", kind(&other)))),
        };
        let (title, mut text) = (field("title", false)?, field("text", true)?);
        if !title.trim().is_empty() {
            text = if text.trim().is_empty() { title } else { format!("{title} {text}") };
        }
        if places.contains_key(&key(&id)) || others.contains(&key(&id)) {
            return Err(lines.error(format!("the id `{id}` stands twice")));
        }
        if wanted.is_some_and(|w| !w.contains(id.as_str())) {
            others.insert(key(&id));
            continue;
        }
        if text.trim().is_empty() {
            if !options.skip_bad {
                return Err(lines.error(format!("the text of `{id}` is empty")));
            }
            *skipped += 1;
            places.insert(key(&id), None);
            continue;
        }
        places.insert(key(&id), Some(texts.push(&id, &text)?));
    }
    if places.is_empty() && others.is_empty() {
        return Err(Error::file(path, None, "is empty"));
    }
    Ok(Ids { texts: texts.finish()?, places })
}
