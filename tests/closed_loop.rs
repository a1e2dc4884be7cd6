//! The loop, closed with real processes: a log is learned from, nodes serve and prefetch, the predictor is killed and
//! comes back, and what the nodes logged becomes the next version, which the running predictor puts into service.

mod support {
    pub(crate) mod http;
    pub(crate) mod service;
}

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use nearcast_datasets::{LogReader, LogSource, LogWriter, Map, RequestEvent, ServedFrom, WriteOptions, read_events};
use serde_json::Value;
use support::{
    http::{Http, eventually},
    service::{LOG, Service, nearcast},
};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nodes_log_becomes_the_version_that_the_predictor_serves_next() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (history, live) = split_log();
    publish_first_version(folder.path(), &history);
    let mut cluster = Cluster::start(folder.path(), &live).await;
    let parts: Vec<&[RequestEvent]> = live.chunks(live.len().div_ceil(6)).collect();

    cluster.check_links(1).await;
    cluster.play(parts[0]).await;
    let used = cluster.prefetched_and_used().await;
    assert!(used > 0, "nothing that was prefetched was asked for");

    cluster.play_while(parts[1], async |cluster| cluster.kill_predictor().await).await;
    cluster.play(parts[2]).await;
    assert!(cluster.links().await.iter().all(|link| link["connected"] == false && link["connects"] == 1));

    cluster.start_predictor();
    cluster.check_links(2).await;
    cluster.await_version("v0001").await;
    let used = cluster.prefetched_and_used().await;
    cluster.play(parts[3]).await;
    assert!(cluster.prefetched_and_used().await > used, "the predictor that came back is of no use");

    cluster.train_second_version().await;
    cluster
        .play_while(parts[4], async |cluster| {
            succeed(&["models", "--registry", &cluster.registry(), "alias", "champion", "v0002"]);
            cluster.await_version("v0002").await;
        })
        .await;
    cluster.play(parts[5]).await;
    eventually("every node to be told of the new version", async || {
        cluster.links().await.iter().all(|link| link["model_version"] == "v0002")
    })
    .await;
    cluster.check_links(2).await;
    cluster.end();
}

/// Three nodes, and what they need.
struct Cluster {
    folder: PathBuf,
    http: Http,
    origin: Service,
    predictor: Option<Service>,
    nodes: Vec<Node>,
    /// What the origin answers, by key.
    bodies: Arc<Map<String, Bytes>>,
    played_count: usize,
}

struct Node {
    region: &'static str,
    service: Service,
}

impl Cluster {
    /// Starts everything, and asks the origin for all that will be asked for.
    async fn start(folder: &Path, live: &[RequestEvent]) -> Self {
        let http = Http::new();
        let origin = Service::start(&["origin", LOG, "--listen", "127.0.0.1:0"]);
        let mut bodies = Map::default();
        for event in live {
            if !bodies.contains_key(&event.key) {
                let answer = http.get(&format!("{}{}", origin.ready, event.key), "test").await.expect("it answers");
                assert_eq!(
                    (answer.status.as_u16(), answer.body.len() as u64),
                    (200, event.size_bytes),
                    "{}",
                    event.key
                );
                bodies.insert(event.key.clone(), answer.body);
            }
        }
        fs::write(folder.join("topology.toml"), TOPOLOGY).expect("writable");
        let (folder, bodies) = (folder.to_owned(), Arc::new(bodies));
        let mut cluster = Self { folder, http, origin, predictor: None, nodes: Vec::new(), bodies, played_count: 0 };
        cluster.write_predictor_config("127.0.0.1:0", "127.0.0.1:0");
        cluster.start_predictor();
        // From now on it can be started again where nodes look for it.
        let (http, grpc) = cluster.predictor_urls();
        cluster.write_predictor_config(grpc.trim_start_matches("http://"), http.trim_start_matches("http://"));
        cluster.await_version("v0001").await;
        for region in REGIONS {
            let path = cluster.folder.join(format!("{region}.toml"));
            fs::write(&path, node_config(region, &cluster.origin.ready, &grpc)).expect("writable");
            let service = Service::start(&["node", "-c", text(&path)]);
            cluster.nodes.push(Node { region, service });
        }
        cluster
    }

