//! `foils score` and `foils eval` as people run them: files in, numbers out, exit code 2 and a clear word on bad input.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Exit code, standard output and standard error of `foils ARGS` run in `folder`.
fn foils(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_foils")).args(args).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

fn fails(folder: &Path, args: &[&str], part: &str) {
    let (code, _, said) = foils(folder, args);
    assert_eq!(code, 2, "{args:?}: {said}");
    assert!(said.contains(part), "{args:?}: {said:?} does not say {part:?}");
}

/// A sentence-transformers folder with the words w0 … w7, each along its own axis: the cosine of two texts is that of their word counts.
fn write_encoder(folder: &Path) {
    const WORDS: usize = 8;
    std::fs::create_dir_all(folder.join("0")).unwrap();
    let module = r#"[{"idx":0,"name":"0","path":"0","type":"sentence_transformers.models.StaticEmbedding"}]"#;
    std::fs::write(folder.join("modules.json"), module).unwrap();
    let vocabulary: Vec<String> = (0..WORDS).map(|i| format!("\"w{i}\":{i}")).collect();
    let tokenizer = format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
            "pre_tokenizer":{{"type":"Whitespace"}},"post_processor":null,"decoder":null,
            "model":{{"type":"WordLevel","vocab":{{{}}},"unk_token":"w0"}}}}"#,
        vocabulary.join(",")
    );
    std::fs::write(folder.join("0/tokenizer.json"), tokenizer).unwrap();
    let bytes: Vec<u8> = (0..WORDS * WORDS).flat_map(|i| f32::from(u8::from(i / WORDS == i % WORDS)).to_le_bytes()).collect();
    let header = format!(r#"{{"embedding.weight":{{"dtype":"F32","shape":[{WORDS},{WORDS}],"data_offsets":[0,{}]}}}}"#, bytes.len());
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes].concat();
    std::fs::write(folder.join("0/model.safetensors"), file).unwrap();
}

fn lines(query: &str, positive: &str, negatives: &[&str]) -> String {
    serde_json::json!({ "query": query, "pos": [positive], "neg": negatives }).to_string() + "\n"
}

#[test]
fn sets_are_scored_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_encoder(&at.join("encoder"));
    // Cosines with the query w0: positive 0.8; half-way 0.4 (all but); far 0; unsafe 0.894.
    let (positive, half, far, above) = ("w0 w0 w0 w0 w1 w1 w1", "w0 w0 w2 w2 w2 w2", "w5", "w0 w0 w3");
    std::fs::write(at.join("pairs.jsonl"), lines("w0", positive, &[]) + &lines("w4", "w4 w4 w6", &[])).unwrap();
    for (name, negative) in [("half", half), ("far", far), ("above", above)] {
        std::fs::write(at.join(format!("{name}.jsonl")), lines("w0", positive, &[negative])).unwrap();
    }
    let sets = ["--set", "far=far.jsonl", "--set", "above=above.jsonl", "--set", "half=half.jsonl"];
    let all = [&["score", "--encoder", "encoder", "--pairs", "pairs.jsonl"][..], &sets].concat();
    let (code, printed, said) = foils(at, &[&all[..], &["--json", "-o", "out/score.json"]].concat());
    assert_eq!(code, 0, "{said}");
    let report: Value = serde_json::from_str(&printed).unwrap();
    let written: Value = serde_json::from_slice(&std::fs::read(at.join("out/score.json")).unwrap()).unwrap();
    assert_eq!(report, written);
    let set = |i: usize| &report["sets"][i];
    assert_eq!((set(0)["name"].as_str(), set(0)["queries_without_negatives"].as_u64()), (Some("half"), Some(1)));
    let (h, s) = (2.0 / 20f64.sqrt(), 0.8 - 2.0 / 20f64.sqrt());
    assert!((set(0)["eci"]["mean"].as_f64().unwrap() - 2f64.ln() * 2.0 * h * s / (h + s)).abs() < 1e-6, "{}", set(0));
    assert_eq!((set(1)["eci"]["mean"].as_f64(), set(2)["eci"]["mean"].as_f64()), (Some(0.0), Some(0.0)));
    let shown = |text: &str| report["sets"].as_array().unwrap().iter().any(|s| s["unsafe_pairs"][0]["negative"] == text);
    assert!(shown(above) && !shown(half));

    let (code, table, _) = foils(at, &all);
    assert_eq!(code, 0);
    for word in ["half", "hardness", "InfoNCE", "at or above their positive", above, "nDCG@10"] {
        assert!(table.contains(word), "{word} is missing in:\n{table}");
    }

    let score = |set: &'static str| ["score", "--encoder", "encoder", "--set", set];
    fails(at, &score("half.jsonl"), "NAME=FILE");
    fails(at, &score("a=missing.jsonl"), "missing.jsonl");
    fails(at, &score("a=pairs.jsonl"), "pairs.jsonl: the set a has no negatives");
    fails(at, &["score", "--encoder", "nowhere", "--set", "a=half.jsonl"], "nowhere");
    fails(at, &[&score("a=half.jsonl")[..], &["--set", "a=far.jsonl"]].concat(), "two sets are called a");
    std::fs::write(at.join("stranger.jsonl"), lines("w7", "w7 w1", &["w2"])).unwrap();
    fails(at, &[&score("a=stranger.jsonl")[..], &["--pairs", "pairs.jsonl"]].concat(), "\"w7\", which is not among the pairs");
    std::fs::write(at.join("same.jsonl"), lines("w0", positive, &[positive])).unwrap();
    fails(at, &score("a=same.jsonl"), "same.jsonl:1: ");
    // A negative that is the positive of the same anchor in another line.
    std::fs::write(at.join("sibling.jsonl"), lines("w0", positive, &[half]) + &lines("w0", half, &[far])).unwrap();
    fails(at, &score("a=sibling.jsonl"), "is one of the query's positives");
}

