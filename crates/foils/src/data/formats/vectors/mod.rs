//! Embeddings as files: NumPy's `.npy` and safetensors, both also compressed with `.gz` or `.zst`.

mod mapped;
mod npy;
mod tensors;
#[cfg(test)]
mod tests;

use super::lines;
use crate::data::Embeddings;
use crate::{Error, Result};
pub use mapped::MappedEmbeddings;
use std::io::Read;
use std::path::Path;

/// Reads `[rows, dim]` embeddings from `.npy` (f16, f32, f64; C or Fortran order) or `.safetensors` (also bf16) with one 2-D tensor
/// (of several, the one named `embeddings`).
///
/// # Errors
/// When the file cannot be read, is cut off or too long, holds another type or shape, no rows, or a value that is NaN or
/// not finite as f32 (names row and column, from 0).
pub fn read(path: impl AsRef<Path>) -> Result<Embeddings> {
    read_named(path, None)
}

/// Like [`read`], taking the tensor called `name` from a safetensors file.
///
/// # Errors
/// See [`read`]; also when there is no such tensor.
pub fn read_named(path: impl AsRef<Path>, name: Option<&str>) -> Result<Embeddings> {
    let path = path.as_ref();
    match super::extension(path).0.as_str() {
        "npy" => npy::read(path),
        "safetensors" => tensors::read(path, name),
        _ => Err(unknown(path)),
    }
}

/// Writes embeddings as f32 into `.npy` (C order) or `.safetensors` (one tensor, `embeddings`), atomically.
///
/// # Errors
/// When the extension is another, there are no rows, or writing fails; then there is no file, or the old one.
pub fn write(path: impl AsRef<Path>, embeddings: &Embeddings) -> Result<()> {
    let path = path.as_ref();
    if embeddings.rows() == 0 {
        return Err(Error::file(path, None, "not written: there are no embeddings"));
    }
    match super::extension(path).0.as_str() {
        "npy" => npy::write(path, embeddings),
        "safetensors" => tensors::write(path, embeddings),
        _ => Err(unknown(path)),
    }
}

/// Whether `path` has the name of a file of embeddings.
pub fn is_vectors(path: impl AsRef<Path>) -> bool {
    matches!(super::extension(path.as_ref()).0.as_str(), "npy" | "safetensors")
}

fn unknown(path: &Path) -> Error {
    Error::file(path, None, "embeddings are kept in .npy and .safetensors files")
}

/// Where the numbers of a file lie.
#[derive(Clone, Copy, Debug)]
struct Layout {
    stored: Stored,
    rows: usize,
    dim: usize,
    /// Column by column.
    fortran: bool,
    /// Bytes of the header.
    header: usize,
    /// Bytes before the numbers, those of the header among them.
    begin: usize,
    /// Bytes behind the numbers.
    behind: usize,
}

/// How a number is stored; all little-endian.
#[derive(Clone, Copy, Debug)]
enum Stored {
    F16,
    BF16,
    F32,
    F64,
}

impl Stored {
    fn bytes(self) -> usize {
        match self {
            Stored::F16 | Stored::BF16 => 2,
            Stored::F32 => 4,
            Stored::F64 => 8,
        }
    }

    fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Stored::F16 => out.extend(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32())),
            Stored::BF16 => out.extend(bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32())),
            Stored::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Stored::F64 => out.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
        }
    }
}

/// Reads `rows · dim` numbers; never trusts the header for how much memory to take.
fn read_values(path: &Path, source: &mut dyn Read, stored: Stored, rows: usize, dim: usize) -> Result<Vec<f32>> {
    let too_large = || Error::file(path, None, format!("shape [{rows}, {dim}] is too large"));
    if rows == 0 || dim == 0 {
        return Err(Error::file(path, None, format!("shape [{rows}, {dim}]: there are no embeddings")));
    }
    let count = rows.checked_mul(dim).ok_or_else(too_large)?;
    let bytes = count.checked_mul(stored.bytes()).ok_or_else(too_large)?;
    // A whole uncompressed file has more bytes than numbers, so this is exact for it, and small for one that lies.
    let size = path.metadata().map_or(0, |m| usize::try_from(m.len()).unwrap_or(usize::MAX));
    let mut values = Vec::with_capacity(count.min(size));
    let mut buffer = vec![0u8; bytes.min(1 << 20)];
    let mut done = 0;
    while done < bytes {
        let take = (bytes - done).min(buffer.len());
        let got = fill(source, &mut buffer[..take])
            .map_err(|e| Error::file(path, None, format!("cannot be read further, the file is damaged or cut off: {e}")))?;
        if got < take {
            let there = done + got;
            return Err(Error::file(
                path,
                None,
                format!("is cut off: shape [{rows}, {dim}] needs {bytes} bytes of data, {there} are there"),
            ));
        }
        stored.decode(&buffer[..take], &mut values);
        done += take;
    }
    Ok(values)
}

/// Fills `buffer` as far as the source goes.
fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Nothing may be left behind the data.
fn expect_end(path: &Path, source: &mut dyn Read) -> Result<()> {
    match fill(source, &mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Error::file(path, None, "has more data than its header says")),
        Err(e) => Err(Error::file(path, None, format!("cannot be read to its end: {e}"))),
    }
}

/// The embeddings, with the file's name in the error for a value that is not finite.
fn finished(path: &Path, dim: usize, values: Vec<f32>) -> Result<Embeddings> {
    Embeddings::new(dim, values).map_err(|e| Error::file(path, None, e.to_string()))
}