    fn write_predictor_config(&self, grpc: &str, http: &str) {
        let config = format!(
            "listen = {grpc:?}\nhttp_listen = {http:?}\ndata_dir = \"predictor\"\nregistry = \"models\"\n\
             registry_poll_seconds = 0.1\ntopology = \"topology.toml\"\n"
        );
        fs::write(self.folder.join("predictor.toml"), config).expect("writable");
    }

    fn start_predictor(&mut self) {
        let config = self.folder.join("predictor.toml");
        self.predictor = Some(Service::start(&["predictor", "-c", text(&config)]));
    }

    /// Where it answers HTTP and gRPC.
    fn predictor_urls(&self) -> (String, String) {
        let (http, grpc) = self.predictor.as_ref().expect("it runs").addresses();
        (http.to_owned(), grpc.to_owned())
    }

    /// Kills the predictor and waits until every node has noticed.
    async fn kill_predictor(&mut self) {
        self.predictor.take().expect("it runs").kill();
        let cluster = &*self;
        eventually("nodes that miss the predictor", async || {
            cluster.links().await.iter().all(|link| link["connected"] == false)
        })
        .await;
    }

    async fn await_version(&self, version: &str) {
        let url = format!("{}/status", self.predictor_urls().0);
        eventually(version, async || self.http.json(&url).await["model"]["version"] == version).await;
    }

    /// Waits until every node is connected, and holds that each has connected so many times.
    async fn check_links(&self, connects: u64) {
        eventually("nodes with a predictor", async || {
            self.links().await.iter().all(|link| link["connected"] == true && link["connects"] != 0)
        })
        .await;
        for link in self.links().await {
            assert_eq!(link["connects"], connects, "{link}");
        }
    }

    /// What each node says about its link.
    async fn links(&self) -> Vec<Value> {
        self.statuses().await.into_iter().map(|status| status["link"].clone()).collect()
    }

    /// Prefetched segments that somebody asked for, at all nodes.
    async fn prefetched_and_used(&self) -> u64 {
        let counts = self.statuses().await.into_iter().map(|status| status["segments"]["prefetch"]["used"].as_u64());
        counts.map(|count| count.expect("a count")).sum()
    }

    async fn statuses(&self) -> Vec<Value> {
        let mut statuses = Vec::new();
        for node in &self.nodes {
            statuses.push(self.http.json(&format!("{}/_nearcast/status", node.service.ready)).await);
        }
        statuses
    }

    /// Plays requests, each node's one after the other; all must be answered as the origin answers them.
    async fn play(&mut self, events: &[RequestEvent]) {
        self.play_while(events, async |_| ()).await;
    }

    /// As [`Self::play`]; does something else once a third was answered.
    async fn play_while(&mut self, events: &[RequestEvent], meanwhile: impl AsyncFnOnce(&mut Self)) {
        let answered = Arc::new(AtomicUsize::new(0));
        let mut players = JoinSet::new();
        for node in &self.nodes {
            let events = events.iter().filter(|event| event.region == node.region).cloned().collect();
            let (http, bodies) = (self.http.clone(), Arc::clone(&self.bodies));
            players.spawn(play_at(http, node.service.ready.clone(), events, bodies, Arc::clone(&answered)));
        }
        eventually("a third of the answers", async || answered.load(Ordering::Relaxed) * 3 >= events.len()).await;
        meanwhile(self).await;
        let faults = players.join_all().await.concat();
        assert!(faults.is_empty(), "{} of {} requests failed: {:#?}", faults.len(), events.len(), faults);
        self.played_count += events.len();
    }

    fn registry(&self) -> String {
        text(&self.folder.join("models")).to_owned()
    }

    /// Waits until every request is in the nodes' own logs, and trains on these.
    async fn train_second_version(&self) {
        let logs = self.nodes.iter().map(|node| text(&self.folder.join(node.region).join("logs")).to_owned());
        let logs: Vec<String> = logs.collect();
        let rows = |log: &String| LogReader::open(&source(log)).ok()?.row_count();
        eventually("complete logs", async || logs.iter().filter_map(rows).sum::<u64>() == self.played_count as u64)
            .await;
        let outcomes: Vec<_> = logs.iter().flat_map(|log| read(log)).map(|event| event.outcome).collect();
        assert!(!outcomes.contains(&Some(ServedFrom::Error)) && !outcomes.contains(&None));
        assert!(outcomes.contains(&Some(ServedFrom::Prefetched)));
        let (config, registry) = (self.folder.join("train.toml"), self.registry());
        let mut arguments = vec!["train", "--registry", &registry, "-c", text(&config)];
        arguments.extend(logs.iter().map(String::as_str));
        succeed(&arguments);
    }

