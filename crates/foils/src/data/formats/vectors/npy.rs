//! NumPy's `.npy`.

use super::{Layout, Stored, expect_end, finished, lines, read_values};
use crate::data::Embeddings;
use crate::files::AtomicFile;
use crate::{Error, Result};
use npyz::{DType, NpyHeader, Order, WriterBuilder};
use std::io::Read;
use std::path::Path;

/// NumPy writes 128 bytes before the data of a plain 2-D array.
const LONGEST_HEADER: usize = 1024;

pub(super) fn read(path: &Path) -> Result<Embeddings> {
    let mut source = lines::open(path)?;
    let Layout { stored, rows, dim, fortran, .. } = layout(path, &mut source)?;
    let mut values = read_values(path, &mut source, stored, rows, dim)?;
    expect_end(path, &mut source)?;
    if fortran {
        values = (0..rows * dim).map(|i| values[(i % dim) * rows + i / dim]).collect();
    }
    finished(path, dim, values)
}

/// Reads the header.
pub(super) fn layout(path: &Path, source: &mut dyn Read) -> Result<Layout> {
    let (length, header) = read_header(source)
        .and_then(|h| Ok((h.len(), NpyHeader::from_reader(h.as_slice())?)))
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
    Ok(Layout { stored, rows, dim, fortran: header.order() == Order::Fortran, header: length, begin: length, behind: 0 })
}

/// Everything before the data, once it looks like the header of a plain array: one dictionary with one tuple in it.
/// The general parser that reads it takes time exponential in the depth of nested brackets, so they are kept from it.
fn read_header(source: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let invalid = |message: &str| Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
    let mut header = vec![0; 8];
    source.read_exact(&mut header)?;
    if !header.starts_with(b"\x93NUMPY") {
        return invalid("its first bytes are not those of NumPy");
    }
    let digits = if header[6] == 1 { 2 } else { 4 };
    let mut length = [0; 4];
    source.read_exact(&mut length[..digits])?;
    header.extend(&length[..digits]);
    let start = header.len();
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST_HEADER {
        return invalid("its header is too long");
    }
    header.resize(start + length, 0);
    source.read_exact(&mut header[start..])?;
    let count = |letter| header[start..].iter().filter(|b| **b == letter).count();
    if count(b'[') > 0 || count(b'(') > 1 || count(b'{') > 1 {
        return invalid("its type is a record, or its header is damaged");
    }
    Ok(header)
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
