//! What the tests of several commands share.

use foils::data::{Embeddings, formats::vectors};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The pair `i`: two words of one topic on either side.
pub fn pair(i: usize) -> Value {
    let (t, k) = (i % 20, (i / 20) % 4);
    json!({ "query": format!("q{t}w{k} q{t}w{}", (k + 1 + i / 80) % 4), "answer": format!("d{t}w{k} d{t}w{}", (k + 2 + i / 80) % 4) })
}

/// A folder with a small static encoder and pairs made here: no network.
pub struct Home(tempfile::TempDir);

impl Home {
    /// A folder with a static encoder `start`, training pairs and held-out pairs of 20 topics.
    pub fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.encoder("start", 16, |i| ((i * i) as f32 * 0.7).sin());
        let lines = |range: std::ops::Range<usize>| range.map(|i| pair(i).to_string() + "\n").collect::<String>();
        std::fs::write(home.0.path().join("train.jsonl"), lines(0..160)).unwrap();
        std::fs::write(home.0.path().join("held-out.jsonl"), lines(160..240)).unwrap();
        home
    }

    /// A static encoder of the words of 20 topics; `number` gives the numbers of its table, row by row.
    pub fn encoder(&self, name: &str, width: usize, number: impl Fn(usize) -> f32) {
        let words: Vec<String> = (0..20).flat_map(|t| (0..4).flat_map(move |k| [format!("q{t}w{k}"), format!("d{t}w{k}")])).collect();
        let module = self.path(name).join("0_StaticEmbedding");
        std::fs::create_dir_all(&module).unwrap();
        let vocabulary: serde_json::Map<_, _> = words.iter().enumerate().map(|(i, w)| (w.clone(), i.into())).collect();
        let tokenizer = json!({
            "version": "1.0", "added_tokens": [], "pre_tokenizer": { "type": "WhitespaceSplit" },
            "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "q0w0" }
        });
        std::fs::write(module.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let table = (0..words.len() * width).map(number).collect();
        vectors::write(module.join("model.safetensors"), &Embeddings::new(width, table).unwrap()).unwrap();
        let modules =
            json!([{ "idx": 0, "name": "0", "path": "0_StaticEmbedding", "type": "sentence_transformers.models.StaticEmbedding" }]);
        std::fs::write(self.path(name).join("modules.json"), modules.to_string()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The arguments of `foils train`.
    pub fn train(&self, output: &str, more: &[&str]) -> Vec<String> {
        let fixed = [
            "train",
            &self.text("train.jsonl"),
            "--validation",
            &self.text("held-out.jsonl"),
            "--encoder",
            &self.text("start"),
            "-o",
            &self.text(output),
        ]
        .map(str::to_owned);
        fixed.into_iter().chain(more.iter().map(|m| (*m).to_owned())).collect()
    }
}

pub fn refs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}
