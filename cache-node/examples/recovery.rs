//! How long a node takes to take up again what it held, and the memory that each entry takes.
//!
//! ```sh
//! cargo run --release -p nearcast-cache-node --example recovery -- 1000000
//! ```
//!
//! Fills a node with so many objects of 1 KiB through HTTP, stops it, and starts it again; the same with an empty one
//! says what of the time and memory is not the entries'. Prints one JSON document. The first start after the fill has
//! the files in the system's page cache, as after a crash or an upgrade, but not as after a reboot.

#![expect(clippy::disallowed_methods, reason = "it measures how long things take")]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::runtime::Builder;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--serve", config] => serve(Path::new(config)),
        [count] => measure(count.parse().expect("a number of entries")),
        _ => measure(100_000),
    }
    ExitCode::SUCCESS
}

/// The node, in a process of its own.
fn serve(config: &Path) {
    // Says how long each part of the start took.
    tracing_subscriber::fmt()
        .with_env_filter("warn,nearcast_cache_node::shell=debug")
        .with_writer(std::io::stderr)
        .init();
    support::serve(config, Builder::new_multi_thread());
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the document is what this program is for")]
fn measure(count: u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let origin = support::origin(answer);
    let config = |name: &str| {
        let path = dir.path().join(format!("{name}.toml"));
        let capacity = (count * 1_024).max(64 << 20) * 2;
        let text = format!(
            "name = \"{name}\"\nregion = \"eu\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{name}\"\ncapacity = \"{capacity}B\"\n\
             [origin]\nurl = \"http://{origin}\"\n[index]\nentries_max = {}\nkeys_max = {}\n\
             [store]\nmemory = \"1MiB\"\ndisk = \"{}B\"\n[log]\nenabled = false\n",
            count * 2,
            count * 2,
            count * 8_192 + (256 << 20),
        );
        std::fs::write(&path, text).expect("a writable folder");
        path
    };
    let (full, empty) = (config("full"), config("empty"));
    let node = Node::start(&full);
    eprintln!("filling {count} entries");
    let filling = Instant::now();
    fill(node.address, count);
    let fill_seconds = filling.elapsed().as_secs_f64();
    let (after_fill, filled, journal_dropped) = (node.resident_bytes(), node.entries(), node.journal_dropped());
    node.stop();
    let journal_bytes = std::fs::metadata(dir.path().join("full/index.journal")).map_or(0, |file| file.len());
    let mut runs = Vec::new();
    for _ in 0..3 {
        let (empty, full) = (Node::start(&empty), Node::start(&full));
        let entries = full.entries();
        let resident = full.resident_bytes().saturating_sub(empty.resident_bytes());
        runs.push((full.start.saturating_sub(empty.start), resident, entries));
        empty.stop();
        full.stop();
    }
    let (start, resident, entries) = runs.into_iter().min().expect("three runs");
    let document = serde_json::json!({
        "schema": "nearcast.bench-recovery/1",
        "entries": count,
        "entries_filled": filled,
        "entries_restored": entries,
        "journal_dropped": journal_dropped,
        "recovery_seconds": start.as_secs_f64(),
        "recovery_seconds_per_million": start.as_secs_f64() * 1e6 / count as f64,
        "resident_bytes_per_entry": resident as f64 / count as f64,
        "resident_bytes_after_fill": after_fill,
        "journal_bytes_per_entry": journal_bytes as f64 / count as f64,
        "fill_seconds": fill_seconds,
    });
    println!("{document:#}");
}

/// A node's process.
struct Node {
    process: Child,
    address: SocketAddr,
    /// From its start until it serves.
    start: Duration,
}

impl Node {
    #[expect(clippy::print_stderr, reason = "what the node says of its start is for who runs this")]
    fn start(config: &Path) -> Self {
        let begun = Instant::now();
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        let mut process =
            command.arg("--serve").arg(config).stderr(Stdio::piped()).spawn().expect("this program can be run");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let address = loop {
            let line = lines.next().expect("the node ended").expect("text");
            if let Some(url) = line.strip_prefix("ready http://") {
                break url.parse().expect("an address");
            }
            eprintln!("{line}");
        };
        let start = begun.elapsed();
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address, start }
    }

    fn entries(&self) -> u64 {
        self.status()["held"]["segments"].as_u64().unwrap_or_default()
    }

    /// Index changes that were not written down because their queue was full: entries that a restart forgets.
    fn journal_dropped(&self) -> u64 {
        self.status()["repairs"]["journal_dropped"].as_u64().unwrap_or_default()
    }

    fn status(&self) -> serde_json::Value {
        support::status(self.address)
    }

    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1_024
    }

    fn stop(mut self) {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill");
        assert!(self.process.wait().expect("it ends").success());
    }
}

/// Asks for every object once, over a few connections, several requests at a time.
fn fill(node: SocketAddr, count: u64) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut stream = BufReader::new(TcpStream::connect(node).expect("it listens"));
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    if first >= count {
                        return;
                    }
                    let last = (first + BATCH).min(count);
                    let requests: String = (first..last)
                        .map(|number| format!("GET {} HTTP/1.1\r\nhost: node\r\n\r\n", target(number)))
                        .collect();
                    stream.get_mut().write_all(requests.as_bytes()).expect("writable");
                    for _ in first..last {
                        assert_eq!(support::read_answer(&mut stream), SIZE, "an answer of another size");
                    }
                }
            });
        }
    });
}

/// Keys as long as those of a shop's catalogue.
fn target(number: u64) -> String {
    format!("/catalogue/products/{}/{number:09}", number % 1_000)
}

/// Every key has a body and headers of its own.
fn answer(request: &str) -> Vec<u8> {
    let number = request.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 26 Nov 2026 12:00:00 GMT\r\nContent-Type: image/jpeg\r\n\
         Content-Length: {SIZE}\r\nLast-Modified: Wed, 25 Nov 2026 08:00:00 GMT\r\nETag: \"{number}\"\r\n\
         Cache-Control: public, max-age=604800\r\n\r\n",
    )
    .into_bytes();
    let body = number.as_bytes().iter().copied().chain(std::iter::repeat(b'x'));
    answer.extend(body.take(SIZE));
    answer
}

const SIZE: usize = 1_024;
const CONNECTIONS: usize = 8;
const BATCH: u64 = 16;
