//! `foils train` and `foils embed` with a small BERT made here: all weights, low-rank updates, prompts. No network.

use foils::data::formats::vectors;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WIDTH: usize = 16;
const HIDDEN: usize = 24;
const POSITIONS: usize = 12;

fn foils(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foils")).args(arguments).output().unwrap()
}

fn succeeds(arguments: &[&str]) -> Output {
    let output = foils(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(str::to_owned);
        let words = (0..8).flat_map(|t| (0..4).flat_map(move |k| [format!("q{t}w{k}"), format!("d{t}w{k}")]));
        let vocabulary: Vec<String> = specials.into_iter().chain(words).collect();
        std::fs::create_dir_all(home.path("start/1_Pooling")).unwrap();
        let write = |name: &str, value: Value| std::fs::write(home.path("start").join(name), value.to_string()).unwrap();
        let module = |idx: usize, path: &str, kind: &str| json!({ "idx": idx, "name": idx.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
        write(
            "modules.json",
            json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Normalize", "Normalize")]),
        );
        write("1_Pooling/config.json", json!({ "word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": true }));
        write(
            "config.json",
            json!({
                "model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": HIDDEN,
                "vocab_size": vocabulary.len(), "max_position_embeddings": POSITIONS
            }),
        );
        let ids: Map<String, Value> = vocabulary.iter().enumerate().map(|(i, w)| (w.clone(), i.into())).collect();
        write(
            "tokenizer.json",
            json!({
                "version": "1.0", "added_tokens": [], "pre_tokenizer": { "type": "WhitespaceSplit" },
                "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2] },
                "model": { "type": "WordLevel", "vocab": ids, "unk_token": "[UNK]" }
            }),
        );
        write_weights(&home.path("start/model.safetensors"), vocabulary.len());
        let pair = |i: usize| {
            let (t, k) = (i % 8, (i / 8) % 4);
            json!({ "query": format!("q{t}w{k} q{t}w{}", (k + 1 + i / 32) % 4), "answer": format!("d{t}w{k} d{t}w{}", (k + 2 + i / 32) % 4) })
        };
        let lines = |range: std::ops::Range<usize>| range.map(|i| pair(i).to_string() + "\n").collect::<String>();
        std::fs::write(home.path("train.jsonl"), lines(0..64)).unwrap();
        std::fs::write(home.path("held-out.jsonl"), lines(64..96)).unwrap();
        std::fs::write(home.path("texts.txt"), "q0w0 q1w1\nd3w0\nq0w0 d3w0 q1w2 d1w1\n").unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn train(&self, output: &str, more: &[&str]) -> Value {
        let (train, held_out, start, output) =
            (self.text("train.jsonl"), self.text("held-out.jsonl"), self.text("start"), self.text(output));
        let fixed = ["train", &train, "--validation", &held_out, "--encoder", &start, "-o", &output, "--batch-size", "16", "--json"];
        serde_json::from_slice(&succeeds(&[&fixed, more].concat()).stdout).unwrap()
    }

    fn embed(&self, model: &str, more: &[&str]) -> foils::data::Embeddings {
        let (texts, model, out) = (self.text("texts.txt"), self.text(model), self.text("v.npy"));
        succeeds(&[&["embed", &texts, "--model", &model, "-o", &out, "--no-embedding-cache"], more].concat());
        vectors::read(&out).unwrap()
    }
}

/// A safetensors file: the header's length, the header, the numbers.
fn write_weights(path: &Path, vocabulary: usize) {
    let layer = "encoder.layer.0";
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![vocabulary, WIDTH]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![POSITIONS, WIDTH]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, WIDTH]),
    ];
    for part in ["self.query", "self.key", "self.value", "output.dense"] {
        shapes.push((format!("{layer}.attention.{part}.weight"), vec![WIDTH, WIDTH]));
        shapes.push((format!("{layer}.attention.{part}.bias"), vec![WIDTH]));
    }
    for (part, shape) in [("intermediate", [HIDDEN, WIDTH]), ("output", [WIDTH, HIDDEN])] {
        shapes.push((format!("{layer}.{part}.dense.weight"), shape.to_vec()));
        shapes.push((format!("{layer}.{part}.dense.bias"), vec![shape[0]]));
    }
    for norm in ["embeddings".to_owned(), format!("{layer}.attention.output"), format!("{layer}.output")] {
        shapes.extend(["weight", "bias"].map(|part| (format!("{norm}.LayerNorm.{part}"), vec![WIDTH])));
    }
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape) in shapes {
        let from = data.len();
        for i in 0..shape.iter().product::<usize>() {
            let wave = ((i * i + from) as f32 * 0.7).sin();
            let value = if name.ends_with("LayerNorm.weight") {
                1.0
            } else if shape.len() == 1 {
                0.0
            } else {
                0.3 * wave
            };
            data.extend(value.to_le_bytes());
        }
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [from, data.len()] }));
    }
    let header = Value::Object(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn all_weights_or_low_rank_updates_are_trained() {
    let home = Home::new();
    let start = home.embed("start", &[]);
    assert_eq!((start.rows(), start.dim()), (3, WIDTH));

    let summary = home.train("default", &["--epochs", "1"]);
    assert_eq!(summary["settings"]["learning_rate"], 3e-5, "what suits a transformer");
    let summary = home.train("model", &["--epochs", "8", "--learning-rate", "0.01"]);
    assert_eq!(summary["improved"], true, "{summary}");
    let trained = home.embed("model", &[]);
    assert_ne!(trained, start);
    assert!((0..3).all(|i| (trained.row(i).iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5), "still normalised");

    let lora = ["--epochs", "8", "--learning-rate", "0.02", "--lora", "2", "--lora-targets", "query,narrow", "--lora-alpha", "6"];
    assert_eq!(home.train("low-rank", &lora)["improved"], true);
    let merged = home.embed("low-rank", &[]);
    assert_ne!(merged, start);
    assert_eq!(home.embed("low-rank/lora", &[]), merged, "peft's files on the encoder that they are for");
    assert_eq!(json_file(&home.path("low-rank/lora/adapter_config.json"))["lora_alpha"], 6.0);
    assert!(!home.path("model/lora").exists());

    let (texts, start, out) = (home.text("train.jsonl"), home.text("start"), home.text("never"));
    for (more, word) in [(["--lora", "0"], "rank"), (["--lora-alpha", "3"], "--lora"), (["--lora-targets", "query"], "--lora")] {
        let output = foils(&[&["train", &texts, "--validation", &texts, "--encoder", &start, "-o", &out][..], &more].concat());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && message.contains(word), "{message}");
    }
    assert!(!home.path("never").exists());
}

#[test]
fn prompts_are_used_by_role_and_saved() {
    let home = Home::new();
    home.train("model", &["--epochs", "1", "--query-prompt", "q0w0 ", "--document-prompt", "d0w0 "]);
    let prompts = json!({ "query": "q0w0 ", "document": "d0w0 " });
    assert_eq!(json_file(&home.path("model/config_sentence_transformers.json"))["prompts"], prompts);
    let (plain, query, document) =
        (home.embed("model", &[]), home.embed("model", &["--role", "query"]), home.embed("model", &["--role", "document"]));
    assert!(plain != query && query != document && plain != document);
    assert_eq!(home.embed("model", &["--role", "query", "--query-prompt", "d0w0 "]), document);
    assert_eq!(home.embed("model", &["--role", "query", "--query-prompt", ""]), plain);
    // The same prompts written into the texts.
    let text = std::fs::read_to_string(home.path("texts.txt")).unwrap();
    let written: String = text.lines().map(|l| format!("d0w0 {l}\n")).collect();
    std::fs::write(home.path("texts.txt"), written).unwrap();
    assert_eq!(home.embed("model", &[]), document);
}

#[test]
fn vectors_are_kept_and_found_again() {
    let home = Home::new();
    let cache = home.path("cache");
    let embed = |more: &[&str]| {
        let (texts, model, out) = (home.text("texts.txt"), home.text("start"), home.text("v.npy"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_foils"));
        let output = command.args(["embed", &texts, "--model", &model, "-o", &out]).args(more).env("FOILS_CACHE", &cache).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(home.path("v.npy")).unwrap()
    };
    let segments = || {
        let models = std::fs::read_dir(cache.join("embeddings")).map(|m| m.flatten().collect::<Vec<_>>()).unwrap_or_default();
        let files = models.iter().flat_map(|model| std::fs::read_dir(model.path()).unwrap().flatten());
        files.filter(|file| file.path().extension().is_some_and(|e| e == "vectors")).count()
    };
    let plain = embed(&["--no-embedding-cache"]);
    assert_eq!(segments(), 0);
    assert_eq!((embed(&[]), segments()), (plain.clone(), 1));
    assert_eq!((embed(&[]), segments()), (plain, 1));
    std::fs::write(home.path("texts.txt"), "d3w0\nd4w0\n").unwrap();
    let more = embed(&["--no-embedding-cache"]);
    assert_eq!((embed(&[]), segments()), (more, 2));
    home.train("model", &["--epochs", "1"]);
    assert_eq!(segments(), 2, "training leaves no vectors");
}
