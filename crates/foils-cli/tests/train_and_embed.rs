//! `foils train` and `foils embed` as a user runs them, on a small model made here: no network.

mod common;

use common::{Home, refs};
use foils::data::formats::vectors;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

fn foils(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foils")).args(arguments).output().unwrap()
}

fn fails(arguments: &[&str], with: &[&str]) {
    let output = foils(arguments);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(with.iter().all(|w| message.contains(w)), "{with:?} not all in: {message}");
    assert!(!message.contains("panicked"), "{message}");
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_trained_model_is_a_folder_that_embeds() {
    let home = Home::new();
    std::fs::write(home.path("settings.toml"), "epochs = 9\nbatch_size = 16\nlearning_rate = 0.05\nseed = 5\n").unwrap();
    let arguments = home.train("model", &["--config", &home.text("settings.toml"), "--epochs", "8", "--json"]);
    let output = foils(&refs(&arguments));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, json_file(&home.path("model/train.json")));
    assert_eq!((&printed["settings"]["epochs"], &printed["settings"]["seed"]), (&json!(8), &json!(5)), "an option wins over the file");
    assert_eq!(printed["improved"], true, "{printed}");
    assert!(printed["best_ndcg"].as_f64() > printed["untuned_ndcg"].as_f64());
    assert!(std::fs::read_to_string(home.path("model/train.toml")).unwrap().contains("epochs = 8"));
    assert_eq!(std::fs::read_dir(home.path("model-logs")).unwrap().count(), 1);

    // For people: the same run says what happened, to the same weights.
    let again = foils(&refs(&home.train("again", &["--config", &home.text("settings.toml"), "--epochs", "8"])));
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(said.contains("each anchor saw") && said.contains("validation nDCG@10"), "{said}");
    let weights = |name: &str| std::fs::read(home.path(name).join("0_StaticEmbedding/model.safetensors")).unwrap();
    assert_eq!(weights("model"), weights("again"));
    assert_ne!(weights("model"), weights("start"));

    std::fs::write(home.path("texts.txt"), "q0w0 q1w1\nd3w0\n").unwrap();
    std::fs::write(home.path("texts.jsonl"), "{\"body\": \"q0w0 q1w1\"}\n{\"body\": \"d3w0\"}\n").unwrap();
    let embed = |input: &str, more: &[&str]| {
        let (input, model, out) = (home.text(input), home.text("model"), home.text("v.npy"));
        let arguments = [&["embed", &input, "--model", &model, "-o", &out], more].concat();
        let output = foils(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        vectors::read(&out).unwrap()
    };
    let plain = embed("texts.txt", &[]);
    assert_eq!((plain.rows(), plain.dim()), (2, 16));
    assert_eq!(embed("texts.jsonl", &["--field", "body"]), plain);
    assert_eq!(embed("texts.txt", &["--normalize"]), plain.clone().normalized());
}

#[test]
fn an_adapter_leaves_the_encoder_as_it_is() {
    let home = Home::new();
    let output = foils(&refs(&home.train("model", &["--adapter", "gelu", "--batch-size", "16"])));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let modules = json_file(&home.path("model/modules.json"));
    assert_eq!(json_file(&home.path("model/train.json"))["settings"]["learning_rate"], 0.001, "not the table's default");
    let kinds: Vec<&str> = modules.as_array().unwrap().iter().map(|m| m["type"].as_str().unwrap().rsplit('.').next().unwrap()).collect();
    assert_eq!(kinds, ["StaticEmbedding", "Dense", "Dense"]);
}

#[test]
fn bad_input_is_named_and_nothing_is_written() {
    let home = Home::new();
    std::fs::write(home.path("bad.toml"), "epochs = 3\nepoch = 4\n").unwrap();
    fails(&refs(&home.train("model", &["--config", &home.text("bad.toml")])), &["bad.toml:2", "epoch"]);
    fails(&refs(&home.train("model", &["--loss", "hinge"])), &["hinge", "mnrl"]);
    fails(&refs(&home.train("model", &["--batch-size", "1"])), &["batch_size is 1"]);
    fails(&refs(&home.train("model", &["--device", "gpu"])), &["--device", "\"gpu\"", "cuda:N"]);
    if !cfg!(feature = "cuda") {
        fails(&refs(&home.train("model", &["--device", "cuda:1"])), &["no CUDA support", "--features cuda"]);
    }
    let mut unknown = home.train("model", &[]);
    unknown[5] = "nothing".to_owned();
    fails(&refs(&unknown), &["nothing", "wordllama"]);
    std::fs::create_dir(home.path("diary")).unwrap();
    std::fs::write(home.path("diary/monday"), "rain").unwrap();
    fails(&refs(&home.train("diary", &[])), &["diary", "not a saved model"]);
    assert!(!home.path("model").exists() && !home.path("model-logs").exists());

    std::fs::write(home.path("texts.jsonl"), "{\"text\": \"q0w0\"}\n{\"body\": \"q0w0\"}\n").unwrap();
    std::fs::write(home.path("gap.txt"), "q0w0\n\nq1w1\n").unwrap();
    let (model, out) = (home.text("start"), home.text("v.npy"));
    fails(&["embed", &home.text("texts.jsonl"), "--model", &model, "-o", &out], &["texts.jsonl:2", "\"text\"", "body"]);
    fails(&["embed", &home.text("gap.txt"), "--model", &model, "-o", &out], &["gap.txt:2", "empty"]);
    std::fs::write(home.path("good.txt"), "q0w0\n").unwrap();
    fails(&["embed", &home.text("good.txt"), "--model", &home.text("diary"), "-o", &out], &["diary"]);
    fails(&["embed", &home.text("good.txt"), "--model", &model, "-o", &home.text("v.csv")], &["v.csv", ".npy"]);
    assert!(!home.path("v.npy").exists());
}
