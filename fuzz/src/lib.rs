//! What the fuzz targets share: the readers take paths, so each input becomes a file in a folder in memory where there is one.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder of this process.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        tempfile::Builder::new().prefix("foils-fuzz-").tempdir_in(parent).expect("a folder for inputs").keep()
    })
}

/// Writes the input as a file of that name.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("an input file");
    path
}

/// Reads the input as examples from a file of that name, strictly and leniently.
pub fn examples(name: &str, bytes: &[u8]) {
    use foils::data::formats::{Columns, read_all};
    let path = file(name, bytes);
    let _ = read_all(&path, &Columns::default());
    let _ = read_all(&path, &Columns { group: true, skip_bad: true, no_quotes: true, ..Columns::default() });
}
