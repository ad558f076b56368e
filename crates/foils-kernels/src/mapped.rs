//! Files as memory. Here, and not beside the readers of files, so that the crates above forbid `unsafe` code altogether.

use std::fs::File;
use std::io::Result;

/// A file's bytes, read from the disk as they are looked at and given up by the system when memory is needed for something else.
///
/// The file must not be changed while it is mapped: cutting it off ends the process when the missing part is read (SIGBUS), and
/// what is written shows through.
#[derive(Debug)]
pub struct Mapped(memmap2::Mmap);

impl Mapped {
    /// Maps a whole file for reading.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new(file: &File) -> Result<Self> {
        // SAFETY: the map is only read, and every pattern of bytes is a valid u8 or f32. That nobody changes the file meanwhile is
        // the condition that the documentation states and no program can enforce.
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Self(map))
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_bytes() {
        let path = std::env::temp_dir().join(format!("foils-mapped-{}", std::process::id()));
        std::fs::write(&path, [1, 2, 3]).unwrap();
        let mapped = Mapped::new(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mapped.bytes(), [1, 2, 3]);
    }
}
