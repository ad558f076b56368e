//! Reading, refusing and writing.

use super::*;
use crate::models::folder::Tensors;
use crate::models::{LoadOptions, Role, load_with};
use safetensors::tensor::{Dtype, TensorView};

#[test]
fn what_was_saved_is_what_is_loaded() {
    let home = tempfile::tempdir().unwrap();
    let folder = Folder::new();
    folder.write_json("special_tokens_map.json", &json!({ "unk_token": "[UNK]" }));
    for (name, pooling, normalize) in [("mean", Pooling::Mean, true), ("cls", Pooling::Cls, false), ("max", Pooling::Max, false)] {
        let mut model = folder.read(pooling).with_normalize(normalize);
        gradients::one_step(&mut model, 1e-3);
        let saved = home.path().join(name);
        model.save(&saved).unwrap();
        let loaded = load(saved.to_str().unwrap(), 0).unwrap();
        assert_eq!(loaded.fingerprint(), model.fingerprint(), "{name}");
        assert_eq!(loaded.embed(&TEXTS).unwrap(), model.embed(&TEXTS).unwrap(), "{name}");
        let transformer = saved.join("0_Transformer");
        let names = Tensors::open(&transformer.join("model.safetensors")).unwrap().names().unwrap();
        assert_eq!(names.len(), weights().len(), "the pooler is kept");
        assert!(transformer.join("special_tokens_map.json").is_file());
        assert_eq!(disk::read_json::<Value>(transformer.join("tokenizer_config.json")).unwrap()["pad_token"], "[PAD]");
        assert_eq!(saved.join("2_Normalize").is_dir(), normalize);
    }
    let with_dense = home.path().join("dense");
    let adapter = Adapter::new(Box::new(folder.read(Pooling::Mean)), Head::Gelu);
    adapter.save(&with_dense).unwrap();
    assert_eq!(load(with_dense.to_str().unwrap(), 0).unwrap().fingerprint(), adapter.fingerprint());
}

