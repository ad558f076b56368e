//! The book (`docs/src`): its commands are run, its settings and data are read, its links lead somewhere.
//!
//! The blocks of a page are taken in order, in one temporary folder. What stands between the backticks of a fence:
//! - `console`: lines that begin with `$ ` are commands for `sh`, with this build's `foils` first in the path; the lines below a command are
//!   what it prints (`...`: any lines; numbers as in [`same`]); without any, only the exit code is looked at. It must be 0, or 2 after `console fails`.
//! - `jsonl NAME`, `csv NAME`, `toml NAME`, `python NAME`, …: parsed, and written to the file NAME for the commands that follow.
//! - `rust`: a documentation test of the crate `foils`, which includes the page.
//! - anything else, and Rust that is only compiled, has the reason on the line above: `<!-- not run: … -->`.
//!
//! A page with `<!-- data: … -->` needs registered data; its test fetches them and is therefore ignored unless asked for.
#![cfg(unix)]

use foils::train::{TrainSettings, tune::TuneSettings};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

struct Page {
    path: PathBuf,
    text: String,
}

struct Block {
    line: usize,
    info: String,
    text: String,
    reason: bool,
}

impl Page {
    fn read(path: PathBuf) -> Self {
        Self { text: std::fs::read_to_string(&path).unwrap(), path }
    }

    /// All pages of the book, by path.
    fn all() -> Vec<Self> {
        let mut paths = Vec::new();
        let mut open = vec![root().join("docs/src")];
        while let Some(folder) = open.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|e| e == "md") {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        paths.into_iter().map(Self::read).collect()
    }

    fn needs_data(&self) -> bool {
        self.text.contains("<!-- data: ")
    }

    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines().enumerate();
        let mut above = "";
        while let Some((number, line)) = lines.next() {
            if let Some(info) = line.strip_prefix("```") {
                let body = lines.by_ref().map(|(_, l)| l).take_while(|l| *l != "```").fold(String::new(), |text, l| text + l + "\n");
                blocks.push(Block { line: number + 1, info: info.to_owned(), text: body, reason: above.starts_with("<!-- not run: ") });
            }
            above = line;
        }
        blocks
    }

    /// Takes the blocks in order.
    fn run(&self) {
        let folder = tempfile::tempdir().unwrap();
        for block in self.blocks() {
            let place = format!("{}:{}", self.path.strip_prefix(root()).unwrap().display(), block.line);
            let mut words = block.info.split(' ');
            let (language, argument) = (words.next().unwrap().split(',').next().unwrap(), words.next());
            if let Some(name) = argument.filter(|_| language != "console") {
                std::fs::write(folder.path().join(name), &block.text).unwrap();
            }
            match language {
                "rust" => {
                    let included = std::fs::read_to_string(root().join("crates/foils/src/book.rs")).unwrap();
                    let page = self.path.strip_prefix(root()).unwrap().display().to_string();
                    assert!(block.reason || !block.info.contains(','), "{place}: say why it is not run");
                    assert!(included.contains(&page), "{place}: crates/foils/src/book.rs does not include {page}");
                }
                _ if block.reason => {}
                "console" => console(&block.text, argument == Some("fails"), folder.path(), &place),
                "toml" if argument.is_some_and(|name| name.starts_with("train")) => {
                    toml::from_str::<TrainSettings>(&block.text).unwrap_or_else(|e| panic!("{place}: {e}")).check().unwrap();
                }
                "toml" => {
                    let settings = TuneSettings::parse(&block.text).unwrap_or_else(|e| panic!("{place}: {e}"));
                    settings.mine.validate().and(settings.train.check()).unwrap_or_else(|e| panic!("{place}: {e}"));
                }
                "json" => drop(serde_json::from_str::<serde_json::Value>(&block.text).unwrap_or_else(|e| panic!("{place}: {e}"))),
                "jsonl" => block.text.lines().for_each(|l| {
                    serde_json::from_str::<serde_json::Value>(l).unwrap_or_else(|e| panic!("{place}: {e}"));
                }),
                "python" => python(&block.text, folder.path(), &place),
                "csv" | "tsv" => assert!(argument.is_some(), "{place}: a table needs a name, and a command that reads it"),
                other => panic!("{place}: {other:?} is nothing that can be tried; say why it is not run"),
            }
        }
    }
}

