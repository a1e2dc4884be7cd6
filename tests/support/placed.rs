//! A cluster of real processes with placement: an origin of small objects, a predictor, nodes that can be killed, stopped
//! and started again, and clients that go to the next node when one does not answer, as a balancer would send them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use nearcast_datasets::{LogWriter, Map, RequestEvent, Timestamp, WriteOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};

use super::{
    http::{Http, eventually},
    service::Service,
};

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) keys: usize,
    pub(crate) object_bytes: u64,
    pub(crate) capacity: &'static str,
    /// Lines of the predictor's `[placement]`.
    pub(crate) placement: &'static str,
    /// Lines of each node's configuration.
    pub(crate) node: &'static str,
}

/// The running processes.
pub(crate) struct Placed {
    pub(crate) folder: PathBuf,
    pub(crate) http: Http,
    pub(crate) nodes: Vec<PlacedNode>,
    pub(crate) bodies: Arc<Map<String, Bytes>>,
    settings: Settings,
    origin: Service,
    predictor: Service,
}

/// One node, running or not.
pub(crate) struct PlacedNode {
    pub(crate) name: String,
    pub(crate) url: String,
    service: Option<Service>,
    is_stopped: bool,
}

impl Placed {
    pub(crate) async fn start(folder: &Path, nodes: usize, settings: Settings) -> Self {
        let log = folder.join("objects.parquet");
        write_log(&log, &settings);
        let origin = Service::start(&["origin", text(&log), "--listen", "127.0.0.1:0"]);
        let http = Http::new();
        let answers = futures::stream::iter((0..settings.keys).map(key)).map(|key| async {
            let url = format!("{}{key}", origin.ready);
            (key, http.get(&url, "test").await.expect("the origin answers").body)
        });
        let bodies: Map<String, Bytes> = answers.buffer_unordered(16).collect().await;
        assert!(bodies.values().all(|body| body.len() as u64 == settings.object_bytes));
        fs::write(folder.join("topology.toml"), TOPOLOGY).expect("writable");
        let predictor = format!(
            "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = \"predictor\"\narm = \"none\"\n\
             keepalive_seconds = 1.0\ntopology = \"topology.toml\"\n[placement]\n{}\n",
            settings.placement
        );
        let path = folder.join("predictor.toml");
        fs::write(&path, predictor).expect("writable");
        let predictor = Service::start(&["predictor", "-c", text(&path)]);
        let (folder, bodies) = (folder.to_owned(), Arc::new(bodies));
        let mut cluster = Self { folder, http, nodes: Vec::new(), bodies, settings, origin, predictor };
        for number in 0..nodes {
            cluster.add_node(&format!("n{number}"));
        }
        cluster.await_links().await;
        cluster
    }

    /// Where the predictor answers HTTP and gRPC.
    pub(crate) fn predictor_urls(&self) -> (&str, &str) {
        self.predictor.addresses()
    }

    /// A further node joins.
    pub(crate) fn add_node(&mut self, name: &str) {
        self.write_node(name, "127.0.0.1:0");
        let service = self.run(name);
        let url = service.ready.clone();
        // From now on it can be started again where others look for it.
        self.write_node(name, url.trim_start_matches("http://"));
        self.nodes.push(PlacedNode { name: name.to_owned(), url, service: Some(service), is_stopped: false });
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.is_stopped = false;
        node.service.take().expect("it runs").kill();
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn stall(&mut self, node: usize, is_stopped: bool) {
        let node = &mut self.nodes[node];
        node.is_stopped = is_stopped;
        node.service.as_ref().expect("it runs").signal(if is_stopped { "-STOP" } else { "-CONT" });
    }

    /// Starts a node that was killed, with what it has on disk.
    pub(crate) fn restart(&mut self, node: usize) {
        let service = self.run(&self.nodes[node].name);
        self.nodes[node].service = Some(service);
    }

    pub(crate) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].service.is_some()
    }

    pub(crate) fn is_stopped(&self, node: usize) -> bool {
        self.nodes[node].is_stopped
    }

    /// Waits until every node that runs is connected.
    pub(crate) async fn await_links(&self) {
        let wanted = self.nodes.iter().filter(|node| node.service.is_some() && !node.is_stopped).count();
        eventually("nodes with a predictor", async || {
            let status = self.status().await;
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            let is_ready = |node: &&Value| node["alive"] == true && node["inventory_complete"] == true;
            nodes.iter().filter(is_ready).count() == wanted
        })
        .await;
    }

    /// The predictor's status.
    pub(crate) async fn status(&self) -> Value {
        self.http.json(&format!("{}/status", self.predictor_urls().0)).await
    }

    /// Its part about placement.
    pub(crate) async fn placement(&self) -> Value {
        self.status().await["placement"].clone()
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }

    /// Ends everything in order.
    pub(crate) fn end(self) {
        let nodes = self.nodes.into_iter().filter_map(|node| node.service);
        for service in nodes.chain([self.predictor, self.origin]) {
            assert!(service.terminate().success());
        }
    }

    fn run(&self, name: &str) -> Service {
        Service::start(&["node", "-c", text(&self.folder.join(format!("{name}.toml")))])
    }

    fn write_node(&self, name: &str, listen: &str) {
        let (origin, predictor) = (&self.origin.ready, self.predictor_urls().1);
        let Settings { capacity, node, .. } = &self.settings;
        let config = format!(
            "name = {name:?}\nregion = {name:?}\nlisten = {listen:?}\ndata_dir = {name:?}\ncapacity = {capacity:?}\n\
             segment_size = \"64KiB\"\n{node}\n[origin]\nurl = {origin:?}\n[predictor]\nurl = {predictor:?}\n\
             backoff_min = \"50ms\"\nbackoff_max = \"250ms\"\n[log]\nenabled = false\n\
             [emulation]\ntopology = \"topology.toml\"\n"
        );
        fs::write(self.folder.join(format!("{name}.toml")), config).expect("writable");
    }
}

