//! What stands between a damaged Parquet file and its decoder: bad input must end in words, not in a crash or never.

use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use std::any::Any;
use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, Error as IoError, ErrorKind, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside [`guarded`], where a panic is expected and must not be printed.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it comes back as its message and is not printed. What `work` changed must not be used after
/// one. All other panics are printed as they were before.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !INSIDE.get() {
                usual(panic);
            }
        }));
    });
    INSIDE.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(false);
    result.map_err(|panic| message(panic.as_ref()))
}

/// A file of which only what is there can be read. On the plain file a damaged length makes the decoder skip billions of
/// fields that are all behind the end, or take memory for them, before it finds out.
pub(super) struct Bounded(pub File);

/// Reading at the end is an error: the footer comes last, so no page reaches there.
pub(super) struct UntilEnd(File);

impl Read for UntilEnd {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(IoError::new(ErrorKind::UnexpectedEof, "a page goes on behind the end of the file")),
            read => Ok(read),
        }
    }
}

impl Length for Bounded {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Bounded {
    type T = BufReader<UntilEnd>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let mut file = self.0.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(UntilEnd(file)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<bytes::Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            return Err(ParquetError::EOF(format!("{length} bytes from byte {start} on are more than the file has")));
        }
        self.0.get_bytes(start, length)
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the decoder failed").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_behind_the_end_is_read_or_allocated() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"0123456789").unwrap();
        let bounded = Bounded(file);
        assert_eq!(bounded.get_bytes(2, 8).unwrap().as_ref(), b"23456789");
        for (start, length) in [(2, 9), (11, 0), (0, usize::MAX), (u64::MAX, 1)] {
            assert!(matches!(bounded.get_bytes(start, length), Err(ParquetError::EOF(_))), "{start} {length}");
        }
        let mut read = bounded.get_read(7).unwrap();
        let mut three = [0; 3];
        read.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"789");
        assert_eq!(read.read(&mut three).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(guarded::<()>(|| panic!("with {}", 1)), Err("with 1".into()));
        assert_eq!(guarded::<()>(|| panic!("plain")), Err("plain".into()));
        assert!(!INSIDE.get());
    }
}
