//! A predictor in the process and nodes that say what a test wants.

use std::{future::Future, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use nearcast_datasets::{ServedFrom, Timestamp};
use nearcast_predictor::{PredictorConfig, PredictorSettings, Result, listen, run};
use nearcast_proto::{
    ControlClient, PredictorClient, config_file,
    message::{
        CacheMap, Command, NodeDescriptor, NodeName, NodeReport, PredictorNotice, Request, RequestBatch, SegmentSet,
    },
    wire,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Status, Streaming, transport::Channel};

/// Generous, so that a loaded machine does not fail a test that would pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running predictor. Dropping it leaves the server to the runtime's end; `stop` ends it in order.
pub(crate) struct TestPredictor {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) folder: Arc<TempDir>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<()>>,
}

impl TestPredictor {
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().expect("a temporary folder")), "").await
    }

    /// Starts on a folder that may have been used before, with some more lines of configuration.
    pub(crate) async fn start_in(folder: Arc<TempDir>, more: &str) -> Self {
        let config = config(folder.path(), more);
        let (grpc_listener, http_listener) = listen(&config).await.expect("free ports");
        let (grpc, http) = (grpc_listener.local_addr(), http_listener.local_addr());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(run(grpc_listener, http_listener, config, async { drop(stopped.await) }));
        let predictor =
            Self { grpc: grpc.expect("a bound socket"), http: http.expect("a bound socket"), folder, stop, running };
        eventually("readiness", async || predictor.get("/readyz").await.0 == 200).await;
        predictor
    }

    pub(crate) async fn stop(self) -> Result<()> {
        drop(self.stop);
        timeout(PATIENCE, self.running).await.expect("ends in time").expect("does not panic")
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.grpc)).expect("a URL");
        endpoint.connect().await.expect("the predictor listens")
    }

    pub(crate) async fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel().await)
    }

    /// Status code and body of an HTTP answer.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (code, answer) = self.send(&format!("GET {path} HTTP/1.1"), "").await;
        (code, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    /// Sends a request as it is written, but for what every one needs. Status code and the whole answer.
    pub(crate) async fn send(&self, head: &str, body: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.http).await.expect("the predictor listens");
        let length = body.len();
        let request = format!("{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).await.expect("writable");
        let mut answer = String::new();
        timeout(PATIENCE, socket.read_to_string(&mut answer)).await.expect("an answer in time").expect("text");
        (answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line"), answer)
    }

    pub(crate) async fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/status").await.1).expect("JSON")
    }

    pub(crate) async fn set_arm(&self, arm: &str) -> Result<String, Status> {
        let request = wire::SetArmRequest { arm: arm.to_owned(), reset: false };
        Ok(self.control().await.set_arm(request).await?.into_inner().arm)
    }

    /// The names of the nodes that hold a key, as far as the predictor knows.
    pub(crate) async fn locate(&self, key: &str) -> Vec<String> {
        let reply = self.control().await.locate(wire::LocateRequest { key: key.to_owned() }).await.expect("an answer");
        reply.into_inner().holders.into_iter().map(|holder| holder.node).collect()
    }
}

fn config(folder: &Path, more: &str) -> PredictorConfig {
    let text = format!(
        "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\nregistry_poll_seconds = 0.05\ndata_dir = {:?}\n{more}",
        folder.join("data")
    );
    let settings: PredictorSettings = config_file::parse(Path::new("test.toml"), &text).expect("valid settings");
    PredictorConfig::try_from(settings).expect("valid settings")
}

/// Waits until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} was awaited in vain"));
}

/// One node's stream.
pub(crate) struct TestNode {
    reports: mpsc::Sender<wire::NodeMessage>,
    notices: Streaming<wire::PredictorMessage>,
    sequence: u64,
}

impl TestNode {
    /// Connects and says hello.
    pub(crate) async fn join(predictor: &TestPredictor, name: &str, region: &str) -> Result<Self, Status> {
        Self::connect(predictor, hello(name, region).into()).await
    }

    /// Connects and says something else first.
    pub(crate) async fn connect(predictor: &TestPredictor, first: wire::NodeMessage) -> Result<Self, Status> {
        Self::connect_at(predictor.grpc, first).await
    }

