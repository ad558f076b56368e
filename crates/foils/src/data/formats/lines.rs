//! Lines of a text file with their numbers: the ground on which all text formats stand.

use crate::{Error, Result, files};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// A longer line is a file of another kind, not text in lines; reading on would fill the memory.
pub(super) const LONGEST: usize = 1 << 28;

/// Opens a file for streaming; a folder is an error that says so.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    if path.is_dir() {
        return Err(Error::file(path, None, "is a folder; a file is needed here"));
    }
    files::open(path)
}

/// UTF-8 lines, counted from 1; a byte order mark is left out.
pub(super) struct Lines {
    path: PathBuf,
    source: Box<dyn BufRead + Send>,
    number: u64,
    line: String,
}

impl Lines {
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), source: open(path)?, number: 0, line: String::new() })
    }

    /// The number of the current line, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The current line as it stands, with its line ending.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The current line without its ending.
    pub fn text(&self) -> &str {
        split_ending(&self.line).0
    }

    /// An error at the current line.
    pub fn error(&self, message: impl Into<String>) -> Error {
        self.error_at(self.number, message)
    }

    /// An error at a line.
    pub fn error_at(&self, line: u64, message: impl Into<String>) -> Error {
        Error::file(&self.path, line, message)
    }

    /// Goes to the next line; false at the end of the file.
    pub fn advance(&mut self) -> Result<bool> {
        let mut bytes = std::mem::take(&mut self.line).into_bytes();
        bytes.clear();
        let limit = LONGEST as u64 + 1;
        let read = self.source.by_ref().take(limit).read_until(b'\n', &mut bytes);
        self.number += 1;
        match read {
            Ok(0) => {
                self.number -= 1;
                return Ok(false);
            }
            Ok(read) if read as u64 == limit => return Err(self.error(format!("a line longer than {} MiB", LONGEST >> 20))),
            Ok(_) => {}
            Err(e) => return Err(self.error(format!("cannot be read further, the file is damaged or cut off: {e}"))),
        }
        if self.number == 1 && (bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff])) {
            return Err(self.error("is UTF-16; save it as UTF-8"));
        }
        self.line = String::from_utf8(bytes)
            .map_err(|e| self.error(format!("byte {} of the line is not UTF-8", e.utf8_error().valid_up_to() + 1)))?;
        if self.number == 1 && self.line.starts_with(MARK) {
            self.line.drain(..MARK.len_utf8());
            return Ok(!self.line.is_empty());
        }
        Ok(true)
    }

    /// Goes to the next line that is not blank; false at the end of the file.
    pub fn advance_filled(&mut self) -> Result<bool> {
        while self.advance()? {
            if !self.line.trim().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

const MARK: char = '\u{feff}';

/// A line and its ending: `\n`, `\r\n` or nothing.
pub(super) fn split_ending(line: &str) -> (&str, &str) {
    let body = line.strip_suffix('\n').map_or(line, |l| l.strip_suffix('\r').unwrap_or(l));
    line.split_at(body.len())
}
