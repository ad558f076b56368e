//! Code search: find the function that a description asks for. Pairs from seven pinned Python packages, split by package.

use super::package::{Client, Package};
use super::python::{self, Function};
use super::{Dataset, cache};
use crate::data::{Example, text};
use crate::progress::Progress;
use crate::{Error, Result, files};
use std::collections::HashSet;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// Raised whenever [`python`] or the splits change what the same packages give.
const REVISION: u32 = 2;

// One tag set for all: the Python code is the same in the wheels of all platforms, the checksum is not.
const WHEEL: &[&str] = &[
    "--only-binary=:all:",
    "--implementation=cp",
    "--python-version=3.13",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_27_x86_64",
    "--platform=manylinux2014_x86_64",
];

const fn wheel(name: &'static str, version: &'static str, bytes: u64, sha256: &'static str) -> Package {
    Package { client: Client::Pip, name, version, bytes, sha256, options: WHEEL, keep: &[] }
}

const TRAIN: [Package; 5] = [
    wheel("sympy", "1.14.0", 6_299_353, "e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5"),
    wheel("pandas", "3.1.1", 11_978_871, "645fa00fd85cfced2d2c09dc116d3694f578501b1ce4899153fbe64788ecda98"),
    wheel("scipy", "1.17.1", 35_203_952, "581b2264fc0aa555f3f435a5944da7504ea3a065d7029ad60e7c3d1ae09c5464"),
    wheel("scikit-learn", "1.9.1", 9_121_732, "55e79d6e9b0923f1a978179822bd43d7f5543f45e970a00fe861f43486380aba"),
    wheel("numpy", "2.4.6", 16_633_220, "a7830bab239b79cda9c08c2da014761cafb48da6150e1da17ac06283f43b6089"),
];
const VALIDATION: Package = wheel("networkx", "3.6.1", 2_068_504, "d47fbf302e7d9cbbb9e2555a0d267983d2aa476bac30e90dfbe5669bd57f3762");
const TEST: Package = wheel("django", "5.2.19", 8_319_631, "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00");

const PACKAGES: [Package; 7] = [TRAIN[0], TRAIN[1], TRAIN[2], TRAIN[3], TRAIN[4], VALIDATION, TEST];

pub(super) const DATASET: Dataset = Dataset {
    name: "code-search",
    what_for: "text retrieval: docstring -> function without it; the default of `foils tune`",
    licence: "BSD-3-Clause (each of the seven packages)",
    kept_bytes: 9_000_000,
    revision: REVISION,
    packages: &PACKAGES,
    build,
};

/// Examples for training, for choosing, and for the final measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Splits {
    /// To learn from.
    pub train: Vec<Example>,
    /// To choose settings and checkpoints by.
    pub validation: Vec<Example>,
    /// To be looked at once.
    pub test: Vec<Example>,
}

/// The code-search pairs: anchor = the first paragraph of a docstring, positive = the function without the docstring (see [`python`]).
/// Train: sympy, pandas, scipy, scikit-learn, numpy; validation: networkx; test: django; so no package is in two splits. Every anchor
/// and every function occurs once in the three together, by normal form ([`text::normalize`]): what test has is left out of validation,
/// what either has is left out of train, and within a split the first one stays.
///
/// # Errors
/// When the data is not in the cache and cannot be fetched.
pub fn code_search() -> Result<Splits> {
    let folder = super::get(DATASET.name)?;
    let read = |split: &str| -> Result<Vec<Example>> {
        Ok(read_functions(&folder.join(format!("{split}.jsonl.zst")))?.into_iter().map(|f| Example::pair(f.anchor, f.positive)).collect())
    };
    Ok(Splits { train: read("train")?, validation: read("validation")?, test: read("test")? })
}

/// All documented functions of one of the packages of code-search, in the order of its files, duplicates included.
///
/// # Errors
/// On a name that is not among the packages (they are listed), and when the package is not in the cache and cannot be fetched.
pub fn python_package(name: &str) -> Result<Vec<Function>> {
    let package = PACKAGES.iter().find(|p| p.name == name).ok_or_else(|| {
        let names: Vec<_> = PACKAGES.iter().map(|p| p.name).collect();
        Error::invalid(format!("code-search has no package {name:?}; it has {}", names.join(", ")))
    })?;
    read_functions(&functions_of(&cache::folder()?, package)?)
}

