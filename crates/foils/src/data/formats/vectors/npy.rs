//! NumPy's `.npy`.

use super::{Stored, expect_end, finished, lines, read_values};
use crate::data::Embeddings;
use crate::files::AtomicFile;
use crate::{Error, Result};
use npyz::{DType, NpyHeader, Order, WriterBuilder};
use std::io::Read;
use std::path::Path;

/// NumPy writes 128 bytes for a plain 2-D array. The bound keeps a hostile header from taking memory or nesting deeply.
const LONGEST_HEADER: u64 = 1024;

pub(super) fn read(path: &Path) -> Result<Embeddings> {
    let mut source = lines::open(path)?;
    let header = NpyHeader::from_reader(source.by_ref().take(LONGEST_HEADER))
        .map_err(|e| Error::file(path, None, format!("does not begin as a .npy file of a plain array: {e}")))?;
    let stored = match &header.dtype() {
        DType::Plain(kind) => match kind.to_string().as_str() {
            "<f2" => Ok(Stored::F16),
            "<f4" => Ok(Stored::F32),
            "<f8" => Ok(Stored::F64),
            other => Err(format!("'{other}'")),
        },
        other => Err(other.descr()),
    }
    .map_err(|kind| Error::file(path, None, format!("holds numbers of type {kind}; '<f2', '<f4' or '<f8' is needed")))?;
    let shape: Vec<usize> = header.shape().iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
    let &[rows, dim] = shape.as_slice() else {
        return Err(Error::file(path, None, format!("has the shape {shape:?}; [rows, dim] is needed")));
    };
    let mut values = read_values(path, &mut source, stored, rows, dim)?;
    expect_end(path, &mut source)?;
    if header.order() == Order::Fortran {
        values = (0..rows * dim).map(|i| values[(i % dim) * rows + i / dim]).collect();
    }
    finished(path, dim, values)
}

pub(super) fn write(path: &Path, embeddings: &Embeddings) -> Result<()> {
    let mut out = AtomicFile::create(path)?;
    let io = || Error::io("write", path);
    let shape = [embeddings.rows() as u64, embeddings.dim() as u64];
    let mut array = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut out).begin_nd().map_err(io())?;
    array.extend(embeddings.data()).map_err(io())?;
    array.finish().map_err(io())?;
    out.commit()
}