    /// Ends everything in order.
    fn end(self) {
        let nodes = self.nodes.into_iter().map(|node| node.service);
        for service in nodes.chain(self.predictor).chain([self.origin]) {
            assert!(service.terminate().success());
        }
    }
}

/// Plays one node's requests; returns what was wrong.
async fn play_at(
    http: Http,
    url: String,
    events: Vec<RequestEvent>,
    bodies: Arc<Map<String, Bytes>>,
    answered: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for event in events {
        match http.get(&format!("{url}{}", event.key), &event.client).await {
            Ok(answer) if answer.status == 200 && answer.body == bodies[&event.key] => {}
            Ok(answer) => faults.push(format!("{}: {}, {} bytes", event.key, answer.status, answer.body.len())),
            Err(error) => faults.push(error),
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    faults
}

/// The part to learn from, and later requests of three regions. Keys that a URL spells differently are left out.
fn split_log() -> (Vec<RequestEvent>, Vec<RequestEvent>) {
    let mut events = read(LOG);
    let live = events.split_off(HISTORY_COUNT);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    let is_played = |event: &RequestEvent| {
        REGIONS.contains(&&*event.region) && event.key.starts_with('/') && event.key.chars().all(is_plain)
    };
    (events, live.into_iter().filter(is_played).take(LIVE_COUNT).collect())
}

fn publish_first_version(folder: &Path, history: &[RequestEvent]) {
    let (log, config) = (folder.join("history.parquet"), folder.join("train.toml"));
    let mut writer = LogWriter::create(&log, WriteOptions::default()).expect("writable");
    history.iter().for_each(|event| writer.push(event).expect("in order"));
    writer.finish().expect("writable");
    fs::write(&config, TRAINING).expect("writable");
    succeed(&["train", text(&log), "--registry", text(&folder.join("models")), "-c", text(&config)]);
}

fn node_config(region: &str, origin: &str, predictor: &str) -> String {
    format!(
        "name = {region:?}\nregion = {region:?}\nlisten = \"127.0.0.1:0\"\ndata_dir = {region:?}\ncapacity = \"4MiB\"\n\
         segment_size = \"64KiB\"\n[origin]\nurl = {origin:?}\n[predictor]\nurl = {predictor:?}\nbackoff_max = \"250ms\"\n\
         [log]\nrows_max = 300\nage_max = \"1s\"\n[emulation]\ntopology = \"topology.toml\"\n"
    )
}

fn read(log: &str) -> Vec<RequestEvent> {
    read_events(&source(log)).expect("a log").map(|event| event.expect("a row")).collect()
}

fn source(log: &str) -> LogSource {
    LogSource::parse(log).expect("a place")
}

fn succeed(arguments: &[&str]) {
    let output = nearcast(arguments).output().expect("it starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The regions with the most clients.
const REGIONS: [&str; 3] = ["com", "edu", "net"];
const HISTORY_COUNT: usize = 8_000;
const LIVE_COUNT: usize = 4_200;
/// A twentieth of what lies between continents, so that the test is quick.
const TOPOLOGY: &str = "
    [regions.com]
    origin_rtt_ms = 3.0
    [regions.edu]
    origin_rtt_ms = 5.0
    [regions.net]
    origin_rtt_ms = 7.0
    [[links]]
    between = [\"com\", \"edu\"]
    rtt_ms = 2.0
    [[links]]
    between = [\"edu\", \"net\"]
    rtt_ms = 3.5
    [[links]]
    between = [\"com\", \"net\"]
    rtt_ms = 4.5
";
/// Small, for speed; what is learned from logs of seconds has no days or hours in it.
const TRAINING: &str = "
    seed = 1
    [fit]
    epochs_max = 1
    [demand]
    samples_max = 2000
    epochs = 1
    [evaluate]
    predictions_max = 500
    [model.sequence]
    embedding_width = 16
    hidden_width = 16
";
