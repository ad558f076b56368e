//! What the JSON files of a transformer's folder say, and what of it can be computed here.

use crate::{Error, Result, files};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The sizes of a BERT.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    pub vocabulary: usize,
    pub positions: usize,
    pub types: usize,
    pub width: usize,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub epsilon: f64,
}

/// `config.json` as transformers writes it; what is missing has that library's default.
#[derive(Deserialize)]
struct ConfigFile {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
}

fn two() -> usize {
    2
}

fn epsilon() -> f64 {
    1e-12
}

fn gelu() -> String {
    "gelu".into()
}

fn absolute() -> String {
    "absolute".into()
}

impl Shape {
    /// Reads `config.json`: the sizes, and the whole as it stands there.
    ///
    /// # Errors
    /// Names the file when it is missing or describes a model that this version does not compute.
    pub fn read(path: &Path) -> Result<(Self, Value)> {
        let whole: Value = files::read_json(path)?;
        let wrong = |message: String| Error::file(path, None, message);
        let model_type = whole.get("model_type").and_then(Value::as_str).unwrap_or("missing").to_owned();
        if model_type != "bert" {
            let what = "this version computes models of type \"bert\" alone (MiniLM, BGE, E5 and GTE in English, and the like): choose one of those";
            return Err(wrong(format!("model_type is {model_type:?}; {what}")));
        }
        let config: ConfigFile = serde_json::from_value(whole.clone()).map_err(|e| wrong(e.to_string()))?;
        if config.hidden_act != "gelu" {
            return Err(wrong(format!(
                "hidden_act is {:?}; only \"gelu\" (with the exact error function) is computed here",
                config.hidden_act
            )));
        }
        if config.position_embedding_type != "absolute" {
            return Err(wrong(format!("position_embedding_type is {:?}; only \"absolute\" is known here", config.position_embedding_type)));
        }
        if config.is_decoder {
            return Err(wrong("is_decoder is true: a model that looks only backwards is not computed here".into()));
        }
        let shape = Self {
            vocabulary: config.vocab_size,
            positions: config.max_position_embeddings,
            types: config.type_vocab_size,
            width: config.hidden_size,
            hidden: config.intermediate_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            epsilon: config.layer_norm_eps,
        };
        let sizes = [
            ("vocab_size", shape.vocabulary),
            ("max_position_embeddings", shape.positions),
            ("type_vocab_size", shape.types),
            ("hidden_size", shape.width),
            ("intermediate_size", shape.hidden),
            ("num_hidden_layers", shape.layers),
            ("num_attention_heads", shape.heads),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(wrong(format!("{name} is 0")));
        }
        if !shape.width.is_multiple_of(shape.heads) {
            return Err(wrong(format!("hidden_size {} is no multiple of num_attention_heads {}", shape.width, shape.heads)));
        }
        if !(shape.epsilon > 0.0 && shape.epsilon.is_finite()) {
            return Err(wrong(format!("layer_norm_eps is {}; a finite number above 0 is needed", shape.epsilon)));
        }
        Ok((shape, whole))
    }
}

/// How the vectors of tokens become one of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The mean of the tokens, special ones included.
    Mean,
    /// The first token.
    Cls,
    /// The largest value of each column.
    Max,
}

impl Pooling {
    /// Name in new files, key in old ones.
    const NAMES: [(Self, &'static str, &'static str); 3] = [
        (Self::Mean, "mean", "pooling_mode_mean_tokens"),
        (Self::Cls, "cls", "pooling_mode_cls_token"),
        (Self::Max, "max", "pooling_mode_max_tokens"),
    ];

    /// Its name in sentence-transformers.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(p, ..)| *p == self).expect("all are listed").1
    }

    /// Reads a `Pooling` module's `config.json`: one `pooling_mode`, or the flags of versions before 6.
    ///
    /// # Errors
    /// Names the file when it asks for another pooling, several at once, or none.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let config: serde_json::Map<String, Value> = files::read_json(path)?;
        let wrong = |message: String| Error::file(path, None, message);
        if config.get("include_prompt") == Some(&Value::Bool(false)) {
            return Err(wrong("include_prompt is false: leaving the prompt's tokens out of the pooling is not supported".into()));
        }
        let named = match config.get("pooling_mode") {
            Some(Value::String(name)) => vec![name.clone()],
            Some(Value::Array(names)) => names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        let flags = config.iter().filter(|(key, on)| key.starts_with("pooling_mode_") && **on == Value::Bool(true));
        let modes: Vec<String> = named.into_iter().chain(flags.map(|(key, _)| key.clone())).collect();
        let known = |mode: &String| Self::NAMES.iter().find(|(_, name, flag)| mode == name || mode == flag).map(|(p, ..)| *p);
        match modes.as_slice() {
            [mode] => known(mode).ok_or_else(|| wrong(format!("the pooling {mode:?} is not known here; mean, cls and max are"))),
            [] => Err(wrong("names no pooling; mean, cls or max is needed".into())),
            several => Err(wrong(format!("joins several poolings ({}); one of mean, cls and max is supported", several.join(", ")))),
        }
    }

    /// The module's `config.json`, with the flags that every version of sentence-transformers reads.
    pub(super) fn config(self, width: usize) -> Value {
        let mut config = serde_json::json!({ "word_embedding_dimension": width, "include_prompt": true });
        for (pooling, _, flag) in Self::NAMES {
            config[flag] = (pooling == self).into();
        }
        for flag in ["mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"] {
            config[format!("pooling_mode_{flag}")] = false.into();
        }
        config
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerConfig {
    /// Transformers writes 1e30 for "no limit".
    model_max_length: Option<f64>,
}

/// Where texts are cut, and whether they are lower-cased first: from `sentence_bert_config.json`, else `tokenizer_config.json`, and
/// never beyond the positions that the model has.
pub(super) fn read_limits(folder: &Path, positions: usize) -> Result<(usize, bool)> {
    let path = folder.join("sentence_bert_config.json");
    let sentence: SentenceConfig = if path.is_file() { files::read_json(&path)? } else { SentenceConfig::default() };
    if sentence.max_seq_length == Some(0) {
        return Err(Error::file(&path, None, "max_seq_length is 0"));
    }
    let limit = match sentence.max_seq_length {
        Some(limit) => limit,
        None => {
            let path = folder.join("tokenizer_config.json");
            let tokenizer: TokenizerConfig = if path.is_file() { files::read_json(&path)? } else { TokenizerConfig::default() };
            // A float that is too large becomes the largest integer.
            tokenizer.model_max_length.map_or(positions, |limit| limit as usize)
        }
    };
    Ok((limit.min(positions), sentence.do_lower_case))
}
