//! Long runs. `foils train` and `foils mine` killed at any moment: the same command, started again, goes on and ends with the bytes of
//! an undisturbed run; so do `foils tune` and a comparison. `foils mine --memory`: the process's own memory stays under the limit.

mod common;

use common::{Home, refs};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Kills of each command.
const KILLS: u32 = 20;

/// Runs to the end, and says what was said.
fn finish(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_foils")).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

/// Starts the command and kills it (SIGKILL) a while after something has happened; false when it was done before.
fn killed(arguments: &[&str], happened: impl Fn() -> bool, after: Duration) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foils"));
    let mut child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !happened() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap().code().is_none()
}

/// Whether there is a file in a folder.
fn has_files(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut all| all.next().is_some())
}

/// Starts a run under a new name again and again until it was killed twenty times, at moments spread over a run of this `length` in an
/// order that looks random; every other run only when it has `begun` to keep what it has done. `after_kill` is called with the run's
/// number after each.
fn kill_twenty_times(
    mut length: Duration,
    arguments: impl Fn(u32) -> Vec<String>,
    begun: impl Fn(u32) -> bool,
    mut after_kill: impl FnMut(u32, Duration),
) {
    let (mut kills, mut run) = (0, 0);
    while kills < KILLS {
        run += 1;
        assert!(run < 10 * KILLS, "only {kills} of {run} runs could be killed before they were done");
        let moment = length * (kills * 7 % KILLS) / KILLS + length * (run * 13 % 11) / (11 * KILLS);
        let waits = run % 2 == 0;
        // What is left of a run that has begun is shorter.
        let moment = if waits { moment / 4 } else { moment };
        if killed(&refs(&arguments(run)), || !waits || begun(run), moment) {
            kills += 1;
            after_kill(run, moment);
        } else {
            // The machine is quicker than it was when the length was measured.
            length = length * 9 / 10;
        }
    }
}

