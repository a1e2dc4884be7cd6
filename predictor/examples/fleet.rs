//! Three predictors serve four nodes over NATS, and one of them is killed:
//!
//! ```text
//! NEARCAST_NATS_SERVER=target/nats/bin/nats-server cargo run --release -p nearcast-predictor --example fleet -- 20000 30
//! ```
//!
//! Nodes that this program plays report so many requests per second for so many seconds, each to one of the predictors,
//! which are processes of their own; a node whose predictor is gone goes to the next and sends again what was not
//! acknowledged. Kills a predictor with `kill -9` half-way; says how long its partitions were idle; and compares what was
//! learnt with an engine that learnt all of it undisturbed, to the last bit. Ends with 1 when it differs.

#[path = "../../tests/support/nats.rs"]
mod nats;
#[path = "../../tests/support/port.rs"]
mod port;

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    error::Error,
    process::{Child, Command, ExitCode},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nearcast_bus::{
    Bus, BusSettings, Clock, Partition, Read, Record, Sequence, SharedBucket, SharedStream, SystemClock, Token,
    claims::Resource,
    fleet::{FleetPlace, Learners, last_checkpoint},
};
use nearcast_datasets::{ServedFrom, Timestamp};
use nearcast_predictor::{
    PredictorConfig, PredictorSettings,
    engine::{Engine, EngineConfig},
    fleet::{EngineLearners, LogRecord, PartitionState, checkpoints_spec, log_spec, members_spec},
    listen, run,
};
use nearcast_proto::{
    PredictorClient, config_file,
    message::{NodeDescriptor, NodeReport, PredictorNotice, Request, RequestBatch},
    topology::Topology,
    wire,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use nats::NatsServer;
use port::free_port;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["member", name, url, listen_on] => member(name, url, listen_on).await.map(|()| ExitCode::SUCCESS),
        numbers => {
            let number = |place: usize, default| numbers.get(place).map_or(Ok(default), |number| number.parse::<u64>());
            trial(number(0, 20_000)?, number(1, 30)?).await
        }
    }
}

/// A predictor, for as long as it lives.
async fn member(name: &str, url: &str, listen_on: &str) -> Outcome {
    let folder = tempfile::tempdir()?;
    let settings = format!(
        "data_dir = {:?}\nlisten = {listen_on:?}\nhttp_listen = \"127.0.0.1:0\"\n[bus]\nurl = {url:?}\nname = {name:?}\n\
         partitions = {PARTITIONS}\nlease_seconds = {}\ncheckpoint_seconds = 2.0\nlog_bytes_max = {LOG_BYTES_MAX}\n",
        folder.path(),
        LEASE.as_secs_f64()
    );
    let settings: PredictorSettings = config_file::parse("fleet.toml".as_ref(), &settings)?;
    let config = PredictorConfig::try_from(settings)?;
    let (grpc, http) = listen(&config).await?;
    Ok(run(grpc, http, config, std::future::pending()).await?)
}

async fn place(bus: &Bus) -> Outcome<FleetPlace> {
    Ok(FleetPlace {
        stream: bus.stream(log_spec(PARTITIONS, LOG_BYTES_MAX)).await?,
        members: bus.bucket(members_spec()).await?,
        checkpoints: bus.bucket(checkpoints_spec()).await?,
    })
}

fn learners() -> EngineLearners {
    EngineLearners::new(Engine::new(EngineConfig::default(), Topology::default()).divided(PARTITIONS))
}

