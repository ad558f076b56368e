//! Safetensors.

use super::{Layout, Stored, expect_end, fill, finished, lines, read_values};
use crate::data::Embeddings;
use crate::files::AtomicFile;
use crate::{Error, Result};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::io::{Read, Write};
use std::path::Path;

/// The tensor that is written, and taken when there are several.
const NAME: &str = "embeddings";
/// The limit of the format's own library.
const LONGEST_HEADER: u64 = 100_000_000;

pub(super) fn read(path: &Path, name: Option<&str>) -> Result<Embeddings> {
    let mut source = lines::open(path)?;
    let Layout { stored, rows, dim, header, begin, behind, .. } = layout(path, &mut source, name)?;
    skip(path, &mut source, begin - header)?;
    let values = read_values(path, &mut source, stored, rows, dim)?;
    skip(path, &mut source, behind)?;
    expect_end(path, &mut source)?;
    finished(path, dim, values)
}

/// Reads the header.
pub(super) fn layout(path: &Path, source: &mut dyn Read, name: Option<&str>) -> Result<Layout> {
    let wrong = |message: String| Error::file(path, None, message);
    let cut_off = |e: std::io::Error| wrong(format!("cannot be read further, the file is damaged or cut off: {e}"));
    let mut length = [0; 8];
    source.read_exact(&mut length).map_err(cut_off)?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER {
        return Err(wrong(format!("is no safetensors file: it begins with a header of {length} bytes")));
    }
    let mut header = Vec::new();
    source.take(length).read_to_end(&mut header).map_err(cut_off)?;
    if (header.len() as u64) < length {
        return Err(wrong(format!("is cut off in its header of {length} bytes")));
    }
    // Also checks that the tensors follow each other without gaps and that their sizes fit their shapes.
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|e| wrong(format!("is no safetensors file, its header cannot be understood: {e}")))?;
    let info = choose(&metadata, name).map_err(wrong)?;
    let stored = match info.dtype {
        Dtype::F16 => Stored::F16,
        Dtype::BF16 => Stored::BF16,
        Dtype::F32 => Stored::F32,
        Dtype::F64 => Stored::F64,
        other => return Err(wrong(format!("holds numbers of type {other:?}; F16, BF16, F32 or F64 is needed"))),
    };
    let &[rows, dim] = info.shape.as_slice() else {
        return Err(wrong(format!("has the shape {:?}; [rows, dim] is needed", info.shape)));
    };
    let (begin, end) = info.data_offsets;
    let header = 8 + header.len();
    Ok(Layout { stored, rows, dim, fortran: false, header, begin: header + begin, behind: metadata.data_len() - end })
}

fn choose<'a>(metadata: &'a Metadata, name: Option<&str>) -> Result<&'a TensorInfo, String> {
    let mut names = metadata.offset_keys();
    if let Some(name) = name {
        return metadata.info(name).ok_or_else(|| format!("has no tensor `{name}`; it has {}", names.join(", ")));
    }
    let all = names.join(", ");
    names.retain(|n| metadata.info(n).is_some_and(|i| i.shape.len() == 2));
    if names.len() > 1 && names.iter().any(|n| n == NAME) {
        names.retain(|n| n == NAME);
    }
    match names.as_slice() {
        [one] => metadata.info(one).ok_or_else(|| format!("has no tensor `{one}`")),
        [] => Err(format!("has no 2-D tensor; it has {}", if all.is_empty() { "none at all" } else { &all })),
        several => Err(format!("has several 2-D tensors ({}); name one", several.join(", "))),
    }
}

fn skip(path: &Path, source: &mut dyn Read, bytes: usize) -> Result<()> {
    let mut buffer = vec![0; bytes.min(1 << 20)];
    let mut left = bytes;
    while left > 0 {
        let take = left.min(buffer.len());
        match fill(source, &mut buffer[..take]) {
            Ok(got) if got == take => left -= take,
            Ok(_) => return Err(Error::file(path, None, "is cut off: its header names more data than is there")),
            Err(e) => return Err(Error::file(path, None, format!("cannot be read further, the file is damaged or cut off: {e}"))),
        }
    }
    Ok(())
}

pub(super) fn write(path: &Path, embeddings: &Embeddings) -> Result<()> {
    // By hand, because the library's writer either needs a second copy of the data or does not write atomically.
    let bytes = size_of_val(embeddings.data());
    let info = serde_json::json!({ "dtype": "F32", "shape": [embeddings.rows(), embeddings.dim()], "data_offsets": [0, bytes] });
    let mut header = serde_json::json!({ NAME: info }).to_string();
    // The data begins at a multiple of 8 bytes, so that readers can map it.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut out = AtomicFile::create(path)?;
    let mut write = || -> std::io::Result<()> {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        let mut buffer = Vec::new();
        for chunk in embeddings.data().chunks(1 << 16) {
            buffer.clear();
            buffer.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
            out.write_all(&buffer)?;
        }
        Ok(())
    };
    write().map_err(Error::io("write", path))?;
    out.commit()
}
