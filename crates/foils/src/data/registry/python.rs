//! Pairs from Python code: what a function's docstring says, and the function without it.
//!
//! The *anchor* is the docstring's first paragraph on one line (a section heading or a directive is passed over, and a doctest ends it).
//! The *positive* is the whole `def`, moved to the left margin, with the docstring cut out; its name and signature stay, as they do in
//! the code that people search. Taken are functions and methods that are not inside another function, are not tests, whose anchor has
//! at least [`MIN_WORDS`] words and whose body without the docstring has at least [`MIN_LINES`] lines that are neither blank nor comments.

use super::archive;
use crate::{Error, Result, progress::Progress};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use tree_sitter::{Node, Parser};

/// The fewest words of an anchor.
pub const MIN_WORDS: usize = 3;
/// The fewest lines of a body.
pub const MIN_LINES: usize = 3;

/// A documented function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// The first paragraph of its docstring.
    pub anchor: String,
    /// The function without the docstring.
    pub positive: String,
    /// The file, relative to what was searched, with `/`.
    pub path: String,
    /// The line of the `def`, from 1.
    pub line: u64,
    /// `Class.method` or `function`.
    pub name: String,
}

/// The documented functions of all `.py` files below a folder, by path and line; hidden folders and `__pycache__` are left out.
///
/// ```
/// # fn main() -> foils::Result<()> {
/// let folder = tempfile::tempdir().unwrap();
/// let code = "def area(w, h):\n    'The area of a box.'\n    w = abs(w)\n    h = abs(h)\n    return w * h\n";
/// std::fs::write(folder.path().join("a.py"), code).unwrap();
/// let found = foils::data::registry::python::from_folder(folder.path())?;
/// assert_eq!(found[0].anchor, "The area of a box.");
/// assert_eq!(found[0].positive, "def area(w, h):\n    w = abs(w)\n    h = abs(h)\n    return w * h");
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the folder or a file cannot be read, or there is no Python file.
pub fn from_folder(folder: &Path) -> Result<Vec<Function>> {
    let mut paths: Vec<(String, PathBuf)> = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(&here).map_err(Error::io("read the folder", &here))? {
            let entry = entry.map_err(Error::io("read the folder", &here))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(Error::io("read", &here))?);
            let hidden = entry.file_name().to_string_lossy().starts_with('.') || entry.file_name() == "__pycache__";
            if kind.is_dir() && !hidden {
                open.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|e| e == "py") {
                let name = path.strip_prefix(folder).expect("is below `folder`").to_string_lossy().replace('\\', "/");
                paths.push((name, path));
            }
        }
    }
    if paths.is_empty() {
        return Err(Error::file(folder, None, "has no .py files in it"));
    }
    paths.sort();
    let progress = Progress::new(paths.len() as u64, "reading Python files");
    let found: Vec<Vec<Function>> = paths
        .par_iter()
        .map(|(name, path)| {
            progress.inc(1);
            let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
            Ok(from_source(name, &bytes))
        })
        .collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// The documented functions of all `.py` files in a package file, by path and line.
///
/// # Errors
/// When the package cannot be read.
pub fn from_package(package: &Path) -> Result<Vec<Function>> {
    let mut sources: Vec<(String, Vec<u8>)> = Vec::new();
    archive::read(package, &mut |name, content| {
        if name.ends_with(".py") && !is_test_file(name) {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(|e| Error::file(package, None, format!("{name} cannot be extracted: {e}")))?;
            sources.push((name.to_owned(), bytes));
        }
        Ok(())
    })?;
    sources.sort();
    Ok(sources.par_iter().flat_map_iter(|(name, bytes)| from_source(name, bytes)).collect())
}

