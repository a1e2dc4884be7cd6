//! Three processes learn one log over NATS, and one of them is killed:
//!
//! ```text
//! NEARCAST_NATS_SERVER=target/nats/bin/nats-server cargo run --release -p nearcast-predictor --example fleet -- 20000 30
//! ```
//!
//! Publishes so many requests per second for so many seconds, in batches as nodes send them; kills a member with
//! `kill -9` half-way; says how long its partitions were idle; and compares what was learnt with an engine that learnt
//! all of it undisturbed, to the last bit. Ends with 1 when it differs.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use nearcast_bus::{
    Bus, BusSettings, Clock, LeaseSettings, Partition, Record, Sequence, SharedBucket, SharedStream, Spool,
    SpoolSettings, SystemClock, Token,
    claims::Resource,
    fleet::{Fleet, FleetPlace, FleetSettings, Learners, last_checkpoint},
};
use nearcast_datasets::{ServedFrom, Timestamp};
use nearcast_predictor::{
    engine::{Engine, EngineConfig},
    fleet::{EngineLearners, LogRecord, PartitionState, checkpoints_spec, log_spec, members_spec, split},
};
use nearcast_proto::{
    message::{NodeDescriptor, Request},
    topology::Topology,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::{sleep, timeout};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["member", name, url] => member(name, url).await.map(|()| ExitCode::SUCCESS),
        numbers => {
            let number = |place: usize, default| numbers.get(place).map_or(Ok(default), |number| number.parse::<u64>());
            trial(number(0, 20_000)?, number(1, 30)?).await
        }
    }
}

/// What a predictor does of this, for as long as it lives.
async fn member(name: &str, url: &str) -> Outcome {
    let bus = Bus::open(BusSettings::nats(url)).await?;
    let settings = FleetSettings {
        name: name.to_owned(),
        run: std::process::id().to_string(),
        lease: LeaseSettings::new(LEASE),
        checkpoint_every: Duration::from_secs(2),
        offices: vec!["placement".to_owned()],
    };
    let _fleet = Fleet::join(place(&bus).await?, Arc::new(learners()), settings, Arc::new(SystemClock)).await?;
    std::future::pending().await
}

async fn place(bus: &Bus) -> Outcome<FleetPlace> {
    Ok(FleetPlace {
        stream: bus.stream(log_spec(PARTITIONS, 256 << 20)).await?,
        members: bus.bucket(members_spec()).await?,
        checkpoints: bus.bucket(checkpoints_spec()).await?,
    })
}

fn learners() -> EngineLearners {
    EngineLearners::new(Engine::new(EngineConfig::default(), Topology::default()).divided(PARTITIONS))
}