/// The file with the functions of one package. Each package has its own folder, so that an interrupted `get` keeps what it has.
fn functions_of(root: &Path, package: &Package) -> Result<PathBuf> {
    let name = format!("python/{}", package.name);
    let folder = cache::install(root, &name, &cache::Recipe::new(REVISION, &[*package]), |folder| {
        let download = folder.join("download");
        let functions = python::from_package(&package.fetch(&download)?)?;
        std::fs::remove_dir_all(&download).map_err(Error::io("remove", &download))?;
        write_functions(&folder.join("functions.jsonl.zst"), &functions)
    })?;
    Ok(folder.join("functions.jsonl.zst"))
}

fn build(dataset: &Dataset, root: &Path, folder: &Path) -> Result<()> {
    let progress = Progress::new(dataset.download_bytes(), "fetching Python packages");
    // Threads of their own: these wait for other processes, which would block the pool that parses.
    let fetched: Vec<Result<PathBuf>> = std::thread::scope(|scope| {
        let fetch = |package: &'static Package| {
            let progress = &progress;
            scope.spawn(move || {
                let result = functions_of(root, package);
                progress.inc(package.bytes);
                result
            })
        };
        let running: Vec<_> = dataset.packages.iter().map(fetch).collect();
        running.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut of_package = Vec::new();
    for file in fetched {
        of_package.push(read_functions(&file?)?);
    }
    let test = of_package.pop().unwrap_or_default();
    let validation = of_package.pop().unwrap_or_default();
    let train: Vec<Function> = of_package.into_iter().flatten().collect();

    let mut seen = HashSet::new();
    for (name, functions) in [("test", test), ("validation", validation), ("train", train)] {
        write_functions(&folder.join(format!("{name}.jsonl.zst")), &first_of_each(functions, &mut seen))?;
    }
    Ok(())
}

/// Keeps the functions whose anchor and whose code are not in `seen`, and adds them to it.
fn first_of_each(functions: Vec<Function>, seen: &mut HashSet<u128>) -> Vec<Function> {
    let mut kept = Vec::with_capacity(functions.len());
    for f in functions {
        let (anchor, positive) = (text::digest(&f.anchor), text::digest(&f.positive));
        if !seen.contains(&anchor) && !seen.contains(&positive) {
            seen.extend([anchor, positive]);
            kept.push(f);
        }
    }
    kept
}

/// Writes one JSON object a line: `anchor`, `positive`, `path`, `line`, `name`; compressed as the file's name says.
///
/// # Errors
/// When the file cannot be written.
pub fn write_functions(path: &Path, functions: &[Function]) -> Result<()> {
    let mut out = files::AtomicFile::create(path)?;
    for f in functions {
        serde_json::to_writer(&mut out, f).map_err(|e| Error::io("write", path)(e.into()))?;
        out.write_all(b"\n").map_err(Error::io("write", path))?;
    }
    out.commit()
}

fn read_functions(path: &Path) -> Result<Vec<Function>> {
    let mut out = Vec::new();
    for (i, line) in files::open(path)?.lines().enumerate() {
        let line = line.map_err(Error::io("read", path))?;
        out.push(serde_json::from_str(&line).map_err(|e| Error::file(path, i as u64 + 1, e.to_string()))?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(anchor: &str, positive: &str) -> Function {
        Function { anchor: anchor.into(), positive: positive.into(), path: "a.py".into(), line: 1, name: "f".into() }
    }

    #[test]
    fn one_of_each_text_stays() {
        let mut seen = HashSet::new();
        let test = first_of_each(vec![f("Say  Hello", "a"), f("say hello", "b"), f("other words", "A ")], &mut seen);
        assert_eq!(test, [f("Say  Hello", "a")]);
        let train = first_of_each(vec![f("new", "a"), f("SAY HELLO", "c"), f("new", "c")], &mut seen);
        assert_eq!(train, [f("new", "c")]);
    }

    #[test]
    fn functions_survive_the_file_and_a_broken_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.jsonl.zst");
        let functions = vec![f("a \"quoted\" text", "def f():\n\tpass"), f("é", "x")];
        write_functions(&path, &functions).unwrap();
        assert_eq!(read_functions(&path).unwrap(), functions);
        let plain = folder.path().join("g.jsonl");
        std::fs::write(&plain, "{\"anchor\":\"a\",\"positive\":\"b\",\"path\":\"p\",\"line\":1,\"name\":\"n\"}\n{\"anc").unwrap();
        assert!(read_functions(&plain).unwrap_err().to_string().contains("g.jsonl:2"));
    }
}