/// The documented functions of one file. Never fails: functions that cannot be parsed are left out.
pub fn from_source(path: &str, source: &[u8]) -> Vec<Function> {
    thread_local! {
        static PARSER: RefCell<Parser> = RefCell::new({
            let mut parser = Parser::new();
            parser.set_language(&tree_sitter_python::LANGUAGE.into()).expect("the grammar is of this parser's version");
            parser
        });
    }
    if is_test_file(path) {
        return Vec::new();
    }
    let source = String::from_utf8_lossy(source).replace("\r\n", "\n");
    let Some(tree) = PARSER.with_borrow_mut(|parser| parser.parse(&source, None)) else { return Vec::new() };
    let mut out = Vec::new();
    let mut open = vec![(tree.root_node(), String::new())];
    while let Some((node, scope)) = open.pop() {
        let name = || node.child_by_field_name("name").map(|n| format!("{scope}{}", &source[n.byte_range()]));
        match node.kind() {
            "function_definition" => out.extend(name().and_then(|name| function(node, &source, path, name))),
            _ => {
                let scope = if node.kind() == "class_definition" { name().map_or(scope.clone(), |n| n + ".") } else { scope };
                let children: Vec<_> = node.named_children(&mut node.walk()).collect();
                open.extend(children.into_iter().rev().map(|child| (child, scope.clone())));
            }
        }
    }
    out
}

/// A path with a part `test` or `tests`, or a file that a test runner would collect.
fn is_test_file(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    path.split('/').any(|part| part == "tests" || part == "test")
        || file.starts_with("test_")
        || file.ends_with("_test.py")
        || file == "conftest.py"
}

