//! The `nearcast-node` binary: how it starts, ends and dies.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use crate::{
    origin::{Behaviour, Origin},
    running::{config_text, get},
};

/// A process that is killed when the test ends early.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    /// Starts the binary and waits until it says that it serves.
    fn start(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast-node"));
        let mut child = command.arg("-c").arg(config).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        stderr.read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("not ready: {line}")).to_owned();
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
        Self { child, url }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(name).arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_config(dir: &Path, origin_url: &str, more: &str) -> PathBuf {
    let path = dir.join("node.toml");
    std::fs::write(&path, config_text("n1", &dir.join("data"), origin_url, more)).expect("a file");
    path
}

fn run(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_nearcast-node")).args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn a_wrong_configuration_is_a_clear_message_and_exit_1() {
    let dir = tempfile::tempdir().unwrap();
    let path = write_config(dir.path(), "http://127.0.0.1:9", "");
    let file = path.to_str().unwrap();
    assert!(run(&["-c", file, "--check-config"]).0.status.success());
    write_config(dir.path(), "http://127.0.0.1:9", "[store]\nmemry = \"1MiB\"");
    let (output, said) = run(&["-c", file, "--check-config"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("node.toml") && said.contains("did you mean `memory`?"), "{said}");
}

#[test]
fn a_taken_port_is_a_clear_message_and_exit_1() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let path = write_config(dir.path(), "http://127.0.0.1:9", "");
    let text = std::fs::read_to_string(&path).unwrap().replace("127.0.0.1:0", &address);
    std::fs::write(&path, text).unwrap();
    let (output, said) = run(&["-c", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

#[tokio::test]
async fn sigterm_drains_and_exits_0() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let mut process = Process::start(&write_config(dir.path(), &origin.url(), ""));
    assert_eq!(get(&process.url, "/x").await.body, origin.content("/x"));
    // A request under way at the signal is answered.
    origin.close_gate();
    let url = process.url.clone();
    let under_way = tokio::spawn(async move { get(&url, "/y").await });
    while origin.seen().last().is_none_or(|seen| seen.target != "/y") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.signal("-TERM");
    origin.open_gate();
    assert_eq!(under_way.await.unwrap().body, origin.content("/y"));
    let status = tokio::task::spawn_blocking(move || process.child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_killed_node_serves_what_was_on_disk_and_no_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour { size: 4_000, ..Behaviour::default() }).await;
    let path = write_config(dir.path(), &origin.url(), "");
    let targets: Vec<String> = (0..20).map(|number| format!("/object/{number}")).collect();
    let process = Process::start(&path);
    for target in &targets {
        get(&process.url, target).await;
    }
    let last = origin.content(&targets[19]);
    while !is_on_disk(&dir.path().join("data/payloads"), &last) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    process.signal("-KILL");
    drop(process);

    let asked = origin.seen().len();
    let process = Process::start(&path);
    for target in &targets {
        assert_eq!(get(&process.url, target).await.body, origin.content(target), "{target}");
    }
    assert_eq!(origin.seen().len(), asked, "everything was on disk: {:?}", &origin.seen()[asked..]);
}

fn is_on_disk(dir: &Path, payload: &[u8]) -> bool {
    let files = std::fs::read_dir(dir).expect("a folder");
    files.flatten().any(|file| {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        bytes.windows(payload.len()).any(|window| window == payload)
    })
}
