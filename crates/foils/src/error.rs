//! The one error type of the library: what was wrong, where, and what to do.

use std::path::{Path, PathBuf};

/// What went wrong. Every variant is the caller's or the input's fault and is shown to people as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument, a setting or a value in memory that cannot be used; says the name and the value.
    #[error("{0}")]
    Invalid(String),
    /// A file whose content cannot be used.
    #[error("{}{}: {message}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where the format has lines.
        line: Option<u64>,
        /// What was expected, what was found, and what to do.
        message: String,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "read", "write", "create".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A data package that cannot be had: offline, no client, wrong checksum.
    #[error("{0}")]
    Fetch(String),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A wrong argument or value.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// Unusable content in `path`, at `line` (from 1) where there is one.
    pub fn file(path: impl AsRef<Path>, line: impl Into<Option<u64>>, message: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), line: line.into(), message: message.into() }
    }

    /// A failed system call; use as `.map_err(Error::io("read", path))`.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
