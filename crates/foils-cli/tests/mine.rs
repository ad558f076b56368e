//! `foils mine` as people run it: without an encoder, so that nothing has to be fetched.

use std::path::Path;
use std::process::{Command, Output};

fn foils(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foils")).current_dir(folder).args(arguments).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Four pairs; the second positive is a copy of the first but for a comma, the third shares words with both.
fn pairs(folder: &Path) {
    let lines = [
        r#"{"query": "how do foxes hunt mice", "positive": "foxes hunt mice by listening under the snow"}"#,
        r#"{"query": "fox hunting mice", "positive": "Foxes hunt mice, by listening under the snow"}"#,
        r#"{"query": "how do owls hunt", "positive": "owls hunt mice at night"}"#,
        r#"{"query": "what do bears eat", "positive": "bears eat berries and fish"}"#,
    ];
    std::fs::write(folder.join("pairs.jsonl"), lines.join("\n")).unwrap();
}

#[test]
fn negatives_come_out_with_scores_and_an_account() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path());
    let run = ["mine", "pairs.jsonl", "-o", "mined.jsonl", "--encoder", "none", "--candidates", "bm25", "--num-negatives", "1"];
    let out = foils(folder.path(), &[&run[..], &["--summary", "mine.json", "--json"]].concat());
    assert!(out.status.success(), "{}", text(&out.stderr));
    let printed: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let written: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("mine.json")).unwrap()).unwrap();
    assert_eq!(printed, written);
    assert_eq!((&written["queries"], &written["equal_to_positive"]["nearly"]), (&4.into(), &2.into()));
    assert!(text(&out.stderr).contains("warning: no encoder was given"));

    let mined = std::fs::read_to_string(folder.path().join("mined.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = mined.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 4);
    // Not the other pair's copy of the positive, which ranks first.
    assert_eq!(rows[0]["neg"], serde_json::json!(["owls hunt mice at night"]));
    assert_eq!(rows[0]["neg_scores"].as_array().unwrap().len(), 1);

    let tuples = [&run[..3], &["tuples.csv"], &run[4..], &["--shape", "n-tuples"]].concat();
    let out = foils(folder.path(), &tuples);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("nearly a positive"));
    assert_eq!(std::fs::read_to_string(folder.path().join("tuples.csv")).unwrap().lines().next(), Some("anchor,positive,negative_1"));
}

#[test]
fn documents_beside_the_positives_are_mined_and_scores_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path());
    std::fs::write(folder.path().join("more.txt"), "Owls hunt mice  at night\nowls hunt voles\nowls hunt voles\n").unwrap();
    let run = ["mine", "pairs.jsonl", "--corpus", "more.txt", "-o", "mined.jsonl", "--encoder", "none", "--candidates", "bm25", "-n", "1"];
    let out = foils(folder.path(), &[&run[..], &["--json", "--shape", "labeled-lists", "--output-scores"]].concat());
    assert!(out.status.success(), "{}", text(&out.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    // One of the three is new: a copy of a positive joins that, a repeated text is there once.
    assert_eq!(summary["documents"], 5);
    let mined = std::fs::read_to_string(folder.path().join("mined.jsonl")).unwrap();
    let row = mined.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).find(|r| r["query"] == "how do owls hunt");
    let row = row.expect("the query is there");
    assert_eq!(row["docs"], serde_json::json!(["owls hunt mice at night", "owls hunt voles"]));
    assert_eq!(row["scores"].as_array().unwrap().len(), 2);
    let out = foils(folder.path(), &["mine", "mined.jsonl", "-o", "again.jsonl", "--encoder", "none", "--candidates", "bm25"]);
    assert!(text(&out.stderr).contains("no column for the positive"), "{}", text(&out.stderr));
}

#[test]
fn bad_requests_end_with_2_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    pairs(folder.path());
    std::fs::write(folder.path().join("broken.jsonl"), "{\"query\": \"a\", \"positive\": \"b\"}\n{\"query\": \"a\"\n").unwrap();
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    for (arguments, part) in [
        (&["pairs.jsonl", "-o", "out.jsonl"][..], "`hybrid` candidates need an encoder"),
        (&["pairs.jsonl", "-o", "out.jsonl", "--candidates", "bm25", "--max-score", "0.5"], "need an encoder's vectors"),
        (&["pairs.jsonl", "-o", "out.jsonl", "--candidates", "bm25", "--num-negatives", "9"], "9 negatives are asked for"),
        (&["pairs.jsonl", "-o", "out.jsonl", "--candidates", "bm25", "--b", "2"], "b is 2"),
        (&["pairs.jsonl", "-o", "out.jsonl", "--candidates", "bm25", "--range-min", "3", "--range-max", "2"], "range_max is 2"),
        (&["pairs.jsonl", "-o", "out.csv", "--candidates", "bm25"], "cannot hold lists"),
        (&["pairs.jsonl", "-o", "out.txt", "--candidates", "bm25"], "out.txt"),
        (&["pairs.jsonl", "-o", "out.jsonl", "--candidates", "bm25", "--split", "dev"], "no --split"),
        (&["pairs.jsonl", "-o", "out.csv", "--candidates", "bm25", "--shape", "triplets", "--output-scores"], "cannot hold lists"),
        (&["pairs.jsonl", "-o", "out.jsonl", "--candidates", "bm25", "--corpus", "absent.txt"], "absent.txt"),
        (&["pairs.jsonl", "-o", "out.jsonl", "--candidates", "random", "--shape", "triplets", "--output-scores"], "have no scores"),
        (&["broken.jsonl", "-o", "out.jsonl", "--candidates", "bm25"], "broken.jsonl:2"),
        (&["absent.jsonl", "-o", "out.jsonl", "--candidates", "bm25"], "absent.jsonl"),
    ] {
        let out = foils(folder.path(), &[&["mine", "--encoder", "none"], arguments].concat());
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
        assert!(text(&out.stderr).contains(part), "{arguments:?}: {}", text(&out.stderr));
        assert!(out.stdout.is_empty());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before);
}
