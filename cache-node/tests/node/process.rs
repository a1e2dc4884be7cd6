//! The `nearcast-node` binary: how it starts, ends and dies.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    origin::{Behaviour, Origin},
    running::{config_text, get, try_get},
};

/// A process that is killed when the test ends early.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Process {
    /// Starts the binary and waits until it says that it serves.
    pub(crate) fn start(config: &Path) -> Self {
        Self::start_by(&mut Command::new(env!("CARGO_BIN_EXE_nearcast-node")), config)
    }

    pub(crate) fn start_by(command: &mut Command, config: &Path) -> Self {
        let mut child = command.arg("-c").arg(config).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        stderr.read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("not ready: {line}")).to_owned();
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
        Self { child, url }
    }

    pub(crate) fn signal(&self, name: &str) {
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

pub(crate) fn write_config(dir: &Path, origin_url: &str, more: &str) -> PathBuf {
    let path = dir.join("node.toml");
    std::fs::write(&path, config_text("n1", &dir.join("data"), origin_url, more)).expect("a file");
    path
}

pub(crate) fn run(arguments: &[&str]) -> (Output, String) {
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
async fn systemd_is_told_when_the_node_serves_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let path = write_config(dir.path(), "http://127.0.0.1:9", "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast-node"));
    let mut process = Process::start_by(command.env("NOTIFY_SOCKET", dir.path().join("notify")), &path);
    let told = || {
        let mut message = [0; 64];
        let length = socket.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert_eq!(told().trim(), "READY=1");
    process.signal("-TERM");
    assert_eq!(told().trim(), "STOPPING=1");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
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

/// Kills a node under load at random times, as often as `NEARCAST_CRASHES` says:
///
/// ```text
/// NEARCAST_CRASHES=100 cargo nextest run -p nearcast-cache-node killed_under_load --no-capture
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_under_load_again_and_again_keeps_what_it_wrote_and_serves_no_wrong_byte() {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (crashes, seed) = (number("NEARCAST_CRASHES", 6), number("NEARCAST_SEED", 1));
    println!("repeat with NEARCAST_CRASHES={crashes} NEARCAST_SEED={seed}");
    let (mut rng, dir) = (ChaCha8Rng::seed_from_u64(seed), tempfile::tempdir().unwrap());
    let origin = Arc::new(Origin::start(Behaviour { size: 9_000, ..Behaviour::default() }).await);
    let path = write_config(dir.path(), &origin.url(), "");
    let targets: Arc<Vec<String>> = Arc::new((0..200).map(|number| format!("/object/{number}")).collect());
    // By object: since when it has been held.
    let held: Arc<Mutex<BTreeMap<usize, Instant>>> = Arc::default();
    let (mut kept, mut lost, mut answered) = (0_u32, Vec::new(), 0);
    for crash in 0..crashes {
        let process = Process::start(&path);
        let is_up = Arc::new(AtomicBool::new(true));
        let clients: Vec<_> = (0..4_u64)
            .map(|client| {
                let (origin, targets, held) = (Arc::clone(&origin), Arc::clone(&targets), Arc::clone(&held));
                let (is_up, url) = (Arc::clone(&is_up), process.url.clone());
                let mut rng = ChaCha8Rng::seed_from_u64(seed ^ (crash << 8) ^ client);
                tokio::spawn(async move {
                    let mut answered = 0;
                    while is_up.load(Ordering::Relaxed) {
                        let object = rng.random_range(0..targets.len());
                        // A node that dies breaks off: what counts is what it gave as whole.
                        let Ok(answer) = try_get(&url, &targets[object]).await else { continue };
                        assert_eq!(
                            answer.body,
                            origin.content(&targets[object]),
                            "{} in crash {crash}",
                            targets[object]
                        );
                        held.lock().unwrap().entry(object).or_insert_with(now);
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        let life = Duration::from_millis(rng.random_range(50..1_500));
        tokio::time::sleep(life).await;
        let killed_at = now();
        process.signal("-KILL");
        is_up.store(false, Ordering::Relaxed);
        for client in clients {
            answered += client.await.unwrap();
        }
        drop(process);

        let process = Process::start(&path);
        let written = std::mem::take(&mut *held.lock().unwrap());
        for (object, since) in written {
            let answer = get(&process.url, &targets[object]).await;
            assert_eq!(answer.body, origin.content(&targets[object]), "{} after crash {crash}", targets[object]);
            let was_written = killed_at.saturating_duration_since(since) > WRITTEN_WITHIN;
            match answer.cache().starts_with("hit") {
                _ if !was_written => {}
                true => kept += 1,
                false => lost.push((crash, targets[object].clone())),
            }
            held.lock().unwrap().insert(object, if was_written { since } else { now() });
        }
    }
    println!("{answered} answers, {kept} of {} objects kept over {crashes} crashes", kept as usize + lost.len());
    assert!(answered > 0 && lost.len() * 20 <= kept as usize + lost.len(), "{kept} kept, lost: {lost:?}");
}

#[expect(clippy::disallowed_methods, reason = "a test of a process in real time")]
fn now() -> Instant {
    Instant::now()
}

/// After that, what a node took in is on disk.
const WRITTEN_WITHIN: Duration = Duration::from_millis(500);

fn is_on_disk(dir: &Path, payload: &[u8]) -> bool {
    let files = std::fs::read_dir(dir).expect("a folder");
    files.flatten().any(|file| {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        bytes.windows(payload.len()).any(|window| window == payload)
    })
}
