//! Prompts: what a model wants to see before a query or a document (`query: `, `passage: `).

use super::{Encoder, FolderWriter, Trainable};
use crate::data::Embeddings;
use crate::{Error, Result, files};
use burn::tensor::{Device, Gradients, Tensor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// The part that a text plays in a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// What is asked.
    Query,
    /// What is found.
    Document,
}

impl Role {
    /// The names of its prompt, as sentence-transformers looks for them.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Query => &["query"],
            Self::Document => &["document", "passage", "corpus"],
        }
    }
}

/// Prompts by name, as `config_sentence_transformers.json` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prompts {
    prompts: BTreeMap<String, String>,
    default_prompt_name: Option<String>,
}

impl Prompts {
    /// Those of a model's folder; none when it has no such file.
    ///
    /// # Errors
    /// When the file is damaged or its default prompt is not among its prompts.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config_sentence_transformers.json");
        let prompts: Self = if path.is_file() { files::read_json(&path)? } else { Self::default() };
        match &prompts.default_prompt_name {
            Some(name) if !prompts.prompts.contains_key(name) => {
                let known: Vec<_> = prompts.prompts.keys().collect();
                Err(Error::file(&path, None, format!("default_prompt_name is {name:?}, but the prompts are {known:?}")))
            }
            _ => Ok(prompts),
        }
    }

    /// The same, with another prompt for a role; an empty one takes it away.
    pub fn with(mut self, role: Role, prompt: &str) -> Self {
        role.names().iter().for_each(|name| drop(self.prompts.remove(*name)));
        if !prompt.is_empty() {
            self.prompts.insert(role.names()[0].to_owned(), prompt.to_owned());
        }
        if self.default_prompt_name.as_ref().is_some_and(|name| !self.prompts.contains_key(name)) {
            self.default_prompt_name = None;
        }
        self
    }

    /// The prompt of a role, or else the default; empty for none.
    pub fn of(&self, role: Role) -> &str {
        role.names().iter().find_map(|name| self.prompts.get(*name)).map_or(self.without_role(), String::as_str)
    }

    /// What comes before a text whose role is not known; empty for none.
    pub fn without_role(&self) -> &str {
        self.default_prompt_name.as_ref().and_then(|name| self.prompts.get(name)).map_or("", String::as_str)
    }

    /// Whether there is nothing to put before any text.
    pub fn are_empty(&self) -> bool {
        self.prompts.values().all(String::is_empty)
    }

    /// All of them, by name.
    pub fn by_name(&self) -> &BTreeMap<String, String> {
        &self.prompts
    }

    /// The name of the default.
    pub fn default_name(&self) -> Option<&str> {
        self.default_prompt_name.as_deref()
    }
}

/// Each text with a prompt before it.
pub(crate) fn prompted<'a>(prompt: &str, texts: &[&'a str]) -> Vec<Cow<'a, str>> {
    texts.iter().map(|&text| if prompt.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(format!("{prompt}{text}")) }).collect()
}

/// A model with prompts. [`Encoder::embed_as`] puts them before the texts, [`Encoder::embed`] the default one; prepared texts are
/// taken as they are.
pub struct Prompted {
    inner: Box<dyn Trainable>,
    prompts: Prompts,
}

impl Prompted {
    /// `inner` must have no prompts of its own.
    pub fn new(inner: Box<dyn Trainable>, prompts: Prompts) -> Self {
        Self { inner, prompts }
    }

    fn embed_behind(&self, prompt: &str, texts: &[&str]) -> Result<Embeddings> {
        let texts = prompted(prompt, texts);
        self.inner.embed(&texts.iter().map(AsRef::as_ref).collect::<Vec<_>>())
    }
}

impl Encoder for Prompted {
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    fn embed(&self, texts: &[&str]) -> Result<Embeddings> {
        self.embed_behind(self.prompts.without_role(), texts)
    }

    fn embed_as(&self, role: Role, texts: &[&str]) -> Result<Embeddings> {
        self.embed_behind(self.prompts.of(role), texts)
    }

    fn prompts(&self) -> Option<&Prompts> {
        Some(&self.prompts)
    }

    fn to_device(&mut self, device: &Device) {
        self.inner.to_device(device);
    }

    fn forget_texts(&self) {
        self.inner.forget_texts();
    }

    fn fingerprint(&self) -> u128 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&self.inner.fingerprint().to_le_bytes());
        for prompt in [self.prompts.of(Role::Query), self.prompts.of(Role::Document), self.prompts.without_role()] {
            hash.update(prompt.as_bytes());
            hash.update(&[0]);
        }
        hash.digest128()
    }

    fn write_modules(&self, folder: &mut FolderWriter) -> Result<()> {
        self.inner.write_modules(folder)?;
        folder.set_prompts(self.prompts.clone());
        Ok(())
    }
}

impl Trainable for Prompted {
    fn prepare(&mut self, texts: &[&str]) -> Result<()> {
        self.inner.prepare(texts)
    }

    fn forward(&mut self, rows: &[u32], device: &Device, seed: u64) -> Result<Tensor<2>> {
        self.inner.forward(rows, device, seed)
    }

    fn embed_prepared(&self, rows: &[u32]) -> Result<Embeddings> {
        self.inner.embed_prepared(rows)
    }

    fn step(&mut self, gradients: &mut Gradients, learning_rate: f64) -> Result<()> {
        self.inner.step(gradients, learning_rate)
    }

    fn learning_rate(&self) -> f64 {
        self.inner.learning_rate()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.inner.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        self.inner.restore(snapshot)
    }

    fn training_state(&self) -> Vec<u8> {
        self.inner.training_state()
    }

    fn set_training_state(&mut self, state: &[u8]) -> Result<()> {
        self.inner.set_training_state(state)
    }
}
