//! What a full prefetch queue costs the clients who ask for what is held already.
//!
//! ```sh
//! cargo run --release -p nearcast-cache-node --example prefetch -- [ROUNDS] [SECONDS] [REQUESTS_PER_SECOND] [ORDERS_PER_SECOND]
//! ```
//!
//! One node on the first core answers hits of 1 KiB over 32 connections, asked for at a fixed rate whatever became of
//! those before, without prefetching and with its prefetch queue kept full, turn by turn. Clients have the second core;
//! the origin and the predictor share it at the lowest priority. Orders are for objects of 256 KiB; without a fourth
//! number, there are as many as the node takes. Times are from when a request was due. Prints one JSON
//! document with the medians of all rounds. Needs Linux, `taskset` and `chrt`.

#![expect(clippy::disallowed_methods, reason = "it measures how long things take")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nearcast_datasets::Timestamp;
use nearcast_proto::{
    PredictorServer,
    message::{
        Action, Command as Order, CommandId, Epoch, NodeReport, PredictorNotice, PurgeUpdate, SegmentSet, Source,
    },
    wire,
};
use tokio::{runtime::Builder, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // As `nearcast-node` runs on a machine of one core.
        ["--serve", config] => support::serve(Path::new(config), Builder::new_current_thread()),
        ["--sources", orders_per_second] => sources(orders_per_second.parse().expect("a number")),
        numbers => {
            let number =
                |at: usize, default: u64| numbers.get(at).map_or(default, |text| text.parse().expect("a number"));
            measure(number(0, 10), Duration::from_secs(number(1, 3)), number(2, 3_000), number(3, 0));
        }
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the document is what this program is for")]
fn measure(rounds: u64, length: Duration, rate: u64, orders_per_second: u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let own = std::env::current_exe().expect("this program").display().to_string();
    let orders = orders_per_second.to_string();
    let mut sources = Process::start(&["chrt", "-i", "0", "taskset", "-c", "1", &own, "--sources", &orders]);
    let [origin, predictor, switch] = [0; 3].map(|_| sources.next_line());
    let config = dir.path().join("node.toml");
    let text = format!(
        "name = \"node\"\nregion = \"eu\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"data\"\ncapacity = \"512MiB\"\n\
         [origin]\nurl = \"http://{origin}\"\n[predictor]\nurl = \"http://{predictor}\"\n\
         [store]\nmemory = \"64MiB\"\ndisk = \"1GiB\"\n[log]\nenabled = false\n"
    );
    std::fs::write(&config, text).expect("a writable folder");
    let config = config.display().to_string();
    let mut node = Process::start(&["taskset", "-c", "0", &own, "--serve", &config]);
    let address: SocketAddr = node.next_line().trim_start_matches("ready http://").parse().expect("an address");
    let switch: SocketAddr = switch.parse().expect("an address");
    // Everything asked for later is held from here on.
    ask_all(address, Duration::from_secs(1), rate);
    let mut without = Vec::new();
    let mut with = Vec::new();
    let mut prefetched = 0;
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        without.push(Spread::of(ask_all(address, length, rate)));
        turn(switch, true);
        // The queue fills.
        std::thread::sleep(Duration::from_millis(500));
        let before = landed_bytes(address);
        with.push(Spread::of(ask_all(address, length, rate)));
        prefetched += landed_bytes(address) - before;
        turn(switch, false);
        std::thread::sleep(Duration::from_millis(500));
    }
    let (without, with) = (Spread::median(&without), Spread::median(&with));
    let document = serde_json::json!({
        "schema": "nearcast.bench-prefetch/1",
        "requests_per_second": rate,
        "prefetched_bytes_per_second": prefetched as f64 / (rounds as f64 * length.as_secs_f64()),
        "without": without.to_json(),
        "with": with.to_json(),
        "p99_ratio": with.p99 / without.p99,
        "p50_ratio": with.p50 / without.p50,
    });
    println!("{document:#}");
}

/// Milliseconds.
#[derive(Clone, Copy, Debug)]
struct Spread {
    p50: f64,
    p99: f64,
    p999: f64,
}

impl Spread {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }

    fn median(all: &[Self]) -> Self {
        let median = |of: fn(&Self) -> f64| {
            let mut values: Vec<f64> = all.iter().map(of).collect();
            values.sort_unstable_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self { p50: median(|it| it.p50), p99: median(|it| it.p99), p999: median(|it| it.p999) }
    }

    fn to_json(self) -> serde_json::Value {
        serde_json::json!({ "p50_ms": self.p50, "p99_ms": self.p99, "p999_ms": self.p999 })
    }
}

/// A program that says on its standard error what it has to say.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Process {
    fn start(words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        let mut child = command.args(&words[1..]).stderr(Stdio::piped()).spawn().expect("it can be run");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { child, lines }
    }

    fn next_line(&mut self) -> String {
        self.lines.next().expect("it ended").expect("text")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for hits at a fixed rate; returns how long each took since it was due.
fn ask_all(node: SocketAddr, length: Duration, rate: u64) -> Vec<Duration> {
    let pause = Duration::from_secs(1) * u32::try_from(CONNECTIONS).expect("few") / u32::try_from(rate).expect("sane");
    let begun = Instant::now() + Duration::from_millis(50);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let first =
                    begun + pause * u32::try_from(number).expect("few") / u32::try_from(CONNECTIONS).expect("few");
                scope.spawn(move || ask(node, first, begun + length, pause, number))
            })
            .collect();
        asking.into_iter().flat_map(|asking| asking.join().expect("no panic")).collect()
    })
}

