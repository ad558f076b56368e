//! Tests of all text encoders together, on a small tokenizer made here.

use super::*;
use burn::tensor::TensorData;
use std::path::PathBuf;
use tokenizers::Tokenizer;

const WORDS: [&str; 8] = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran"];
const DIM: usize = 5;

/// Words at white space; anything else is `[UNK]`, token 0.
pub(crate) fn tokenizer() -> Tokenizer {
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        std::iter::once("[UNK]").chain(WORDS).enumerate().map(|(i, w)| (w.to_owned(), i.into())).collect();
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" }
    });
    Tokenizer::from_bytes(json.to_string()).unwrap()
}

fn static_encoder() -> StaticEncoder {
    StaticEncoder::random(tokenizer(), DIM, Some(6), 7).unwrap()
}

fn rows(e: &Embeddings) -> Vec<f64> {
    e.data().iter().map(|&v| v.into()).collect()
}

fn largest_difference(a: &Embeddings, b: &Embeddings) -> f64 {
    assert_eq!((a.rows(), a.dim()), (b.rows(), b.dim()));
    rows(a).iter().zip(rows(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

const TEXTS: [&str; 4] = ["the cat sat on the mat", "a dog ran", "dog", "unseen words too the cat ran on and on"];

#[test]
fn a_static_vector_is_the_mean_of_the_token_rows_cut_at_the_limit() {
    let encoder = static_encoder();
    let got = encoder.embed(&TEXTS).unwrap();
    let table = encoder.snapshot();
    let table: &[f32] = bytemuck::cast_slice(&table);
    for (i, text) in TEXTS.iter().enumerate() {
        let ids: Vec<usize> = text.split(' ').map(|w| WORDS.iter().position(|v| *v == w).map_or(0, |p| p + 1)).take(6).collect();
        for c in 0..DIM {
            let mean = ids.iter().map(|&id| f64::from(table[id * DIM + c])).sum::<f64>() / ids.len() as f64;
            assert!((f64::from(got.row(i)[c]) - mean).abs() < 1e-6);
        }
    }
    let unit = static_encoder().with_normalize(true).embed(&TEXTS).unwrap();
    assert!(largest_difference(&unit, &got.normalized()) < 1e-7);
}

#[test]
fn what_was_saved_is_what_is_loaded_with_the_same_fingerprint() {
    let home = tempfile::tempdir().unwrap();
    let boxed = || Box::new(static_encoder());
    let mut models: Vec<(&str, Box<dyn Trainable>)> = vec![
        ("plain", boxed()),
        ("normalized", Box::new(static_encoder().with_normalize(true))),
        ("linear", Box::new(Adapter::new(boxed(), Head::Linear))),
        ("relu", Box::new(Adapter::new(boxed(), Head::Relu).with_normalize(true))),
        ("gelu", Box::new(Adapter::new(boxed(), Head::Gelu))),
    ];
    for (name, model) in &mut models {
        one_step(model.as_mut()); // so that nothing is symmetric or 0
        let folder = home.path().join(*name);
        model.save(&folder).unwrap();
        let loaded = load(folder.to_str().unwrap(), 0).unwrap();
        assert_eq!(loaded.fingerprint(), model.fingerprint(), "{name}");
        assert_eq!(loaded.embed(&TEXTS).unwrap(), model.embed(&TEXTS).unwrap(), "{name}");
    }
    let distinct: std::collections::HashSet<u128> = models.iter().map(|(_, m)| m.fingerprint()).collect();
    assert_eq!(distinct.len(), models.len());
}

fn one_step(model: &mut dyn Trainable) {
    model.prepare(&TEXTS).unwrap();
    let out = model.forward(&[0, 1, 3], &Device::flex().autodiff(), 0).unwrap();
    let weights: Vec<f32> = (0..3 * out.dims()[1]).map(|i| (i as f32 * 1.7).sin()).collect();
    let weights = Tensor::<2>::from_data(TensorData::new(weights, out.dims()), &Device::flex().autodiff());
    let mut gradients = (out * weights).sum().backward();
    model.step(&mut gradients, 0.05).unwrap();
}

#[test]
fn an_adapter_starts_as_its_inner_encoder() {
    let inner = static_encoder().embed(&TEXTS).unwrap();
    for head in [Head::Linear, Head::Relu, Head::Gelu] {
        let adapter = Adapter::new(Box::new(static_encoder()), head);
        assert!(largest_difference(&adapter.embed(&TEXTS).unwrap(), &inner) < 1e-6, "{head:?}");
    }
}

/// The step must follow −∂loss/∂weights: loss = Σ (vector − target)², by differences in the weights themselves.
#[test]
fn the_first_step_of_every_model_goes_down_the_numeric_gradient() {
    for which in 0..4 {
        let mut model: Box<dyn Trainable> = match which {
            0 => Box::new(static_encoder()),
            1 => Box::new(static_encoder().with_normalize(true)),
            2 => Box::new(Adapter::new(Box::new(static_encoder()), Head::Linear)),
            _ => Box::new(Adapter::new(Box::new(static_encoder()), Head::Gelu).with_normalize(true)),
        };
        model.prepare(&TEXTS).unwrap();
        let selected = [0, 1, 1, 2];
        let target = |i: usize| (i as f64 * 0.9).cos();
        let loss = |model: &dyn Trainable| -> f64 {
            rows(&model.embed_prepared(&selected).unwrap()).iter().enumerate().map(|(i, v)| (v - target(i)).powi(2)).sum()
        };
        let device = Device::flex().autodiff();
        // In two forwards, as anchors and candidates are.
        let a = model.forward(&selected[..1], &device, 0).unwrap();
        let b = model.forward(&selected[1..], &device, 0).unwrap();
        let out = Tensor::cat(vec![a, b], 0);
        let targets: Vec<f32> = (0..selected.len() * DIM).map(|i| target(i) as f32).collect();
        let targets = Tensor::<2>::from_data(TensorData::new(targets, [selected.len(), DIM]), &device);
        let mut gradients = (out - targets).square().sum().backward();
        let before: Vec<f32> = bytemuck::cast_slice(&model.snapshot()).to_vec();
        let mut numeric = Vec::new();
        for i in 0..before.len() {
            let at = |h: f32| {
                let mut moved = before.clone();
                moved[i] += h;
                // A restore would forget the gradient's parameters, so a twin is moved instead.
                let mut twin: Box<dyn Trainable> = match which {
                    0 => Box::new(static_encoder()),
                    1 => Box::new(static_encoder().with_normalize(true)),
                    2 => Box::new(Adapter::new(Box::new(static_encoder()), Head::Linear)),
                    _ => Box::new(Adapter::new(Box::new(static_encoder()), Head::Gelu).with_normalize(true)),
                };
                twin.prepare(&TEXTS).unwrap();
                twin.restore(bytemuck::cast_slice(&moved)).unwrap();
                loss(twin.as_ref())
            };
            numeric.push((at(4e-3) - at(-4e-3)) / 8e-3);
        }
        let rate = 1e-3;
        model.step(&mut gradients, rate).unwrap();
        let after: Vec<f32> = bytemuck::cast_slice(&model.snapshot()).to_vec();
        let decay = if which >= 2 { 0.01 } else { 0.0 };
        for (i, g) in numeric.iter().enumerate() {
            let moved = f64::from(after[i]) - f64::from(before[i]) * (1.0 - rate * decay);
            // Adam's first step is the learning rate against the gradient's sign.
            if g.abs() > 1e-2 {
                assert!((moved + rate * g.signum()).abs() < 2e-5, "model {which}, weight {i}: gradient {g}, moved {moved}");
            } else if *g == 0.0 {
                assert!(moved.abs() < 1e-7, "model {which}, weight {i} has no gradient but moved {moved}");
            }
        }
    }
}

#[test]
fn snapshots_come_back_and_foreign_ones_are_refused() {
    for mut model in [Box::new(static_encoder()) as Box<dyn Trainable>, Box::new(Adapter::new(Box::new(static_encoder()), Head::Relu))] {
        let (start, print) = (model.snapshot(), model.fingerprint());
        one_step(model.as_mut());
        assert_ne!(model.fingerprint(), print);
        model.restore(&start).unwrap();
        assert_eq!(model.fingerprint(), print);
        assert!(model.restore(&start[4..]).unwrap_err().to_string().contains("bytes"));
        let mut damaged = start.clone();
        damaged[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(model.restore(&damaged).is_err());
        assert_eq!(model.fingerprint(), print, "a refused snapshot changes nothing");
    }
}

#[test]
fn a_gradient_that_is_not_finite_is_an_error_and_changes_nothing() {
    for mut model in [Box::new(static_encoder()) as Box<dyn Trainable>, Box::new(Adapter::new(Box::new(static_encoder()), Head::Linear))] {
        model.prepare(&TEXTS).unwrap();
        let print = model.fingerprint();
        let out = model.forward(&[2], &Device::flex().autodiff(), 0).unwrap();
        let mut gradients = (out * f32::NAN).sum().backward();
        assert!(model.step(&mut gradients, 0.1).unwrap_err().to_string().contains("gradient"));
        assert_eq!(model.fingerprint(), print);
    }
}

#[test]
fn texts_without_tokens_and_unprepared_rows_are_named() {
    let mut model = static_encoder();
    let message = model.embed(&["cat", "  \n "]).unwrap_err().to_string();
    assert!(message.contains("text 2"), "{message}");
    assert!(model.prepare(&["", "cat"]).unwrap_err().to_string().contains("text 1"));
    model.prepare(&["cat"]).unwrap();
    assert!(model.forward(&[1], &Device::flex(), 0).unwrap_err().to_string().contains("was not prepared"));
    assert!(model.embed_prepared(&[1]).is_err());
}

#[test]
fn damaged_folders_say_which_file_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    let saved = |name: &str| -> PathBuf {
        let folder = home.path().join(name);
        Adapter::new(Box::new(static_encoder()), Head::Linear).save(&folder).unwrap();
        folder
    };
    let damage = |name: &str, file: &str, change: &dyn Fn(Vec<u8>) -> Option<Vec<u8>>| -> String {
        let folder = saved(name);
        let path = folder.join(file);
        match change(std::fs::read(&path).unwrap()) {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let message = load(folder.to_str().unwrap(), 0).err().expect("a damaged folder does not load").to_string();
        assert!(message.contains(file.rsplit('/').next().unwrap()), "{file}: {message}");
        message
    };
    let (table, words, dense) = ("0_StaticEmbedding/model.safetensors", "0_StaticEmbedding/tokenizer.json", "1_Dense/model.safetensors");
    damage("missing-table", table, &|_| None);
    damage("missing-tokenizer", words, &|_| None);
    damage("missing-modules", "modules.json", &|_| None);
    damage("missing-config", "1_Dense/config.json", &|_| None);
    assert!(damage("truncated", table, &|b| Some(b[..b.len() - 7].to_vec())).contains("truncated"));
    assert!(damage("text", table, &|_| Some(b"hello".to_vec())).contains("safetensors"));
    damage("json", words, &|_| Some(b"{}".to_vec()));
    let nan = |mut b: Vec<u8>| {
        let at = b.len() - 4;
        b[at..].copy_from_slice(&f32::NAN.to_le_bytes());
        Some(b)
    };
    assert!(damage("nan", table, &nan).contains("NaN"));
    assert!(damage("nan-dense", dense, &nan).contains("NaN"));
    let swap = |from: &'static str, to: &'static str| move |b: Vec<u8>| Some(String::from_utf8_lossy(&b).replace(from, to).into_bytes());
    assert!(damage("width", "1_Dense/config.json", &swap("\"in_features\": 5", "\"in_features\": 6")).contains("in_features"));
    assert!(damage("activation", "1_Dense/config.json", &swap("linear.Identity", "Secret")).contains("Secret"));
    assert!(damage("module", "modules.json", &swap("models.Dense", "models.LSTM")).contains("LSTM"));
    assert!(load("no-such-encoder", 0).err().unwrap().to_string().contains("no-such-encoder"));
}

#[test]
fn a_table_too_short_for_its_tokenizer_is_refused() {
    let message = StaticEncoder::new(vec![0.5; 3 * DIM], DIM, tokenizer(), None).err().unwrap().to_string();
    assert!(message.contains("3 rows"), "{message}");
}