#[expect(clippy::print_stdout, reason = "an example's findings")]
async fn trial(rate: u64, seconds: u64) -> Outcome<ExitCode> {
    // It says why there is none.
    let Some(server) = NatsServer::start() else { return Ok(ExitCode::SUCCESS) };
    let url = server.url();
    let bus = Bus::open(BusSettings::nats(url.clone())).await?;
    let place = place(&bus).await?;
    let addresses = MEMBERS.map(|_| format!("127.0.0.1:{}", free_port()));
    let mut members: Vec<Process> =
        MEMBERS.iter().zip(&addresses).map(|(name, address)| start_member(name, &url, address)).collect();
    let owners = Owners::follow(place.members.clone());
    owners.wait(|owners| owners.values().filter(|owner| MEMBERS.contains(&owner.as_str())).count() > 0).await?;
    sleep(LEASE * 2).await;
    println!("partitions by member before: {:?}", owners.shares());

    let recorder = Recorder::begin(&place.stream).await?;
    let began = SystemClock.elapsed();
    let mut playing = JoinSet::new();
    for number in 0..NODES.len() {
        let node = Node::new(number, &addresses, began);
        playing.spawn(node.play(Source::new(number), rate / NODES.len() as u64, rate * seconds / NODES.len() as u64));
    }
    sleep(Duration::from_secs(seconds) / 2).await;
    members[1].0.kill()?;
    members[1].0.wait()?;
    let killed = Some((SystemClock.elapsed(), tokio::spawn(owners.clone().taken_from(MEMBERS[1]))));
    let (mut published, mut moves, mut commands) = (0, 0, 0);
    while let Some(played) = playing.join_next().await {
        let played = played??;
        published += played.requests;
        moves += played.moves;
        commands += played.commands;
    }
    let Some((killed_at, taken)) = killed else { return Err("nothing was published".into()) };
    let idle = timeout(Duration::from_secs(60), taken).await??? - killed_at;
    let ended = SystemClock.elapsed();
    let states = learnt(&place).await?;
    let lag = SystemClock.elapsed() - ended;
    let log = recorder.records();
    println!(
        "reported {published} requests in {:.1} s; {moves} connections; {commands} commands",
        (ended - began).as_secs_f64()
    );
    println!("in the log there are {} requests", requests(&log)?);
    println!("partitions by member after: {:?}", owners.shares());
    println!("every partition of the killed member was claimed again after {:.2} s", idle.as_secs_f64());
    println!("everything was learnt and written down {:.2} s after the last request", lag.as_secs_f64());
    let (expected, took) = undisturbed(log.clone()).await?;
    println!("one engine by itself learns it at {:.0} requests/s", published as f64 / took.as_secs_f64());
    let differing = states.iter().zip(&expected).filter(|(learnt, expected)| learnt != expected).count();
    println!("partitions whose co-access counts, sessions or streams differ: {differing} of {PARTITIONS}");
    let is_good = differing == 0 && idle <= Duration::from_secs(5) && requests(&log)? == published;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything that is appended to the log.
struct Recorder {
    log: Arc<Mutex<Vec<Vec<Record>>>>,
    _tails: JoinSet<()>,
}

impl Recorder {
    async fn begin(stream: &SharedStream) -> Outcome<Self> {
        let log = Arc::new(Mutex::new(vec![Vec::new(); PARTITIONS as usize]));
        let mut tails = JoinSet::new();
        for partition in (0..PARTITIONS).map(Partition) {
            let mut tail = stream.tail(partition, Sequence::FIRST).await?;
            let log = Arc::clone(&log);
            tails.spawn(async move {
                while let Ok(Read::Records(records)) = tail.next(64).await {
                    log.lock().unwrap_or_else(PoisonError::into_inner)[partition.0 as usize].extend(records);
                }
            });
        }
        Ok(Self { log, _tails: tails })
    }

    fn records(&self) -> Vec<Vec<Record>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Requests in the log, those of a batch that is there twice counted once.
fn requests(log: &[Vec<Record>]) -> Outcome<u64> {
    let mut batches = BTreeMap::new();
    for (partition, records) in log.iter().enumerate() {
        for record in records {
            let batch = LogRecord::decode(&record.payload)?;
            batches.insert((partition, batch.node.name, batch.stream, batch.sequence), batch.requests.len() as u64);
        }
    }
    Ok(batches.values().sum())
}

/// Waits until everything is learnt from and written down.
async fn learnt(place: &FleetPlace) -> Outcome<Vec<PartitionState>> {
    let mut states = Vec::new();
    for partition in (0..PARTITIONS).map(Partition) {
        let done = async {
            loop {
                let end = end(&place.stream, partition).await?;
                if let Ok(Some((next, Some(state)))) = last_checkpoint(&place.checkpoints, partition).await
                    && next == end
                {
                    return Outcome::Ok(state);
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        states.push(postcard::from_bytes(&timeout(Duration::from_secs(120), done).await??)?);
    }
    Ok(states)
}

/// Where a partition ends, once nothing is on its way to it any more.
async fn end(stream: &SharedStream, partition: Partition) -> Outcome<Sequence> {
    loop {
        let end = stream.extent(partition).await?.next;
        sleep(Duration::from_millis(200)).await;
        if stream.extent(partition).await?.next == end {
            return Ok(end);
        }
    }
}

/// The same learnt by one engine that nothing happens to, and how long that takes it.
async fn undisturbed(log: Vec<Vec<Record>>) -> Outcome<(Vec<PartitionState>, Duration)> {
    let learners = learners();
    let (mut states, mut took) = (Vec::new(), Duration::ZERO);
    for (partition, records) in (0..).map(Partition).zip(log) {
        let mut learner = learners.begin(partition, Token(1), None).await?;
        let began = SystemClock.elapsed();
        learner.apply(records).await?;
        took += SystemClock.elapsed() - began;
        states.push(postcard::from_bytes(&learner.checkpoint().await?)?);
    }
    Ok((states, took))
}

/// Who owns which partition, as anybody can see.
#[derive(Clone, Debug)]
struct Owners(tokio::sync::watch::Receiver<BTreeMap<Resource, String>>);

impl Owners {
    fn follow(members: SharedBucket) -> Self {
        let (show, seen) = tokio::sync::watch::channel(BTreeMap::new());
        tokio::spawn(async move {
            let Ok(mut watch) = members.watch().await else { return };
            while let Ok(change) = watch.next().await {
                let Some(partition) = change.key.strip_prefix("partition.").and_then(|rest| rest.parse().ok()) else {
                    continue;
                };
                let owner = change.value.and_then(|value| serde_json::from_slice::<serde_json::Value>(&value).ok());
                show.send_modify(|owners: &mut BTreeMap<Resource, String>| {
                    match owner.as_ref().and_then(|owner| owner["member"].as_str()) {
                        Some(owner) => drop(owners.insert(Resource::Partition(partition), owner.to_owned())),
                        None => drop(owners.remove(&Resource::Partition(partition))),
                    }
                });
            }
        });
        Self(seen)
    }

    async fn wait(&self, holds: impl Fn(&BTreeMap<Resource, String>) -> bool) -> Outcome {
        timeout(Duration::from_secs(60), self.0.clone().wait_for(|owners| holds(owners))).await??;
        Ok(())
    }

    /// When the last of a member's partitions is another's.
    async fn taken_from(self, member: &'static str) -> Outcome<Duration> {
        let is_taken = |owners: &BTreeMap<Resource, String>| {
            owners.len() == PARTITIONS as usize && owners.values().all(|owner| owner != member)
        };
        self.wait(is_taken).await?;
        Ok(SystemClock.elapsed())
    }

    fn shares(&self) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        self.0.borrow().values().for_each(|owner| *shares.entry(owner.clone()).or_default() += 1);
        shares
    }
}

/// A node as far as a predictor sees it.
struct Node {
    number: usize,
    addresses: Vec<String>,
    /// Which start of the node it is.
    stream: u64,
    /// Batches that are not acknowledged, the oldest first.
    unacknowledged: VecDeque<(u64, Vec<Request>)>,
    began: Duration,
    played: Played,
}

/// What became of a node's play.
#[derive(Clone, Copy, Default)]
struct Played {
    requests: u64,
    moves: u64,
    commands: u64,
}

impl Node {
    fn new(number: usize, addresses: &[String], began: Duration) -> Self {
        let stream = u64::try_from(SystemClock.unix().as_micros()).unwrap_or(1);
        let (unacknowledged, played) = (VecDeque::new(), Played::default());
        Self { number, addresses: addresses.to_vec(), stream, unacknowledged, began, played }
    }

    /// Reports so many requests at a rate, wherever there is a predictor.
    async fn play(mut self, mut source: Source, rate: u64, count: u64) -> Outcome<Played> {
        let mut turn = self.number;
        while self.played.requests < count || !self.unacknowledged.is_empty() {
            let address = self.addresses[turn % self.addresses.len()].clone();
            // Whatever ends a connection, there is the next predictor.
            drop(self.talk(&address, &mut source, rate, count).await);
            turn += 1;
            sleep(Duration::from_millis(20)).await;
        }
        Ok(self.played)
    }

    async fn talk(&mut self, address: &str, source: &mut Source, rate: u64, count: u64) -> Outcome {
        let (reports, outgoing) = mpsc::channel(4);
        let hello = NodeReport::Hello {
            node: descriptor(self.number),
            code_version: String::new(),
            purges: None,
            placement: None,
            stream: self.stream,
        };
        reports.send(hello.into()).await?;
        reports.send(NodeReport::Inventory { held: Vec::new(), last: true }.into()).await?;
        let mut client = PredictorClient::connect(format!("http://{address}")).await?;
        let mut notices = client.join(ReceiverStream::new(outgoing)).await?.into_inner();
        self.played.moves += 1;
        // What is not acknowledged goes first.
        let mut unsent: VecDeque<(u64, Vec<Request>)> = self.unacknowledged.clone();
        loop {
            if let Some((sequence, requests)) = unsent.front().cloned() {
                let batch = RequestBatch { sequence, requests, dropped_count: 0 };
                tokio::select! {
                    sent = reports.send(NodeReport::Requests(batch).into()) => {
                        sent?;
                        unsent.pop_front();
                    }
                    notice = notices.next() => self.hear(notice.ok_or("the stream has ended")??)?,
                }
                continue;
            }
            if self.played.requests >= count && self.unacknowledged.is_empty() {
                return Ok(());
            }
            let due = self.began + Duration::from_secs_f64(self.played.requests as f64 / rate as f64);
            let wait = due.saturating_sub(SystemClock.elapsed());
            let may_send = self.played.requests < count && self.unacknowledged.len() < UNACKNOWLEDGED_MAX;
            tokio::select! {
                notice = notices.next() => self.hear(notice.ok_or("the stream has ended")??)?,
                () = sleep(wait), if may_send => {
                    let batch = source.batch();
                    self.played.requests += batch.1.len() as u64;
                    self.unacknowledged.push_back(batch.clone());
                    unsent.push_back(batch);
                }
            }
        }
    }

    fn hear(&mut self, notice: wire::PredictorMessage) -> Outcome {
        match PredictorNotice::try_from(notice)? {
            PredictorNotice::Ack { sequence } => {
                self.unacknowledged.retain(|(unacknowledged, _)| *unacknowledged > sequence);
            }
            PredictorNotice::Commands(commands) => self.played.commands += commands.len() as u64,
            _ => {}
        }
        Ok(())
    }
}

fn descriptor(node: usize) -> NodeDescriptor {
    NodeDescriptor {
        name: NODES[node].into(),
        region: NODES[node].into(),
        url: format!("http://{}.test", NODES[node]).into(),
        capacity_bytes: 1 << 30,
        segment_bytes: 1 << 20,
    }
}

/// A node's requests: clients that follow trails through keys of uneven popularity.
struct Source {
    random: StdRng,
    node: usize,
    sequence: u64,
    positions: Vec<u64>,
}

impl Source {
    fn new(node: usize) -> Self {
        let random = StdRng::seed_from_u64(node as u64);
        Self { random, node, sequence: 0, positions: vec![0; CLIENTS / NODES.len()] }
    }

    fn batch(&mut self) -> (u64, Vec<Request>) {
        self.sequence += 1;
        let at = Timestamp::from_micros(i64::try_from(SystemClock.unix().as_micros()).unwrap_or(i64::MAX));
        (self.sequence, (0..BATCH).map(|_| self.request(at)).collect())
    }

    fn request(&mut self, at: Timestamp) -> Request {
        let client = self.random.random_range(0..self.positions.len());
        let position = &mut self.positions[client];
        *position = if self.random.random_bool(0.8) {
            // On along the trail.
            position.wrapping_mul(31).wrapping_add(7) % KEYS
        } else {
            (self.random.random::<f64>().powi(3) * KEYS as f64) as u64
        };
        Request {
            timestamp: at,
            client: format!("client-{}-{client}", self.node).into(),
            region: NODES[self.node].into(),
            key: format!("/objects/{position:05}").into(),
            size_bytes: 10_000,
            range: None,
            served: ServedFrom::Origin,
            latency: Duration::from_millis(20),
        }
    }
}

/// A process that ends with this one.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_member(name: &str, url: &str, listen_on: &str) -> Process {
    let program = env::current_exe().expect("this program has a path");
    Process(
        Command::new(program)
            .args(["member", name, url, listen_on])
            .spawn()
            .expect("this program can be started again"),
    )
}

const MEMBERS: [&str; 3] = ["a", "b", "c"];
const PARTITIONS: u32 = 12;
const LOG_BYTES_MAX: u64 = 256 << 20;
/// Batches that a node keeps until they are acknowledged.
const UNACKNOWLEDGED_MAX: usize = 256;
const LEASE: Duration = Duration::from_secs(3);
const NODES: [&str; 4] = ["eu", "us", "ap", "sa"];
const CLIENTS: usize = 4_000;
const KEYS: u64 = 20_000;
const BATCH: usize = 200;
