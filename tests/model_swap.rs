//! Trained versions in a running predictor: the second one takes over under open streams.

use std::{error::Error, net::SocketAddr, path::Path, time::Duration};

use futures::{StreamExt, channel::mpsc};
use nearcast_datasets::{LogSource, LogWriter, RequestEvent, ServedFrom, Timestamp, WriteOptions, read_events};
use nearcast_models::Registry;
use nearcast_predictor::{PredictorConfig, PredictorSettings, listen, run};
use nearcast_proto::{
    PredictorClient, config_file,
    message::{Command, NodeDescriptor, NodeName, NodeReport, PredictorNotice, Request, RequestBatch},
    wire,
};
use nearcast_trainer::{PublishOptions, RawTrainConfig, train};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tonic::Streaming;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// A node that reports what its region asks for, in the order of the log.
struct TestNode {
    region: String,
    reports: mpsc::Sender<wire::NodeMessage>,
    notices: Streaming<wire::PredictorMessage>,
    reported: u64,
}

impl TestNode {
    /// Opens the one stream that the node has in this test.
    async fn join(url: &str, region: &str) -> Result<Self> {
        let (mut reports, outgoing) = mpsc::channel(16);
        let node = NodeDescriptor {
            name: NodeName::from(format!("{region}-1").as_str()),
            region: region.into(),
            url: format!("http://{region}.test").into(),
            // It never has what it is asked for, so it cannot hold anything: its ghost must agree.
            capacity_bytes: 1,
            segment_bytes: 1 << 20,
        };
        reports.try_send(
            NodeReport::Hello { node, code_version: "test".to_owned(), purges: None, placement: None, stream: 0 }
                .into(),
        )?;
        let mut client = PredictorClient::connect(url.to_owned()).await?;
        let notices = timeout(PATIENCE, client.join(outgoing)).await??.into_inner();
        Ok(Self { region: region.to_owned(), reports, notices, reported: 0 })
    }

    async fn next(&mut self) -> Result<PredictorNotice> {
        let message = timeout(PATIENCE, self.notices.next()).await?.ok_or("the stream was dropped")??;
        Ok(PredictorNotice::try_from(message)?)
    }

    /// Reports one request and reads on until it was taken; returns the commands that came on the way.
    async fn report(&mut self, event: &RequestEvent) -> Result<Vec<Command>> {
        self.reported += 1;
        let request = Request {
            timestamp: event.timestamp,
            client: event.client.as_str().into(),
            region: self.region.as_str().into(),
            key: event.key.as_str().into(),
            size_bytes: event.size_bytes,
            range: None,
            served: ServedFrom::Origin,
            latency: Duration::from_millis(100),
        };
        let batch = RequestBatch { sequence: self.reported, requests: vec![request], dropped_count: 0 };
        self.reports.try_send(NodeReport::Requests(batch).into())?;
        let mut commands = Vec::new();
        loop {
            match self.next().await? {
                PredictorNotice::Commands(batch) => commands.extend(batch),
                PredictorNotice::Ack { sequence } if sequence == self.reported => return Ok(commands),
                _ => {}
            }
        }
    }
}

/// The first requests of the bundled log.
fn sample(count: usize) -> Result<Vec<RequestEvent>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/samples/web-1995.parquet");
    Ok(read_events(&LogSource::parse(path)?)?.take(count).collect::<Result<_, _>>()?)
}

/// Trains on `events` as `nearcast train` would, only shorter, and makes the version the champion.
fn publish(folder: &Path, events: &[RequestEvent]) -> Result<String> {
    let path = folder.join(format!("first-{}.parquet", events.len()));
    let mut writer = LogWriter::create(&path, WriteOptions::default())?;
    events.iter().try_for_each(|event| writer.push(event))?;
    writer.finish()?;
    let mut raw = RawTrainConfig::default();
    (raw.fit.epochs_max, raw.demand.epochs) = (1, 1);
    (raw.model.sequence.embedding_width, raw.model.sequence.hidden_width) = (16, 16);
    let registry = Registry::open(&folder.join("models").to_string_lossy())?;
    let options =
        PublishOptions { now: Timestamp::from_micros(1), alias: Some("champion".to_owned()), checkpoints: None };
    let log = LogSource::from(path.as_path());
    let published = train(&raw.try_into()?, &[log], &registry, &options, &mut |_| ())?;
    assert!(published.metrics.gate_fit.labels > 0, "{:?}", published.metrics.gate_fit);
    Ok(published.version.to_string())
}

