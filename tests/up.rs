//! `nearcast up` with real processes.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/samples/web-1995.parquet");

fn up(folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
    command.args(["--json", "up", "--log", LOG, "--regions", "com,edu", "--speed", "60", "--dir"]);
    command.arg(folder).args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a cluster and reads its document, which comes once everything is connected.
fn start(folder: &Path) -> (Child, Value) {
    let mut child = up(folder, &[]).spawn().expect("the binary is there");
    let mut said = BufReader::new(child.stdout.take().expect("piped"));
    let mut document = String::new();
    while !document.ends_with("\n}\n") {
        if said.read_line(&mut document).expect("text") == 0 {
            let mut error = String::new();
            child.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
            panic!("no cluster came up, {}: {error}", child.wait().expect("it ends"));
        }
    }
    (child, serde_json::from_str(&document).expect("one document"))
}

fn urls(document: &Value) -> Vec<String> {
    let nodes = document["nodes"].as_array().expect("a list").iter().map(|node| &node["url"]);
    let services = [&document["origin"], &document["predictor"]["grpc"], &document["predictor"]["http"]];
    services.into_iter().chain(nodes).map(|url| url.as_str().expect("a URL").to_owned()).collect()
}

fn is_listening(url: &str) -> bool {
    TcpStream::connect(url.trim_start_matches("http://")).is_ok()
}

fn signal(name: &str, id: u32) {
    assert!(Command::new("kill").args([name, &id.to_string()]).status().expect("kill is there").success());
}

#[test]
fn a_cluster_comes_up_serves_and_ends_cleanly_on_sigterm() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut child, document) = start(folder.path());
    assert_eq!(document["schema"], "nearcast.cluster/1");
    let written = std::fs::read_to_string(folder.path().join("cluster.json")).expect("cluster.json is there");
    assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), document);
    let urls = urls(&document);
    assert_eq!(urls.len(), 5);
    for url in &urls {
        assert!(is_listening(url), "nothing listens at {url}");
    }
    signal("-TERM", child.id());
    assert!(child.wait().expect("it ends").success());
    for url in &urls {
        assert!(!is_listening(url), "something still listens at {url}");
    }
}

#[test]
fn a_purge_reaches_every_node_and_names_those_that_it_does_not_reach() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut child, document) = start(folder.path());
    let cluster = folder.path().display().to_string();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_nearcast")).args(arguments).output().expect("it runs");
        let document = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
        (output.status.code(), document, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, report, said) = run(&["--json", "load", LOG, "--to", &cluster, "--limit", "200", "--speed", "1000000"]);
    assert_eq!(code, Some(0), "{report} {said}");
    let purge = ["--json", "purge", "--to", &cluster, "--prefix", "/"];
    let (code, first, said) = run(&purge);
    assert_eq!((code, first["nodes"].as_array().map(Vec::len)), (Some(0), Some(2)), "{first} {said}");
    assert!(first["objects"].as_u64().is_some_and(|objects| objects > 50), "{first}");
    assert_eq!(first["epoch"], 1, "it is in the predictor's log: {first}");
    let (_, second, _) = run(&purge);
    // Prefetches may go on.
    assert!(second["objects"].as_u64() < first["objects"].as_u64(), "{second} after {first}");
    let (code, _, said) = run(&["purge", "--to", &cluster]);
    assert!(code == Some(2) && said.contains("--key"), "{said}");

    let node = document["nodes"][0]["url"].as_str().expect("a URL");
    let away = format!("eu={}", document["origin"].as_str().expect("a URL"));
    let (code, report, _) = run(&["--json", "purge", "--to", &away, &format!("us={node}"), "--key", "/x", "--soft"]);
    assert_eq!(code, Some(1), "{report}");
    let problems: Vec<bool> =
        report["nodes"].as_array().expect("a list").iter().map(|it| it["problem"].is_null()).collect();
    assert_eq!(problems, [false, true], "{report}");
    signal("-TERM", child.id());
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_process_that_dies_is_reported_while_the_others_go_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut child, document) = start(folder.path());
    let stderr = child.stderr.take().expect("piped");
    // A child whose command line names its configuration is found without naming any process broadly.
    let config = folder.path().join("predictor.toml").canonicalize().expect("the configuration is there");
    let id = process_with_argument(&config).expect("the predictor runs");
    signal("-KILL", id);
    let mut lines = BufReader::new(stderr).lines();
    let report = lines.find_map(|line| line.ok().filter(|line| line.contains("predictor ended")));
    assert!(report.is_some_and(|line| line.contains("SIGKILL")), "the death was not reported");
    let node = document["nodes"][0]["url"].as_str().expect("a URL");
    assert!(is_listening(node), "a node must not need the predictor");
    signal("-INT", child.id());
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert!(!is_listening(node));
}

#[test]
fn a_cluster_that_cannot_start_says_why_and_leaves_nothing_running() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output =
        up(folder.path(), &["--exit-after", "0", "--topology", "/nonexistent.toml"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("/nonexistent.toml"), "{said}");
}

fn process_with_argument(argument: &Path) -> Option<u32> {
    let argument = argument.to_str()?.as_bytes();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        line.split(|byte| *byte == 0).any(|word| word == argument).then_some(id)
    })
}
