//! From a name or a folder to a model.

use super::folder::read_modules;
use super::tokens::read_tokenizer;
use super::{Adapter, DEFAULT_MAX_TOKENS, StaticEncoder, Trainable};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Loads an encoder: `wordllama` (static embeddings distilled from a language model, 32,000 tokens × 256), `static-random` (the
/// same tokenizer, a random table drawn with `seed`), or a folder that [`Encoder::save`](super::Encoder::save) or sentence-transformers wrote, made of
/// a `StaticEmbedding`, any number of `Dense` and at most one final `Normalize`.
///
/// # Errors
/// On an unknown name, a folder with other modules, or a file that is missing or damaged, which is named.
pub fn load(name_or_folder: &str, seed: u64) -> Result<Box<dyn Trainable>> {
    match name_or_folder {
        "wordllama" | "static-random" => registered(name_or_folder, seed),
        folder if Path::new(folder).is_dir() => read_folder(Path::new(folder)),
        other => Err(Error::invalid(format!("there is no encoder {other:?}: give wordllama, static-random, or a saved model's folder"))),
    }
}

/// Width of the random table: that of wordllama.
const RANDOM_DIM: usize = 256;

fn read_folder(folder: &Path) -> Result<Box<dyn Trainable>> {
    let modules = read_modules(folder)?;
    let path = |i: usize| -> PathBuf { folder.join(modules[i].path()) };
    let kinds: Vec<&str> = modules.iter().map(|m| m.kind()).collect();
    let normalize = kinds.last() == Some(&"Normalize");
    let end = kinds.len() - usize::from(normalize);
    if kinds[0] != "StaticEmbedding" || kinds[1..end].iter().any(|k| *k != "Dense") {
        let known = "StaticEmbedding, then Dense layers, then at most one Normalize";
        return Err(Error::file(folder.join("modules.json"), None, format!("the modules are {kinds:?}; this version reads {known}")));
    }
    let inner = StaticEncoder::from_files(&path(0).join("model.safetensors"), &path(0).join("tokenizer.json"), None)?;
    if end == 1 {
        return Ok(Box::new(inner.with_normalize(normalize)));
    }
    let dense: Vec<PathBuf> = (1..end).map(path).collect();
    Ok(Box::new(Adapter::read(Box::new(inner), &dense)?.with_normalize(normalize)))
}

/// The registered table, or a random one for its tokenizer.
fn registered(name: &str, seed: u64) -> Result<Box<dyn Trainable>> {
    let files = crate::data::registry::wordllama()?;
    Ok(Box::new(match name {
        "wordllama" => StaticEncoder::from_files(&files.weights, &files.tokenizer, Some(DEFAULT_MAX_TOKENS))?,
        _ => StaticEncoder::random(read_tokenizer(&files.tokenizer)?, RANDOM_DIM, Some(DEFAULT_MAX_TOKENS), seed)?,
    }))
}