fn function(node: Node, source: &str, path: &str, name: String) -> Option<Function> {
    if node.has_error() || name.rsplit('.').next()?.starts_with("test_") {
        return None;
    }
    let body = node.child_by_field_name("body")?;
    let statement = body.named_children(&mut body.walk()).find(|n| n.kind() != "comment")?;
    let literal = if statement.kind() == "expression_statement" { statement.named_child(0)? } else { statement };
    if literal.kind() != "string" {
        return None;
    }
    let anchor = first_paragraph(&docstring(&source[literal.byte_range()])?)?;
    if anchor.split_whitespace().count() < MIN_WORDS {
        return None;
    }

    let head = source[node.start_byte()..statement.start_byte()].trim_end();
    // What follows the docstring on its line can only be a comment; `; more code` is too rare to be worth taking apart.
    let (rest_of_line, rest) = source[statement.end_byte()..node.end_byte()].split_once('\n')?;
    if !matches!(rest_of_line.trim_start().chars().next(), None | Some('#')) {
        return None;
    }
    let lines = rest.lines().filter(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')).count();
    if lines < MIN_LINES {
        return None;
    }
    let margin = node.start_position().column;
    let rest = rest.trim_start_matches('\n').trim_end();
    let positive = dedent(&format!("{head}\n{rest}"), margin);
    Some(Function { anchor, positive, path: path.to_owned(), line: node.start_position().row as u64 + 1, name })
}

/// The value of a string literal; `None` for bytes and f-strings, which are no docstrings.
fn docstring(literal: &str) -> Option<String> {
    let quote = literal.find(['"', '\''])?;
    let (prefix, rest) = literal.split_at(quote);
    let prefix = prefix.to_ascii_lowercase();
    if prefix.contains(['b', 'f', 't']) {
        return None;
    }
    let width = if rest.starts_with("\"\"\"") || rest.starts_with("'''") { 3 } else { 1 };
    let inner = rest.get(width..rest.len().checked_sub(width)?)?;
    if prefix.contains('r') || !inner.contains('\\') {
        return Some(inner.to_owned());
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('\n') => {}
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some(c @ ('\\' | '\'' | '"')) => out.push(c),
            // Other escapes (\x.., \N{..}, and those that Python leaves alone) do not matter to a description.
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    Some(out)
}

/// The first paragraph that describes, on one line.
fn first_paragraph(docstring: &str) -> Option<String> {
    let underline = |l: &str| l.len() >= 3 && l.chars().all(|c| "=-~^*#".contains(c));
    let lines: Vec<&str> = docstring.lines().map(str::trim).collect();
    for paragraph in lines.split(|l| l.is_empty()) {
        let heading = paragraph.len() >= 2 && underline(paragraph[1]);
        let words = &paragraph[if heading { 2 } else { 0 }..];
        // A heading that follows without an empty line ends it too.
        let words = words.iter().skip(1).position(|l| underline(l)).map_or(words, |next| &words[..next]);
        let words = &words[..words.iter().position(|l| l.starts_with(">>>")).unwrap_or(words.len())];
        match words.first() {
            None => {}
            Some(first) if first.starts_with(".. ") || first.starts_with(':') => {}
            Some(_) => return Some(words.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")),
        }
    }
    None
}

/// Takes up to `margin` leading blanks from every line but the first (which starts at the margin).
fn dedent(text: &str, margin: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
            let blanks = line.bytes().take(margin).take_while(|b| matches!(b, b' ' | b'\t')).count();
            out.push_str(line[blanks..].trim_end());
        } else {
            out.push_str(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOURCE: &str = r#"
import os

class Outer(Base):
    """Not a function."""

    class Inner:
        @decorated(1)
        async def method(self, x: int = 3) -> "T":  # why
            # before
            r"""Give the   answer \alpha
            on two lines.

            Parameters
            ----------
            """  # noqa

            text = """
  kept"""
            def nested(y):
                """Nested ones are not taken."""
                a = 1
                b = 2
                return a + b
            return nested(text)

def short(x):
    """Has too few lines."""
    # a comment
    return x

def terse(x):
    """Two words."""
    a = 1
    b = 2
    return a + b

def heading(x):
    'Explanation\n===========\n\nWhat it\'s for is told here.\n>>> heading(1)'
    a = 1
    b = 2
    return a + b

def bytes_are_not(x):
    b"""This is no docstring."""
    a = 1
    b = 2
    return a + b

if os.name:
    def test_me(x):
        """A test is not taken."""
        a = 1
        b = 2
        return a + b

    def doctest(x):
        """
        .. versionadded:: 1.0

        Add up the parts.
        Parameters
        ----------
        """
        a = 1
        b = 2
        return a + b
"#;

    #[test]
    fn takes_documented_functions_without_their_docstring() {
        let found = from_source("pkg/a.py", SOURCE.as_bytes());
        let names: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.anchor.as_str())).collect();
        assert_eq!(
            names,
            [
                ("Outer.Inner.method", 9, r"Give the answer \alpha on two lines."),
                ("heading", 38, "What it's for is told here."),
                ("doctest", 57, "Add up the parts."),
            ]
        );
        let method = "async def method(self, x: int = 3) -> \"T\":  # why\n    # before\n    text = \"\"\"\nkept\"\"\"\n    def nested(y):\n        \
                      \"\"\"Nested ones are not taken.\"\"\"\n        a = 1\n        b = 2\n        return a + b\n    return nested(text)";
        assert_eq!(found[0].positive, method);
        assert_eq!(found[2].positive, "def doctest(x):\n    a = 1\n    b = 2\n    return a + b");
        let windows = SOURCE.replace('\n', "\r\n");
        assert_eq!(from_source("pkg/a.py", windows.as_bytes()), found);
    }

    #[test]
    fn tests_are_left_out() {
        for path in ["pkg/tests/a.py", "test_a.py", "a/b_test.py", "conftest.py", "test/a.py"] {
            assert_eq!(from_source(path, SOURCE.as_bytes()), [], "{path}");
        }
        assert_eq!(from_source("pkg/testing.py", SOURCE.as_bytes()).len(), 3);
    }

    #[test]
    fn a_folder_without_python_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(from_folder(folder.path()).unwrap_err().to_string().contains("no .py files"));
        assert!(from_folder(&folder.path().join("none")).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            from_source("a.py", &bytes);
        }

        #[test]
        fn damaged_code_never_keeps_its_docstring(cut in 0..SOURCE.len(), insert in "[()\"':\\\\\n a]{0,4}") {
            let source = format!("{}{insert}{}", &SOURCE[..cut], &SOURCE[cut..]);
            for f in from_source("a.py", source.as_bytes()) {
                prop_assert!(!f.positive.contains("Add up the parts") || !f.anchor.contains("Add up the parts"));
                prop_assert!(f.anchor.split_whitespace().count() >= MIN_WORDS);
            }
        }
    }
}
