//! `foils report` as a user runs it, and its page in a real browser: no script error, no network request, no text that runs.
//!
//! Without Chromium the browser tests say so and pass, except where `CI=true` promises that it is installed.

#[path = "../src/report/fixture.rs"]
#[allow(dead_code)]
mod fixture;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn report(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foils")).arg("report").args(arguments).output().unwrap()
}

#[test]
fn writes_the_page_and_says_where() {
    let run = tempfile::tempdir().unwrap();
    fixture::write(run.path());
    let output = report(&[run.path()]);
    let page = run.path().join("report.html");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), page.to_str().unwrap());
    let first = std::fs::read(&page).unwrap();

    let elsewhere = run.path().join("pages/again.html");
    let output = report(&[run.path(), Path::new("--json"), Path::new("-o"), &elsewhere]);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, serde_json::json!({ "report": elsewhere.to_str().unwrap() }));
    assert_eq!(std::fs::read(&elsewhere).unwrap(), first, "the same run gives the same page");
}

#[test]
fn broken_input_exits_with_2_and_writes_nothing() {
    let run = tempfile::tempdir().unwrap();
    std::fs::write(run.path().join("mine.json"), "{\n\"queries\": -1}").unwrap();
    let output = report(&[run.path()]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: ") && error.contains("mine.json:2: "), "{error}");
    assert!(!run.path().join("report.html").exists());
    let output = report(&[&run.path().join("nowhere")]);
    assert_eq!(output.status.code(), Some(2));
}

/// What a browser did with a page.
#[derive(Debug)]
struct Visit {
    /// The document after loading.
    dom: String,
    /// Lines of the console: errors, refused scripts and loads.
    console: Vec<String>,
    /// What the page asked the network for.
    requests: Vec<String>,
}

fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs Chromium (Debian: apt-get install chromium)");
        eprintln!("SKIPPED: no Chromium on the PATH (Debian: apt-get install chromium)");
    }
    found
}

fn visit(chromium: &Path, page: &Path) -> Visit {
    let work = tempfile::tempdir().unwrap();
    let log = work.path().join("net.json");
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"])
        .arg(format!("--user-data-dir={}", work.path().join("profile").display()))
        .arg(format!("--log-net-log={}", log.display()))
        .args(["--virtual-time-budget=2000", "--dump-dom"])
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let console = String::from_utf8_lossy(&output.stderr).lines().filter(|l| l.contains("CONSOLE")).map(str::to_owned).collect();
    let log: Value = foils::files::read_json(&log).unwrap();
    // The browser's own requests (updates, accounts) have no page as their initiator.
    let of_page = |event: &Value| {
        let initiator = event["params"]["initiator"].as_str()?;
        (initiator != "not an origin").then(|| event["params"]["url"].as_str().map(str::to_owned))?
    };
    let requests = log["events"].as_array().unwrap().iter().filter_map(of_page).collect();
    Visit { dom: String::from_utf8(output.stdout).unwrap(), console, requests }
}

#[test]
fn loads_in_chromium_without_errors_or_requests() {
    let Some(chromium) = chromium() else { return };
    let run = tempfile::tempdir().unwrap();
    fixture::write(run.path());
    assert!(report(&[run.path()]).status.success());
    let seen = visit(&chromium, &run.path().join("report.html"));
    assert_eq!(seen.console, [""; 0]);
    assert_eq!(seen.requests, [""; 0]);
    assert!(seen.dom.contains("· foils report</title>"), "no text has changed the title");
    assert!(seen.dom.contains("<h1>nDCG@10 rose from&nbsp;0.391 to&nbsp;0.436"));
    assert!(!seen.dom.contains("<script") && !seen.dom.contains("<img") && !seen.dom.contains("<link"));
    assert_eq!(seen.dom.matches("<section id=").count(), 8, "no section was swallowed by a text");
}

/// The page's texts as markup, without its policy: the same visit must see them run, or it could not see an escape that fails.
#[test]
fn the_visit_sees_what_would_go_wrong() {
    let Some(chromium) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let texts = fixture::NASTY.concat();
    std::fs::write(&page, format!("<!doctype html><title>safe</title><body><p>{texts}</p><script>undefined_function()</script>")).unwrap();
    let seen = visit(&chromium, &page);
    assert!(seen.dom.contains("<title>ran</title>"), "{seen:?}");
    assert!(seen.requests.iter().any(|r| r == "http://127.0.0.1:9/image.png"), "{seen:?}");
    assert!(seen.console.iter().any(|l| l.contains("undefined_function")), "{seen:?}");
}
