//! TensorBoard event files: records framed as TFRecord, each an `Event` protobuf with one scalar.
//!
//! Only what scalars need of the two formats is written, by hand: `Event { double wall_time = 1; int64 step = 2;
//! string file_version = 3; Summary summary = 5; }`, `Summary { repeated Value value = 1; }`,
//! `Value { string tag = 1; float simple_value = 2; }`.

use crate::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A log of scalars, readable by TensorBoard while it grows.
pub struct EventWriter {
    path: PathBuf,
    out: BufWriter<File>,
}

impl EventWriter {
    /// Starts a new event file in `folder`, which is made if need be.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        // Two runs may start within a second: the process and a counter keep their files apart.
        static RUN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let run = RUN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.join(format!("events.out.tfevents.{:010}.foils.{}.{run}", now() as u64, std::process::id()));
        let out = BufWriter::new(File::create_new(&path).map_err(Error::io("create", &path))?);
        let mut writer = Self { path, out };
        let mut version = Vec::new();
        field_double(&mut version, 1, now());
        field_bytes(&mut version, 3, b"brain.Event:2");
        writer.record(&version)?;
        writer.flush()?;
        Ok(writer)
    }

    /// Where the events go.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one point of the curve `tag`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn scalar(&mut self, tag: &str, step: usize, value: f64) -> Result<()> {
        let mut point = Vec::new();
        field_bytes(&mut point, 1, tag.as_bytes());
        key(&mut point, 2, 5);
        point.extend((value as f32).to_le_bytes());
        let mut summary = Vec::new();
        field_bytes(&mut summary, 1, &point);
        let mut event = Vec::new();
        field_double(&mut event, 1, now());
        key(&mut event, 2, 0);
        varint(&mut event, step as u64);
        field_bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Hands what was written to the operating system.
    ///
    /// # Errors
    /// When it cannot be written (a full disk).
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(Error::io("write", &self.path))
    }

    /// TFRecord: length, masked checksum of the length, data, masked checksum of the data; little-endian.
    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut framed = Vec::with_capacity(data.len() + 16);
        framed.extend(length);
        framed.extend(masked_crc(&length).to_le_bytes());
        framed.extend(data);
        framed.extend(masked_crc(data).to_le_bytes());
        self.out.write_all(&framed).map_err(Error::io("write", &self.path))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn field_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(out, field, 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn field_double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader written from the format's definition, not from the writer.
    fn read(path: &Path) -> Vec<(String, u64, f32)> {
        let bytes = std::fs::read(path).unwrap();
        let (mut at, mut points, mut first) = (0, Vec::new(), true);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let check = |data: &[u8], masked: u32| {
            let crc = masked.wrapping_sub(0xa282_ead8);
            assert_eq!(crc.rotate_left(15), crc32c::crc32c(data));
        };
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            check(&bytes[at..at + 8], word(at + 8));
            let data = &bytes[at + 12..at + 12 + length];
            check(data, word(at + 12 + length));
            at += 16 + length;
            let event = fields(data);
            assert!(event.iter().any(|(f, v)| *f == 1 && matches!(v, Field::Eight(b) if f64::from_le_bytes(*b) > 1e9)), "a wall time");
            if std::mem::take(&mut first) {
                assert!(event.iter().any(|(f, v)| *f == 3 && matches!(v, Field::Bytes(b) if b == b"brain.Event:2")));
                continue;
            }
            let step = event.iter().find_map(|(f, v)| if let (2, Field::Varint(s)) = (f, v) { Some(*s) } else { None }).unwrap();
            let summary = event.iter().find_map(|(f, v)| if let (5, Field::Bytes(b)) = (f, v) { Some(b) } else { None }).unwrap();
            for (_, value) in fields(summary) {
                let Field::Bytes(value) = value else { panic!("a value is a message") };
                let parts = fields(&value);
                let (Field::Bytes(tag), Field::Four(number)) = (&parts[0].1, &parts[1].1) else { panic!("{}", parts.len()) };
                points.push((String::from_utf8(tag.clone()).unwrap(), step, f32::from_le_bytes(*number)));
            }
        }
        points
    }

    enum Field {
        Varint(u64),
        Eight([u8; 8]),
        Four([u8; 4]),
        Bytes(Vec<u8>),
    }

    fn fields(mut data: &[u8]) -> Vec<(u64, Field)> {
        fn varint(data: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = data[0];
                *data = &data[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            value
        }
        let mut out = Vec::new();
        while !data.is_empty() {
            let key = varint(&mut data);
            let value = match key & 7 {
                0 => Field::Varint(varint(&mut data)),
                1 => Field::Eight(data.split_off(..8).unwrap().try_into().unwrap()),
                2 => {
                    let length = varint(&mut data) as usize;
                    Field::Bytes(data.split_off(..length).unwrap().to_vec())
                }
                5 => Field::Four(data.split_off(..4).unwrap().try_into().unwrap()),
                other => panic!("wire type {other}"),
            };
            out.push((key >> 3, value));
        }
        out
    }

    #[test]
    fn what_was_logged_is_read_back() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("logs");
        let mut writer = EventWriter::create(&folder).unwrap();
        let mut expected = Vec::new();
        for step in [1usize, 127, 128, 300, 70_000] {
            let value = 1.0 / step as f64;
            writer.scalar("train/loss", step, value).unwrap();
            expected.push(("train/loss".to_owned(), step as u64, value as f32));
        }
        writer.flush().unwrap();
        assert_eq!(read(writer.path()), expected);
        assert!(EventWriter::create(&folder).unwrap().path() != writer.path());
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let masked = masked_crc(b"123456789");
        assert_eq!(masked, 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("file"), "").unwrap();
        assert!(EventWriter::create(&home.path().join("file/logs")).err().unwrap().to_string().contains("logs"));
    }
}
