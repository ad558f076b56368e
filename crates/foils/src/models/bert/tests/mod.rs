//! A small random BERT in a folder, and what must hold of it.

mod files;
mod gradients;

use super::config::Shape;
use super::network::{WORDS, specs};
use super::*;
use crate::models::folder::write_tensors;
use crate::models::{Adapter, Head, Trainable, load};
use crate::{files as disk, seed};
use rand::RngExt;
use serde_json::{Value, json};
use std::path::PathBuf;

const VOCABULARY: [&str; 12] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on", "a", "mat", "dog", "ran"];

const TEXTS: [&str; 7] = [
    "the cat sat on the mat",
    "a dog ran",
    "dog",
    "unseen words too the cat ran on and on",
    "cat",
    "",
    "on a mat a cat sat a dog ran the mat",
];

/// A folder as sentence-transformers lays it out, to be changed before it is read.
pub(crate) struct Folder {
    home: tempfile::TempDir,
}

impl Folder {
    pub fn new() -> Self {
        let folder = Self { home: tempfile::tempdir().unwrap() };
        folder.write_json("modules.json", &json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")]));
        folder.write_json("config.json", &config());
        folder.write_json("sentence_bert_config.json", &json!({ "max_seq_length": 9, "do_lower_case": false }));
        folder.write_json("1_Pooling/config.json", &json!({ "word_embedding_dimension": 32, "pooling_mode_mean_tokens": true }));
        disk::write(folder.path("tokenizer.json"), tokenizer().to_string()).unwrap();
        folder.write_weights("", |name| name.to_owned());
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn load(&self) -> Result<Box<dyn Trainable>> {
        load(self.home.path().to_str().unwrap(), 0)
    }

    fn read(&self, pooling: Pooling) -> BertEncoder {
        BertEncoder::read(self.home.path(), pooling).unwrap()
    }

    fn write_json(&self, name: &str, value: &Value) {
        disk::write_json(self.path(name), value).unwrap();
    }

    fn change(&self, name: &str, key: &str, value: Value) {
        let mut whole: Value = disk::read_json(self.path(name)).unwrap();
        whole[key] = value;
        self.write_json(name, &whole);
    }

    /// Random weights, the same each time, under a prefix and changed names.
    fn write_weights(&self, prefix: &str, rename: impl Fn(&str) -> String) {
        let tensors = weights();
        let names: Vec<String> = tensors.iter().map(|(name, ..)| format!("{prefix}{}", rename(name))).collect();
        let all: Vec<_> =
            names.iter().zip(&tensors).map(|(n, (_, shape, values))| (n.as_str(), shape.as_slice(), values.as_slice())).collect();
        write_tensors(&self.path("model.safetensors"), &all).unwrap();
    }
}

fn module(idx: usize, path: &str, kind: &str) -> Value {
    json!({ "idx": idx, "name": idx.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") })
}

fn config() -> Value {
    json!({
        "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "vocab_size": VOCABULARY.len(), "max_position_embeddings": 16, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
    })
}

/// Words at white space, between `[CLS]` and `[SEP]`; cut at 5 and padded, both of which must not count.
fn tokenizer() -> Value {
    let vocabulary: serde_json::Map<String, Value> = VOCABULARY.iter().enumerate().map(|(i, w)| ((*w).to_owned(), i.into())).collect();
    let special = |id: u32| json!({ "id": id, "content": VOCABULARY[id as usize], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
    json!({
        "version": "1.0", "added_tokens": (0..4).map(special).collect::<Vec<_>>(), "normalizer": null, "decoder": null,
        "truncation": { "direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0 },
        "padding": { "strategy": { "Fixed": 5 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]" },
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": {
            "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]
        },
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" }
    })
}

/// Name, shape, values.
type Weights = (String, Vec<usize>, Vec<f32>);

fn weights() -> Vec<Weights> {
    let shape = Shape { vocabulary: VOCABULARY.len(), positions: 16, types: 2, width: 32, hidden: 48, layers: 2, heads: 4, epsilon: 1e-12 };
    let mut rng = seed::rng(5, 0);
    let mut tensor = |name: String, shape: Vec<usize>| {
        let (about, size) = if name.ends_with("LayerNorm.weight") { (1.0, 0.2) } else { (0.0, 0.4) };
        let values = (0..shape.iter().product()).map(|_| about + size * (rng.random::<f32>() - 0.5)).collect();
        (name, shape, values)
    };
    let mut tensors = vec![tensor(WORDS.to_owned(), vec![VOCABULARY.len(), 32])];
    for spec in specs(&shape) {
        let stored = if spec.transposed { spec.shape.iter().rev().copied().collect() } else { spec.shape };
        tensors.push(tensor(spec.name, stored));
    }
    tensors.push(tensor("pooler.dense.weight".into(), vec![32, 32]));
    tensors.push(tensor("pooler.dense.bias".into(), vec![32]));
    tensors
}

fn largest_difference(a: &Embeddings, b: &Embeddings) -> f32 {
    assert_eq!((a.rows(), a.dim()), (b.rows(), b.dim()));
    a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_text_has_the_same_vector_alone_and_among_others_in_chunks_of_any_size() {
    let folder = Folder::new();
    for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Max] {
        let encoder = folder.read(pooling);
        let together = encoder.embed(&TEXTS).unwrap();
        assert_eq!((together.rows(), together.dim()), (TEXTS.len(), 32));
        for (i, text) in TEXTS.iter().enumerate() {
            let alone = encoder.embed(&[text]).unwrap();
            assert!(largest_difference(&alone, &together.select(&[i as u32])) < 1e-6, "{text:?}");
        }
        for tokens in [1, 6, 17, 30] {
            let chunked = folder.read(pooling).with_chunk_tokens(tokens).unwrap().embed(&TEXTS).unwrap();
            assert!(largest_difference(&chunked, &together) < 1e-6, "{tokens} tokens");
        }
    }
    assert_eq!(folder.read(Pooling::Cls).embed(&[]).unwrap().rows(), 0);
    assert!(folder.read(Pooling::Cls).with_chunk_tokens(0).is_err());
    // The order of words counts, so positions are added; and so do words.
    let moved = folder.read(Pooling::Mean).embed(&["the dog", "dog the", "cat the"]).unwrap();
    assert!(largest_difference(&moved.select(&[0]), &moved.select(&[1])) > 1e-3);
    assert!(largest_difference(&moved.select(&[1]), &moved.select(&[2])) > 1e-3);
}

#[test]
fn chunks_hold_every_text_once_and_no_more_than_the_limit() {
    let folder = Folder::new();
    let encoder = folder.read(Pooling::Mean);
    let sequences = encoder.tokens.sequences(&TEXTS).unwrap();
    let rows = [6, 0, 0, 5, 2, 3, 1];
    for limit in [1, 9, 20, 1000] {
        let chunks = plan(&sequences, &rows, limit);
        let mut places: Vec<usize> = chunks.iter().flat_map(|c| c.places.clone()).collect();
        places.sort_unstable();
        assert_eq!(places, (0..rows.len()).collect::<Vec<_>>());
        for chunk in &chunks {
            assert!(chunk.lengths.tokens() <= limit || chunk.places.len() == 1);
            assert_eq!(chunk.ids(&sequences, &rows).len(), chunk.lengths.tokens());
        }
    }
    assert_eq!(plan(&sequences, &rows, 1000).len(), 1);
}

#[test]
fn texts_are_cut_where_the_folder_says_and_never_padded() {
    let folder = Folder::new();
    let encoder = folder.read(Pooling::Mean);
    assert_eq!(encoder.max_tokens(), 9, "not where the tokenizer would");
    let sequences = encoder.tokens.sequences(&TEXTS).unwrap();
    assert_eq!(sequences.get(6), [2, 7, 8, 9, 8, 5, 6, 8, 3]);
    assert_eq!((sequences.get(2), sequences.get(5)), (&[2, 10, 3][..], &[2, 3][..]));
    // Without that file, as new versions of sentence-transformers leave it: where the tokenizer's own file says.
    std::fs::remove_file(folder.path("sentence_bert_config.json")).unwrap();
    assert_eq!(folder.read(Pooling::Mean).max_tokens(), 16, "positions");
    folder.write_json("tokenizer_config.json", &json!({ "model_max_length": 7 }));
    assert_eq!(folder.read(Pooling::Mean).max_tokens(), 7);
    folder.write_json("tokenizer_config.json", &json!({ "model_max_length": 1e30 }));
    assert_eq!(folder.read(Pooling::Mean).max_tokens(), 16);
    folder.write_json("sentence_bert_config.json", &json!({ "max_seq_length": 9, "do_lower_case": true }));
    let lower = folder.read(Pooling::Mean);
    assert_eq!(lower.embed(&["THE Cat"]).unwrap(), lower.embed(&["the cat"]).unwrap());
    assert_ne!(encoder.embed(&["THE Cat"]).unwrap(), encoder.embed(&["the cat"]).unwrap());
}

#[test]
fn poolings_are_what_they_are_called() {
    let device = Device::flex().autodiff();
    let tokens = || {
        let values = vec![1f32, -1.0, 3.0, -2.0, 0.5, 4.0, 2.0, 2.0, 8.0, -3.0];
        Tensor::<2>::from_data(TensorData::new(values, [5, 2]), &device).require_grad()
    };
    let lengths = crate::nn::Lengths::new([2, 3]);
    for (pooling, expected, gradient) in [
        (Pooling::Mean, [2.0, -1.5, 3.5, 1.0], [0.5, 1.0, 0.5, 1.0, 1.0, 4.0 / 3.0, 1.0, 4.0 / 3.0, 1.0, 4.0 / 3.0]),
        (Pooling::Cls, [1.0, -1.0, 0.5, 4.0], [1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]),
        (Pooling::Max, [3.0, -1.0, 8.0, 4.0], [0.0, 2.0, 1.0, 0.0, 0.0, 4.0, 0.0, 0.0, 3.0, 0.0]),
    ] {
        let x = tokens();
        let pooled = chunks::pool(pooling, x.clone(), &lengths);
        let above = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], &device);
        let gradients = (pooled.clone() * above).sum().backward();
        let close = |a: Vec<f32>, b: &[f64]| a.iter().zip(b).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6);
        assert!(close(host(pooled), &expected), "{pooling:?}");
        assert!(close(host(x.grad(&gradients).unwrap()), &gradient), "{pooling:?}");
    }
}

#[test]
fn an_adapter_goes_on_top() {
    let folder = Folder::new();
    let inner = folder.read(Pooling::Mean).with_normalize(true);
    let expected = inner.embed(&TEXTS).unwrap();
    let adapter = Adapter::new(Box::new(inner), Head::Linear).with_normalize(true);
    assert!(largest_difference(&adapter.embed(&TEXTS).unwrap(), &expected) < 1e-6);
}