fn ask(node: SocketAddr, first: Instant, end: Instant, pause: Duration, seed: u64) -> Vec<Duration> {
    let stream = TcpStream::connect(node).expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let mut stream = BufReader::new(stream);
    let (mut due, mut number, mut took) = (first, seed, Vec::new());
    while due < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let request = format!("GET /hot/{} HTTP/1.1\r\nhost: node\r\n\r\n", number % HOT);
        stream.get_mut().write_all(request.as_bytes()).expect("writable");
        support::read_answer(&mut stream);
        took.push(due.elapsed());
        due += pause;
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 1;
    }
    took
}

fn turn(switch: SocketAddr, on: bool) {
    TcpStream::connect(switch).expect("it listens").write_all(&[u8::from(on)]).expect("writable");
}

fn landed_bytes(node: SocketAddr) -> u64 {
    support::status(node)["segments"]["prefetch"]["landed_bytes"].as_u64().expect("a count")
}

/// The origin and the predictor, in a process of their own.
#[expect(clippy::print_stderr, reason = "its parent reads where they are")]
fn sources(orders_per_second: u64) {
    let pause = Duration::from_secs(1).checked_div(u32::try_from(orders_per_second).expect("sane")).unwrap_or_default();
    let is_on = Arc::new(AtomicBool::default());
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
    eprintln!("{}", support::origin(answer));
    eprintln!("{}", listener.local_addr().expect("bound"));
    let switch = TcpListener::bind("127.0.0.1:0").expect("a free port");
    eprintln!("{}", switch.local_addr().expect("bound"));
    let turned = Arc::clone(&is_on);
    std::thread::spawn(move || {
        for mut stream in switch.incoming().flatten() {
            let mut word = [0];
            stream.read_exact(&mut word).expect("a byte");
            turned.store(word[0] > 0, Ordering::Relaxed);
        }
    });
    let service = PredictorServer::new(Orders { is_on, pause, next: Arc::default() });
    let serving = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
    runtime.block_on(serving).expect("it serves");
}

/// A predictor that orders another object as soon as there is room in the node's queue.
struct Orders {
    is_on: Arc<AtomicBool>,
    pause: Duration,
    next: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl wire::predictor_server::Predictor for Orders {
    type JoinStream = ReceiverStream<Result<wire::PredictorMessage, Status>>;

    async fn join(&self, request: Request<Streaming<wire::NodeMessage>>) -> Result<Response<Self::JoinStream>, Status> {
        let mut reports = request.into_inner();
        let (sender, receiver) = mpsc::channel(64);
        let welcome = PredictorNotice::Welcome {
            epoch: Epoch(1),
            arm: Arc::from("nearcast"),
            model_version: Arc::from("v1"),
            assignment: 1,
        };
        let purges = PurgeUpdate { log: Arc::from("bench"), purges: Vec::new(), upto: 0, has_gap: false, latest: 0 };
        for notice in [welcome, PredictorNotice::Purges(purges)] {
            sender.send(Ok(notice.into())).await.expect("there is room");
        }
        let open = Arc::new(AtomicU64::default());
        let ended = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok(Some(message)) = reports.message().await {
                if let NodeReport::Results(results) = NodeReport::try_from(message).expect("the contract") {
                    ended.fetch_sub(results.len() as u64, Ordering::Relaxed);
                }
            }
        });
        let (is_on, pause, next) = (Arc::clone(&self.is_on), self.pause, Arc::clone(&self.next));
        tokio::spawn(async move {
            loop {
                if !is_on.load(Ordering::Relaxed) || open.load(Ordering::Relaxed) >= QUEUED {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                open.fetch_add(1, Ordering::Relaxed);
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                let notice = PredictorNotice::Commands(vec![order(next.fetch_add(1, Ordering::Relaxed))]);
                if sender.send(Ok(notice.into())).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn order(number: u64) -> Order {
    Order {
        id: CommandId(number),
        epoch: Epoch(1),
        action: Action::Replicate,
        target: SegmentSet { key: format!("/cold/{number}").into(), size_bytes: COLD_BYTES as u64, segments: vec![0] },
        sources: vec![Source::Origin],
        deadline: Timestamp::from_micros(i64::MAX),
        probability: 0.5,
        expected_value_seconds: 1.0,
        arm: Arc::from("nearcast"),
        model_version: Arc::from("v1"),
    }
}

/// What is asked for, and what is fetched ahead.
fn answer(request: &str) -> Vec<u8> {
    let size = if request.contains("/cold/") { COLD_BYTES } else { HOT_BYTES };
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nDate: Thu, 26 Nov 2026 12:00:00 GMT\r\nContent-Length: {size}\r\n\
         Cache-Control: public, max-age=604800000\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + size, b'x');
    answer
}

const CONNECTIONS: u64 = 32;
/// Objects that clients ask for.
const HOT: u64 = 100;
const HOT_BYTES: usize = 1_024;
const COLD_BYTES: usize = 256 << 10;
/// Orders that the node has at a time.
const QUEUED: u64 = 1_024;
