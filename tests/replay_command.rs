//! `nearcast replay` as a process: what it refuses, how it ends then, and that nothing half-written is left.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn replay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nearcast")).arg("replay").args(arguments).output().expect("the command starts")
}

fn sample() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/samples/web-1995.parquet").display().to_string()
}

/// What is said on stderr; fails unless the command ends with 1 and prints nothing on stdout.
fn refusal(arguments: &[&str]) -> String {
    let output = replay(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}: {said}");
    said
}

#[test]
fn sizes_budgets_and_policies_that_make_no_sense_are_refused() {
    let log = sample();
    let cases: [(&[&str], &str); 6] = [
        (&["--cache", "0"], "cache size `0` is 0 bytes"),
        (&["--cache", "0B"], "cache size `0B` is 0 bytes"),
        (&["--budget", "-0.1"], "`budget` is -0.1"),
        (&["--warmup", "1"], "`warmup` is 1"),
        (&["--policy", "belady"], "--prefetch none --placement none"),
        (&["--policy", "belady", "--prefetch", "none", "--placement", "hash"], "--prefetch none --placement none"),
    ];
    for (flags, part) in cases {
        let said = refusal(&[&[log.as_str()], flags].concat());
        assert!(said.contains("error: ") && said.contains(part), "{flags:?}: {said}");
    }
    let unknown = replay(&[&log, "--policy", "magic"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(2) && said.contains("s3-fifo") && said.contains("belady"), "{said}");
    let unknown = replay(&[&log, "--without", "habit,luck"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(2) && said.contains("'luck'"), "{said}");
    assert!(["stride", "gate", "probation"].iter().all(|part| said.contains(part)), "{said}");
}

#[test]
fn a_topology_that_names_another_region_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("topology.toml");
    std::fs::write(&path, "[regions.atlantis]\n").expect("writable");
    let said = refusal(&[&sample(), "--topology", &path.display().to_string()]);
    assert!(said.contains("region"), "{said}");
}

#[test]
fn a_report_that_cannot_be_written_fails_the_command_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = folder.path().join("missing/report.html").display().to_string();
    let quick = ["--prefetch", "none", "--unit-size", "--instant"];
    let said = refusal(&[&[sample().as_str(), "--report", &missing], &quick[..]].concat());
    assert!(said.contains("cannot write the report to") && said.contains("report.html"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
    // The device that is always full.
    if Path::new("/dev/full").exists() {
        let said = refusal(&[&[sample().as_str(), "--report", "/dev/full"], &quick[..]].concat());
        assert!(said.contains("cannot write the report to /dev/full"), "{said}");
    }
}

#[test]
fn rivals_and_bounds_are_one_document_and_one_table() -> Result<(), Box<dyn std::error::Error>> {
    let flags = ["--prefetch", "none,obl,markov,mithril", "--unit-size", "--instant", "--warmup", "0", "--oracle"];
    let log = sample();
    let arguments = [&[log.as_str()], &flags[..]].concat();
    let output = replay(&[&arguments[..], &["--json", "--no-timing"]].concat());
    let document: Value = serde_json::from_slice(&output.stdout)?;
    let cells = document["cells"].as_array().ok_or("no cells")?;
    let prefetchers: Vec<_> = cells.iter().filter_map(|cell| cell["prefetcher"].as_str()).collect();
    assert_eq!(prefetchers, ["none", "obl", "markov", "mithril"]);
    for cell in cells {
        assert_eq!(cell["oracle"]["belady_miss_ratio"].as_f64().map(|ratio| (ratio * 1e4).round()), Some(1929.0));
        assert!(cell["oracle"]["perfect_miss_ratio"].as_f64() < cell["miss_ratio"].as_f64());
        assert_eq!(cell["budget"], Value::Null, "none of these has one");
    }
    assert!(cells[0]["oracle"]["share_of_oracle"].is_null() && cells[2]["oracle"]["share_of_oracle"].is_f64());
    let table = String::from_utf8(replay(&arguments).stdout)?;
    assert!(table.contains("share of oracle") && table.contains("mithril"), "{table}");
    Ok(())
}
