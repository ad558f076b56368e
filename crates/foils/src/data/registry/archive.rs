//! Package files are archives: zip (wheels), gzipped tar (npm, Python sources), ar with a compressed tar (Debian).

use crate::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Calls `each(path inside, content)` for every file of the archive, in its order; the form is known by the first bytes. A leading `./`
/// is dropped from paths. Content that `each` leaves unread is skipped.
///
/// # Errors
/// When the archive cannot be read to its end (truncated, not an archive), or what `each` returns.
pub fn read(path: &Path, each: &mut dyn FnMut(&str, &mut dyn Read) -> Result<()>) -> Result<()> {
    let mut head = [0u8; 8];
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let got = file.read(&mut head).map_err(Error::io("read", path))?;
    let file = BufReader::with_capacity(1 << 18, File::open(path).map_err(Error::io("open", path))?);
    match &head[..got] {
        [b'P', b'K', ..] => read_zip(path, file, each),
        [0x1f, 0x8b, ..] => read_tar(path, flate2::bufread::GzDecoder::new(file), each),
        b"!<arch>\n" => read_deb(path, file, each),
        _ => Err(Error::file(path, None, "is neither a zip, nor a tar.gz, nor a Debian package")),
    }
}

/// Copies the files named in `keep` (path inside, path below `folder`) out of the archive.
///
/// # Errors
/// As [`read`], when `folder` cannot be written, and when a named file is not there.
pub fn extract(path: &Path, keep: &[(&str, &str)], folder: &Path) -> Result<()> {
    let mut missing: HashMap<&str, &str> = keep.iter().copied().collect();
    read(path, &mut |name, content| {
        if let Some(to) = missing.remove(name) {
            let to = folder.join(to);
            let parent = to.parent().expect("is below `folder`");
            std::fs::create_dir_all(parent).map_err(Error::io("create the folder", parent))?;
            let mut out = File::create(&to).map_err(Error::io("create", &to))?;
            std::io::copy(content, &mut out).map_err(|e| Error::file(path, None, format!("{name} cannot be extracted: {e}")))?;
            out.sync_all().map_err(Error::io("write", &to))?;
        }
        Ok(())
    })?;
    match missing.keys().min() {
        None => Ok(()),
        Some(name) => Err(Error::file(path, None, format!("has no file {name}"))),
    }
}

fn broken(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::file(path, None, format!("is damaged or cut off: {e}"))
}

fn read_zip(path: &Path, file: BufReader<File>, each: &mut dyn FnMut(&str, &mut dyn Read) -> Result<()>) -> Result<()> {
    let broken = |e: zip::result::ZipError| Error::file(path, None, format!("is damaged or cut off: {e}"));
    let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
    for i in 0..archive.len() {
        let mut member = archive.by_index(i).map_err(broken)?;
        if member.is_file() {
            let name = member.name().map_err(broken)?.into_owned();
            each(&name, &mut member)?;
        }
    }
    Ok(())
}

fn read_tar(path: &Path, stream: impl Read, each: &mut dyn FnMut(&str, &mut dyn Read) -> Result<()>) -> Result<()> {
    let broken = broken(path);
    let mut archive = tar::Archive::new(stream);
    for member in archive.entries().map_err(&broken)? {
        let mut member = member.map_err(&broken)?;
        if member.header().entry_type().is_file() {
            let name = member.path().map_err(&broken)?.to_string_lossy().into_owned();
            each(name.strip_prefix("./").unwrap_or(&name), &mut member)?;
        }
    }
    Ok(())
}

fn read_deb(path: &Path, file: BufReader<File>, each: &mut dyn FnMut(&str, &mut dyn Read) -> Result<()>) -> Result<()> {
    let mut archive = ar::Archive::new(file);
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(broken(path))?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        match name.strip_prefix("data.tar") {
            None => {}
            Some("") => return read_tar(path, member, each),
            Some(".gz") => return read_tar(path, flate2::read::GzDecoder::new(member), each),
            Some(".xz") => return read_tar(path, liblzma::read::XzDecoder::new(member), each),
            Some(".zst") => return read_tar(path, zstd::stream::read::Decoder::new(member).map_err(broken(path))?, each),
            Some(_) => return Err(Error::file(path, None, format!("{name}: this compression is not known"))),
        }
    }
    Err(Error::file(path, None, "is damaged or cut off: a Debian package without data.tar"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, name, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn deb(member: &str, data: &[u8]) -> Vec<u8> {
        let mut out = ar::Builder::new(Vec::new());
        for (name, content) in [("debian-binary", b"2.0\n".as_slice()), (member, data)] {
            out.append(&ar::Header::new(name.as_bytes().to_vec(), content.len() as u64), content).unwrap();
        }
        out.into_inner().unwrap()
    }

    fn archives() -> Vec<(&'static str, Vec<u8>)> {
        let noise: Vec<u8> = (0..20_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let files: [(&str, &[u8]); 2] = [("pkg/a.txt", b"alpha"), ("pkg/deep/b.bin", &noise)];
        let tar = tar_of(&files);
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in files {
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content).unwrap();
        }
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 3);
        xz.write_all(&tar).unwrap();
        vec![
            ("a.whl", zip.finish().unwrap().into_inner()),
            ("a.tgz", gzip(&tar)),
            ("a.deb", deb("data.tar.xz", &xz.finish().unwrap())),
            ("b.deb", deb("data.tar.gz", &gzip(&tar))),
            ("c.deb", deb("data.tar.zst", &zstd::encode_all(tar.as_slice(), 3).unwrap())),
            ("d.deb", deb("data.tar", &tar)),
        ]
    }

    #[test]
    fn every_form_gives_its_files_and_a_cut_one_gives_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in archives() {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let out = folder.path().join(format!("{name}.out"));
            extract(&path, &[("pkg/deep/b.bin", "x/b"), ("pkg/a.txt", "a")], &out).unwrap();
            assert_eq!(std::fs::read(out.join("a")).unwrap(), b"alpha", "{name}");
            assert_eq!(std::fs::metadata(out.join("x/b")).unwrap().len(), 20_000, "{name}");

            let error = extract(&path, &[("pkg/none", "none")], &out).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("has no file pkg/none"), "{error}");

            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            let error = extract(&path, &[("pkg/a.txt", "a"), ("pkg/deep/b.bin", "b")], &out).unwrap_err();
            assert!(matches!(error, Error::File { .. }), "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let path = folder.path().join("page.html");
        std::fs::write(&path, "<html>").unwrap();
        assert!(read(&path, &mut |_, _| Ok(())).unwrap_err().to_string().contains("neither a zip"));
    }
}
