//! `nearcast demo` as a stranger runs it: from any folder, with nothing but the binary.

use std::{path::Path, process::Command};

use serde_json::Value;

fn demo(from: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
    command.arg("demo").args(arguments).current_dir(from).output().expect("the command starts")
}

fn number(document: &Value, pointer: &str) -> f64 {
    document.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} is missing"))
}

#[test]
fn one_command_ends_in_numbers_of_unseen_traffic_and_a_page_that_stands_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = demo(folder.path(), &["--json", "--dir", "kept"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for stage in ["[1/4] profile", "[2/4] train", "[3/4] evaluate", "[4/4] replay"] {
        assert!(said.contains(stage), "{said}");
    }
    assert!(!said.contains('\r') && !said.contains('\u{1b}'), "no progress bar without a terminal: {said}");

    let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(document["schema"], "nearcast.demo/1");
    assert_eq!(document["training"]["version"], "v0001");
    let cells = document["replay"]["cells"].as_array().expect("a list");
    let arms: Vec<_> = cells.iter().map(|cell| (cell["prefetcher"].as_str(), cell["model_version"].as_str())).collect();
    assert_eq!(arms, [(Some("none"), None), (Some("nearcast"), None), (Some("nearcast"), Some("v0001"))]);
    let unseen = number(&document, "/training/data/requests") - number(&document, "/training/data/train_requests");
    for cell in cells {
        assert!((number(cell, "/requests") - unseen).abs() < 0.5, "only what training has not seen is counted: {cell}");
    }
    assert_eq!(document["replay"]["instant"], false);
    assert_eq!(document["replay"]["unit_size"], false);
    assert!(number(&document, "/evaluation/requests") > 1_000.0 && document["evaluation"]["leaks"] == false);
    assert!(number(&cells[2], "/misses") < number(&cells[0], "/misses"), "prediction saves misses on this log");

    let kept = folder.path().join("kept");
    let page = std::fs::read_to_string(kept.join("report.html")).expect("the report is there");
    assert_eq!(page.matches("<svg").count(), 6);
    assert!(!page.contains("<script") && !page.contains("href=") && !page.contains("src="));
    for finding in document["findings"].as_array().expect("a list") {
        let text = finding["text"].as_str().expect("text").replace('<', "&lt;");
        assert!(page.contains(&text), "{text} is not in the report");
    }
    assert!(kept.join("web-1995.parquet").exists() && kept.join("models/versions/v0001/gate.json").exists());
}

#[test]
fn refuses_to_overwrite_a_file_of_another_origin_before_any_work() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("report.html"), "mine").expect("writable");
    let output = demo(folder.path(), &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("report.html") && said.contains("--dir") && !said.contains("[1/4]"), "{said}");
    assert_eq!(std::fs::read(folder.path().join("report.html")).expect("still there"), b"mine");
}
