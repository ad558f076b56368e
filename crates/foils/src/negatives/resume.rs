//! What a run of the miner has done, kept in a folder while it goes on.

use super::judge::Judged;
use super::mining::MineSettings;
use super::vectors::Given;
use crate::data::Collection;
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// The file that says which run the others are of.
const RUN: &str = "run.json";

/// Blocks of queries whose negatives were found.
pub(super) struct Blocks {
    folder: PathBuf,
    run: String,
    /// Queries in a block, where an earlier process began.
    size: Option<usize>,
}

#[derive(Serialize, Deserialize)]
struct Run {
    /// A digest of all that the result depends on.
    run: String,
    block: usize,
}

impl Blocks {
    /// Looks for what an earlier process has left of this very run; removes what others have left.
    pub fn open(folder: &Path, collection: &Collection, given: &[Option<Given>], settings: &MineSettings) -> Result<Self> {
        let run = format!("{:032x}", digest(collection, given, settings)?);
        let before = files::read_json::<Run>(folder.join(RUN)).ok().filter(|before| before.run == run && before.block > 0);
        if before.is_none() {
            forget(folder)?;
        }
        Ok(Self { folder: folder.to_owned(), run, size: before.map(|before| before.block) })
    }

    /// The number of queries in a block: that of the earlier process, or else `planned`, which is noted.
    pub fn fix_size(&mut self, planned: usize) -> Result<usize> {
        if let Some(size) = self.size {
            return Ok(size);
        }
        files::write_json(self.folder.join(RUN), &Run { run: self.run.clone(), block: planned })?;
        self.size = Some(planned);
        Ok(planned)
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.join(format!("block-{number:06}"))
    }

    /// What became of the candidates of block `number`, if that is known.
    pub fn read(&self, number: usize, queries: usize) -> Option<Vec<Judged>> {
        let judged: Vec<Judged> = postcard::from_bytes(&std::fs::read(self.path(number)).ok()?).ok()?;
        (judged.len() == queries).then_some(judged)
    }

    pub fn write(&self, number: usize, judged: &[Judged]) -> Result<()> {
        let path = self.path(number);
        let bytes = postcard::to_allocvec(judged).map_err(|e| Error::file(&path, None, format!("cannot be written: {e}")))?;
        files::write(path, bytes)
    }
}

/// Removes what [`super::Miner::resume_in`] kept in a folder, and the folder, if there is one.
///
/// # Errors
/// When it has something else in it, or cannot be removed.
pub fn forget(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))?;
    let names = entries.map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned())).collect::<std::io::Result<Vec<_>>>();
    let names = names.map_err(Error::io("read the folder", folder))?;
    if let Some(name) = names.iter().find(|n| *n != RUN && !n.starts_with("block-") && !n.starts_with(files::TEMPORARY_PREFIX)) {
        return Err(Error::file(
            folder,
            None,
            format!("has {name:?} in it, which mining did not write there: move that away, or choose another output"),
        ));
    }
    std::fs::remove_dir_all(folder).map_err(Error::io("remove", folder))
}

/// Of everything that the result depends on.
fn digest(collection: &Collection, given: &[Option<Given>], settings: &MineSettings) -> Result<u128> {
    let mut hash = Xxh3::new();
    let settings = serde_json::to_string(settings).map_err(|e| Error::invalid(format!("settings have no JSON form: {e}")))?;
    hash.update(settings.as_bytes());
    for texts in [&collection.queries, &collection.corpus] {
        hash.update(&(texts.len() as u64).to_le_bytes());
        for text in &texts.texts {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    for query in 0..collection.qrels.len() {
        let row = collection.qrels.of(query);
        hash.update(&(row.len() as u64).to_le_bytes());
        row.iter().for_each(|&(document, _)| hash.update(&document.to_le_bytes()));
    }
    for given in given {
        match given {
            None => hash.update(&[0]),
            Some(Given::Encoder(encoder)) => {
                hash.update(&[1]);
                hash.update(&encoder.fingerprint().to_le_bytes());
                hash.update(format!("{:?}", encoder.prompts()).as_bytes());
            }
            Some(Given::Vectors(queries, documents)) => {
                hash.update(&[2]);
                [queries, documents].iter().for_each(|vectors| hash.update(bytemuck::cast_slice(vectors.data())));
            }
        }
    }
    Ok(hash.digest128())
}
