//! Vectors that were computed once, kept on disk by model and text. No models here.
//!
//! A model's folder holds segments, files that are written whole under another name, renamed, and never changed: whoever maps one reads
//! what it will always be. A segment's keys are in order, so that a text is looked up where the file lies, and a process keeps nothing of
//! the cache in memory. One process at a time computes (a lock on the folder); what it finds missing it first looks for again, since
//! another may have computed it meanwhile.

use crate::progress::Progress;
use crate::{Error, Result, files};
use foils_kernels::Mapped;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

/// Of a segment's header: magic, width, number of texts, checksum of the digests; then 16 bytes for each digest, ascending, then the
/// vectors.
const HEADER: usize = 32;
const MAGIC: &[u8; 8] = b"foilsv2\n";
/// Texts that are computed, and then written, at a time: what is lost when the process is killed.
const CHUNK: usize = 1024;
/// With more segments than this, the smaller half becomes one.
const MOST_SEGMENTS: usize = 64;

/// A folder of vectors, for any number of models and processes at once.
///
/// Keys are a digest of the model's weights ([`super::Encoder::fingerprint`]) and the digest of the text as the model sees it, prompt
/// included. Nothing is ever dropped: delete the folder, or a model's in it, to have the space back.
#[derive(Clone, Debug)]
pub struct EmbeddingCache {
    folder: PathBuf,
}

impl EmbeddingCache {
    /// In this folder, which is made when it is needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The vectors `[texts, dim]` of a model: those that are known from the files, the others by `compute`, which gets each of them
    /// once, and whose vectors are kept.
    ///
    /// # Errors
    /// When the folder cannot be read or written, `compute` fails, or returns vectors of another width. What was computed before stays.
    pub fn embed(&self, model: u128, dim: usize, texts: &[&str], compute: impl Fn(&[&str]) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
        let mut store = Store::open(self.folder.join(format!("{model:032x}-{dim}")), dim)?;
        let keys: Vec<u128> = texts.iter().map(|text| xxh3_128(text.as_bytes())).collect();
        if keys.iter().any(|key| store.find(*key).is_none()) {
            std::fs::create_dir_all(&store.folder).map_err(|e| {
                let advice = "name another cache folder with FOILS_CACHE, or keep no vectors with --no-embedding-cache";
                Error::file(&store.folder, None, format!("cannot be made, to keep vectors in ({e}): {advice}"))
            })?;
            let path = store.folder.join("lock");
            let lock = File::create(&path).map_err(Error::io("write", &path))?;
            // Released when `lock` is dropped, and by the system when the process dies.
            lock.lock().map_err(Error::io("lock", &path))?;
            store.refresh()?;
            let mut seen = HashSet::new();
            let missing: Vec<usize> = (0..texts.len()).filter(|&i| store.find(keys[i]).is_none() && seen.insert(keys[i])).collect();
            let progress = Progress::new(missing.len() as u64, "embedding");
            for chunk in missing.chunks(CHUNK) {
                let vectors = compute(&chunk.iter().map(|&i| texts[i]).collect::<Vec<_>>())?;
                if vectors.len() != chunk.len() * dim {
                    return Err(Error::invalid(format!("{} numbers for {} texts of width {dim}", vectors.len(), chunk.len())));
                }
                store.write(&chunk.iter().map(|&i| keys[i]).collect::<Vec<_>>(), &vectors)?;
                progress.inc(chunk.len() as u64);
            }
            store.refresh()?;
            while store.segments.len() > MOST_SEGMENTS {
                store.merge()?;
            }
        }
        let mut out = Vec::with_capacity(texts.len() * dim);
        for key in &keys {
            let (segment, row) = store.find(*key).ok_or_else(|| {
                Error::file(&store.folder, None, "has lost vectors that were just written; does somebody delete its files?".to_owned())
            })?;
            out.extend(segment.vector(row, dim));
        }
        Ok(out)
    }
}

/// The segments of one model.
struct Store {
    folder: PathBuf,
    dim: usize,
    known: HashSet<OsString>,
    segments: Vec<Segment>,
}

struct Segment {
    path: PathBuf,
    map: Mapped,
    rows: usize,
}

impl Segment {
    /// None of a file that is not what it should be, which counts as not there.
    fn open(path: PathBuf, dim: usize) -> Option<Self> {
        let map = Mapped::new(&File::open(&path).ok()?).ok()?;
        let (head, rest) = map.bytes().split_at_checked(HEADER)?;
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let rows = usize::try_from(number(16)).ok()?;
        let whole = rows.checked_mul(16 + 4 * dim)? == rest.len();
        let fits = &head[..8] == MAGIC && number(8) == dim as u64 && whole && xxh3_64(&rest[..16 * rows]) == number(24);
        fits.then_some(Self { path, rows, map })
    }