    /// Connects to an address, at which there may be nobody.
    pub(crate) async fn connect_at(address: SocketAddr, first: wire::NodeMessage) -> Result<Self, Status> {
        let (reports, outgoing) = mpsc::channel(64);
        reports.send(first).await.expect("room for one");
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("a URL");
        let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client = PredictorClient::new(channel);
        let answer = timeout(PATIENCE, client.join(ReceiverStream::new(outgoing))).await.expect("an answer in time");
        Ok(Self { reports, notices: answer?.into_inner(), sequence: 0 })
    }

    pub(crate) async fn say(&self, report: impl Into<wire::NodeMessage>) {
        assert!(self.try_say(report).await, "the stream is open");
    }

    /// Whether there was somebody to be told.
    pub(crate) async fn try_say(&self, report: impl Into<wire::NodeMessage>) -> bool {
        self.reports.send(report.into()).await.is_ok()
    }

    /// Reports that a client was answered from the origin.
    pub(crate) async fn request(&mut self, client: &str, region: &str, key: &str) {
        let request = Request {
            timestamp: Timestamp::from_micros(0),
            client: client.into(),
            region: region.into(),
            key: key.into(),
            size_bytes: 10_000,
            range: None,
            served: ServedFrom::Origin,
            latency: Duration::from_millis(100),
        };
        assert!(self.log(vec![request]).await, "the stream is open");
    }

    /// Reports requests in one batch; whether there was somebody to be told.
    pub(crate) async fn log(&mut self, requests: Vec<Request>) -> bool {
        self.sequence += 1;
        let batch = RequestBatch { sequence: self.sequence, requests, dropped_count: 0 };
        self.try_say(NodeReport::Requests(batch)).await
    }

    /// The next message, or how the stream ended.
    pub(crate) async fn next(&mut self) -> Result<PredictorNotice, Status> {
        match timeout(PATIENCE, self.notices.next()).await.expect("a message in time") {
            Some(message) => Ok(PredictorNotice::try_from(message?).expect("a well-formed message")),
            None => Err(Status::ok("the end")),
        }
    }

    /// Reads on until a message is what is looked for.
    pub(crate) async fn find<T>(&mut self, mut wanted: impl FnMut(PredictorNotice) -> Option<T>) -> T {
        loop {
            let notice = self.next().await.expect("the stream is open");
            if let Some(found) = wanted(notice) {
                return found;
            }
        }
    }

    /// Reads on until a cache map is what is looked for.
    pub(crate) async fn find_map(&mut self, wanted: impl Fn(&CacheMap) -> bool) -> CacheMap {
        self.find(|notice| match notice {
            PredictorNotice::Map(map) if wanted(&map) => Some(map),
            _ => None,
        })
        .await
    }

    /// Reads on until every request reported so far was taken; returns the commands that came on the way.
    pub(crate) async fn settle(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        let last = self.sequence;
        self.find(|notice| match notice {
            PredictorNotice::Commands(batch) => {
                commands.extend(batch);
                None
            }
            PredictorNotice::Ack { sequence } => (sequence == last).then_some(()),
            _ => None,
        })
        .await;
        commands
    }

    /// Reads what is there already, and until a further request is taken.
    pub(crate) async fn settle_silently(&mut self) {
        self.request("settling", "settling", "/settling").await;
        self.settle().await;
    }

    /// Reads on until the stream ends; says how.
    pub(crate) async fn end(&mut self) -> (Code, String) {
        loop {
            if let Err(status) = self.next().await {
                return (status.code(), status.message().to_owned());
            }
        }
    }
}

pub(crate) fn hello(name: &str, region: &str) -> NodeReport {
    let node = NodeDescriptor {
        name: NodeName::from(name),
        region: region.into(),
        url: format!("http://{name}.test").into(),
        capacity_bytes: 100 << 20,
        segment_bytes: 1 << 20,
    };
    NodeReport::Hello { node, code_version: "test".to_owned(), purges: None, placement: None, stream: 0 }
}

/// The first segment of a small object.
pub(crate) fn held(key: &str) -> SegmentSet {
    SegmentSet { key: key.into(), size_bytes: 10_000, segments: vec![0] }
}