#[test]
fn an_encoder_is_evaluated_and_its_run_gives_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_encoder(&at.join("encoder"));
    let pairs = [("w0", "w0 w1"), ("w1", "w2 w2 w1"), ("w3", "w4"), ("w5 w6", "w6 w5 w7")].map(|(q, p)| lines(q, p, &[])).concat();
    std::fs::write(at.join("pairs.jsonl"), pairs).unwrap();
    let eval = ["eval", "--model", "encoder", "pairs.jsonl", "--k", "1,3", "--run", "out.run", "--baseline", "encoder"];
    let (code, printed, said) = foils(at, &[&eval[..], &["--json"]].concat());
    assert_eq!(code, 0, "{said}");
    let with_model: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((with_model["queries"].as_u64(), with_model["documents"].as_u64()), (Some(4), Some(4)));
    // Query 1 has its positive second, query 2 third (all tie at 0).
    let mrr = |e: &Value, k: u64| {
        let metrics = e["metrics"].as_array().unwrap().iter();
        metrics.filter(|m| m["metric"] == "mrr" && m["k"] == k).map(|m| m["after"]["mean"].as_f64().unwrap()).next().unwrap()
    };
    assert_eq!(mrr(&with_model, 1), 0.5);
    assert!((mrr(&with_model, 3) - (1.0 + 0.5 + 1.0 / 3.0 + 1.0) / 4.0).abs() < 1e-12);
    assert_eq!(with_model["metrics"][0]["difference"]["high"].as_f64(), Some(0.0));
    assert_eq!(std::fs::read(at.join("out.run")).unwrap(), std::fs::read(at.join("out.before.run")).unwrap());

    std::fs::write(at.join("qrels"), "q0 0 d0 1\nq1 0 d1 1\nq2 0 d2 1\nq3 0 d3 1\n").unwrap();
    let of_run = ["eval", "--run", "out.run", "--qrels", "qrels", "--k", "1,3"];
    let (code, printed, said) = foils(at, &[&of_run[..], &["--json"]].concat());
    assert_eq!(code, 0, "{said}");
    let from_run: Value = serde_json::from_str(&printed).unwrap();
    for (a, b) in from_run["metrics"].as_array().unwrap().iter().zip(with_model["metrics"].as_array().unwrap()) {
        assert_eq!(a["after"], b["after"]);
    }
    let (code, table, _) = foils(at, &eval);
    assert!(code == 0 && table.contains("ndcg") && table.contains("4 queries over 4 documents"), "{table}");

    std::fs::write(at.join("other"), "1 0 d0 1\n").unwrap();
    fails(at, &["eval", "--run", "out.run", "--qrels", "other"], "no query of the run is judged");
    fails(at, &["eval", "--run", "out.run"], "give either --model and DATA, or --run and --qrels");
    fails(at, &["eval", "--model", "encoder"], "give either");
    fails(at, &["eval", "--model", "encoder", "pairs.jsonl", "--k", "0"], "at least 1");
    fails(at, &["eval", "--model", "encoder", "missing.jsonl"], "missing.jsonl");
    fails(at, &["eval", "--model", "encoder", "pairs.jsonl", "--draws", "0"], "at least 1 draw");
}
