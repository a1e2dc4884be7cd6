//! How many request events a predictor takes over gRPC on one core, and how long commands take.
//!
//! ```text
//! cargo run --release --package nearcast-predictor --example stream_rate -- 300000 20000    # events, then events/s
//! ```
//!
//! A predictor runs on a thread of its own, and four nodes on another stream a synthetic log to it. First as fast as they
//! are acknowledged, with the champion alone and with a second arm in force at a node of each pair; events per second of the
//! predictor's processor time are told. Then at a fixed rate: what a batch leads to is sent before it is acknowledged, so
//! that the time from a batch to its acknowledgement is no less than from an event to its command. In between the same with
//! a bus, embedded and on NATS (where `NEARCAST_NATS_SERVER` names the server's binary): there acknowledged is what the bus
//! keeps, and all of it must be learnt as well; last by a predictor that places keys, and so reads all clients' requests a
//! second time (its planning thread is not counted). The processor time of NATS and of the thread that writes the embedded bus
//! are not in it, and with a bus there are no miniatures. Reads processor time from
//! `/proc`, so it runs on Linux only.

#[path = "../../tests/support/nats.rs"]
mod nats;
#[path = "../../tests/support/port.rs"]
mod port;

use std::{
    error::Error,
    fs,
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nearcast_datasets::{
    ServedFrom, Timestamp,
    synthesize::{Workload, WorkloadConfig},
};
use nearcast_predictor::{
    PredictorConfig, PredictorSettings,
    arms::ArmSpec,
    experiments::{Deed, NodeHistory, Question, Slot},
    listen, run,
};
use nearcast_proto::{
    ControlClient, PredictorClient, config_file,
    message::{NodeDescriptor, NodeName, NodeReport, PredictorNotice, Request, RequestBatch},
    wire,
};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
    time::{Instant as Moment, sleep_until},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use nats::NatsServer;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const NODES: usize = 4;
const BATCH: usize = 256;
/// Batches that may be under way, as a node's own queue allows it.
const WINDOW: u64 = 8;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (count, rate) = (number(300_000)?, number(20_000)?);
    let log = make_log(count)?;
    let mut out = io::stdout().lock();
    let mut way = Way { arms: 1, ..Way::default() };
    tell(&mut out, "one arm", count, &play(&log, &way)?)?;
    tell(&mut out, "two arms", count, &play(&log, &Way { arms: 2, ..Way::default() })?)?;
    way.bus = Some("embedded".to_owned());
    tell(&mut out, "embedded", count, &play(&log, &way)?)?;
    if let Some(server) = NatsServer::start() {
        way.bus = Some(server.url());
        tell(&mut out, "NATS", count, &play(&log, &way)?)?;
        // A server of its own, so that nothing is there yet.
        drop(server);
    }
    if let Some(server) = NatsServer::start() {
        (way.bus, way.places_keys) = (Some(server.url()), true);
        tell(&mut out, "placing", count, &play(&log, &way)?)?;
    }
    let at_rate = Way { arms: 2, rate: Some(rate), ..Way::default() };
    let measured = play(&log[..log.len().min(rate as usize * 10)], &at_rate)?;
    let at = |share: f64| measured.latencies[(measured.latencies.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    writeln!(
        out,
        "two arms at {rate} events/s: batch to acknowledgement p50 {:.1} ms, p99 {:.1} ms, {} commands",
        at(0.5),
        at(0.99),
        measured.commands
    )?;
    Ok(())
}

fn tell(out: &mut impl Write, name: &str, count: u64, measured: &Measured) -> Result<()> {
    let per_core = count as f64 / measured.processor_seconds;
    writeln!(out, "{name:<9} {per_core:>8.0} events/s of a core, {:.1} s in all", measured.seconds)?;
    Ok(())
}

/// How a log is played.
#[derive(Debug, Default)]
struct Way {
    arms: usize,
    /// As fast as it goes without one.
    rate: Option<u64>,
    bus: Option<String>,
    /// Whether the predictor places keys as well.
    places_keys: bool,
}

#[derive(Debug, Default)]
struct Measured {
    processor_seconds: f64,
    seconds: f64,
    /// Ascending.
    latencies: Vec<Duration>,
    commands: u64,
}

fn make_log(count: u64) -> Result<Vec<(usize, Request)>> {
    let config = WorkloadConfig { request_count: count, ..WorkloadConfig::default() };
    let mut workload = Workload::new(&config)?;
    let mut log = Vec::new();
    while let Some(asked) = workload.next_request() {
        let client = Workload::client_name(asked.client);
        let request = Request {
            timestamp: asked.timestamp,
            client: client.into(),
            region: config.regions[asked.region].name.as_str().into(),
            key: workload.key_name(asked.key).into(),
            size_bytes: workload.size_bytes(asked.key),
            range: None,
            served: ServedFrom::Origin,
            latency: Duration::from_millis(100),
        };
        log.push((asked.client as usize % NODES, request));
    }
    Ok(log)
}

/// Plays the log to a fresh predictor.
#[expect(clippy::disallowed_methods, reason = "an example that measures time")]
fn play(log: &[(usize, Request)], way: &Way) -> Result<Measured> {
    let Way { arms, rate, bus, places_keys } = way;
    let folder = tempfile::tempdir()?;
    let (tell, told) = std::sync::mpsc::channel::<SocketAddr>();
    let (stop, stopped) = oneshot::channel::<()>();
    let bus_settings = bus.as_ref().map(|url| format!("[bus]\nurl = {url:?}\nname = \"p\"\n")).unwrap_or_default();
    let placement = if *places_keys { "[placement]\nkind = \"gapa\"\n" } else { "" };
    let settings = format!(
        "data_dir = {:?}\nlisten = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\n{bus_settings}{placement}",
        folder.path()
    );
    let settings: PredictorSettings = config_file::parse("stream_rate.toml".as_ref(), &settings)?;
    let config = PredictorConfig::try_from(settings)?;
    let served = thread::spawn(move || -> Result<f64> {
        Builder::new_current_thread().enable_all().build()?.block_on(async {
            let (grpc, http) = listen(&config).await?;
            tell.send(grpc.local_addr()?)?;
            run(grpc, http, config, async { drop(stopped.await) }).await?;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        })?;
        processor_seconds()
    });
    let address = told.recv()?;
    let start = Instant::now();
    let (mut latencies, commands) = Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut nodes = Vec::new();
        for number in 0..NODES {
            nodes.push(join(address, number).await?);
        }
        if *arms > 1 {
            begin(address).await?;
        }
        let mut playing = tokio::task::JoinSet::new();
        for (number, node) in nodes.into_iter().enumerate() {
            let own: Vec<Request> =
                log.iter().filter(|(at, _)| *at == number).map(|(_, request)| request.clone()).collect();
            playing.spawn(stream(node, own, rate.map(|rate| rate / NODES as u64)));
        }
        let mut all = (Vec::new(), 0);
        while let Some(done) = playing.join_next().await {
            let (latencies, commands) = done??;
            all.0.extend(latencies);
            all.1 += commands;
        }
        if bus.is_some() {
            learnt(address, log.len() as u64).await?;
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(all)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    drop(stop);
    let processor_seconds = served.join().map_err(|_| "the predictor panicked")??;
    latencies.sort_unstable();
    Ok(Measured { processor_seconds, seconds, latencies, commands })
}

/// Waits until so many requests are learnt.
async fn learnt(address: SocketAddr, count: u64) -> Result<()> {
    let mut control = ControlClient::connect(format!("http://{address}")).await?;
    loop {
        let status = control.status(wire::StatusRequest {}).await?.into_inner();
        let status: serde_json::Value = serde_json::from_str(&status.json)?;
        if status["account"]["requests"].as_u64() >= Some(count) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A node's stream.
struct Node {
    reports: mpsc::Sender<wire::NodeMessage>,
    notices: tonic::Streaming<wire::PredictorMessage>,
}

async fn join(address: SocketAddr, number: usize) -> Result<Node> {
    let (reports, receiver) = mpsc::channel(64);
    let node = NodeDescriptor {
        name: NodeName(Arc::from(format!("node-{number}"))),
        region: ["eu", "us", "asia"][number % 3].into(),
        url: format!("http://node-{number}.test").into(),
        capacity_bytes: 300 << 20,
        segment_bytes: 1 << 20,
    };
    reports
        .send(NodeReport::Hello { node, code_version: String::new(), purges: None, placement: None, stream: 0 }.into())
        .await?;
    reports.send(NodeReport::Inventory { held: Vec::new(), last: true }.into()).await?;
    let mut client = PredictorClient::connect(format!("http://{address}")).await?;
    let notices = client.join(ReceiverStream::new(receiver)).await?.into_inner();
    Ok(Node { reports, notices })
}

/// Begins an experiment, so that a second arm is in force at some nodes.
async fn begin(address: SocketAddr) -> Result<()> {
    let mut question = Question::new("rate", ArmSpec { version: None, learning: true, orders: true });
    let history = |number: usize| NodeHistory {
        node: format!("node-{number}").into(),
        first_micros: 0,
        slot_seconds: 600.0,
        slots: (0..30).map(|slot| Slot { requests: 1_000, hits: 500 + slot % 7, ..Slot::default() }).collect(),
    };
    question.history = Some((0..NODES).map(history).collect());
    question.turnover_seconds = Some(66.0);
    question.block_seconds = Some(600.0);
    question.span_seconds = 60_000.0;
    question.effect = 0.2;
    question.shadow_seconds = 0.0;
    question.season_blocks = Some(1_000);
    let mut deed = Deed {
        name: None,
        who: "example".to_owned(),
        why: "to measure".to_owned(),
        full: false,
        question: Some(question),
    };
    let mut control = ControlClient::connect(format!("http://{address}")).await?;
    for action in ["start", "advance"] {
        let json = serde_json::to_string(&deed)?;
        control.experiment(wire::ExperimentRequest { action: action.to_owned(), json }).await?;
        deed.question = None;
    }
    Ok(())
}

/// Streams a node's requests; how long each batch took to be acknowledged, and how many commands came.
async fn stream(mut node: Node, requests: Vec<Request>, rate: Option<u64>) -> Result<(Vec<Duration>, u64)> {
    let (mut sent, mut acknowledged, mut commands) = (Vec::new(), 0_u64, 0_u64);
    let mut latencies = Vec::new();
    let begin = Moment::now();
    for (sequence, batch) in (1_u64..).zip(requests.chunks(if rate.is_some() { BATCH / 8 } else { BATCH })) {
        if let Some(rate) = rate {
            let due = (sequence - 1) as f64 * batch.len() as f64 / rate as f64;
            let due = begin + Duration::from_secs_f64(due);
            while Moment::now() < due {
                tokio::select! {
                    () = sleep_until(due) => {}
                    notice = node.notices.next() => {
                        read(notice, &sent, &mut latencies, (&mut acknowledged, &mut commands))?;
                    }
                }
            }
        }
        while sequence - acknowledged > WINDOW {
            let notice = node.notices.next().await;
            read(notice, &sent, &mut latencies, (&mut acknowledged, &mut commands))?;
        }
        let now = nearest_now();
        let requests = batch.iter().map(|request| Request { timestamp: now, ..request.clone() }).collect();
        sent.push(Moment::now());
        let batch = RequestBatch { sequence, requests, dropped_count: 0 };
        node.reports.send(NodeReport::Requests(batch).into()).await?;
    }
    while acknowledged < sent.len() as u64 {
        let notice = node.notices.next().await;
        read(notice, &sent, &mut latencies, (&mut acknowledged, &mut commands))?;
    }
    Ok((latencies, commands))
}

fn read(
    notice: Option<Result<wire::PredictorMessage, tonic::Status>>,
    sent: &[Moment],
    latencies: &mut Vec<Duration>,
    (acknowledged, commands): (&mut u64, &mut u64),
) -> Result<()> {
    match PredictorNotice::try_from(notice.ok_or("the stream has ended")??)? {
        PredictorNotice::Ack { sequence } => {
            // An acknowledgement stands for all before it.
            for batch in *acknowledged..sequence {
                latencies.extend(usize::try_from(batch).ok().and_then(|batch| sent.get(batch)).map(Moment::elapsed));
            }
            *acknowledged = sequence;
        }
        PredictorNotice::Commands(batch) => *commands += batch.len() as u64,
        _ => {}
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "an example that plays nodes")]
fn nearest_now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Seconds that this thread had a processor: what others do on the machine does not count.
fn processor_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: u64 = text.split(' ').next().ok_or("no time in /proc/thread-self/schedstat")?.parse()?;
    Ok(nanos as f64 * 1e-9)
}