#[test]
fn other_names_and_types_of_the_same_weights_are_read() {
    let folder = Folder::new();
    let plain = folder.load().unwrap().fingerprint();
    folder.write_weights("bert.", |name| name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"));
    assert_eq!(folder.load().unwrap().fingerprint(), plain);
    folder.write_json("1_Pooling/config.json", &json!({ "embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": true }));
    assert_eq!(folder.load().unwrap().fingerprint(), plain, "the form of sentence-transformers 6");

    let half: Vec<_> = weights().into_iter().map(|(n, s, v)| (n, s, v.into_iter().map(half::bf16::from_f32).collect::<Vec<_>>())).collect();
    let view = |shape: &Vec<usize>, values: &'_ Vec<half::bf16>| {
        TensorView::new(Dtype::BF16, shape.clone(), bytemuck::cast_slice::<_, u8>(values).to_vec().leak()).unwrap()
    };
    let views: Vec<_> = half.iter().map(|(n, s, v)| (n.as_str(), view(s, v))).collect();
    disk::write(folder.path("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    folder.change("config.json", "torch_dtype", json!("bfloat16"));
    let rounded = folder.load().unwrap();
    let difference = largest_difference(&rounded.embed(&TEXTS).unwrap(), &Folder::new().load().unwrap().embed(&TEXTS).unwrap());
    assert!(difference > 0.0 && difference < 0.1, "{difference}");
    let home = tempfile::tempdir().unwrap();
    rounded.save(&home.path().join("model")).unwrap();
    let config: Value = disk::read_json(home.path().join("model/0_Transformer/config.json")).unwrap();
    assert_eq!(config["torch_dtype"], "float32", "else Python would round the trained weights");
}

#[test]
fn another_precision_is_another_model_only_where_it_computes_differently() {
    let with = |precision| {
        let options = LoadOptions { precision: Some(precision), ..LoadOptions::default() };
        load_with(Folder::new().home.path().to_str().unwrap(), &options).unwrap().fingerprint()
    };
    let same = Precision::Medium.here() == Precision::Highest;
    assert_eq!(with(Precision::Highest) == with(Precision::Medium), same);
}

fn refusal(change: impl Fn(&Folder)) -> String {
    let folder = Folder::new();
    change(&folder);
    folder.load().err().expect("refused").to_string()
}

#[test]
fn what_is_no_bert_is_refused_and_the_file_named() {
    for (key, value, expected) in [
        ("model_type", json!("roberta"), "\"roberta\""),
        ("hidden_act", json!("gelu_new"), "\"gelu_new\""),
        ("position_embedding_type", json!("relative_key"), "\"relative_key\""),
        ("is_decoder", json!(true), "is_decoder"),
        ("num_attention_heads", json!(5), "no multiple of num_attention_heads 5"),
        ("num_hidden_layers", json!(0), "num_hidden_layers is 0"),
        ("hidden_size", Value::Null, "hidden_size"),
        ("layer_norm_eps", json!(0.0), "layer_norm_eps"),
    ] {
        let message = refusal(|f| f.change("config.json", key, value.clone()));
        assert!(message.contains("config.json") && (message.contains(expected) || key == "hidden_size"), "{key}: {message}");
    }
    // Sizes that the weights do not have: the tensor is named.
    for (key, value, tensor) in [
        ("hidden_size", json!(64), "word_embeddings"),
        ("intermediate_size", json!(64), "intermediate.dense"),
        ("num_hidden_layers", json!(3), "layer.2"),
        ("max_position_embeddings", json!(512), "position_embeddings"),
    ] {
        let message = refusal(|f| f.change("config.json", key, value.clone()));
        assert!(message.contains("model.safetensors") && message.contains(tensor), "{key}: {message}");
    }
    let message = refusal(|f| f.change("config.json", "vocab_size", json!(11)));
    assert!(message.contains("tokenizer.json") && message.contains("\"ran\""), "{message}");
}

#[test]
fn missing_and_damaged_files_are_named() {
    for file in ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"] {
        let message = refusal(|f| std::fs::remove_file(f.path(file)).unwrap());
        assert!(message.contains(file), "{file}: {message}");
        let message = refusal(|f| std::fs::write(f.path(file), "{").unwrap());
        assert!(message.contains(file), "{file}: {message}");
    }
    assert!(refusal(|f| std::fs::remove_file(f.path("tokenizer.json")).unwrap()).contains("save_pretrained"));
    let damaged = |change: &dyn Fn(&mut Vec<Weights>)| {
        refusal(|f| {
            let mut tensors = weights();
            change(&mut tensors);
            let all: Vec<_> = tensors.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice())).collect();
            write_tensors(&f.path("model.safetensors"), &all).unwrap();
        })
    };
    let message = damaged(&|t| t.retain(|(name, ..)| name != "encoder.layer.1.output.LayerNorm.bias"));
    assert!(message.contains("\"encoder.layer.1.output.LayerNorm.bias\""), "{message}");
    let message = damaged(&|t| t[7].2[3] = f32::NAN);
    assert!(message.contains("NaN") && message.contains("position 3"), "{message}");
    assert!(damaged(&|t| t.retain(|(name, ..)| name != WORDS)).contains("this is no BERT"));
    let cut = refusal(|f| {
        let bytes = std::fs::read(f.path("model.safetensors")).unwrap();
        std::fs::write(f.path("model.safetensors"), &bytes[..bytes.len() - 9]).unwrap();
    });
    assert!(cut.contains("truncated"), "{cut}");
}

