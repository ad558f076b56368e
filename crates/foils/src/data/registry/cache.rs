//! The user's cache folder: each data set is a folder that is whole or not there.
//!
//! A folder is built under a temporary name beside its place and renamed into it, under a file lock that keeps a second process waiting
//! instead of fetching twice. A manifest says what it was made of; a folder made of anything else (an older version of foils), or with a
//! file that is missing or cut, is built anew.

use super::package::Package;
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

const MANIFEST: &str = "manifest.json";

/// What a folder in the cache was made of and holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    name: String,
    recipe: Recipe,
    files: Vec<Entry>,
}

/// What a folder is made of: the packages and the version of the code that takes them apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    revision: u32,
    packages: Vec<Pin>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pin {
    name: String,
    version: String,
    sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    path: String,
    bytes: u64,
    sha256: String,
}

impl Recipe {
    /// `revision` is raised whenever the same packages give other files.
    pub fn new(revision: u32, packages: &[Package]) -> Self {
        let pin = |p: &Package| Pin { name: p.name.to_owned(), version: p.version.to_owned(), sha256: p.sha256.to_owned() };
        Self { revision, packages: packages.iter().map(pin).collect() }
    }
}

/// The cache folder: `FOILS_CACHE`, or `foils` in the system's cache folder for this user.
///
/// # Errors
/// When neither is known.
pub fn folder() -> Result<PathBuf> {
    match std::env::var_os("FOILS_CACHE") {
        Some(path) if !path.is_empty() => std::path::absolute(&path).map_err(Error::io("find", Path::new(&path))),
        _ => dirs::cache_dir()
            .map(|d| d.join("foils"))
            .ok_or_else(|| Error::invalid("this user has no cache folder; set FOILS_CACHE to a folder that can be written")),
    }
}

/// The folder `root/name` if it is there, was made by this recipe and has all its files at their full length.
pub fn find(root: &Path, name: &str, recipe: &Recipe) -> Option<PathBuf> {
    let folder = root.join(name);
    let manifest: Manifest = files::read_json(folder.join(MANIFEST)).ok()?;
    let whole = |e: &Entry| std::fs::metadata(folder.join(&e.path)).is_ok_and(|m| m.len() == e.bytes);
    (manifest.recipe == *recipe && manifest.files.iter().all(whole)).then_some(folder)
}

/// [`find`], or else `build(folder to fill)` and put it there.
///
/// # Errors
/// When the cache cannot be written, or what `build` returns; then nothing is left behind.
pub fn install(root: &Path, name: &str, recipe: &Recipe, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if let Some(folder) = find(root, name, recipe) {
        return Ok(folder);
    }
    let unwritable = |what: &Path, e: std::io::Error| {
        Error::Fetch(format!(
            "cannot write in the cache folder {}: {}: {e}\nSet FOILS_CACHE to a folder that can be written.",
            root.display(),
            what.display()
        ))
    };
    let place = root.join(name);
    let parent = place.parent().unwrap_or(root).to_owned();
    std::fs::create_dir_all(&parent).map_err(|e| unwritable(&parent, e))?;
    let leaf = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lock_path = parent.join(format!(".{leaf}.lock"));
    let lock = File::create(&lock_path).map_err(|e| unwritable(&lock_path, e))?;
    // Released when `lock` is dropped, and by the system when the process dies.
    lock.lock().map_err(|e| unwritable(&lock_path, e))?;
    if let Some(folder) = find(root, name, recipe) {
        return Ok(folder);
    }

    // What a killed process left; its lock is gone, so nobody uses it. A client that outlives it may still write there: next time, then.
    let prefix = format!(".{leaf}.tmp-");
    for entry in std::fs::read_dir(&parent).map_err(|e| unwritable(&parent, e))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let temporary = tempfile::Builder::new().prefix(&prefix).tempdir_in(&parent).map_err(|e| unwritable(&parent, e))?;
    let filled = temporary.path().join("new");
    std::fs::create_dir(&filled).map_err(|e| unwritable(&filled, e))?;
    build(&filled)?;
    let manifest = Manifest { name: name.to_owned(), recipe: recipe.clone(), files: entries(&filled)? };
    files::write_json(filled.join(MANIFEST), &manifest)?;
    if place.exists() {
        // A folder cannot be renamed onto a full one; the old one leaves with `temporary`.
        std::fs::rename(&place, temporary.path().join("old")).map_err(|e| unwritable(&place, e))?;
    }
    std::fs::rename(&filled, &place).map_err(|e| unwritable(&place, e))?;
    Ok(place)
}

