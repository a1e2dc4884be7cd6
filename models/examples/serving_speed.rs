//! How fast the blend serves: the 20 most probable next keys of a request, state update and learning included.
//!
//! ```text
//! cargo run --release -p nearcast-models --example serving_speed -- [--json] [--requests N] [--keys N]
//! ```
//!
//! Requests are synthetic: clients browse topics of 32 keys, topics and keys within them by a Zipf-like law, five
//! requests a session on average, a twentieth of the steps to anywhere. One thread; times are of whole requests. The
//! dense sequence model is not part of it.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use nearcast_datasets::{KeyId, RegionId, Timestamp};
use nearcast_models::{Blend, BlendConfig, BlendLearning, BlendSession, Proposal};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// One vocabulary size.
#[derive(Debug, Serialize)]
struct Measured {
    keys: u32,
    requests: usize,
    requests_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    /// Share of requests whose key was among the 20 proposed before it; shows that the work is real.
    hit_rate_20: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    sizes: Vec<Measured>,
}

/// Clients that take turns.
struct Traffic {
    rng: ChaCha8Rng,
    keys: u32,
    topics: Vec<u32>,
}

impl Traffic {
    fn new(keys: u32, clients: usize) -> Self {
        let mut traffic = Self { rng: ChaCha8Rng::seed_from_u64(7), keys, topics: Vec::new() };
        for _ in 0..clients {
            let topic = traffic.topic();
            traffic.topics.push(topic);
        }
        traffic
    }

    fn topic(&mut self) -> u32 {
        let share: f64 = self.rng.random();
        ((share * share * f64::from(self.keys / TOPIC_KEYS)) as u32).min(self.keys / TOPIC_KEYS - 1)
    }

    /// The client, whether it begins a session, and the key.
    fn next(&mut self) -> (usize, bool, KeyId) {
        let client = self.rng.random_range(0..self.topics.len());
        let begins = self.rng.random_bool(0.2);
        if begins {
            self.topics[client] = self.topic();
        }
        let place: f64 = self.rng.random();
        let key = self.topics[client] * TOPIC_KEYS + (place * place * f64::from(TOPIC_KEYS)) as u32;
        let anywhere = self.rng.random_bool(0.05);
        let key = if anywhere { self.rng.random_range(0..self.keys) } else { key };
        (client, begins, KeyId(key))
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn measure(keys: u32, requests: usize) -> Measured {
    let mut blend = Blend::new(&BlendConfig::default(), 1).expect("the defaults are in range");
    (0..keys).for_each(|key| blend.introduce(KeyId(key), &format!("/{}/{key}", key / SECTION_KEYS)));
    let mut traffic = Traffic::new(keys, CLIENTS);
    let mut sessions = vec![BlendSession::default(); CLIENTS];
    let mut proposals: Vec<Proposal> = Vec::new();
    let mut times: Vec<Duration> = Vec::with_capacity(requests);
    let (mut hits, mut busy) = (0_usize, Duration::ZERO);
    let warm = requests.max(keys as usize * 4);
    let mut at = Timestamp::from_micros(1_700_000_000_000_000);
    let counting = BlendLearning { weights: false, ..BlendLearning::ALL };
    for number in 0..warm + requests {
        let (client, begins, key) = traffic.next();
        at = at.after(Duration::from_millis(1));
        let session = &mut sessions[client];
        if begins {
            session.pause();
        }
        if number < warm {
            // The tables fill; the network learns now and then.
            let learning = if number.is_multiple_of(16) { BlendLearning::ALL } else { counting };
            blend.learn(at, REGION, session, key, learning);
            session.push(key);
            continue;
        }
        if number.is_multiple_of(CHECKED_EVERY) {
            blend.propose(at, REGION, session, 20, &mut proposals);
            hits += usize::from(proposals.iter().any(|proposal| proposal.key == key));
        }
        let start = Instant::now();
        blend.learn(at, REGION, session, key, BlendLearning::ALL);
        session.push(key);
        blend.propose(at, REGION, session, 20, &mut proposals);
        let took = start.elapsed();
        busy += took;
        times.push(took);
    }
    times.sort_unstable();
    let quantile = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    Measured {
        keys,
        requests,
        requests_per_second: requests as f64 / busy.as_secs_f64(),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        hit_rate_20: hits as f64 / requests.div_ceil(CHECKED_EVERY) as f64,
    }
}

#[expect(clippy::print_stdout, reason = "an example's output is its purpose")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let place = args.iter().position(|arg| arg == name)?;
        args.get(place + 1)?.parse::<u32>().ok()
    };
    let requests = value("--requests").unwrap_or(400_000) as usize;
    let sizes = value("--keys").map_or_else(|| vec![20_000, 1_000_000], |keys| vec![keys.max(TOPIC_KEYS)]);
    let sizes = sizes.into_iter().map(|keys| measure(keys, requests)).collect();
    let report = Report { schema: "nearcast.serving-speed/1", sizes };
    if args.iter().any(|arg| arg == "--json") {
        println!("{}", serde_json::json!(report));
        return ExitCode::SUCCESS;
    }
    for Measured { keys, requests_per_second, p50_us, p99_us, p999_us, hit_rate_20, .. } in report.sizes {
        println!(
            "{keys} keys: {requests_per_second:.0} requests/s, p50 {p50_us:.1} µs, p99 {p99_us:.1} µs, p99.9 \
             {p999_us:.1} µs; HR@20 {hit_rate_20:.3}"
        );
    }
    ExitCode::SUCCESS
}

const REGION: RegionId = RegionId(0);
const CLIENTS: usize = 20_000;
const TOPIC_KEYS: u32 = 32;
/// Keys of a directory.
const SECTION_KEYS: u32 = 64;
/// Of so many requests one is checked.
const CHECKED_EVERY: usize = 50;
