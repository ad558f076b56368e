//! Files that are whole or not there: atomic writing, transparent gzip and zstd, checksums. No formats here (see [`crate::data`]).

use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Opens a file for streaming; `.gz`, `.zst` and `.zstd` are decompressed on the way, recognised by their first bytes.
///
/// # Errors
/// When the file cannot be opened or read.
pub fn open(path: impl AsRef<Path>) -> Result<Box<dyn BufRead + Send>> {
    let path = path.as_ref();
    let mut raw = BufReader::with_capacity(1 << 18, File::open(path).map_err(Error::io("open", path))?);
    let head = raw.fill_buf().map_err(Error::io("read", path))?;
    Ok(if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(BufReader::with_capacity(1 << 18, flate2::bufread::MultiGzDecoder::new(raw)))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(BufReader::with_capacity(1 << 18, zstd::stream::read::Decoder::with_buffer(raw).map_err(Error::io("read", path))?))
    } else {
        Box::new(raw)
    })
}

/// A file being written under a temporary name in the same folder; [`AtomicFile::commit`] renames it into place.
/// Dropped without a commit it leaves nothing behind. A path ending in `.gz` or `.zst` is compressed.
pub struct AtomicFile {
    path: PathBuf,
    out: Option<Sink>,
}

/// How the names of files begin that are being written.
pub(crate) const TEMPORARY_PREFIX: &str = ".foils-";

enum Sink {
    Plain(BufWriter<tempfile::NamedTempFile>),
    Gzip(flate2::write::GzEncoder<BufWriter<tempfile::NamedTempFile>>),
    Zstd(zstd::stream::write::Encoder<'static, BufWriter<tempfile::NamedTempFile>>),
}

/// The folder that a file is in, or is to be in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path with something behind its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl AtomicFile {
    /// Starts writing `path`; missing parent folders are made.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let folder = folder_of(&path);
        std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        if path.is_dir() {
            return Err(Error::file(&path, None, "is a folder; a file name is needed here"));
        }
        let temporary = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .suffix(".tmp")
            .tempfile_in(folder)
            .map_err(Error::io("write in the folder", folder))?;
        let buffered = BufWriter::with_capacity(1 << 18, temporary);
        let out = match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => Sink::Gzip(flate2::write::GzEncoder::new(buffered, flate2::Compression::default())),
            Some("zst" | "zstd") => Sink::Zstd(zstd::stream::write::Encoder::new(buffered, 3).map_err(Error::io("write", &path))?),
            _ => Sink::Plain(buffered),
        };
        Ok(Self { path, out: Some(out) })
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes to disk and renames into place.
    ///
    /// # Errors
    /// When the disk is full or the rename fails; then nothing is left behind.
    pub fn commit(mut self) -> Result<()> {
        let io = |path: &Path| Error::io("write", path);
        let path = &self.path;
        let buffered = match self.out.take().expect("taken only here") {
            Sink::Plain(b) => b,
            Sink::Gzip(g) => g.finish().map_err(io(path))?,
            Sink::Zstd(z) => z.finish().map_err(io(path))?,
        };
        let temporary = buffered.into_inner().map_err(|e| io(path)(e.into_error()))?;
        temporary.as_file().sync_all().map_err(io(path))?;
        #[cfg(unix)]
        {
            // NamedTempFile makes files that only their owner can read; these are ordinary results.
            use std::os::unix::fs::PermissionsExt;
            let _ = temporary.as_file().set_permissions(std::fs::Permissions::from_mode(0o644));
        }
        temporary.persist(path).map_err(|e| io(path)(e.error))?;
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self.out.as_mut().expect("open until commit") {
            Sink::Plain(w) => w.write(buf),
            Sink::Gzip(w) => w.write(buf),
            Sink::Zstd(w) => w.write(buf),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self.out.as_mut().expect("open until commit") {
            Sink::Plain(w) => w.flush(),
            Sink::Gzip(w) => w.flush(),
            Sink::Zstd(w) => w.flush(),
        }
    }
}

/// Writes `bytes` to `path` atomically.
///
/// # Errors
/// See [`AtomicFile`].
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut file = AtomicFile::create(&path)?;
    file.write_all(bytes.as_ref()).map_err(Error::io("write", path.as_ref()))?;
    file.commit()
}

/// Writes `value` as pretty JSON with a final newline, atomically.
///
/// # Errors
/// See [`AtomicFile`]; a value that has no JSON form (a map with keys that are not text) is [`Error::Invalid`].
pub fn write_json(path: impl AsRef<Path>, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::invalid(format!("cannot write as JSON: {e}")))?;
    text.push(b'\n');
    write(path, text)
}

/// Reads a JSON file into `T`.
///
/// # Errors
/// When the file cannot be read or does not hold a `T`; names the line.
pub fn read_json<T: serde::de::DeserializeOwned>(path: impl AsRef<Path>) -> Result<T> {
    let path = path.as_ref();
    serde_json::from_reader(open(path)?).map_err(|e| Error::file(path, e.line() as u64, e.to_string()))
}

/// The sha256 of a file's bytes, in lower-case hex.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if read == 0 {
            return Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect());
        }
        hash.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_without_a_commit_and_compression_is_transparent() {
        let folder = tempfile::tempdir().unwrap();
        {
            let mut dropped = AtomicFile::create(folder.path().join("a.txt")).unwrap();
            dropped.write_all(b"half").unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        for name in ["a.txt", "b.txt.gz", "sub/c.txt.zst"] {
            let path = folder.path().join(name);
            write(&path, "one\ntwo\n").unwrap();
            let mut text = String::new();
            open(&path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "one\ntwo\n", "{name}");
        }
        assert_ne!(std::fs::read(folder.path().join("b.txt.gz")).unwrap(), b"one\ntwo\n");
        let known = "c3f9c8c283a2b1f2f1896f27a01cbe3cddc0c9d93f752e4639035a0f5b36f6e8";
        assert_eq!(sha256(folder.path().join("a.txt")).unwrap(), known);
    }
}
