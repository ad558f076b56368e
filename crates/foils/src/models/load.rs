//! From a name or a folder to a model.

use super::bert::{ADAPTER_CONFIG, base_model};
use super::folder::read_modules;
use super::tokens::read_tokenizer;
use super::{
    Adapter, BertEncoder, DEFAULT_MAX_TOKENS, EmbeddingCache, Head, LoraSettings, Pooling, Prompted, Prompts, Role, StaticEncoder,
    Trainable,
};
use crate::data::registry;
use crate::nn::Precision;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// How an encoder is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// For what is drawn: a random table, the start of low-rank updates.
    pub seed: u64,
    /// New low-rank updates, which alone are trained.
    pub lora: Option<LoraSettings>,
    /// New dense layers on top, which alone are trained.
    pub adapter: Option<Head>,
    /// How exactly transformers multiply f32 on a processor that knows of less than f32; none: [`Precision::default`].
    pub precision: Option<Precision>,
    /// A folder for the vectors of transformers ([`super::EmbeddingCache`]); none: they are computed each time.
    pub embedding_cache: Option<PathBuf>,
    /// What comes before queries, instead of what the model's folder says.
    pub query_prompt: Option<String>,
    /// What comes before documents, instead of what the model's folder says.
    pub document_prompt: Option<String>,
}

/// Loads an encoder: `wordllama` (static embeddings distilled from a language model, 32,000 tokens × 256), `static-random` (the
/// same tokenizer, a random table drawn with `seed`), `minilm` (all-MiniLM-L6-v2, a transformer of 6 layers × 384), or a folder that
/// [`Encoder::save`](super::Encoder::save) or sentence-transformers wrote, made of a `StaticEmbedding`, or a `Transformer` of BERT's
/// architecture and its `Pooling`, then any number of `Dense` and at most one final `Normalize`; or a folder of low-rank updates as
/// peft writes them, whose base model is one of these.
///
/// # Errors
/// On an unknown name, a folder with other modules, or a file that is missing or damaged, which is named.
pub fn load(name_or_folder: &str, seed: u64) -> Result<Box<dyn Trainable>> {
    load_with(name_or_folder, &LoadOptions { seed, ..LoadOptions::default() })
}

/// [`load`] with more to choose.
///
/// # Errors
/// As [`load`], and when low-rank updates are asked for of anything but a transformer.
pub fn load_with(name_or_folder: &str, options: &LoadOptions) -> Result<Box<dyn Trainable>> {
    let updates = Path::new(name_or_folder);
    let (name, updates) =
        if updates.join(ADAPTER_CONFIG).is_file() { (&*base_model(updates)?, Some(updates)) } else { (name_or_folder, None) };
    let folder = match name {
        "wordllama" | "static-random" => None,
        "minilm" => Some(registry::minilm()?),
        folder if Path::new(folder).is_dir() => Some(PathBuf::from(folder)),
        other => {
            let known = "give wordllama, static-random, minilm, or a saved model's folder";
            return Err(Error::invalid(format!("there is no encoder {other:?}: {known}")));
        }
    };
    let (mut model, mut prompts): (Box<dyn Trainable>, _) = match &folder {
        Some(folder) => (read_folder(folder, name, updates, options)?, Prompts::read(folder)?),
        None if options.lora.is_some() || updates.is_some() => return Err(no_lora(name)),
        None => (registered(name, options.seed)?, Prompts::default()),
    };
    if let Some(head) = options.adapter {
        model = Box::new(Adapter::new(model, head));
    }
    for (role, prompt) in [(Role::Query, &options.query_prompt), (Role::Document, &options.document_prompt)] {
        if let Some(prompt) = prompt {
            prompts = prompts.with(role, prompt);
        }
    }
    Ok(if prompts.are_empty() { model } else { Box::new(Prompted::new(model, prompts)) })
}

fn no_lora(name: &str) -> Error {
    Error::invalid(format!(
        "LoRA trains the layers of a transformer; {name} is something else, or has dense layers on top, which alone are trained"
    ))
}

/// Width of the random table: that of wordllama.
const RANDOM_DIM: usize = 256;

/// `name` is what the folder was asked for by.
fn read_folder(folder: &Path, name: &str, updates: Option<&Path>, options: &LoadOptions) -> Result<Box<dyn Trainable>> {
    let modules = read_modules(folder)?;
    let path = |i: usize| -> PathBuf { folder.join(modules[i].path()) };
    let kinds: Vec<&str> = modules.iter().map(|m| m.kind()).collect();
    let normalize = kinds.last() == Some(&"Normalize");
    let end = kinds.len() - usize::from(normalize);
    let begin = match kinds[..end] {
        ["StaticEmbedding", ..] => 1,
        ["Transformer", "Pooling", ..] => 2,
        _ => end + 1,
    };
    if begin > end || kinds[begin..end].iter().any(|k| *k != "Dense") {
        let known = "StaticEmbedding, or Transformer and Pooling, then Dense layers, then at most one Normalize";
        return Err(Error::file(folder.join("modules.json"), None, format!("the modules are {kinds:?}; this version reads {known}")));
    }
    let dense: Vec<PathBuf> = (begin..end).map(path).collect();
    let normalize_inner = normalize && dense.is_empty();
    if (begin == 1 || !dense.is_empty() || options.adapter.is_some()) && (options.lora.is_some() || updates.is_some()) {
        return Err(no_lora(name));
    }
    let inner: Box<dyn Trainable> = if begin == 1 {
        let inner = StaticEncoder::from_files(&path(0).join("model.safetensors"), &path(0).join("tokenizer.json"), None)?;
        Box::new(inner.with_normalize(normalize_inner))
    } else {
        let pooling = Pooling::read(&path(1).join("config.json"))?;
        let source = if Path::new(name).is_dir() {
            std::path::absolute(name).map_err(Error::io("find", folder))?.to_string_lossy().into_owned()
        } else {
            name.to_owned()
        };
        let mut encoder = BertEncoder::read(&path(0), pooling)?.with_normalize(normalize_inner).with_source(&source);
        if let Some(precision) = options.precision {
            encoder = encoder.with_precision(precision);
        }
        if let Some(updates) = updates {
            encoder = encoder.with_lora_files(updates)?;
        }
        if let Some(folder) = &options.embedding_cache {
            encoder = encoder.with_cache(EmbeddingCache::new(folder));
        }
        if let Some(lora) = &options.lora {
            encoder = encoder.with_lora(lora, options.seed)?;
        }
        Box::new(encoder)
    };
    if dense.is_empty() { Ok(inner) } else { Ok(Box::new(Adapter::read(inner, &dense)?.with_normalize(normalize))) }
}

/// The registered table, or a random one for its tokenizer.
fn registered(name: &str, seed: u64) -> Result<Box<dyn Trainable>> {
    let files = registry::wordllama()?;
    Ok(Box::new(match name {
        "wordllama" => StaticEncoder::from_files(&files.weights, &files.tokenizer, Some(DEFAULT_MAX_TOKENS))?,
        _ => StaticEncoder::random(read_tokenizer(&files.tokenizer)?, RANDOM_DIM, Some(DEFAULT_MAX_TOKENS), seed)?,
    }))
}
