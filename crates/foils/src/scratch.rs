//! What does not fit into memory, on disk while a process runs: columns of numbers in files without a name, which are gone with it.

use crate::{Error, Result};
use bytemuck::Pod;
use foils_kernels::Mapped;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A column that is being written.
pub(crate) struct ScratchWriter<T> {
    folder: PathBuf,
    out: BufWriter<File>,
    len: usize,
    kind: PhantomData<T>,
}

/// A column of `T`, mapped: read from the disk as it is looked at.
pub(crate) struct Scratch<T> {
    map: Option<Mapped>,
    kind: PhantomData<T>,
}

impl<T: Pod> ScratchWriter<T> {
    /// On the disk of `folder`.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn new(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io("write in the folder", folder))?;
        Ok(Self { folder: folder.to_owned(), out: BufWriter::with_capacity(1 << 18, file), len: 0, kind: PhantomData })
    }

    /// How many have been written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// # Errors
    /// When the disk is full.
    pub fn extend(&mut self, values: &[T]) -> Result<()> {
        self.len += values.len();
        self.out.write_all(bytemuck::cast_slice(values)).map_err(Error::io("write in the folder", &self.folder))
    }

    /// # Errors
    /// When the disk is full or the system does not map the file.
    pub fn finish(mut self) -> Result<Scratch<T>> {
        let failed = || Error::io("write in the folder", &self.folder);
        self.out.flush().map_err(failed())?;
        let map = if self.len == 0 { None } else { Some(Mapped::new(self.out.get_ref()).map_err(failed())?) };
        Ok(Scratch { map, kind: PhantomData })
    }
}

impl<T: Pod> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // A map begins at a page, so that any number is aligned.
        self.map.as_ref().map_or(&[], |map| bytemuck::cast_slice(map.bytes()))
    }
}

/// The bytes of memory that this process has to itself, in memory or swapped out; what it maps of files does not count. `None` where
/// the system does not say (elsewhere than on Linux).
pub fn own_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok());
    let (resident, swapped): (Option<usize>, Option<usize>) = (kilobytes("RssAnon:"), kilobytes("VmSwap:"));
    Some((resident? + swapped.unwrap_or(0)) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_what_was_written_and_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ScratchWriter::new(folder.path()).unwrap();
        let values: Vec<u64> = (0..100_000).collect();
        values.chunks(999).for_each(|part| writer.extend(part).unwrap());
        assert_eq!(writer.len(), values.len());
        assert_eq!(*writer.finish().unwrap(), values[..]);
        assert!(ScratchWriter::<u8>::new(folder.path()).unwrap().finish().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(ScratchWriter::<u8>::new(&folder.path().join("missing")).is_err());
    }
}