/// Runs the commands of one block.
fn console(text: &str, fails: bool, folder: &Path, place: &str) {
    let binary = Path::new(env!("CARGO_BIN_EXE_foils")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    assert!(text.starts_with("$ "), "{place}: a console block begins with a command");
    for part in format!("\n{text}").split("\n$ ").skip(1) {
        let mut lines = part.lines();
        let mut command = lines.next().unwrap().to_owned();
        while command.ends_with('\\') {
            command = format!("{command}\n{}", lines.next().unwrap());
        }
        let expected: Vec<&str> = lines.filter(|l| !l.is_empty()).collect();
        // One stream, as on a terminal.
        let all = format!("{{ {command}\n}} 2>&1");
        let out = Command::new("sh").args(["-c", &all]).current_dir(folder).env("PATH", &path).stdin(Stdio::null()).output().unwrap();
        let printed = String::from_utf8(out.stdout).unwrap();
        assert_eq!(out.status.code(), Some(if fails { 2 } else { 0 }), "{place}: {command}\n{printed}");
        let lines: Vec<&str> = printed.lines().filter(|l| !l.is_empty()).collect();
        if !expected.is_empty() {
            assert!(all_same(&expected, &lines), "{place}: {command}\nThe book has:\n{}\nIt prints:\n{printed}", expected.join("\n"));
        }
    }
}

/// Checks the syntax, or runs it where an interpreter with sentence-transformers is given (`tests/peers/book.py`).
fn python(text: &str, folder: &Path, place: &str) {
    let interpreter = std::env::var_os("FOILS_BOOK_PYTHON");
    let script = if interpreter.is_some() { text.to_owned() } else { format!("compile({text:?}, 'block', 'exec')") };
    let interpreter = interpreter.unwrap_or("python3".into());
    let out = Command::new(interpreter).args(["-c", &script]).current_dir(folder).output().unwrap();
    assert!(out.status.success(), "{place}: {}", String::from_utf8_lossy(&out.stderr));
}

fn all_same(expected: &[&str], printed: &[&str]) -> bool {
    match expected {
        [] => printed.is_empty(),
        ["...", rest @ ..] => (0..=printed.len()).any(|skipped| all_same(rest, &printed[skipped..])),
        [first, rest @ ..] => printed.first().is_some_and(|line| same(first, line)) && all_same(rest, &printed[1..]),
    }
}

/// Whether two lines are the same but for what another machine changes: seconds may be any; other numbers with a decimal point may
/// differ by 0.03 or 10 %; white space and the rules of tables may be longer. `…` at the end: and so on.
fn same(expected: &str, printed: &str) -> bool {
    let (a, b) = (pieces(expected), pieces(printed));
    let (a, open) = if a.last().is_some_and(|p| p == "…") { (&a[..a.len() - 1], true) } else { (&a[..], false) };
    if if open { a.len() > b.len() } else { a.len() != b.len() } {
        return false;
    }
    (0..a.len()).all(|i| {
        let seconds = a.get(i + 1).or(b.get(i + 1)).is_some_and(|unit| unit == "s");
        match (a[i].parse::<f64>(), b[i].parse::<f64>()) {
            (Ok(x), Ok(y)) if seconds => x >= 0.0 && y >= 0.0,
            (Ok(x), Ok(y)) if a[i].contains('.') => (x - y).abs() <= f64::max(0.03, 0.1 * x.abs()),
            _ => a[i] == b[i],
        }
    })
}

/// Numbers, words and marks of a line.
fn pieces(line: &str) -> Vec<String> {
    let kind = |c: char| {
        if c.is_ascii_digit() || c == '.' {
            0
        } else if c.is_alphanumeric() {
            1
        } else {
            2
        }
    };
    let mut out: Vec<String> = Vec::new();
    for word in line.split(|c: char| c.is_whitespace() || c == '+' || c == '-') {
        let mut last = None;
        for c in word.chars() {
            match out.last_mut() {
                Some(piece) if last == Some(kind(c)) && kind(c) < 2 => piece.push(c),
                _ => out.push(c.to_string()),
            }
            last = Some(kind(c));
        }
    }
    out
}

#[test]
fn what_counts_as_the_same_line() {
    assert!(same("| ndcg@10 | 0.4081 | +0.0134 |", "| ndcg@10  | 0.4101  | -0.0034 |"));
    assert!(same("done, 5 s", "done, 17 s") && same("done, 5.1 s; a", "done, 0.2 s; a"));
    assert!(same("ECI 0.119; it is …", "ECI 0.121; it is not to be trusted"));
    for (book, printed) in [("0.40", "0.50"), ("6141 negatives", "6142 negatives"), ("a", "b"), ("a", "a b"), ("a …", "b a")] {
        assert!(!same(book, printed), "{book} and {printed}");
    }
    assert!(all_same(&["a", "...", "d"], &["a", "b", "c", "d"]) && all_same(&["..."], &[]));
    assert!(!all_same(&["a", "...", "d"], &["a", "b"]) && !all_same(&["a"], &["a", "b"]));
}

#[test]
fn pages_that_need_no_data() {
    Page::all().iter().filter(|page| !page.needs_data()).for_each(Page::run);
}

#[test]
#[ignore = "fetches 110 MB, and 84 MB for the transformer"]
fn pages_that_need_data() {
    let pages: Vec<_> = Page::all().into_iter().filter(Page::needs_data).collect();
    assert!(!pages.is_empty());
    pages.iter().for_each(Page::run);
}

/// What a heading is called in links, as mdBook and GitHub make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// The text without its blocks of code.
fn prose(text: &str) -> String {
    text.split("\n```").step_by(2).collect()
}

#[test]
fn links_lead_somewhere() {
    let book = root().join("docs/src");
    let others = ["README.md", "CONTRIBUTING.md", "COMPARE.md", "DESIGN.md", "CHANGELOG.md", "benches/README.md"];
    let pages: Vec<Page> = Page::all().into_iter().chain(others.map(|name| Page::read(root().join(name)))).collect();
    let summary: HashSet<PathBuf> = links(&Page::read(book.join("SUMMARY.md"))).into_iter().map(|(path, _)| path).collect();
    for page in &pages {
        let in_book = page.path.starts_with(&book);
        assert!(!in_book || page.path.ends_with("SUMMARY.md") || summary.contains(&page.path), "{} is in no chapter", page.path.display());
        for (target, heading) in links(page) {
            let place = format!("{} links to {}", page.path.display(), target.display());
            assert!(target.exists(), "{place}, which is not there");
            assert!(!in_book || target.starts_with(&book), "{place}, which is outside the book");
            if let Some(heading) = heading {
                let text = prose(&std::fs::read_to_string(&target).unwrap());
                let known = text.lines().filter(|l| l.starts_with('#')).any(|l| anchor(l.trim_start_matches('#')) == heading);
                assert!(known, "{place}, which has no heading #{heading}");
            }
        }
    }
}

/// The files, and headings in them, that a page links to.
fn links(page: &Page) -> Vec<(PathBuf, Option<String>)> {
    let text = prose(&page.text);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let local = targets.filter(|t| !t.contains("://"));
    local
        .map(|target| {
            let (file, heading) = target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading.to_owned())));
            let path = if file.is_empty() { page.path.clone() } else { page.path.parent().unwrap().join(file) };
            (path.canonicalize().unwrap_or(path), heading)
        })
        .collect()
}
