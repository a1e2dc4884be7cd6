//! `nearcast stat`, `top`, `tail` and `warm` against real node processes.

#[path = "support/http.rs"]
mod http;
#[path = "support/service.rs"]
#[expect(dead_code, reason = "shared with tests that need all of it")]
mod service;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    http::{Http, eventually},
    service::{LOG, Service, nearcast},
};

/// An origin and two nodes that need an admin token.
struct Cluster {
    folder: tempfile::TempDir,
    nodes: Vec<Service>,
    _origin: Service,
}

/// What a command came to.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("token"), "open sesame\n").expect("writable");
        let origin = Service::start(&["origin", LOG, "--listen", "127.0.0.1:0"]);
        let nodes = ["com", "edu"].map(|region| {
            let config = folder.path().join(format!("{region}.toml"));
            let text = format!(
                "name = \"{region}-1\"\nregion = \"{region}\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{region}\"\n\
                 capacity = \"64MiB\"\n[origin]\nurl = \"{}\"\n[front]\nadmin_token_file = \"token\"\n\
                 [access_log]\npath = \"{region}.access.log\"\n",
                origin.ready
            );
            fs::write(&config, text).expect("writable");
            Service::start(&["node", "-c", config.to_str().expect("UTF-8")])
        });
        Self { folder, nodes: nodes.into(), _origin: origin }
    }

    fn command(&self, command: &str, more: &[&str]) -> Command {
        let mut process = nearcast(&[command]);
        process.args(more).arg("--token-file").arg(self.folder.path().join("token")).arg("--to");
        process.args(self.nodes.iter().map(|node| node.ready.as_str()));
        process
    }

    fn run(&self, command: &str, more: &[&str]) -> Ended {
        ended(&mut self.command(command, more))
    }

    async fn get(&self, http: &Http, node: usize, key: &str) {
        let answer = http.get(&format!("{}{key}", self.nodes[node].ready), "alice").await.expect("an answer");
        assert_eq!(answer.status, 200, "{key}");
    }
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().expect("it runs");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until somebody watches each node.
async fn watched(cluster: &Cluster, http: &Http) {
    for node in &cluster.nodes {
        let url = format!("{}/_nearcast/status", node.ready);
        eventually("a watcher", || async { http.json(&url).await["front"]["watchers"] == 1 }).await;
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill is there").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warming_from_a_log_makes_hits_and_stat_tells_them() {
    let (cluster, http) = (Cluster::start(), Http::new());
    let warm = cluster.run("warm", &["--log", LOG, "--top", "30", "--rate", "100MiB", "--json"]);
    assert_eq!(warm.code, Some(0), "{}{}", warm.stdout, warm.stderr);
    let report = warm.document();
    assert_eq!(report["schema"], "nearcast.warm-report/1");
    for node in report["nodes"].as_array().expect("a list") {
        assert_eq!(
            (&node["keys"], &node["fetched"], &node["not_fetched"]),
            (&30.into(), &30.into(), &0.into()),
            "{report:#}"
        );
    }
    let again = cluster.run("warm", &["--log", LOG, "--top", "30", "--region", "com"]);
    assert!(
        again.code == Some(0) && again.stdout.contains("com-1: 0 fetched (0 B), 30 held already"),
        "{}",
        again.stdout
    );

    // What was warmed is a hit, and nothing has counted as a request before.
    let list = cluster.folder.path().join("keys.txt");
    fs::write(&list, "# these\n/\n/nonexistent\n").expect("writable");
    let stat = cluster.run("stat", &["--json"]).document();
    assert_eq!((&stat["total"]["requests"], &stat["nodes"][0]["node"]), (&0.into(), &"com-1".into()), "{stat:#}");
    let top_key = most_requested("com");
    for _ in 0..3 {
        cluster.get(&http, 0, &top_key).await;
    }
    let stat = cluster.run("stat", &["--json"]).document();
    assert_eq!(stat["schema"], "nearcast.stat/1");
    let (com, total) = (&stat["nodes"][0], &stat["total"]);
    assert_eq!((&com["requests"], &com["hit_ratio"], &com["byte_hit_ratio"]), (&3.into(), &1.0.into(), &1.0.into()));
    assert!(
        total["latency"]["all"]["p99_ms"].as_f64() > Some(0.0) && total["warmed_bytes"].as_u64() > Some(0),
        "{stat:#}"
    );
    let text = cluster.run("stat", &[]);
    for word in
        ["com-1", "edu-1", "all", "hit %", "answered by", "prefetches", "late prefetch", "in memory", "predictor"]
    {
        assert!(text.stdout.contains(word), "{word} is missing in {}", text.stdout);
    }

    // A list with what the origin does not have: told, and a failure.
    let listed = cluster.run("warm", &[list.to_str().expect("UTF-8")]);
    assert!(listed.code == Some(1) && listed.stdout.contains("404"), "{}{}", listed.stdout, listed.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_cannot_be_reached_are_named_and_the_others_told() {
    let cluster = Cluster::start();
    let token = cluster.folder.path().join("token");
    let token = token.to_str().expect("UTF-8");
    let (there, away) = (cluster.nodes[0].ready.as_str(), "http://127.0.0.1:9");
    for (command, more) in [("stat", &[][..]), ("top", &["--interval", "10ms"]), ("warm", &["--key", "/"])] {
        let mut process = nearcast(&[command, "--token-file", token, "--json", "--to", there, away]);
        let told = ended(process.args(more));
        assert_eq!(told.code, Some(1), "{command}: {}{}", told.stdout, told.stderr);
        let failed = told.document()["failed"].clone();
        assert_eq!(
            (&failed[0]["node"], failed.as_array().map(Vec::len)),
            (&away.into(), Some(1)),
            "{command}: {failed:#}"
        );
    }
    let refused = ended(&mut nearcast(&["top", "--to", there]));
    assert!(refused.code == Some(1) && refused.stdout.contains("--token-file"), "{}", refused.stdout);
    let tail = ended(&mut nearcast(&["tail", "--to", away]));
    assert!(tail.code == Some(1) && tail.stderr.contains("127.0.0.1:9"), "{}", tail.stderr);
    for (command, wrong) in [("stat", "--count"), ("warm", "--top"), ("tail", "--outcome=hit"), ("top", "--interval=0")]
    {
        let told = ended(&mut nearcast(&[command, "--to", there, wrong, "5"]));
        assert!(told.code == Some(2), "{command} {wrong}: {}", told.stderr);
    }
    for command in ["stat", "top", "tail", "warm"] {
        assert!(ended(&mut nearcast(&[command, "--help"])).stdout.contains("Examples:"), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_follows_all_nodes_and_top_finds_what_is_hot() {
    let (cluster, http) = (Cluster::start(), Http::new());
    let key = most_requested("com");
    let mut tail = cluster.command("tail", &["--count", "4", "--status", "2xx", "--json"]);
    let tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    watched(&cluster, &http).await;
    for node in [0, 0, 1, 1] {
        cluster.get(&http, node, &key).await;
    }
    let output = tail.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!((&lines[0]["schema"], lines.len()), (&"nearcast.tail/1".into(), 5));
    let mut told: Vec<_> = lines[1..].iter().map(|line| (line["node"].as_str(), line["outcome"].as_str())).collect();
    told.sort_unstable();
    let (com, edu) = (Some("com-1"), Some("edu-1"));
    let (memory, origin) = (Some("memory"), Some("origin"));
    assert_eq!(told, [(com, memory), (com, origin), (edu, memory), (edu, origin)]);
    assert!(lines[1..].iter().all(|line| line["key"] == key.as_str() && line["client"] == "alice"), "{lines:?}");

    // Combined lines, until Ctrl-C.
    let mut tail = cluster.command("tail", &["--format", "combined"]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    watched(&cluster, &http).await;
    cluster.get(&http, 1, &key).await;
    let mut line = String::new();
    BufReader::new(tail.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("alice - - [") && line.contains("\" 200 ") && line.contains(" cache=memory"), "{line}");
    signal(&tail, "-INT");
    assert_eq!(tail.wait().expect("it ends").code(), Some(0));

    let mut top = cluster.command("top", &["--interval", "4s", "--json"]);
    let top = top.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    watched(&cluster, &http).await;
    for node in [0, 1, 0, 1] {
        cluster.get(&http, node, &key).await;
    }
    let output = top.wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&report["schema"], &report["requests"]), (&"nearcast.top-report/1".into(), &4.into()), "{report:#}");
    let hot = &report["top"][0];
    assert_eq!((&hot["name"], &hot["weight"], &hot["nodes"]), (&key.as_str().into(), &4.into(), &2.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_goes_on_with_the_others_when_a_node_dies() {
    let (mut cluster, http) = (Cluster::start(), Http::new());
    let mut tail = cluster.command("tail", &["--count", "1"]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    watched(&cluster, &http).await;
    let dead = cluster.nodes.remove(1);
    let url = dead.ready.clone();
    dead.kill();
    let mut said = BufReader::new(tail.stderr.take().expect("piped")).lines().map(|line| line.expect("text"));
    assert!(said.next().is_some_and(|line| line.starts_with(&format!("{url}: FAILED"))));
    let key = most_requested("com");
    cluster.get(&http, 0, &key).await;
    let output = tail.wait_with_output().expect("it ends");
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && line.contains("com-1") && line.contains(&key), "{line}");
    // A node that stops ends those who follow it, and does not wait for them.
    let mut tail = cluster.command("tail", &[]);
    let tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    watched(&cluster, &http).await;
    assert!(cluster.nodes.remove(0).terminate().success());
    let output = tail.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("the node has ended"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stat_reads_again_and_again_until_it_has_enough_or_is_told() {
    let (cluster, http) = (Cluster::start(), Http::new());
    let some = cluster.run("stat", &["--interval", "50ms", "--count", "3", "--json"]);
    let readings: Vec<Value> = some.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let are_intervals: Vec<_> = readings.iter().map(|reading| reading["is_interval"].as_bool()).collect();
    assert_eq!((some.code, are_intervals), (Some(0), vec![Some(false), Some(true), Some(true)]), "{}", some.stderr);

    let mut watching = cluster.command("stat", &["--interval", "50ms"]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(watching.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    assert!(lines.next().is_some_and(|header| header.starts_with("node") && header.contains("hit %")));
    cluster.get(&http, 0, &most_requested("com")).await;
    assert!(lines.by_ref().take(3).any(|line| line.starts_with("com-1")));
    signal(&watching, "-INT");
    // Whatever it writes until then must not fill the pipe.
    lines.for_each(drop);
    assert_eq!(watching.wait().expect("it ends").code(), Some(0));
    // What was asked is in the access log too, which names clients as the request log does.
    let path = cluster.folder.path().join("com.access.log");
    eventually("a line of the access log", || async { read(&path).starts_with("alice - - [") }).await;
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The key that a region of the log asks for most.
fn most_requested(region: &str) -> String {
    let source = nearcast_datasets::LogSource::parse(LOG).expect("a place");
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for event in nearcast_datasets::read_events(&source).expect("a log").map(|event| event.expect("a row")) {
        if event.region == region {
            *counts.entry(event.key).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).expect("a key").0
}
