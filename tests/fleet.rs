//! Three predictors on a NATS server serve three nodes, all in processes of their own, while an experiment is under way.
//! The predictor that conducts it is killed, the bus goes away and comes back, and clients notice nothing; every request
//! is learnt once, as by one predictor alone that knows of no experiment. With placement it is whoever places keys that is
//! killed, and keys stay where they are.
//!
//! `NEARCAST_NATS_SERVER` names the server's binary; without it the tests say so and pass. With `NEARCAST_BARS` set, the
//! bus is away for as long as the project's bars ask for.

#[path = "fleet/experiment.rs"]
mod experiment;
#[path = "support/history.rs"]
mod history;
#[path = "support/http.rs"]
mod http;
#[path = "support/nats.rs"]
mod nats;
#[path = "fleet/placement.rs"]
mod placement;
#[path = "support/port.rs"]
mod port;
#[path = "support/service.rs"]
#[expect(dead_code, reason = "shared with tests that need all of it")]
mod service;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Http, eventually};
use nats::NatsServer;
use nearcast_bus::{
    Bus, BusSettings, Partition, Read, Record, SharedBucket, SharedStream, Token,
    fleet::{Learners, last_checkpoint},
};
use nearcast_datasets::{LogSource, read_events};
use nearcast_predictor::{
    PredictorConfig,
    engine::Engine,
    fleet::{EngineLearners, PartitionState, checkpoints_spec, log_spec},
};
use serde_json::Value;
use service::{LOG, Service, nearcast};
use tokio::{task::JoinSet, time::sleep};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_notice_nothing_of_a_predictor_or_a_bus_that_goes_during_an_experiment_and_all_is_learnt_once() {
    let Some(server) = NatsServer::start() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = Cluster::start(folder.path(), server, "").await;
    cluster.play(0..90, async |_| ()).await;
    cluster.check_commands("commands for every node").await;
    cluster.start_experiment(folder.path()).await;

    cluster.play(90..180, Cluster::kill_predictor_with_nodes).await;
    cluster.check_links().await;
    cluster.check_experiment().await;
    cluster.forget_commands().await;
    cluster.play(180..240, async |_| ()).await;
    cluster.check_commands("commands for every node from those that are left").await;

    cluster.play(240..300, async |cluster: &mut Cluster| cluster.server.kill()).await;
    cluster.server.run();
    cluster.check_links().await;
    cluster.end_experiment().await;
    cluster.check_what_was_learnt(folder.path()).await;
    cluster.check_purge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_places_keys_is_killed_and_the_bus_is_away_and_keys_stay_where_they_are() {
    let Some(server) = NatsServer::start() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = Cluster::start(folder.path(), server, PLACEMENT).await;
    cluster.play(0..90, async |_| ()).await;
    cluster.check_map(0).await;

    cluster.play(90..180, Cluster::kill_who_places_keys).await;
    cluster.check_links().await;
    let (_, epoch) = cluster.check_map(0).await;
    // What is asked for now is placed by the successor.
    cluster.play(180..270, async |_| ()).await;
    let (keys, _) = cluster.check_map(epoch + 1).await;

    let rounds = cluster.check_without_bus(270, keys).await;
    let (_, epoch) = cluster.check_map(epoch + 1).await;
    cluster.play(rounds..rounds + 90, async |_| ()).await;
    cluster.check_map(epoch + 1).await;
    cluster.check_what_was_learnt(folder.path()).await;
}

struct Cluster {
    http: Http,
    server: NatsServer,
    predictors: BTreeMap<String, Predictor>,
    nodes: Vec<Service>,
    pages: Vec<Page>,
    played: usize,
    commands: Vec<u64>,
    bus: Watched,
    _origin: Service,
}

struct Predictor {
    service: Service,
    http: String,
    grpc: String,
}

/// Some objects that are always asked for together, with what they hold.
type Page = Vec<(String, Bytes)>;

/// The bus as the test sees it: every record of the log.
struct Watched {
    log: SharedStream,
    checkpoints: SharedBucket,
    records: Arc<Mutex<BTreeMap<u32, Vec<Record>>>>,
    _tails: JoinSet<()>,
}

impl Cluster {
    /// `more` is what the predictors' configurations say besides.
    async fn start(folder: &Path, server: NatsServer, more: &str) -> Self {
        let http = Http::new();
        let origin = Service::start(&["origin", LOG, "--listen", "127.0.0.1:0"]);
        fs::write(folder.join("topology.toml"), TOPOLOGY).expect("writable");
        let pages = pages(&http, &origin.ready).await;
        let mut predictors: BTreeMap<String, Predictor> = BTreeMap::new();
        for name in NAMES.into_iter().rev() {
            let predictor = Predictor::start(&predictor_config(folder, name, &server.url(), more));
            if predictors.is_empty() {
                // An office stays where it is.
                eventually("the office of who is alone", async || {
                    let status = http.json(&format!("{}status", predictor.http)).await;
                    status["fleet"]["conducts_experiments"] == name
                })
                .await;
            }
            predictors.insert(name.to_owned(), predictor);
        }
        let bus = Watched::begin(&server.url()).await;
        let urls: Vec<&str> = predictors.values().map(|predictor| predictor.grpc.as_str()).collect();
        let node = |region: &&str| {
            let path = folder.join(format!("{region}.toml"));
            fs::write(&path, node_config(region, &origin.ready, &urls)).expect("writable");
            Service::start(&["node", "-c", text(&path)])
        };
        let nodes: Vec<Service> = REGIONS.iter().map(node).collect();
        let (played, commands) = (0, vec![0; nodes.len()]);
        let cluster = Self { http, server, predictors, nodes, pages, played, commands, bus, _origin: origin };
        cluster.check_links().await;
        for predictor in cluster.predictors.values() {
            eventually("shares for all members", async || {
                let members = cluster.fleet(predictor).await["members"].clone();
                NAMES.iter().all(|name| members[name] == PARTITIONS / 3)
            })
            .await;
        }
        cluster
    }

    /// Every region asks for every page, one of them first and the others some pages later. All answers must be right.
    async fn play(&mut self, rounds: std::ops::Range<usize>, meanwhile: impl AsyncFnOnce(&mut Self)) {
        let mut players = JoinSet::new();
        let length = rounds.len();
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let requests: Vec<(usize, usize, String, Bytes)> = rounds
            .flat_map(|round| (0..REGIONS.len()).map(move |behind| (round, behind)))
            .filter_map(|(round, behind)| Some((round, behind, round.checked_sub(behind * BEHIND)?)))
            .flat_map(|(round, behind, page)| {
                let objects = self.pages[page % self.pages.len()].iter().cloned();
                objects.map(move |(key, body)| (round, (page + behind) % REGIONS.len(), key, body))
            })
            .collect();
        let count = requests.len();
        let urls: Vec<String> = self.nodes.iter().map(|node| node.ready.clone()).collect();
        let (http, progress) = (self.http.clone(), Arc::clone(&asked));
        players.spawn(async move {
            let mut faults = Vec::new();
            for (round, node, key, body) in requests {
                match http.get(&format!("{}{key}", urls[node]), &format!("{node}-{round}")).await {
                    Ok(answer) if answer.status == 200 && answer.body == body => {}
                    Ok(answer) => faults.push(format!("{key}: {}, {} bytes", answer.status, answer.body.len())),
                    Err(error) => faults.push(error),
                }
                progress.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            faults
        });
        eventually("a third of the answers", async || asked.load(std::sync::atomic::Ordering::Relaxed) * 3 >= length)
            .await;
        meanwhile(self).await;
        let faults = players.join_all().await.concat();
        assert!(faults.is_empty(), "{} of {count} requests failed: {faults:#?}", faults.len());
        self.played += count;
    }

    /// Kills the predictor that conducts the experiment, to which nodes are connected.
    async fn kill_predictor_with_nodes(&mut self) {
        let mut chosen = None;
        for (name, predictor) in &self.predictors {
            let status = self.http.json(&format!("{}status", predictor.http)).await;
            let nodes = status["nodes"].as_array().expect("a list").clone();
            if nodes.iter().any(|node| node["alive"] == true && node["is_elsewhere"] != true) {
                chosen = Some(name.clone());
            }
        }
        let name = chosen.expect("nodes are connected somewhere");
        let conducts = self.fleet(&self.predictors[&name]).await["conducts_experiments"].clone();
        assert_eq!(conducts, *name, "the first to start has the office, and nodes by their names");
        self.kill_predictor(&name).await;
    }

    /// Kills a predictor, and holds how long its partitions are nobody's.
    #[expect(clippy::print_stderr, reason = "a figure to keep")]
    #[expect(clippy::disallowed_methods, reason = "it is the time that is measured")]
    async fn kill_predictor(&mut self, name: &str) {
        let killed = self.predictors.remove(name).expect("it runs");
        killed.service.kill();
        let began = Instant::now();
        for predictor in self.predictors.values() {
            eventually("its partitions with others", async || {
                let members = self.fleet(predictor).await["members"].clone();
                let shares = members.as_object().into_iter().flatten().filter(|(member, _)| *member != name);
                shares.filter_map(|(_, share)| share.as_u64()).sum::<u64>() == PARTITIONS
            })
            .await;
        }
        let idle = began.elapsed();
        eprintln!("every partition of the killed predictor was claimed again after {:.2} s", idle.as_secs_f64());
        assert!(idle <= Duration::from_secs(5), "{idle:?}");
    }

    /// Waits until every node is connected to some predictor, and every predictor knows all of them.
    async fn check_links(&self) {
        eventually("nodes with a predictor", async || self.links().await.iter().all(|link| link["connected"] == true))
            .await;
        for predictor in self.predictors.values() {
            eventually("every node at every predictor", async || {
                let status = self.http.json(&format!("{}status", predictor.http)).await;
                let alive = status["nodes"].as_array().into_iter().flatten().filter(|node| node["alive"] == true);
                alive.count() == REGIONS.len()
            })
            .await;
        }
    }

    async fn check_commands(&self, what: &str) {
        let before = self.commands.clone();
        eventually(what, async || {
            self.links().await.iter().zip(&before).all(|(link, before)| link["commands"].as_u64() > Some(*before))
        })
        .await;
    }

    async fn forget_commands(&mut self) {
        self.commands = self.links().await.iter().map(|link| link["commands"].as_u64().expect("a count")).collect();
    }

    async fn links(&self) -> Vec<Value> {
        let mut links = Vec::new();
        for node in &self.nodes {
            links.push(self.http.json(&format!("{}/_nearcast/status", node.ready)).await["link"].clone());
        }
        links
    }

    async fn fleet(&self, predictor: &Predictor) -> Value {
        self.http.json(&format!("{}status", predictor.http)).await["fleet"].clone()
    }

    /// Every request is in the log once, and what was learnt is what one engine alone learns from it.
    async fn check_what_was_learnt(&self, folder: &Path) {
        let config = PredictorConfig::load(&folder.join("a.toml")).expect("a configuration");
        let engine = Engine::new(config.engine, config.topology).divided(u32::try_from(PARTITIONS).expect("few"));
        let alone = EngineLearners::new(engine);
        eventually("every request in the log", async || self.bus.requests() == self.played).await;
        for partition in (0..).map(Partition).take(usize::try_from(PARTITIONS).expect("few")) {
            let next = self.bus.log.extent(partition).await.expect("the bus is there").next;
            let records = self.bus.records.lock().expect("no panic").get(&partition.0).cloned().unwrap_or_default();
            if records.is_empty() {
                continue;
            }
            let state = async || match last_checkpoint(&self.bus.checkpoints, partition).await {
                Ok(Some((at, Some(state)))) if at == next => Some(state),
                _ => None,
            };
            eventually("a checkpoint of everything", async || state().await.is_some()).await;
            let learnt: PartitionState =
                postcard::from_bytes(&state().await.expect("it was there")).expect("a checkpoint");
            let mut learner = alone.begin(partition, Token(1), None).await.expect("a part");
            learner.apply(records).await.expect("it learns");
            let expected: PartitionState =
                postcard::from_bytes(&learner.checkpoint().await.expect("a checkpoint")).expect("a checkpoint");
            assert!(learnt == expected, "partition {partition} was learnt otherwise than by one engine alone");
        }
    }

    /// A purge through one predictor reaches the nodes of all.
    async fn check_purge(&self) {
        let key = &self.pages[5][0].0;
        for predictor in self.predictors.values() {
            let nodes = self.nodes.iter().map(|node| node.ready.as_str());
            let mut arguments = vec!["purge", "--predictor", &predictor.grpc, "--key", key, "--to"];
            arguments.extend(nodes);
            let output = nearcast(&arguments).output().expect("it starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        for predictor in self.predictors.values() {
            eventually("the purges at every node", async || {
                let status = self.http.json(&format!("{}status", predictor.http)).await;
                let nodes = status["nodes"].as_array().expect("a list").clone();
                status["purge_epoch"] == 2 && nodes.iter().all(|node| node["purge_epoch"] == 2)
            })
            .await;
        }
    }
}

impl Predictor {
    fn start(config: &Path) -> Self {
        let service = Service::start(&["predictor", "-c", text(config)]);
        let (http, grpc) = service.addresses();
        let (http, grpc) = (format!("{}/", http.trim_end_matches('/')), grpc.to_owned());
        Self { service, http, grpc }
    }
}

impl Watched {
    async fn begin(url: &str) -> Self {
        let bus = Bus::open(BusSettings::nats(url)).await.expect("a bus");
        let count = u32::try_from(PARTITIONS).expect("few");
        let log = bus.stream(log_spec(count, LOG_BYTES_MAX)).await.expect("a stream");
        let checkpoints = bus.bucket(checkpoints_spec()).await.expect("a bucket");
        let records: Arc<Mutex<BTreeMap<u32, Vec<Record>>>> = Arc::default();
        let mut tails = JoinSet::new();
        for partition in (0..count).map(Partition) {
            let mut tail = log.tail(partition, nearcast_bus::Sequence::FIRST).await.expect("a tail");
            let records = Arc::clone(&records);
            tails.spawn(async move {
                loop {
                    match tail.next(64).await {
                        Ok(Read::Records(some)) => {
                            records.lock().expect("no panic").entry(partition.0).or_default().extend(some);
                        }
                        Ok(Read::Gap { from, to }) => panic!("records {from:?} to {to:?} were not seen"),
                        Err(_) => sleep(Duration::from_millis(20)).await,
                    }
                }
            });
        }
        Self { log, checkpoints, records, _tails: tails }
    }

    /// Requests in the log, each batch once.
    fn requests(&self) -> usize {
        let records = self.records.lock().expect("no panic");
        let mut batches = BTreeMap::new();
        for (partition, record) in
            records.iter().flat_map(|(partition, records)| records.iter().map(move |record| (partition, record)))
        {
            let batch = nearcast_predictor::fleet::LogRecord::decode(&record.payload).expect("a record");
            batches.insert((*partition, batch.node.name.clone(), batch.stream, batch.sequence), batch.requests.len());
        }
        batches.values().sum()
    }
}

/// Pages of small objects of the log, as the origin answers them.
async fn pages(http: &Http, origin: &str) -> Vec<Page> {
    let events = read_events(&LogSource::parse(LOG).expect("a place")).expect("a log");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    let mut keys: BTreeMap<String, ()> = BTreeMap::new();
    for event in events.map(|event| event.expect("a row")) {
        if event.size_bytes < 20_000 && event.key.starts_with('/') && event.key.chars().all(is_plain) {
            keys.insert(event.key, ());
        }
    }
    let keys: Vec<String> = keys.into_keys().take(PAGES * 3).collect();
    assert!(keys.len() == PAGES * 3, "the log has only {} such keys", keys.len());
    let mut pages = Vec::new();
    for keys in keys.chunks(3) {
        let mut page = Page::new();
        for key in keys {
            let answer = http.get(&format!("{origin}{key}"), "test").await.expect("it answers");
            assert_eq!(answer.status.as_u16(), 200, "{key}");
            page.push((key.clone(), answer.body));
        }
        pages.push(page);
    }
    pages
}

fn predictor_config(folder: &Path, name: &str, bus: &str, more: &str) -> PathBuf {
    let config = format!(
        "listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\ndata_dir = \"predictor-{name}\"\n\
         topology = \"topology.toml\"\n[engine]\nprice_seconds_per_mebibyte = 0.0\nbudget_share = 100.0\n\
         sample_share = 1.0\nstay_requests = 24.0\n[bus]\nurl = {bus:?}\nname = {name:?}\npartitions = {PARTITIONS}\n\
         lease_seconds = 2.0\ncheckpoint_seconds = 1.0\nlog_bytes_max = {LOG_BYTES_MAX}\n{more}"
    );
    let path = folder.join(format!("{name}.toml"));
    fs::write(&path, config).expect("writable");
    path
}

fn node_config(region: &str, origin: &str, predictors: &[&str]) -> String {
    format!(
        "name = {region:?}\nregion = {region:?}\nlisten = \"127.0.0.1:0\"\ndata_dir = {region:?}\ncapacity = \"64MiB\"\n\
         segment_size = \"64KiB\"\n[origin]\nurl = {origin:?}\n[predictor]\nurls = {predictors:?}\nbackoff_max = \"250ms\"\n"
    )
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const REGIONS: [&str; 3] = ["com", "edu", "net"];
const PARTITIONS: u64 = 12;
const LOG_BYTES_MAX: u64 = 16 << 20;
const PAGES: usize = 310;
/// Pages between a region and the next that asks for the same.
const BEHIND: usize = 4;
const PLACEMENT: &str = "[placement]\nkind = \"gapa\"\ninterval_seconds = 0.5\nrequests_min = 40\nreplicas_min = 2\nhalf_life_seconds = 60.0\n";
/// All near each other, so that what follows at once is not too late to be foreseen.
const TOPOLOGY: &str = "[default]\nrtt_ms = 0.001\norigin_rtt_ms = 2.0\nlocal_rtt_ms = 0.0\n";
