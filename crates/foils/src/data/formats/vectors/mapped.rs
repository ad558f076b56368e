//! Embeddings that stay in their file.

use super::{Layout, Stored, npy, tensors, unknown};
use crate::{Error, Result};
use foils_kernels::Mapped;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// `[rows, dim]` vectors in a file that may be larger than memory: mapped, and read as they are asked for.
///
/// The file must not be changed meanwhile (see [`Mapped`]).
#[derive(Debug)]
pub struct MappedEmbeddings {
    path: PathBuf,
    map: Mapped,
    layout: Layout,
}

impl MappedEmbeddings {
    /// Opens an uncompressed `.npy` (C order) or `.safetensors` file; its numbers are those of [`super::read`]. Of several tensors
    /// the one called `name`, or `embeddings`, is taken.
    ///
    /// # Errors
    /// When the file cannot be mapped, is compressed, in Fortran order or not as long as its header says, or holds another type or
    /// shape or no rows. Values are looked at when they are read.
    pub fn open(path: impl AsRef<Path>, name: Option<&str>) -> Result<Self> {
        let path = path.as_ref();
        let (extension, compressed) = super::super::extension(path);
        if compressed {
            return Err(Error::file(path, None, "is compressed, and can only be read whole; unpack it first"));
        }
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let layout = match extension.as_str() {
            "npy" => npy::layout(path, &mut file)?,
            "safetensors" => tensors::layout(path, &mut file, name)?,
            _ => return Err(unknown(path)),
        };
        let map = Mapped::new(&file).map_err(Error::io("map", path))?;
        if layout.fortran {
            return Err(Error::file(path, None, "is in Fortran order, and can only be read whole; save it in C order"));
        }
        let Layout { rows, dim, stored, begin, behind, .. } = layout;
        let shape = format!("shape [{rows}, {dim}]");
        if rows == 0 || dim == 0 {
            return Err(Error::file(path, None, format!("{shape}: there are no embeddings")));
        }
        let needed =
            rows.checked_mul(dim).and_then(|n| n.checked_mul(stored.bytes())).and_then(|n| n.checked_add(begin)?.checked_add(behind));
        let there = map.bytes().len();
        if needed != Some(there) {
            return Err(Error::file(path, None, format!("is {there} bytes long, which is not what {shape} needs: damaged or cut off")));
        }
        Ok(Self { path: path.to_owned(), map, layout })
    }

    /// How many vectors.
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// How wide.
    pub fn dim(&self) -> usize {
        self.layout.dim
    }

    /// Decodes some rows into `out`, in place of what it held.
    ///
    /// # Errors
    /// When a value is NaN or not finite as f32 (names row and column, from 0).
    ///
    /// # Panics
    /// When the range is not within the rows.
    pub fn read(&self, range: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let Layout { rows, dim, stored, begin, .. } = self.layout;
        assert!(range.start <= range.end && range.end <= rows, "rows {range:?} of {rows}");
        let width = dim * stored.bytes();
        out.clear();
        stored.decode(&self.map.bytes()[begin + range.start * width..begin + range.end * width], out);
        self.check(range.start, out)
    }

    /// Some rows as they lie in the file; `None` where they cannot be used so (another type of number, or bytes at an odd address).
    ///
    /// # Errors
    /// See [`MappedEmbeddings::read`].
    ///
    /// # Panics
    /// See [`MappedEmbeddings::read`].
    pub fn borrow(&self, range: Range<usize>) -> Result<Option<&[f32]>> {
        let Layout { rows, dim, stored, begin, .. } = self.layout;
        assert!(range.start <= range.end && range.end <= rows, "rows {range:?} of {rows}");
        if !matches!(stored, Stored::F32) || cfg!(target_endian = "big") {
            return Ok(None);
        }
        let bytes = &self.map.bytes()[begin + range.start * dim * 4..begin + range.end * dim * 4];
        let Ok(values) = bytemuck::try_cast_slice(bytes) else { return Ok(None) };
        self.check(range.start, values)?;
        Ok(Some(values))
    }

    fn check(&self, first: usize, values: &[f32]) -> Result<()> {
        // All at once first, which is many times faster than value by value.
        if values.chunks(1024).all(|chunk| chunk.iter().fold(true, |all, v| all & v.is_finite())) {
            return Ok(());
        }
        let at = values.iter().position(|v| !v.is_finite()).expect("one is not finite");
        let (row, column) = (first + at / self.dim(), at % self.dim());
        Err(Error::file(&self.path, None, format!("embedding row {row}, column {column}: {} is not a finite number", values[at])))
    }
}
