//! How much goes through a bus in batches of 64 KiB, embedded and on NATS side by side on this machine:
//!
//! ```text
//! NEARCAST_NATS_SERVER=target/nats/bin/nats-server cargo run --release -p nearcast-bus --example throughput -- 2000
//! ```
//!
//! One process appends to four partitions through a [`Spool`] and reads all of it back while it does. The embedded bus
//! has synced what it acknowledges; a NATS server syncs every two minutes unless told otherwise (`sync_interval`).

#[path = "../../tests/support/port.rs"]
mod port;

use std::{
    env,
    error::Error,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use bytes::Bytes;
use nearcast_bus::{
    BucketSpec, Bus, BusSettings, Clock, Discard, Partition, Read, Sequence, SharedStream, Spool, SpoolSettings,
    StreamSpec, SystemClock,
};
use port::free_port;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example's table")]
async fn main() -> Outcome {
    let batches = env::args().nth(1).map_or(Ok(2_000), |batches| batches.parse())?;
    println!("| bus | batches/s | MiB/s | events/s | of embedded | key-value updates/s |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let folder = tempfile::tempdir()?;
    let embedded = measure(BusSettings::embedded(folder.path().join("embedded")), batches).await?;
    println!("{}", row("embedded", &embedded, &embedded));
    let Some(binary) = env::var_os("NEARCAST_NATS_SERVER") else {
        println!("skipped NATS: NEARCAST_NATS_SERVER does not name a nats-server binary");
        return Ok(());
    };
    let (mut server, url) = start(Path::new(&binary), &folder.path().join("nats"))?;
    let nats = measure(BusSettings::nats(url), batches).await;
    server.kill()?;
    server.wait()?;
    println!("{}", row("NATS", &nats?, &embedded));
    Ok(())
}

struct Measured {
    batches_per_second: f64,
    updates_per_second: f64,
}

fn row(name: &str, measured: &Measured, embedded: &Measured) -> String {
    let rate = measured.batches_per_second;
    format!(
        "| {name} | {rate:.0} | {:.0} | {:.0} | {:.2} | {:.0} |",
        rate * BATCH_BYTES as f64 / f64::from(1 << 20),
        rate * (BATCH_BYTES / EVENT_BYTES) as f64,
        rate / embedded.batches_per_second,
        measured.updates_per_second
    )
}

async fn measure(settings: BusSettings, batches: u64) -> Outcome<Measured> {
    let bus = Bus::open(settings).await?;
    let stream = bus
        .stream(StreamSpec {
            name: "log".to_owned(),
            version: 1,
            partitions: PARTITIONS,
            bytes_max: 1 << 30,
            discard: Discard::Newest,
            duplicates_within: Duration::from_secs(120),
        })
        .await?;
    let spool = Spool::start(Arc::clone(&stream), SpoolSettings::default());
    let payload = Bytes::from((0..BATCH_BYTES).map(|byte| (byte * 31) as u8).collect::<Vec<u8>>());
    let each = batches / u64::from(PARTITIONS);
    let began = SystemClock.elapsed();
    let readers: Vec<_> =
        (0..PARTITIONS).map(|partition| tokio::spawn(drain(Arc::clone(&stream), Partition(partition), each))).collect();
    for number in 0..each {
        for partition in 0..PARTITIONS {
            let id = format!("{partition}/{number}");
            while spool.offer(Partition(partition), id.clone(), payload.clone()).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    for reader in readers {
        reader.await??;
    }
    let seconds = (SystemClock.elapsed() - began).as_secs_f64();
    let updates_per_second = update(&bus).await?;
    Ok(Measured { batches_per_second: (each * u64::from(PARTITIONS)) as f64 / seconds, updates_per_second })
}

/// Reads so many records and lets go of them, as a predictor does.
async fn drain(stream: SharedStream, partition: Partition, count: u64) -> Outcome {
    let mut tail = stream.tail(partition, Sequence::FIRST).await?;
    let mut trimmed = 0;
    while tail.position().0 <= count {
        let Read::Records(_) = tail.next(64).await? else { return Err("something is missing".into()) };
        if tail.position().0 - trimmed > TRIM_EVERY {
            trimmed = tail.position().0;
            stream.trim(partition, tail.position()).await?;
        }
    }
    Ok(())
}

/// Updates one entry again and again.
async fn update(bus: &Bus) -> Outcome<f64> {
    let bucket = bus.bucket(BucketSpec { name: "state".to_owned(), version: 1, bytes_max: 1 << 20 }).await?;
    let mut revision = bucket.create("key", Bytes::from_static(b"value")).await?;
    let began = SystemClock.elapsed();
    for _ in 0..UPDATES {
        revision = bucket.update("key", Bytes::from_static(b"value"), revision).await?;
    }
    Ok(f64::from(UPDATES) / (SystemClock.elapsed() - began).as_secs_f64())
}

fn start(binary: &Path, store: &Path) -> Outcome<(Child, String)> {
    let port = free_port();
    let mut command = Command::new(binary);
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(store);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    for _ in 0..500 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    Ok((child, format!("nats://127.0.0.1:{port}")))
}

const BATCH_BYTES: usize = 64 << 10;
/// About what a request of a batch takes on the wire.
const EVENT_BYTES: usize = 100;
const PARTITIONS: u32 = 4;
const TRIM_EVERY: u64 = 500;
const UPDATES: u32 = 2_000;