/// The first file of a folder in the cache whose content is no longer what was put there.
///
/// # Errors
/// When the folder has no readable manifest.
pub fn first_changed(folder: &Path) -> Result<Option<String>> {
    let manifest: Manifest = files::read_json(folder.join(MANIFEST))?;
    Ok(manifest.files.into_iter().find(|e| files::sha256(folder.join(&e.path)).map_or(true, |sum| sum != e.sha256)).map(|e| e.path))
}

/// The files below `folder` with their lengths and sums, by path.
fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let mut out = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(&here).map_err(Error::io("read the folder", &here))? {
            let path = entry.map_err(Error::io("read the folder", &here))?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let bytes = std::fs::metadata(&path).map_err(Error::io("read", &path))?.len();
            let name = path.strip_prefix(folder).expect("is below `folder`").to_string_lossy().replace('\\', "/");
            out.push(Entry { sha256: files::sha256(&path)?, path: name, bytes });
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn recipe(revision: u32) -> Recipe {
        Recipe::new(revision, &[])
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn builds_once_and_again_when_the_recipe_or_the_files_change() {
        let root = tempfile::tempdir().unwrap();
        let built = Cell::new(0);
        let get = |revision| {
            install(root.path(), "set/part", &recipe(revision), |f| {
                built.set(built.get() + 1);
                files::write(f.join("sub/data.txt"), "12345")
            })
            .unwrap()
        };
        let place = get(1);
        assert_eq!((get(1), built.get()), (place.clone(), 1));
        get(2);
        assert_eq!(built.get(), 2, "another recipe");
        std::fs::write(place.join("sub/data.txt"), "123").unwrap();
        assert_eq!(find(root.path(), "set/part", &recipe(2)), None);
        get(2);
        assert_eq!(built.get(), 3, "a cut file");
        assert_eq!(std::fs::read_to_string(place.join("sub/data.txt")).unwrap(), "12345");
        assert_eq!(first_changed(&place).unwrap(), None);
        std::fs::write(place.join("sub/data.txt"), "1234X").unwrap();
        assert_eq!(first_changed(&place).unwrap().as_deref(), Some("sub/data.txt"));
        assert_eq!(names(&root.path().join("set")), [".part.lock", "part"]);
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_leavings_of_a_killed_one_go() {
        let root = tempfile::tempdir().unwrap();
        let killed = root.path().join(".set.tmp-abc/new");
        std::fs::create_dir_all(&killed).unwrap();
        std::fs::write(killed.join("half"), "half").unwrap();
        let error = install(root.path(), "set", &recipe(1), |f| {
            files::write(f.join("data"), "x")?;
            Err(Error::Fetch("offline".into()))
        });
        assert_eq!(error.unwrap_err().to_string(), "offline");
        assert_eq!(names(root.path()), [".set.lock"]);
    }

    #[test]
    fn many_at_once_build_once() {
        let root = tempfile::tempdir().unwrap();
        let built = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    install(root.path(), "set", &recipe(1), |f| {
                        built.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        files::write(f.join("data"), "x")
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(built.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_unwritable_cache_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = install(&file, "set", &recipe(1), |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains(&*file.to_string_lossy()) && error.contains("FOILS_CACHE"), "{error}");
    }
}