#[expect(clippy::print_stdout, reason = "an example's findings")]
async fn trial(rate: u64, seconds: u64) -> Outcome<ExitCode> {
    let Some(binary) = env::var_os("NEARCAST_NATS_SERVER") else {
        println!("skipped: NEARCAST_NATS_SERVER does not name a nats-server binary");
        return Ok(ExitCode::SUCCESS);
    };
    let folder = tempfile::tempdir()?;
    let (_server, url) = start_server(Path::new(&binary), folder.path())?;
    let bus = Bus::open(BusSettings::nats(url.clone())).await?;
    let place = place(&bus).await?;
    let mut members = ["a", "b", "c"].map(|name| start_member(name, &url));
    let owners = Owners::follow(place.members.clone());
    owners.wait(|owners| owners.values().filter(|owner| ["a", "b", "c"].contains(&owner.as_str())).count() > 0).await?;
    sleep(LEASE * 2).await;
    println!("partitions by member before: {:?}", owners.shares());

    let spool = Spool::start(Arc::clone(&place.stream), SpoolSettings::default());
    let kill_at = rate * seconds / 2;
    let (mut log, mut killed): (Vec<Vec<Record>>, _) = (vec![Vec::new(); PARTITIONS as usize], None);
    let mut source = Source::new();
    let began = SystemClock.elapsed();
    let mut published = 0;
    while published < rate * seconds {
        let due = (SystemClock.elapsed() - began).as_secs_f64() * rate as f64;
        if published as f64 > due {
            sleep(Duration::from_millis(2)).await;
            continue;
        }
        let record = source.batch();
        published += record.requests.len() as u64;
        publish(&spool, &mut log, record).await?;
        if killed.is_none() && published >= kill_at {
            members[1].0.kill()?;
            members[1].0.wait()?;
            killed = Some((SystemClock.elapsed(), tokio::spawn(owners.clone().taken_from("b"))));
        }
    }
    let Some((killed_at, taken)) = killed else { return Err("nothing was published".into()) };
    let idle = timeout(Duration::from_secs(60), taken).await??? - killed_at;
    let ended = SystemClock.elapsed();
    let states = learnt(&place).await?;
    let lag = SystemClock.elapsed() - ended;
    println!("published {published} requests in {:.1} s", (ended - began).as_secs_f64());
    println!("partitions by member after: {:?}", owners.shares());
    println!("every partition of the killed member was claimed again after {:.2} s", idle.as_secs_f64());
    println!("everything was learnt and written down {:.2} s after the last request", lag.as_secs_f64());
    let (expected, took) = undisturbed(log).await?;
    println!("one engine by itself learns it at {:.0} requests/s", published as f64 / took.as_secs_f64());
    let differing = states.iter().zip(&expected).filter(|(learnt, expected)| learnt != expected).count();
    println!("partitions whose co-access counts, sessions or streams differ: {differing} of {PARTITIONS}");
    let is_good = differing == 0 && idle <= Duration::from_secs(5);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Publishes a batch, and notes what each partition gets.
async fn publish(spool: &Spool, log: &mut [Vec<Record>], record: LogRecord) -> Outcome {
    for (partition, id, part) in split(record, PARTITIONS) {
        let payload = part.encode();
        let partition_log = &mut log[partition.0 as usize];
        let sequence = Sequence(partition_log.len() as u64 + 1);
        partition_log.push(Record { sequence, id: id.clone(), payload: payload.clone() });
        while spool.offer(partition, id.clone(), payload.clone()).is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
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

/// Requests as four nodes report them: clients that follow trails through keys of uneven popularity.
struct Source {
    random: StdRng,
    sequence: u64,
    positions: Vec<u64>,
}

impl Source {
    fn new() -> Self {
        Self { random: StdRng::seed_from_u64(1), sequence: 0, positions: vec![0; CLIENTS] }
    }

    fn batch(&mut self) -> LogRecord {
        self.sequence += 1;
        let node = self.sequence as usize % NODES.len();
        let at = Timestamp::from_micros(i64::try_from(SystemClock.unix().as_micros()).unwrap_or(i64::MAX));
        let requests = (0..BATCH).map(|_| self.request(at, node)).collect();
        let node = NodeDescriptor {
            name: NODES[node].into(),
            region: NODES[node].into(),
            url: format!("http://{}.test", NODES[node]).into(),
            capacity_bytes: 1 << 30,
            segment_bytes: 1 << 20,
        };
        LogRecord { at, node, stream: 1, sequence: self.sequence, requests }
    }

    fn request(&mut self, at: Timestamp, node: usize) -> Request {
        let client = self.random.random_range(0..CLIENTS / NODES.len()) * NODES.len() + node;
        let position = &mut self.positions[client];
        *position = if self.random.random_bool(0.8) {
            // On along the trail.
            position.wrapping_mul(31).wrapping_add(7) % KEYS
        } else {
            (self.random.random::<f64>().powi(3) * KEYS as f64) as u64
        };
        Request {
            timestamp: at,
            client: format!("client-{client}").into(),
            region: NODES[node].into(),
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

fn start_member(name: &str, url: &str) -> Process {
    let program = env::current_exe().expect("this program has a path");
    Process(Command::new(program).args(["member", name, url]).spawn().expect("this program can be started again"))
}

fn start_server(binary: &Path, store: &Path) -> Outcome<(Process, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new(binary);
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(store);
    let server = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    for _ in 0..500 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((server, format!("nats://127.0.0.1:{port}")))
}

const PARTITIONS: u32 = 12;
const LEASE: Duration = Duration::from_secs(3);
const NODES: [&str; 4] = ["eu", "us", "ap", "sa"];
const CLIENTS: usize = 4_000;
const KEYS: u64 = 20_000;
const BATCH: usize = 200;
