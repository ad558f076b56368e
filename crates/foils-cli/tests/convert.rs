//! `foils convert` as a user runs it: what it prints, how it ends, and what it leaves behind.

use std::path::Path;
use std::process::{Command, Output};

fn convert(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foils")).arg("convert").args(args).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn it_says_what_it_did_in_words_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "q,good,bad\na,p,n1\na,p,n2\nb,q,\n").unwrap();
    let named = ["--anchor", "q", "--positive", "good", "--negative", "bad", "--to", "lists"];
    let failed = convert(folder.path(), &[&["a.csv", "a.jsonl"], &named[..]].concat());
    assert_eq!(failed.status.code(), Some(2));
    assert_eq!(text(&failed.stderr), "error: a.csv:4: the negative is empty\n");
    assert!(!folder.path().join("a.jsonl").exists());
    let done = convert(folder.path(), &[&["a.csv", "a.jsonl", "--skip-bad"], &named[..]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout), "csv triplets → jsonl lists: 3 rows read, 1 written\n1 left out because they cannot be used\n");
    let done = convert(folder.path(), &["a.jsonl", "a.parquet", "--to", "triplets", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&json["from"], &json["to"], &json["rows_written"]), (&"jsonl lists".into(), &"parquet triplets".into(), &2.into()));
    let done = convert(folder.path(), &["a.parquet", "b.csv"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(std::fs::read_to_string(folder.path().join("b.csv")).unwrap(), "anchor,positive,negative\na,p,n1\na,p,n2\n");
}

#[test]
fn bad_arguments_and_missing_files_end_with_two() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "x,y\n1,2\n").unwrap();
    for (args, message) in [
        (&["a.csv", "b.jsonl"][..], "a.csv:1: no column for the anchor: found `x`, `y`"),
        (&["none.csv", "b.jsonl"], "cannot open none.csv"),
        (&["a.csv", "b.jsonl", "--anchor", "z"], "a.csv:1: no column `z`"),
        (&["a.csv", "b.jsonl", "--to", "heaps"], "invalid value 'heaps'"),
        (&["a.csv", "b.jsonl", "--to", "n-tuples", "--negatives", "0"], "invalid value '0'"),
        (&[".", "b.jsonl"], "is no BEIR folder"),
    ] {
        let out = convert(folder.path(), args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(text(&out.stderr).contains(message), "{args:?}: {}", text(&out.stderr));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A file system of 128 KiB in memory, gone when dropped; `None`, with the reason printed, where one may not be mounted.
#[cfg(target_os = "linux")]
struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=128k", "foils-test"]).arg(folder.path()).output();
        match mounted {
            Ok(out) if out.status.success() => Some(Self(folder)),
            Ok(out) => {
                eprintln!("skipped: a tmpfs cannot be mounted here (needs root): {}", text(&out.stderr).trim());
                None
            }
            Err(e) => {
                eprintln!("skipped: there is no command mount: {e}");
                None
            }
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let out = Command::new("umount").arg(self.0.path()).output();
        assert!(out.is_ok_and(|o| o.status.success()) || std::thread::panicking(), "the test's tmpfs could not be unmounted");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_clear_error_and_leaves_nothing_half_written() {
    use std::fmt::Write;
    let Some(disk) = SmallDisk::mount() else { return };
    let full = disk.0.path();
    let source = tempfile::tempdir().unwrap();
    // Texts that do not compress, more of them than the disk holds in any format.
    let mut rows = String::from("anchor,positive,negative\n");
    let mut state = 1u64;
    let mut word = || {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ (state >> 29)
        };
        (0..8).fold(String::new(), |text, _| format!("{text}{:016x}", next()))
    };
    for _ in 0..3000 {
        writeln!(rows, "{},{},{}", word(), word(), word()).unwrap();
    }
    let input = source.path().join("in.csv");
    std::fs::write(&input, rows).unwrap();
    let input = input.to_str().unwrap();
    std::fs::write(full.join("kept.jsonl"), "old\n").unwrap();
    for output in ["out.jsonl", "out.csv", "out.tsv.gz", "out.jsonl.zst", "out.parquet", "beir", "kept.jsonl"] {
        let out = convert(full, &[input, output]);
        let message = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{output}: {message}");
        assert!(message.starts_with("error: cannot write") && message.contains("No space left on device"), "{output}: {message}");
        let left: Vec<_> = std::fs::read_dir(full).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["kept.jsonl"], "{output}");
    }
    assert_eq!(std::fs::read_to_string(full.join("kept.jsonl")).unwrap(), "old\n");

    // Embeddings likewise.
    let vectors = source.path().join("in.npy");
    let embeddings = foils::data::Embeddings::new(256, vec![0.5; 256 * 1000]).unwrap();
    foils::data::formats::vectors::write(&vectors, &embeddings).unwrap();
    for output in ["out.npy", "out.safetensors"] {
        let out = convert(full, &[vectors.to_str().unwrap(), output]);
        let message = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{output}: {message}");
        assert!(message.contains("No space left on device"), "{output}: {message}");
        assert_eq!(std::fs::read_dir(full).unwrap().count(), 1, "{output}");
    }
}