    fn key_bytes(&self) -> &[[u8; 16]] {
        self.map.bytes()[HEADER..][..16 * self.rows].as_chunks::<16>().0
    }

    fn key(&self, row: usize) -> Option<u128> {
        self.key_bytes().get(row).map(|bytes| u128::from_le_bytes(*bytes))
    }

    fn find(&self, key: u128) -> Option<usize> {
        self.key_bytes().binary_search_by_key(&key, |bytes| u128::from_le_bytes(*bytes)).ok()
    }

    fn vector_bytes(&self, row: usize, dim: usize) -> &[u8] {
        &self.map.bytes()[HEADER + 16 * self.rows + 4 * dim * row..][..4 * dim]
    }

    fn vector(&self, row: usize, dim: usize) -> impl Iterator<Item = f32> {
        self.vector_bytes(row, dim).as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes))
    }
}

impl Store {
    fn open(folder: PathBuf, dim: usize) -> Result<Self> {
        let mut store = Self { folder, dim, known: HashSet::new(), segments: Vec::new() };
        store.refresh()?;
        Ok(store)
    }

    /// Where the vector of a text is.
    fn find(&self, key: u128) -> Option<(&Segment, usize)> {
        self.segments.iter().find_map(|segment| Some((segment, segment.find(key)?)))
    }

    /// Opens the segments that are new. One that another process is just merging away is still there in what it was merged into.
    fn refresh(&mut self) -> Result<()> {
        if !self.folder.is_dir() {
            return Ok(());
        }
        for entry in std::fs::read_dir(&self.folder).map_err(Error::io("read", &self.folder))? {
            let entry = entry.map_err(Error::io("read", &self.folder))?;
            let name = entry.file_name();
            if Path::new(&name).extension().is_none_or(|e| e != "vectors") || self.known.contains(&name) {
                continue;
            }
            let Some(segment) = Segment::open(entry.path(), self.dim) else { continue };
            self.known.insert(name);
            self.segments.push(segment);
        }
        Ok(())
    }

    fn write(&self, keys: &[u128], vectors: &[f32]) -> Result<()> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|&i| keys[i]);
        let rows = order.iter().map(|&i| bytemuck::cast_slice(&vectors[i * self.dim..][..self.dim]));
        self.write_segment(|| order.iter().map(|&i| keys[i]), rows)
    }

    /// Writes keys in order and their vectors.
    fn write_segment<'a, K: Iterator<Item = u128>>(&self, keys: impl Fn() -> K, vectors: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        let mut digests = Xxh3::new();
        keys().for_each(|key| digests.update(&key.to_le_bytes()));
        // The name says what is in it, so that the same vectors never lie there twice.
        let path = self.folder.join(format!("{:032x}.vectors", digests.digest128()));
        let mut out = files::AtomicFile::create(&path)?;
        let io = |written: std::io::Result<()>| written.map_err(Error::io("write", &path));
        io(out.write_all(MAGIC))?;
        for number in [self.dim as u64, keys().count() as u64, digests.digest()] {
            io(out.write_all(&number.to_le_bytes()))?;
        }
        for key in keys() {
            io(out.write_all(&key.to_le_bytes()))?;
        }
        for vector in vectors {
            io(out.write_all(vector))?;
        }
        out.commit()
    }

    /// Writes one segment of the smaller half of them, then removes those: a vector is written again about log₂ of their number times,
    /// and nothing of it all is in memory.
    fn merge(&mut self) -> Result<()> {
        self.segments.sort_by_key(|segment| segment.rows);
        let rest = self.segments.split_off(self.segments.len() / 2);
        let small = std::mem::replace(&mut self.segments, rest);
        self.write_segment(
            || Merged::new(&small).map(|(key, ..)| key),
            Merged::new(&small).map(|(_, s, row)| s.vector_bytes(row, self.dim)),
        )?;
        for segment in &small {
            std::fs::remove_file(&segment.path).map_err(Error::io("remove", &segment.path))?;
            self.known.remove(segment.path.file_name().unwrap_or_default());
        }
        self.refresh()
    }
}

/// The keys of several segments in order, each once, with where its vector is.
struct Merged<'a> {
    segments: &'a [Segment],
    /// The next row of each.
    next: Vec<usize>,
}

impl<'a> Merged<'a> {
    fn new(segments: &'a [Segment]) -> Self {
        Self { segments, next: vec![0; segments.len()] }
    }
}