/// Waits until the predictor's first version is in service.
async fn until_ready(probe: SocketAddr) -> Result<()> {
    loop {
        let mut socket = TcpStream::connect(probe).await?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
    }
}

/// Publishes on a thread of its own: training brings its own runtime.
fn publish_aside(folder: &Path, events: Vec<RequestEvent>) -> JoinHandle<Result<String, String>> {
    let folder = folder.to_path_buf();
    tokio::task::spawn_blocking(move || publish(&folder, &events).map_err(|error| error.to_string()))
}

/// Publishes the version that was trained in the folder `from` to the registry in `to`, and makes it the champion.
fn move_over(from: &Path, to: &Path) -> JoinHandle<Result<String, String>> {
    let (trained, registry) = (from.join("models/versions/v0001"), to.join("models"));
    let publish = move || {
        let registry = Registry::open(&registry.to_string_lossy())?;
        let version = registry.publish(&trained)?;
        registry.alias("champion", version)?;
        Ok(version.to_string())
    };
    tokio::task::spawn_blocking(move || publish().map_err(|error: nearcast_models::Error| error.to_string()))
}

/// Nodes that play a log, and what they were told on the way.
struct Play<E> {
    nodes: Vec<TestNode>,
    events: E,
    reported: u64,
    /// The versions that commands were decided with, in order.
    versions: Vec<String>,
}

impl<'a, E: Iterator<Item = &'a RequestEvent>> Play<E> {
    /// Plays one request at the node of its region, or at any when its region has none.
    async fn step(&mut self) -> Result<()> {
        let event = self.events.next().ok_or("the log is over")?;
        let count = self.nodes.len();
        let home = self.nodes.iter().position(|node| node.region == event.region);
        let node = &mut self.nodes[home.unwrap_or(self.reported as usize % count)];
        for command in node.report(event).await? {
            if self.versions.last().is_none_or(|last| **last != *command.model_version) {
                self.versions.push(command.model_version.to_string());
            }
        }
        self.reported += 1;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newly_trained_version_takes_over_without_dropping_a_stream() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let events = sample(6_000)?;
    assert_eq!(publish_aside(folder.path(), events[..3_000].to_vec()).await??, "v0001");
    let aside = tempfile::tempdir()?;
    assert_eq!(publish_aside(aside.path(), events.clone()).await??, "v0001");

    let text = format!(
        "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\nregistry_poll_seconds = 0.05\nregistry = {:?}\ndata_dir = {:?}",
        folder.path().join("models"),
        folder.path().join("data")
    );
    let settings: PredictorSettings = config_file::parse(Path::new("test.toml"), &text)?;
    let config = PredictorConfig::try_from(settings)?;
    let (grpc, http) = listen(&config).await?;
    let (url, probe) = (format!("http://{}", grpc.local_addr()?), http.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(run(grpc, http, config, async { drop(stopped.await) }));

    timeout(PATIENCE, until_ready(probe)).await??;
    let mut nodes = Vec::new();
    for region in ["com", "net", "edu"] {
        nodes.push(TestNode::join(&url, region).await?);
    }
    for node in &mut nodes {
        let PredictorNotice::Welcome { model_version, .. } = node.next().await? else {
            return Err("no welcome".into());
        };
        assert_eq!(&*model_version, "v0001");
    }

    let mut play = Play { nodes, events: events[3_000..].iter().cycle(), reported: 0, versions: Vec::new() };
    for _ in 0..500 {
        play.step().await?;
    }
    assert_eq!(play.versions, ["v0001"], "the first version gives orders");

    // The streams go on while the second version is published and swapped in.
    let second = move_over(aside.path(), folder.path());
    let mut left = REQUESTS_AFTER_PUBLISHING_MAX;
    while play.versions.len() < 2 && left > 0 {
        play.step().await?;
        left -= u32::from(second.is_finished());
    }
    assert_eq!(second.await??, "v0002");
    assert_eq!(play.versions, ["v0001", "v0002"]);
    let acknowledged: u64 = play.nodes.iter().map(|node| node.reported).sum();
    assert_eq!(acknowledged, play.reported, "all of it on the streams that were opened first");

    drop(stop);
    drop(play);
    timeout(PATIENCE, running).await???;
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(60);
/// Far more than are played while the registry is polled once.
const REQUESTS_AFTER_PUBLISHING_MAX: u32 = 100_000;
