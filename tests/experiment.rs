//! `nearcast experiment` with five real nodes: planned from their logs, promoted, undone under load.

#[path = "support/history.rs"]
mod history;
#[path = "support/http.rs"]
#[expect(dead_code, reason = "shared with tests that need all of it")]
mod http;
#[path = "observe/series.rs"]
mod series;

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    history::write_history,
    http::Http,
    series::{OF_EXPERIMENTS, Series, check, of_dashboard, scraped},
};

const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/samples/web-1995.parquet");
const NODES: [&str; 5] = ["com", "edu", "gov", "ip", "other"];

/// A cluster of `nearcast up`.
struct Cluster {
    folder: tempfile::TempDir,
    up: Child,
    /// Where the predictor serves HTTP.
    predictor: String,
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut up = nearcast(&["--json", "up", "--log", LOG, "--regions", &NODES.join(","), "--speed", "60", "--dir"]);
        let mut up = up.arg(folder.path()).spawn().expect("it starts");
        let mut said = BufReader::new(up.stdout.take().expect("piped"));
        let mut document = String::new();
        while !document.ends_with("\n}\n") {
            if said.read_line(&mut document).expect("text") == 0 {
                let mut error = String::new();
                up.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
                panic!("no cluster came up: {error}");
            }
        }
        let document: Value = serde_json::from_str(&document).expect("JSON");
        let predictor = document["predictor"]["http"].as_str().expect("an address").to_owned();
        Self { folder, up, predictor }
    }

    fn place(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Runs `nearcast experiment`: exit code, document, what it said.
    fn experiment(&self, arguments: &[&str]) -> (Option<i32>, Value, String) {
        let mut command = nearcast(&["--json", "experiment"]);
        let output = command.args(arguments).args(["--to", &self.place()]).output().expect("it runs");
        let document = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), document, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let (code, document, said) = self.experiment(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}{document:#}");
        document
    }

    /// The series that the predictor has.
    fn series(&self) -> Series {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let url = format!("{}/metrics", self.predictor);
        let answer = runtime.block_on(Http::new().get(&url, "test")).expect("it answers");
        scraped(std::str::from_utf8(&answer.body).expect("text"))
    }

    fn refused(&self, arguments: &[&str], part: &str) {
        let (code, _, said) = self.experiment(arguments);
        assert!(code == Some(1) && said.contains(part), "{arguments:?}: {said}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.up.id().to_string()]).status();
        let _ = self.up.wait();
    }
}

fn nearcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_promotion_and_its_undo_reach_five_nodes_within_a_second_and_no_client_notices() {
    let cluster = Cluster::start();
    let history = cluster.folder.path().join("history.parquet");
    // A quarter of an hour.
    write_history(&history, &NODES, 9_000, 1_000);
    let history = history.display().to_string();
    let asking =
        ["news", "--challenger", "none", "--turnover", "2s", "--block", "20s", "--span", "1h", "--shadow", "0"];
    let asking = [&asking[..], &["--effect", "0.2", "--history", &history]].concat();
    let with = |verb: &'static str, more: &[&'static str]| [&[verb][..], &asking, more].concat();

    cluster.refused(&with("plan", &["--by", "client"]), "share every cache");
    cluster.refused(&with("plan", &["--nodes", "comm,edu"]), "did you mean \"com\"?");
    cluster.refused(&with("plan", &["--nodes", "com"]), "a comparison needs two");
    cluster.refused(&["plan", "x", "--challenger", "v0007"], "v0007 cannot be an arm");
    cluster.refused(&["undo", "--why", "x"], "no experiment is under way");
    let plan = cluster.done(&with("plan", &[]));
    assert_eq!(plan["schema"], "nearcast.experiment-plan/1");
    assert_eq!(plan["design"]["pairs"].as_array().map(Vec::len), Some(2), "{plan:#}");
    cluster.done(&with("start", &["--why", "to see"]));
    cluster.refused(&with("start", &[]), "already");
    let series = cluster.series();
    let of_experiments: Vec<_> = of_dashboard().into_iter().filter(|asked| asked.contains(OF_EXPERIMENTS)).collect();
    assert!(of_experiments.len() > 5, "{of_experiments:?}");
    of_experiments.iter().for_each(|expression| check(expression, &series));

    let place = cluster.place();
    let load = ["--json", "load", LOG, "--to", &place, "--speed", "600", "--limit", "6000", "--verify"];
    let load = nearcast(&load).spawn().expect("it starts");
    cluster.done(&["advance", "--why", "enough"]);
    cluster.refused(&["promote", "--why", "x"], "promote needs PASS");
    let promoted = cluster.done(&["promote", "--full", "--why", "a test"]);
    let undone = cluster.done(&["undo", "--why", "a test"]);
    for (what, document) in [("promote", &promoted), ("undo", &undone)] {
        let millis = document["confirmed_ms"].as_f64().unwrap_or(f64::INFINITY);
        assert!(millis <= 1_000.0, "{what} took {millis} ms");
        eprintln!("{what}: confirmed by five nodes after {millis:.0} ms");
    }
    assert_eq!((&promoted["stage"], &undone["stage"]), (&"holdback".into(), &"rolled_back".into()));
    let played = load.wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&played.stdout).expect("a document");
    let arm = &report["arms"][0];
    let total = &arm["total"];
    assert_eq!((&total["requests"], &total["answered"]), (&6_000.into(), &6_000.into()), "{report:#}");

    let changes = cluster.done(&["history", "news"])["changes"].clone();
    let of = |action: &str| changes.as_array().expect("a list").iter().filter(|it| it["action"] == action).count();
    assert_eq!((of("promote"), of("undo"), of("pointed")), (1, 1, 10), "{changes:#}");
    let status = nearcast(&["experiment", "status", "--to", &place]).output().expect("it runs");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    for word in ["news: none against", "rolled back", "hit_ratio", "nearcast", "over none"] {
        assert!(status.contains(word), "{word} is missing in {status}");
    }
    for verb in ["plan", "start", "status", "promote", "abort", "undo", "pause", "report", "history"] {
        let help = nearcast(&["experiment", verb, "--help"]).output().expect("it runs");
        assert!(help.status.success(), "{verb}");
    }
    let help = nearcast(&["experiment", "--help"]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&help.stdout).contains("Examples:"));
}