/// All files below a folder, by their names; what depends on the clock is left out of the account of a training.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(contents(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else if name == "train.json" {
            let value = without_seconds(serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap());
            found.push((name, value.to_string().into_bytes()));
        } else {
            found.push((name, std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn training_goes_on_after_any_kill() {
    let home = Home::new();
    let options = ["--batch-size", "16", "--epochs", "40", "--patience", "0", "--checkpoint-every", "0.02"];
    let started = Instant::now();
    finish(&refs(&home.train("undisturbed", &options)));
    let length = started.elapsed();
    let expected = contents(&home.path("undisturbed"));
    assert!(expected.iter().any(|(name, _)| name == "0_StaticEmbedding/model.safetensors"));
    assert!(!home.path("undisturbed-checkpoints").exists());

    let mut went_on = 0;
    let arguments = |run: u32| home.train(&format!("model{run}"), &options);
    let begun = |run: u32| has_files(&home.path(&format!("model{run}-checkpoints")));
    kill_twenty_times(length, arguments, begun, |run, moment| {
        // Every third one twice.
        if run % 3 == 0 {
            killed(&refs(&arguments(run)), || true, length / 3);
        }
        went_on += u32::from(finish(&refs(&arguments(run))).contains("going on after step"));
        let found = contents(&home.path(&format!("model{run}")));
        assert!(found == expected, "killed after {moment:?}: other bytes than those of an undisturbed run");
        assert!(!home.path(&format!("model{run}-checkpoints")).exists());
    });
    assert!(went_on > KILLS / 4, "{went_on} of {KILLS} went on");
}

#[test]
fn mining_goes_on_after_any_kill() {
    let home = Home::new();
    let word = |seed: usize| format!("{}{}w{}", ["q", "d"][seed % 2], seed * 7 % 20, seed / 3 % 4);
    let text =
        |i: usize, side: usize| (0..9).map(|k| word(i * (k + 2) + side)).chain([format!("n{side}x{i}")]).collect::<Vec<_>>().join(" ");
    let pairs: String = (0..3000).map(|i| json!({ "query": text(i, 0), "answer": text(i, 1) }).to_string() + "\n").collect();
    std::fs::write(home.path("pairs.jsonl"), pairs).unwrap();
    for limit in [&[][..], &["--memory", "400MB"]] {
        let arguments = |name: &str| -> Vec<String> {
            let fixed = [
                "mine",
                &home.text("pairs.jsonl"),
                "--encoder",
                &home.text("start"),
                "--relative-margin",
                "off",
                "-n",
                "40",
                "-o",
                &home.text(name),
            ];
            fixed.iter().chain(limit).map(|a| (*a).to_owned()).collect()
        };
        let started = Instant::now();
        finish(&refs(&arguments("undisturbed.jsonl")));
        let length = started.elapsed();
        let expected = std::fs::read(home.path("undisturbed.jsonl")).unwrap();
        assert!(expected.len() > 100_000 && !home.path("undisturbed.jsonl.part").exists());
        let (name, mut with_blocks) = (|run: u32| format!("mined{run}.jsonl"), 0);
        kill_twenty_times(
            length,
            |run| arguments(&name(run)),
            |run| home.path(&format!("{}.part", name(run))).join("block-000000").exists(),
            |run, moment| {
                let (output, part) = (home.path(&name(run)), home.path(&format!("{}.part", name(run))));
                // Nothing half-written has the name of the result.
                assert!(std::fs::read(&output).is_ok_and(|bytes| bytes == expected) || !output.exists());
                with_blocks += u32::from(part.join("block-000000").exists());
                finish(&refs(&arguments(&name(run))));
                assert!(std::fs::read(&output).unwrap() == expected, "killed after {moment:?}");
                assert!(!part.exists());
                std::fs::remove_file(output).unwrap();
            },
        );
        assert!(with_blocks > 0, "none was killed after its first block");
    }
}

/// Without what depends on the clock.
fn without_seconds(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            map.remove("seconds");
            map.values_mut().for_each(|v| *v = without_seconds(v.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|v| *v = without_seconds(v.take())),
        _ => {}
    }
    value
}

#[test]
fn a_comparison_goes_on_from_its_trainings_and_not_from_those_of_other_settings() {
    let home = Home::new();
    let lines: Vec<String> = (240..320).map(|i| common::pair(i).to_string()).collect();
    std::fs::write(home.path("test.jsonl"), lines.join("\n")).unwrap();
    let arguments = |out: &str, negatives: &str| -> Vec<String> {
        let (train, validation, test, start, out) =
            (home.text("train.jsonl"), home.text("held-out.jsonl"), home.text("test.jsonl"), home.text("start"), home.text(out));
        let fixed = ["tune", &train, "--validation", &validation, "--test", &test, "--encoder", &start, "--out", &out, "-n", negatives];
        let more = ["--compare", "3", "--ways", "in-batch,bm25,random", "--judges", "eci", "--epochs", "20", "--batch-size", "16"];
        fixed.iter().chain(&more).map(|a| (*a).to_owned()).collect()
    };
    let result = |out: &str| without_seconds(serde_json::from_slice(&std::fs::read(home.path(out).join("compare.json")).unwrap()).unwrap());
    finish(&refs(&arguments("undisturbed", "3")));
    let trained = |out: &str| -> usize {
        let part = std::fs::read(home.path(out).join("compare.part.json")).unwrap_or_default();
        serde_json::from_slice::<Value>(&part).map_or(0, |part| part["trained"].as_array().unwrap().len())
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_foils"));
    let mut child = command.args(arguments("killed", "3")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while trained("killed") < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it was done before it could be killed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Others must not be taken for these: with other negatives it begins anew.
    std::fs::create_dir(home.path("other")).unwrap();
    std::fs::copy(home.path("killed/compare.part.json"), home.path("other/compare.part.json")).unwrap();
    assert!(!finish(&refs(&arguments("other", "2"))).contains("going on"));
    assert_ne!(result("other"), result("undisturbed"));
    assert!(finish(&refs(&arguments("killed", "3"))).contains("going on after"));
    assert_eq!(result("killed"), result("undisturbed"));
    assert!(!home.path("killed/compare.part.json").exists() && !home.path("killed/checkpoints").exists());
}

#[test]
fn tuning_goes_on_after_any_kill() {
    let home = Home::new();
    let lines: Vec<String> = (240..320).map(|i| common::pair(i).to_string()).collect();
    std::fs::write(home.path("test.jsonl"), lines.join("\n")).unwrap();
    let arguments = |out: &str| -> Vec<String> {
        let (train, validation, test, start, out) =
            (home.text("train.jsonl"), home.text("held-out.jsonl"), home.text("test.jsonl"), home.text("start"), home.text(out));
        let fixed = ["tune", &train, "--validation", &validation, "--test", &test, "--encoder", &start, "--out", &out];
        let more = ["--epochs", "40", "--batch-size", "16", "--checkpoint-every", "0.02"];
        fixed.iter().chain(&more).map(|a| (*a).to_owned()).collect()
    };
    let kept = ["negatives.jsonl.zst", "eval.json", "train.json", "model/0_StaticEmbedding/model.safetensors"];
    let results = |out: &str| {
        kept.map(|name| {
            let bytes = std::fs::read(home.path(out).join(name)).unwrap();
            let json = name.ends_with(".json").then(|| without_seconds(serde_json::from_slice(&bytes).unwrap()));
            (json, if name.ends_with(".json") { vec![] } else { bytes })
        })
    };
    finish(&refs(&arguments("undisturbed")));
    let mut went_on = 0;
    for run in 0..5u32 {
        let out = format!("run{run}");
        killed(&refs(&arguments(&out)), || has_files(&home.path(&out).join("checkpoints")), Duration::from_millis(15) * run);
        went_on += u32::from(finish(&refs(&arguments(&out))).contains("going on after step"));
        assert!(results(&out) == results("undisturbed"), "killed after {run} · 15 ms");
        assert!(!home.path(&out).join("checkpoints").exists() && home.path(&out).join("report.html").exists());
    }
    assert!(went_on > 0, "none went on");
}

/// Runs to the end; the most memory that the process had to itself, in bytes.
#[cfg(target_os = "linux")]
fn watched(arguments: &[&str]) -> usize {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foils"));
    let mut child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut most = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
        most = most.max(own.unwrap_or(0) << 10);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return most;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn mining_stays_under_its_limit() {
    use std::fmt::Write;
    const DOCUMENTS: usize = 150_000;
    const LIMIT: usize = 160_000_000;
    let home = Home::new();
    let folder = home.path("beir");
    std::fs::create_dir_all(folder.join("qrels")).unwrap();
    // Known words, and one that is the document's own.
    let word = |seed: usize| format!("{}{}w{} ", ["q", "d"][seed % 2], seed * 7 % 20, seed / 3 % 4);
    let text = |i: usize| (0..50).map(|k| word(i * (k + 3) + k / 7)).chain([format!("n{i}")]).collect::<String>();
    let (mut corpus, mut queries, mut judged) = (String::new(), String::new(), String::from("query-id\tcorpus-id\tscore\n"));
    for i in 0..DOCUMENTS {
        writeln!(corpus, "{}", json!({ "_id": format!("document-{i}"), "title": "", "text": text(i) })).unwrap();
        if i % 100 == 0 {
            writeln!(queries, "{}", json!({ "_id": format!("query-{i}"), "text": text(i + 17) })).unwrap();
            writeln!(judged, "query-{i}\tdocument-{i}\t1").unwrap();
        }
    }
    std::fs::write(folder.join("corpus.jsonl"), corpus).unwrap();
    std::fs::write(folder.join("queries.jsonl"), queries).unwrap();
    std::fs::write(folder.join("qrels/test.tsv"), judged).unwrap();

    let run = |output: &str, more: &[&str]| {
        let fixed = ["mine", &home.text("beir"), "--encoder", &home.text("start"), "--relative-margin", "off", "-o", &home.text(output)];
        let arguments: Vec<String> = fixed.iter().chain(more).map(|a| (*a).to_owned()).collect();
        watched(&refs(&arguments))
    };
    let free = run("free.jsonl", &[]);
    let limited = run("limited.jsonl", &["--memory", &format!("{LIMIT}B")]);
    assert!(free > LIMIT, "without a limit {free} bytes: too little to show anything");
    assert!(limited <= LIMIT, "{limited} bytes, {LIMIT} are allowed");
    assert!(std::fs::read(home.path("free.jsonl")).unwrap() == std::fs::read(home.path("limited.jsonl")).unwrap());

    let arguments = ["mine", &home.text("beir"), "--encoder", &home.text("start"), "--memory", "9MB", "-o", &home.text("x.jsonl")];
    let output = Command::new(env!("CARGO_BIN_EXE_foils")).args(arguments).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && message.contains("9 MB of memory are allowed and"), "{message}");
    assert!(!home.path("x.jsonl").exists());
}