#[test]
fn other_poolings_modules_and_limits_are_refused() {
    let pooling = |config: Value| refusal(|f| f.write_json("1_Pooling/config.json", &config));
    assert!(pooling(json!({ "pooling_mode": "lasttoken" })).contains("\"lasttoken\""));
    assert!(pooling(json!({ "pooling_mode": ["mean", "max"] })).contains("several"));
    assert!(pooling(json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true })).contains("several"));
    assert!(pooling(json!({ "pooling_mode_mean_tokens": false })).contains("no pooling"));
    assert!(pooling(json!({ "pooling_mode": "mean", "include_prompt": false })).contains("include_prompt"));
    let modules = |kinds: &[&str]| {
        refusal(|f| f.write_json("modules.json", &kinds.iter().enumerate().map(|(i, k)| module(i, "", k)).collect::<Vec<_>>().into()))
    };
    assert!(modules(&["Transformer"]).contains("Pooling"));
    assert!(modules(&["Normalize"]).contains("Normalize"));
    assert!(modules(&["Transformer", "Pooling", "LSTM"]).contains("LSTM"));
    for (limit, expected) in [(0, "max_seq_length is 0"), (2, "nothing is left")] {
        let message = refusal(|f| f.change("sentence_bert_config.json", "max_seq_length", json!(limit)));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn low_rank_updates_are_saved_beside_and_read_back_as_updates() {
    let (folder, home) = (Folder::new(), tempfile::tempdir().unwrap());
    let base = folder.path("").to_str().unwrap().to_owned();
    let lora = LoraSettings { rank: 2, alpha: 3.0, targets: vec![LoraTarget::Narrow, LoraTarget::Key] };
    let options = LoadOptions { lora: Some(lora.clone()), seed: 4, ..LoadOptions::default() };
    let mut model = load_with(&base, &options).unwrap();
    gradients::one_step(model.as_mut(), 1e-2);
    let saved = home.path().join("model");
    model.save(&saved).unwrap();
    let updates = saved.join("lora");
    let name = updates.to_str().unwrap();
    let read = load(name, 0).unwrap();
    assert_eq!(read.fingerprint(), model.fingerprint());
    assert_eq!(read.snapshot(), model.snapshot(), "they are still updates");
    assert_eq!(load(saved.to_str().unwrap(), 0).unwrap().fingerprint(), model.fingerprint(), "and merged");
    let config: Value = disk::read_json(updates.join("adapter_config.json")).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(2), &json!(3.0)));

    // On top of them new ones: those before are merged, and no folder on the disk has what the new ones are for.
    let again = load_with(name, &options).unwrap();
    assert_eq!(again.fingerprint(), model.fingerprint());
    again.save(&home.path().join("again")).unwrap();
    assert!(!home.path().join("again/lora").exists());

    let refused = |file: &str, from: &str, to: &str| {
        let path = updates.join(file);
        let text = std::fs::read(&path).unwrap();
        let changed: Vec<u8> = String::from_utf8_lossy(&text).replace(from, to).into_bytes();
        std::fs::write(&path, changed).unwrap();
        let message = load(name, 0).err().expect("refused").to_string();
        std::fs::write(&path, text).unwrap();
        assert!(message.contains(file) || message.contains("adapter_model"), "{message}");
        message
    };
    assert!(refused("adapter_config.json", "\"LORA\"", "\"IA3\"").contains("IA3"));
    assert!(refused("adapter_config.json", "\"r\": 2", "\"r\": 3").contains("shape"));
    assert!(refused("adapter_config.json", "\"none\"", "\"all\"").contains("bias"));
    let empty: [(&str, &[usize], &[f32]); 0] = [];
    write_tensors(&updates.join("adapter_model.safetensors"), &empty).unwrap();
    assert!(load(name, 0).err().unwrap().to_string().contains("0 tensors"));
    let table = load_with("wordllama", &options).err().unwrap().to_string();
    assert!(table.contains("LoRA"), "{table}");
    let both = LoadOptions { adapter: Some(Head::Linear), ..options };
    assert!(load_with(&base, &both).is_err());
}

#[test]
fn prompts_come_from_the_folder_or_the_options_and_go_back() {
    let (folder, home) = (Folder::new(), tempfile::tempdir().unwrap());
    let plain = folder.load().unwrap();
    assert!(plain.prompts().is_none());
    let prompts = json!({ "prompts": { "query": "the ", "passage": "a ", "other": "on " }, "default_prompt_name": null });
    folder.write_json("config_sentence_transformers.json", &prompts);
    let model = folder.load().unwrap();
    assert_ne!(model.fingerprint(), plain.fingerprint());
    let direct = |text| plain.embed(&[text]).unwrap();
    assert_eq!(model.embed(&["cat"]).unwrap(), direct("cat"), "no role, no prompt");
    assert_eq!(model.embed_as(Role::Query, &["cat"]).unwrap(), direct("the cat"));
    assert_eq!(model.embed_as(Role::Document, &["cat"]).unwrap(), direct("a cat"));

    let base = folder.path("").to_str().unwrap().to_owned();
    let options = LoadOptions { query_prompt: Some("on ".into()), document_prompt: Some(String::new()), ..LoadOptions::default() };
    let changed = load_with(&base, &options).unwrap();
    assert_eq!(changed.embed_as(Role::Query, &["cat"]).unwrap(), direct("on cat"));
    assert_eq!(changed.embed_as(Role::Document, &["cat"]).unwrap(), direct("cat"));
    changed.save(&home.path().join("model")).unwrap();
    let config: Value = disk::read_json(home.path().join("model/config_sentence_transformers.json")).unwrap();
    assert_eq!(config["prompts"], json!({ "query": "on ", "other": "on " }));
    assert_eq!(load(home.path().join("model").to_str().unwrap(), 0).unwrap().fingerprint(), changed.fingerprint());

    folder.change("config_sentence_transformers.json", "default_prompt_name", json!("other"));
    assert_eq!(folder.load().unwrap().embed(&["cat"]).unwrap(), direct("on cat"));
    folder.change("config_sentence_transformers.json", "default_prompt_name", json!("none"));
    assert!(folder.load().err().unwrap().to_string().contains("default_prompt_name"));
}