impl<'a> Iterator for Merged<'a> {
    type Item = (u128, &'a Segment, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let heads = || self.segments.iter().zip(&self.next).filter_map(|(segment, &row)| Some((segment.key(row)?, segment, row)));
        let first = heads().min_by_key(|head| head.0)?;
        for (segment, next) in self.segments.iter().zip(&mut self.next) {
            *next += usize::from(segment.key(*next) == Some(first.0));
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const DIM: usize = 3;

    fn vector(text: &str) -> [f32; DIM] {
        let h = xxh3_128(text.as_bytes());
        [h as u16 as f32, (h >> 16) as u16 as f32, text.len() as f32]
    }

    /// What was computed, text by text.
    fn embed(cache: &EmbeddingCache, model: u128, texts: &[&str]) -> Vec<String> {
        let computed = Mutex::new(Vec::new());
        let compute = |texts: &[&str]| {
            computed.lock().unwrap().extend(texts.iter().map(|&t| t.to_owned()));
            Ok(texts.iter().flat_map(|t| vector(t)).collect())
        };
        let got = cache.embed(model, DIM, texts, compute).unwrap();
        assert_eq!(got, texts.iter().flat_map(|t| vector(t)).collect::<Vec<_>>());
        computed.into_inner().unwrap()
    }

    #[test]
    fn nothing_is_computed_twice_and_models_are_apart() {
        let folder = tempfile::tempdir().unwrap();
        let cache = EmbeddingCache::new(folder.path().join("cache"));
        assert_eq!(embed(&cache, 1, &[]), [""; 0]);
        assert_eq!(embed(&cache, 1, &["a", "b", "a"]), ["a", "b"]);
        assert_eq!(embed(&cache, 1, &["b", "c", ""]), ["c", ""]);
        assert_eq!(embed(&cache, 1, &["", "c", "b", "a"]), [""; 0]);
        assert_eq!(embed(&cache, 2, &["a"]), ["a"]);
        let many: Vec<String> = (0..CHUNK + 5).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(embed(&cache, 1, &many).len(), many.len());
        assert_eq!(embed(&cache, 1, &many), [""; 0]);
    }

    #[test]
    fn what_was_computed_before_an_error_stays_and_damaged_segments_are_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = EmbeddingCache::new(folder.path());
        let many: Vec<String> = (0..2 * CHUNK).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let fails = |texts: &[&str]| match texts[0] {
            "0" => Ok(texts.iter().flat_map(|t| vector(t)).collect()),
            _ => Err(Error::invalid("no more")),
        };
        assert!(cache.embed(1, DIM, &many, fails).is_err());
        assert_eq!(embed(&cache, 1, &many).len(), CHUNK);
        assert!(cache.embed(1, DIM, &["new"], |_| Ok(vec![0.0])).is_err());
        for entry in std::fs::read_dir(folder.path().join(format!("{:032x}-{DIM}", 1))).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            if bytes.len() > HEADER {
                bytes.truncate(bytes.len() - 1);
                std::fs::write(&path, bytes).unwrap();
            }
        }
        assert_eq!(embed(&cache, 1, &many).len(), 2 * CHUNK);
        assert_eq!(embed(&cache, 1, &many), [""; 0]);
    }

    #[test]
    fn segments_do_not_become_many() {
        let folder = tempfile::tempdir().unwrap();
        let cache = EmbeddingCache::new(folder.path());
        let texts: Vec<String> = (0..3 * MOST_SEGMENTS).map(|i| i.to_string()).collect();
        for text in &texts {
            assert_eq!(embed(&cache, 7, &[text]).len(), 1);
        }
        let files = std::fs::read_dir(folder.path().join(format!("{:032x}-{DIM}", 7))).unwrap().count();
        assert!(files <= MOST_SEGMENTS + 1, "{files} files, a lock among them");
        assert_eq!(embed(&cache, 7, &texts.iter().map(String::as_str).collect::<Vec<_>>()), [""; 0]);
    }

    #[test]
    fn several_at_once_compute_each_text_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = EmbeddingCache::new(folder.path());
        let texts: Vec<String> = (0..300).map(|i| i.to_string()).collect();
        let counts: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|t| {
                    let (cache, texts) = (&cache, &texts);
                    scope.spawn(move || {
                        let mine: Vec<&str> = texts.iter().skip(t * 20).map(String::as_str).collect();
                        mine.chunks(50).map(|texts| embed(cache, 1, texts).len()).sum()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(counts.iter().sum::<usize>(), 300);
    }
}
