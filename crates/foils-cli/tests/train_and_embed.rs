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

/// An encoder that knows the topics and nothing else: a direction for each.
fn teacher(home: &Home) -> String {
    home.encoder("teacher", 20, |i| if i / 20 / 8 == i % 20 { 1.0 } else { 0.0 });
    home.text("teacher")
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
    fails(&refs(&home.train("model", &["--loss", "moco"])), &["no loss `moco`", "`infonce`", "--negatives queue:N"]);
    fails(&refs(&home.train("model", &["--loss", "sup-con"])), &["no loss `sup-con`", "needs classes"]);
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

fn trained(arguments: &[String]) -> Value {
    let output = foils(&[&refs(arguments)[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_teacher_of_another_width_turns_candidates_away_or_is_learned_from() {
    let home = Home::new();
    let teacher = teacher(&home);
    // 160 pairs in one batch, eight of each topic: the seven others are no negatives.
    let filtered = trained(&home.train("filtered", &["--teacher", &teacher, "--teacher-margin", "0.05"]));
    let seen = &filtered["negatives"];
    assert_eq!(
        (seen["masked_by_teacher"].as_f64(), seen["in_batch"].as_f64(), seen["masked"].as_f64()),
        (Some(7.0), Some(152.0), Some(0.0))
    );
    assert!(filtered["seconds"]["teacher"].as_f64().is_some());
    let toml = std::fs::read_to_string(home.path("filtered/train.toml")).unwrap();
    assert!(toml.contains("teacher_margin = 0.05") && !toml.contains("teacher_margin_kind"), "{toml}");
    // With the share of a similarity of 1 the margin is the same, and the settings can be read again.
    let relative = ["--config", &home.text("filtered/train.toml"), "--teacher-margin-kind", "relative"];
    let again = trained(&home.train("again", &relative));
    assert_eq!(again["steps"], filtered["steps"]);
    let said = foils(&refs(&home.train("again", &relative)));
    assert!(String::from_utf8_lossy(&said.stdout).contains("the teacher turned 7.00 more away"));

    for loss in ["margin-mse", "kl"] {
        let learned = trained(&home.train("learned", &["--teacher", &teacher, "--loss", loss, "--epochs", "10", "--batch-size", "32"]));
        assert_eq!((&learned["improved"], &learned["negatives"]["in_batch"]), (&json!(true), &json!(31.0)), "{learned}");
        let loss = |step: &Value| step["loss"].as_f64().unwrap();
        let steps = learned["steps"].as_array().unwrap();
        assert!(loss(&steps[steps.len() - 1]) < loss(&steps[0]), "{steps:?}");
    }
    let queue = ["--negatives", "in-batch,queue:64", "--weights", "cancel-top-k:bm25", "--batch-size", "32", "--epochs", "2"];
    let said = String::from_utf8(foils(&refs(&home.train("queue", &queue))).stdout).unwrap();
    assert!(said.contains(" of earlier batches; ") && said.contains("the weights turned 1.00 more away"), "{said}");
    let plain = trained(&home.train("plain", &[]));
    assert_eq!(plain["negatives"]["masked_by_teacher"], 0.0);
    assert!(plain["seconds"].get("teacher").is_none() && plain["settings"].get("teacher").is_none());
}

#[test]
fn scores_in_the_file_are_a_teacher_too() {
    let home = Home::new();
    let lines = std::fs::read_to_string(home.path("train.jsonl")).unwrap();
    let pairs: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    // As a cross-encoder might score them, the second negative above the positive.
    let scored = |i: usize| {
        let negatives = [7, 8].map(|k| pairs[(i + k) % pairs.len()]["answer"].clone());
        json!({ "query": pairs[i]["query"], "pos": [pairs[i]["answer"]], "neg": negatives, "pos_scores": [4.0], "neg_scores": [-3.5, 5.0] })
    };
    let write = |change: &dyn Fn(usize, &mut Value)| {
        let mut rows: Vec<Value> = (0..pairs.len()).map(scored).collect();
        rows.iter_mut().enumerate().for_each(|(i, row)| change(i, row));
        std::fs::write(home.path("train.jsonl"), rows.iter().map(|r| r.to_string() + "\n").collect::<String>()).unwrap();
    };
    write(&|_, _| {});
    let learn = ["--teacher", "file", "--loss", "margin-mse", "--teacher-temperature", "10", "--epochs", "5", "--batch-size", "32"];
    let learned = trained(&home.train("learned", &learn));
    let seen = &learned["negatives"];
    assert_eq!((&seen["in_batch"], &seen["own"], &seen["others"]), (&json!(0.0), &json!(2.0), &json!(0.0)));
    let filtered = trained(&home.train("filtered", &["--teacher", "file"]));
    assert_eq!(filtered["negatives"]["masked_by_teacher"], 1.0);

    write(&|i, row| {
        if i == 2 {
            drop(row.as_object_mut().unwrap().remove("neg_scores"))
        }
    });
    fails(&refs(&home.train("never", &learn)), &["training example 3 has 0 negative_scores for 2 negatives", "--shape lists"]);
    write(&|i, row| {
        if i == 4 {
            row["neg_scores"][0] = json!(1e99)
        }
    });
    fails(&refs(&home.train("never", &learn)), &["train.jsonl:5", "inf is not a finite number"]);
    write(&|_, _| {});
    fails(&refs(&home.train("never", &[&learn[..], &["--negatives-per-anchor", "0"]].concat())), &["nothing to learn"]);
    assert!(!home.path("never").exists() && !home.path("never-logs").exists());
}

#[test]
fn a_teacher_that_cannot_be_used_is_named() {
    let home = Home::new();
    let teacher = teacher(&home);
    for (more, words) in [
        (&["--loss", "kl"][..], &["DistillKL", "name a teacher"][..]),
        (&["--teacher", "nobody"], &["the teacher: there is no encoder \"nobody\""]),
        (&["--teacher-margin", "0.1"], &["teacher_margin is 0.1", "no teacher"]),
        (&["--teacher", &teacher, "--teacher-margin", "nan"], &["teacher_margin is NaN"]),
        (&["--teacher", &teacher, "--teacher-margin-kind", "both"], &["both", "absolute, relative"]),
        (&["--teacher", &teacher, "--loss", "kl", "--teacher-temperature", "0"], &["teacher_temperature is 0"]),
        (&["--teacher", &teacher, "--loss", "kl", "--teacher-margin", "0"], &["teacher_margin is 0", "turns no candidate away"]),
        (&["--teacher", &teacher, "--teacher-temperature", "2"], &["does not learn"]),
    ] {
        fails(&refs(&home.train("never", more)), words);
    }
    assert!(!home.path("never").exists());
}

#[test]
fn what_a_teacher_judged_when_mining_can_be_learned_from() {
    let home = Home::new();
    let teacher = teacher(&home);
    let (train, mined, start, account) = (home.text("train.jsonl"), home.text("mined.jsonl"), home.text("start"), home.text("mine.json"));
    let mine = |more: &[&str]| foils(&[&["mine", &train, "-o", &mined, "--num-negatives", "3", "--summary", &account], more].concat());
    for candidates in [&["--encoder", &start, "--candidates", "dense"][..], &["--encoder", "none", "--candidates", "random"]] {
        let output = mine(&[candidates, &["--teacher", &teacher]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = std::fs::read_to_string(&mined).unwrap();
        let rows: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        // The same topic is 1 and another 0, and at most 95 % of the positive's may stay.
        assert!(rows.iter().all(|r| r["pos_scores"] == json!([1.0]) && r["neg_scores"] == json!([0.0, 0.0, 0.0])), "{lines}");
        let summary = json_file(Path::new(&account));
        assert_eq!((&summary["scored_by"], &summary["settings"]["teacher"]), (&json!("teacher"), &json!(teacher)));
        assert!(summary["removed"].as_array().unwrap().iter().any(|r| r["filter"] == "relative_margin" && r["count"].as_u64() > Some(0)));
    }
    let mut learn = home.train("model", &["--teacher", "file", "--loss", "margin-mse", "--batch-size", "32"]);
    learn[1] = mined.clone();
    assert_eq!(trained(&learn)["negatives"]["own"], 3.0);
    let nobody = mine(&["--encoder", &start, "--teacher", "nobody"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("the teacher: there is no encoder"));
}

#[test]
fn tuning_takes_a_teacher_too() {
    let home = Home::new();
    let teacher = teacher(&home);
    let pairs = ["train.jsonl", "held-out.jsonl"].map(|name| std::fs::read_to_string(home.path(name)).unwrap()).concat();
    std::fs::write(home.path("pairs.jsonl"), pairs).unwrap();
    let tune = |out: &str, more: &[&str]| {
        let (pairs, start, out) = (home.text("pairs.jsonl"), home.text("start"), home.text(out));
        foils(&[&["tune", &pairs, "--encoder", &start, "--out", &out, "--num-negatives", "2", "--json"], more].concat())
    };
    let output = tune("run", &["--teacher", &teacher, "--teacher-margin", "0.05"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(json_file(&home.path("run/train.json"))["negatives"]["masked_by_teacher"].as_f64() > Some(5.0));
    assert_eq!(json_file(&home.path("run/mine.json"))["scored_by"], "teacher");
    assert!(std::fs::read_to_string(home.path("run/report.html")).unwrap().contains("Masked: too near by the teacher"));
    let again = tune("again", &["--config", &home.text("run/tune.toml")]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let steps = |run: &str| json_file(&home.path(run).join("train.json"))["steps"].clone();
    assert_eq!(steps("run"), steps("again"));

    let refused = tune("never", &["--teacher", "file", "--loss", "kl"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("train in-batch only"), "{refused:?}");
}

/// Every loss with every weighting and a queue, or a reason why not.
#[test]
fn losses_weights_and_queues_combine() {
    let home = Home::new();
    let teacher = teacher(&home);
    let by_encoder = format!("soft-infonce:queries:{teacher}");
    let (mut trainings, mut refusals) = (0, 0);
    for loss in foils::losses::NAMES {
        for weights in ["soft-infonce:bm25", &by_encoder, "cancel-top-k:bm25"] {
            let name = format!("{loss}-{trainings}-{refusals}");
            let mut options = vec!["--loss", loss, "--weights", weights, "--epochs", "1", "--batch-size", "16"];
            options.extend(["--negatives", if loss == "barlow-twins" { "in-batch" } else { "queue:40" }]);
            if ["weighted-infonce", "bce-infonce", "kl-infonce", "margin-mse", "kl"].contains(&loss) {
                options.extend(["--teacher", if weights.ends_with("bm25") { &teacher } else { "bm25" }]);
            }
            options.push("--json");
            let output = foils(&refs(&home.train(&name, &options)));
            if output.status.success() {
                let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
                assert!(printed["negatives"]["queued"].as_f64().unwrap() > 10.0, "{name}: {}", printed["negatives"]);
                assert_eq!(printed["settings"]["weights"], weights);
                trainings += 1;
            } else {
                let message = String::from_utf8(output.stderr).unwrap();
                assert!(output.status.code() == Some(2) && message.contains("no meaning for"), "{name}: {message}");
                assert!(!home.path(&name).exists());
                refusals += 1;
            }
        }
    }
    assert_eq!((trainings, refusals), (8 * 3 + 9, 9 * 2 + 2 * 3));

    let refused = |options: &[&str], with: &[&str]| fails(&refs(&home.train("refused", options)), with);
    refused(&["--loss", "barlow-twins", "--negatives", "in-batch,queue:40"], &["a queue has no meaning"]);
    refused(&["--loss", "alignment-uniformity", "--teacher", &teacher], &["no meaning", "turned away"]);
    refused(&["--weights", "bm25"], &["soft-infonce:bm25"]);
    refused(&["--weights", "soft-infonce:file"], &["own candidates"]);
    refused(&["--weights", "soft-infonce:no-such-encoder"], &["weights", "no-such-encoder"]);
    refused(&["--negatives", "queue:0"], &["queue:4096"]);
    refused(&["--loss", "hinge"], &["hinge", "soft-infonce"]);
    refused(&["--loss-setting", "alpha"], &["alpha=0.1"]);
    refused(&["--loss-setting", "alpah=0.1"], &["alpah"]);
    refused(&["--loss-setting", "temperature=0.1"], &["temperature"]);
    refused(&["--loss", "hard-contrastive", "--loss-setting", "alpha=7"], &["alpha = 7"]);
    refused(&["--weights", "soft-infonce:bm25", "--loss-setting", "weights.min_weight=0"], &["min_weight = 0"]);
    assert!(!home.path("refused").exists());
}