/// Clients at work; they go on until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    clients: JoinSet<Vec<String>>,
}

/// One request, as its client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
}

impl Load {
    /// So many clients of each node ask for keys, popular ones more often, with a pause after each answer.
    pub(crate) fn start(cluster: &Placed, clients: usize, pause: Duration, seed: u64) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut load = Self { stop, seen, clients: JoinSet::new() };
        let urls = cluster.urls();
        for client in 0..clients * urls.len() {
            let mut urls = urls.clone();
            urls.rotate_left(client % cluster.nodes.len());
            let client = Client {
                urls,
                http: cluster.http.clone(),
                bodies: Arc::clone(&cluster.bodies),
                rng: ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(client as u64)),
                name: format!("c{client}"),
            };
            load.clients.spawn(client.run(pause, Arc::clone(&load.stop), Arc::clone(&load.seen)));
        }
        load
    }

    /// The requests that began within a stretch of time.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|seen| (from..to).contains(&seen.at)).map(|seen| seen.took).collect()
    }

    /// Stops; returns how many were answered, and what was wrong.
    pub(crate) async fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let faults = self.clients.join_all().await.concat();
        (self.seen.lock().unwrap_or_else(PoisonError::into_inner).len(), faults)
    }
}

/// One client.
struct Client {
    /// The nearest node first.
    urls: Vec<String>,
    http: Http,
    bodies: Arc<Map<String, Bytes>>,
    rng: ChaCha8Rng,
    name: String,
}

impl Client {
    async fn run(mut self, pause: Duration, stop: Arc<AtomicBool>, seen: Arc<Mutex<Vec<Seen>>>) -> Vec<String> {
        let mut faults = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            // Zipf-like: ranks uniform in their logarithm.
            let rank = (self.bodies.len() as f64).powf(self.rng.random::<f64>()) as usize;
            let wanted = key(rank.min(self.bodies.len()) - 1);
            let at = Instant::now();
            if let Err(fault) = self.ask(&wanted).await {
                faults.push(fault);
            }
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { at, took: at.elapsed() });
            tokio::time::sleep(pause.mul_f64(0.5 + self.rng.random::<f64>())).await;
        }
        faults
    }

    /// From the nearest node that answers.
    async fn ask(&self, key: &str) -> Result<(), String> {
        let mut last = String::new();
        for url in &self.urls {
            let url = format!("{url}{key}");
            let asked = self.http.get(&url, &self.name);
            match tokio::time::timeout(NODE_TIMEOUT, asked).await {
                Ok(Ok(answer)) if answer.status == 200 && answer.body == self.bodies[key] => return Ok(()),
                // An answer is an answer: a client would not look elsewhere.
                Ok(Ok(answer)) => return Err(format!("{key}: {}, {} bytes", answer.status, answer.body.len())),
                Ok(Err(error)) => last = error,
                Err(_) => last = format!("{url} did not answer"),
            }
        }
        Err(format!("{key}: no node answered: {last}"))
    }
}

/// A percentile.
pub(crate) fn percentile(mut times: Vec<Duration>, share: f64) -> Duration {
    times.sort_unstable();
    let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times.get(place).copied().unwrap_or_default()
}

/// The name of a key; small numbers are popular.
pub(crate) fn key(number: usize) -> String {
    format!("/object/{number}")
}

fn write_log(path: &Path, settings: &Settings) {
    let mut writer = LogWriter::create(path, WriteOptions::default()).expect("writable");
    for number in 0..settings.keys {
        let event = RequestEvent {
            timestamp: Timestamp::from_micros(number as i64),
            client: "c".to_owned(),
            region: "n0".to_owned(),
            key: key(number),
            size_bytes: settings.object_bytes,
            range: None,
            node: None,
            outcome: None,
            latency_us: None,
            arm: None,
            model_version: None,
        };
        writer.push(&event).expect("in order");
    }
    writer.finish().expect("writable");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A client's patience with one node.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// All regions alike, near enough for a test to be quick.
const TOPOLOGY: &str = "[default]\nrtt_ms = 5.0\norigin_rtt_ms = 25.0\nlocal_rtt_ms = 0.2\n";
