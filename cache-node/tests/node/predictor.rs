//! A small predictor that tests speak for.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use nearcast_proto::{
    PredictorServer,
    message::{CacheMap, Epoch, Member, NodeDescriptor, NodeName, NodeReport, PredictorNotice, Purge, PurgeUpdate},
    wire,
};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, ServerTlsConfig},
};

/// A node's stream, as the predictor sees it.
#[derive(Debug)]
struct Stream {
    node: NodeDescriptor,
    sender: mpsc::Sender<Result<wire::PredictorMessage, Status>>,
}

#[derive(Debug, Default)]
struct Shared {
    streams: Mutex<Vec<Stream>>,
    reports: Mutex<Vec<(NodeName, NodeReport)>>,
    purges: Mutex<Vec<Arc<Purge>>>,
}

/// A running predictor; gone when dropped.
#[derive(Debug)]
pub(crate) struct Predictor {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    /// Of its own, so that ending it ends its connections too, as the end of a process would.
    runtime: Option<Runtime>,
}

impl Predictor {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address")).await
    }

    /// Starts one that speaks TLS.
    pub(crate) async fn start_tls(tls: ServerTlsConfig) -> Self {
        Self::start_by(Server::builder().tls_config(tls).expect("usable"), "127.0.0.1:0".parse().expect("an address"))
            .await
    }

    /// Starts at an address that a predecessor may just have left.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self::start_by(Server::builder(), address).await
    }

    async fn start_by(mut server: Server, address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let shared = Arc::new(Shared::default());
        let service = PredictorServer::new(Service(Arc::clone(&shared)));
        let listening = runtime.spawn(async move { TcpListener::bind(address).await.expect("a free port") });
        let listener = listening.await.expect("no panic");
        let address = listener.local_addr().expect("a bound socket has an address");
        runtime.spawn(server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, shared, runtime: Some(runtime) }
    }

    /// Orders a purge of one object and tells the nodes that are there.
    pub(crate) async fn purge(&self, key: &str) -> u64 {
        let epoch = {
            let mut purges = self.shared.purges.lock().expect("no panic");
            let epoch = purges.len() as u64 + 1;
            purges.push(Arc::new(Purge { epoch, keys: vec![key.to_owned()], ..Purge::default() }));
            epoch
        };
        let senders: Vec<_> =
            self.shared.streams.lock().expect("no panic").iter().map(|stream| stream.sender.clone()).collect();
        for sender in senders {
            // A stream that has ended is of a node that is away.
            let _ = sender.send(Ok(self.shared.purges_after(epoch - 1, false).into())).await;
        }
        epoch
    }

    /// What a node's configuration says about it.
    pub(crate) fn section(&self) -> String {
        format!("[predictor]\nurl = \"http://{}\"\nbackoff_min = \"10ms\"\nbackoff_max = \"50ms\"", self.address)
    }

    /// Says something to one node.
    pub(crate) async fn tell(&self, node: &str, notice: PredictorNotice) {
        let sender = {
            let streams = self.shared.streams.lock().expect("no panic");
            let stream = streams.iter().rfind(|stream| &*stream.node.name.0 == node).expect("the node has joined");
            stream.sender.clone()
        };
        sender.send(Ok(notice.into())).await.expect("the node listens");
    }

    /// The requests that a node reported, by the number of their batch, and which start of it they are numbered in.
    pub(crate) fn requests(&self, node: &str) -> (u64, BTreeMap<u64, Vec<String>>) {
        let reports = self.shared.reports.lock().expect("no panic");
        let (mut last, mut batches) = (0, BTreeMap::new());
        for (_, report) in reports.iter().filter(|(name, _)| &*name.0 == node) {
            match report {
                NodeReport::Hello { stream, .. } => last = *stream,
                NodeReport::Requests(batch) if !batch.requests.is_empty() => {
                    let keys = batch.requests.iter().map(|request| request.key.to_string());
                    batches.insert(batch.sequence, keys.collect());
                }
                _ => {}
            }
        }
        (last, batches)
    }

    /// Tells every node of all that have joined.
    pub(crate) async fn share_map(&self, epoch: u64) {
        let (members, senders): (Vec<_>, Vec<_>) = {
            let streams = self.shared.streams.lock().expect("no panic");
            streams.iter().map(|s| (Member { node: s.node.clone(), alive: true }, s.sender.clone())).unzip()
        };
        for sender in senders {
            let map = CacheMap { epoch: Epoch(epoch), members: members.clone() };
            sender.send(Ok(PredictorNotice::Map(map).into())).await.expect("the node listens");
        }
    }

    /// Tells nodes from the next map on of a node that never joined.
    pub(crate) fn add_member(&self, name: &str, url: &str) {
        let node = NodeDescriptor {
            name: NodeName::from(name),
            region: Arc::from("eu"),
            url: Arc::from(url),
            capacity_bytes: 1,
            segment_bytes: 4_096,
        };
        let (sender, mut told) = mpsc::channel(64);
        tokio::spawn(async move { while told.recv().await.is_some() {} });
        self.shared.streams.lock().expect("no panic").push(Stream { node, sender });
    }

    /// Waits for a report of `node` of which `find` makes something.
    pub(crate) async fn wait_for<T>(&self, node: &str, what: &str, find: impl Fn(&NodeReport) -> Option<T>) -> T {
        for _ in 0..1_000 {
            {
                let reports = self.shared.reports.lock().expect("no panic");
                let mut own = reports.iter().filter(|(name, _)| &*name.0 == node);
                if let Some(found) = own.find_map(|(_, report)| find(report)) {
                    return found;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never heard from {node}: {what}; heard {:#?}", self.shared.reports.lock().expect("no panic"));
    }
}

impl Drop for Predictor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    /// What a node that has carried out `epoch` has yet to hear.
    fn purges_after(&self, epoch: u64, has_gap: bool) -> PredictorNotice {
        let purges = self.purges.lock().expect("no panic");
        let missed: Vec<_> = purges.iter().filter(|purge| purge.epoch > epoch).cloned().collect();
        let latest = purges.len() as u64;
        PredictorNotice::Purges(PurgeUpdate { log: Arc::from(LOG), purges: missed, upto: latest, has_gap, latest })
    }
}

/// The log of purges that this predictor has.
const LOG: &str = "test-log";

#[derive(Debug)]
struct Service(Arc<Shared>);

#[tonic::async_trait]
impl wire::predictor_server::Predictor for Service {
    type JoinStream = ReceiverStream<Result<wire::PredictorMessage, Status>>;

    async fn join(&self, request: Request<Streaming<wire::NodeMessage>>) -> Result<Response<Self::JoinStream>, Status> {
        let mut messages = request.into_inner();
        let (sender, receiver) = mpsc::channel(64);
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut name = NodeName::from("");
            while let Ok(Some(message)) = messages.message().await {
                let report = NodeReport::try_from(message).expect("nodes speak the contract");
                if let NodeReport::Hello { node, purges, .. } = &report {
                    name = node.name.clone();
                    let welcome = PredictorNotice::Welcome {
                        epoch: Epoch(1),
                        arm: Arc::from("nearcast"),
                        model_version: Arc::from("v0007"),
                        assignment: 1,
                    };
                    let _ = sender.send(Ok(welcome.into())).await;
                    let epoch = purges.as_ref().map_or(0, |position| position.epoch);
                    let is_another_log = purges.as_ref().is_some_and(|position| &*position.log != LOG);
                    let missed = shared.purges_after(if is_another_log { 0 } else { epoch }, is_another_log);
                    let _ = sender.send(Ok(missed.into())).await;
                    let stream = Stream { node: node.clone(), sender: sender.clone() };
                    shared.streams.lock().expect("no panic").push(stream);
                }
                shared.reports.lock().expect("no panic").push((name.clone(), report));
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
