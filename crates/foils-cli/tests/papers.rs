//! `foils papers` and `foils reproduce`, as a user calls them; without data.

use std::process::{Command, Output};

fn foils(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foils")).args(args).output().unwrap()
}

#[test]
fn the_list_says_what_is_implemented() {
    let out = foils(&["papers", "--json"]);
    assert!(out.status.success());
    let list: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let papers = list["papers"].as_array().unwrap();
    assert_eq!(papers.len(), 45);
    let dcl = papers.iter().find(|p| p["slug"] == "dcl").unwrap();
    assert_eq!(dcl["study"], true);
    assert_eq!(dcl["implemented"], dcl["functions"]);
    let table = String::from_utf8(foils(&["papers"]).stdout).unwrap();
    assert!(papers.iter().all(|p| table.contains(p["slug"].as_str().unwrap())));
}

#[test]
fn what_cannot_be_reproduced_ends_with_2_and_says_why() {
    let error = |args: &[&str]| {
        let out = foils(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(out.stdout.is_empty());
        String::from_utf8(out.stderr).unwrap()
    };
    assert!(error(&["reproduce", "dlc"]).contains("did you mean dcl"));
    assert!(error(&["reproduce", "shallow"]).contains("no study yet"));
    assert!(error(&["reproduce", "dcl", "--seeds", "0"]).contains("--seeds"));
    // Said before anything is run or fetched.
    assert!(error(&["reproduce", "dcl", "-o", env!("CARGO_MANIFEST_DIR")]).contains("is a folder"));
    assert!(error(&["reproduce", "dcl", "--report", env!("CARGO_MANIFEST_DIR")]).contains("is a folder"));
}
