//! A BERT as the modules of a sentence-transformers folder.

use super::BertEncoder;
use super::network::{Spec, WORDS, collect, specs};
use crate::models::folder::{FolderWriter, write_tensors};
use crate::models::host::transpose;
use crate::models::static_encoder::write_normalize;
use crate::{Error, Result, files};
use serde_json::{Value, json};
use std::path::Path;

/// What a model came with and is not computed, but belongs into the folder of the changed model.
pub(super) struct Kept {
    config: Value,
    pooler: Vec<(Spec, Vec<f32>)>,
    /// Name and content.
    files: Vec<(&'static str, Vec<u8>)>,
}

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const FILES: [&str; 3] = [TOKENIZER_CONFIG, "special_tokens_map.json", "vocab.txt"];

impl Kept {
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn read(folder: &Path, config: Value, pooler: Vec<(Spec, Vec<f32>)>) -> Result<Self> {
        let mut kept = Vec::new();
        for name in FILES {
            let path = folder.join(name);
            if path.is_file() {
                kept.push((name, std::fs::read(&path).map_err(Error::io("read", &path))?));
            }
        }
        Ok(Self { config, pooler, files: kept })
    }
}

impl BertEncoder {
    /// Transformer, Pooling and, if the model has it, Normalize. Low-rank updates are merged into the weights, and
    /// written beside as peft has them.
    pub(super) fn write_transformer(&self, folder: &mut FolderWriter) -> Result<()> {
        let module = folder.add_module("Transformer")?;
        let mut config = self.kept.config.clone();
        for key in ["dtype", "torch_dtype"] {
            if config.get(key).is_some() {
                config[key] = "float32".into();
            }
        }
        files::write_json(module.join("config.json"), &config)?;
        let limits = json!({ "max_seq_length": self.max_tokens(), "do_lower_case": false });
        files::write_json(module.join("sentence_bert_config.json"), &limits)?;
        self.write_weights(&module.join("model.safetensors"))?;
        files::write(module.join("tokenizer.json"), self.tokens.json())?;
        for (name, content) in &self.kept.files {
            files::write(module.join(name), content)?;
        }
        if self.kept.files.iter().all(|(name, _)| *name != TOKENIZER_CONFIG) {
            files::write_json(module.join(TOKENIZER_CONFIG), &self.tokenizer_config())?;
        }
        if let (Some(lora), Some(base)) = (&self.parameters.lora, &self.source) {
            self.write_lora(lora, base, &folder.add_folder("lora")?)?;
        }
        let module = folder.add_module("Pooling")?;
        files::write_json(module.join("config.json"), &self.pooling.config(self.shape.width))?;
        if self.normalize { write_normalize(folder) } else { Ok(()) }
    }

    fn write_weights(&self, path: &Path) -> Result<()> {
        let numbers = collect(&self.merged());
        let mut rest = numbers.as_slice();
        let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        for spec in specs(&self.shape) {
            let (mine, behind) = rest.split_at(spec.shape.iter().product());
            rest = behind;
            tensors.push(match spec.shape.as_slice() {
                &[from, to] if spec.transposed => (spec.name, vec![to, from], transpose(mine, from, to)),
                _ => (spec.name, spec.shape, mine.to_vec()),
            });
        }
        tensors.extend(self.kept.pooler.iter().map(|(spec, values)| (spec.name.clone(), spec.shape.clone(), values.clone())));
        let words: (&str, &[usize], &[f32]) = (WORDS, &[self.shape.vocabulary, self.shape.width], &self.words);
        let all: Vec<_> = std::iter::once(words).chain(tensors.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice()))).collect();
        write_tensors(path, &all)
    }

    /// What transformers must know beside `tokenizer.json`, for a model that came without.
    fn tokenizer_config(&self) -> Value {
        let mut config = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": self.max_tokens() });
        for (key, token) in
            [("unk_token", "[UNK]"), ("sep_token", "[SEP]"), ("pad_token", "[PAD]"), ("cls_token", "[CLS]"), ("mask_token", "[MASK]")]
        {
            if self.tokens.knows(token) {
                config[key] = token.into();
            }
        }
        config
    }
}
