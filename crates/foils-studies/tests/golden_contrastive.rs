//! The contrastive golden files, whole.

use foils_studies::conformance::run_file;

fn failures(file: &str, only: &[&str]) -> Vec<String> {
    let path = format!("{}/../../golden/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let results = run_file(path).unwrap();
    let ours: Vec<_> = results.iter().filter(|r| only.is_empty() || only.contains(&r.function.as_str())).collect();
    assert!(!ours.is_empty(), "no case of {only:?} in {file}");
    ours.iter().flat_map(|r| r.failures.iter().map(move |f| format!("{} {}: {}", r.name, f.output, f.message))).collect()
}

#[test]
fn dcl() {
    assert_eq!(failures("dcl", &[]), Vec::<String>::new());
}

#[test]
fn baselines_contrastive() {
    assert_eq!(failures("baselines-contrastive", &[]), Vec::<String>::new());
}

#[test]
fn contrastive_behaviour() {
    assert_eq!(failures("contrastive-behaviour", &[]), Vec::<String>::new());
}

#[test]
fn amcl() {
    assert_eq!(failures("amcl", &[]), Vec::<String>::new());
}

#[test]
fn groco() {
    assert_eq!(failures("groco", &[]), Vec::<String>::new());
}

#[test]
fn unpg() {
    assert_eq!(failures("unpg", &[]), Vec::<String>::new());
}

#[test]
fn ranking_losses() {
    let functions = ["multiple_negatives_ranking_loss", "cached_multiple_negatives_ranking_loss"];
    assert_eq!(failures("baselines-mining", &functions), Vec::<String>::new());
}
