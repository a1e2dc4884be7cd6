//! What a further arm costs, and how exactly miniatures tell what it would do.
//!
//! ```text
//! cargo run --release --package nearcast-predictor --example arms -- 500000    # requests
//! ```
//!
//! Reads the processor time from `/proc`, so it runs on Linux only. Plays a synthetic log through the arms of a predictor on one thread: the champion alone with no miniature to speak of,
//! with miniatures of a tenth of the keys, with a challenger beside it in shadow, and with the challenger in force at every
//! other node. Then *none* is put in force, so that the champion lives in its miniatures alone: once of every key, once of
//! a tenth.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use nearcast_datasets::{
    ServedFrom, Timestamp,
    synthesize::{Workload, WorkloadConfig},
};
use nearcast_predictor::{
    arms::{ArmSpec, Arms, ShadowSettings},
    engine::{Engine, EngineConfig, NodeIndex},
};
use nearcast_proto::{
    message::{NodeDescriptor, NodeName, Request},
    topology::Topology,
};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const KEYS: u32 = 50_000;

fn main() -> Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(500_000), |count| count.parse())?;
    let log = Log::make(count)?;
    let mut out = io::stdout().lock();
    let online = || ArmSpec { version: None, learning: true, orders: true };
    let mut rates = Vec::new();
    for (name, share, rival, is_live) in [
        ("champion, next to no miniatures", 1e-9, None, false),
        ("champion and none in miniature", 0.1, None, false),
        ("and a challenger in shadow", 0.1, Some(online()), false),
        ("and in force at every other node", 0.1, Some(online()), true),
    ] {
        let mut world = World::new(&log, share, rival)?;
        if is_live {
            world.assign_every(2, "online")?;
        }
        let rate = world.play(&log)?;
        rates.push(rate);
        writeln!(out, "{name:<34} {rate:>9.0} events/s")?;
    }
    writeln!(out, "miniatures of champion and none take {:.1} % of the time", (1.0 - rates[1] / rates[0]) * 100.0)?;
    for share in [1.0, 0.1] {
        let mut world = World::new(&log, share, Some(ArmSpec::none()))?;
        world.assign_every(1, "none")?;
        world.play(&log)?;
        for arm in world.arms.status(&world.engine).shadow.arms {
            let (hits, more) = (arm.account.hit_ratio, arm.hit_ratio_over_none);
            writeln!(
                out,
                "{:>4.0} % of the keys, {:<9} hit ratio {:.4} ± {:.4}, over none {:+.4} ± {:.4}",
                share * 100.0,
                arm.arm,
                hits.estimate,
                hits.error,
                more.estimate,
                more.error
            )?;
        }
    }
    Ok(())
}

/// Requests with the regions' place.
struct Log {
    requests: Vec<(usize, u64, Request)>,
    regions: Vec<Arc<str>>,
}

impl Log {
    fn make(count: u64) -> Result<Self> {
        let config = WorkloadConfig { request_count: count, key_count: KEYS, ..WorkloadConfig::default() };
        let mut workload = Workload::new(&config)?;
        let regions: Vec<Arc<str>> = config.regions.iter().map(|region| region.name.as_str().into()).collect();
        let mut requests = Vec::new();
        while let Some(asked) = workload.next_request() {
            let request = Request {
                timestamp: asked.timestamp,
                client: Workload::client_name(asked.client).into(),
                region: Arc::clone(&regions[asked.region]),
                key: workload.key_name(asked.key).into(),
                size_bytes: workload.size_bytes(asked.key),
                range: None,
                served: ServedFrom::Origin,
                latency: Duration::from_millis(100),
            };
            requests.push((asked.region, u64::from(asked.client), request));
        }
        Ok(Self { requests, regions })
    }
}

struct World {
    arms: Arms,
    engine: Engine,
    nodes: Vec<NodeIndex>,
}

impl World {
    fn new(log: &Log, sample_share: f64, rival: Option<ArmSpec>) -> Result<Self> {
        let mut engine = Engine::new(EngineConfig::default(), Topology::default());
        let mut arms = Arms::new(ShadowSettings { sample_share, ..ShadowSettings::default() });
        let mut nodes = Vec::new();
        for region in &log.regions {
            let node = NodeDescriptor {
                name: NodeName(Arc::clone(region)),
                region: Arc::clone(region),
                url: "http://node.test".into(),
                capacity_bytes: u64::from(KEYS) * 6_000,
                segment_bytes: 1 << 20,
            };
            nodes.push(arms.handle_join(Timestamp::default(), &node, &mut engine));
        }
        if let Some(rival) = rival {
            arms.add(Timestamp::default(), rival, None, &engine)?;
        }
        Ok(Self { arms, engine, nodes })
    }

    fn assign_every(&mut self, step: usize, arm: &str) -> Result<()> {
        for node in self.nodes.iter().step_by(step) {
            self.arms.assign(Timestamp::default(), *node, Some(arm), &mut self.engine)?;
        }
        Ok(())
    }

    /// Plays the log; events per second of the processor.
    fn play(&mut self, log: &Log) -> Result<f64> {
        let start = processor_seconds()?;
        for (region, client, request) in &log.requests {
            self.arms.handle_request(request.timestamp, self.nodes[*region], *client, request, &mut self.engine);
            while self.arms.poll_order(request.timestamp, &mut self.engine).is_some() {}
        }
        Ok(log.requests.len() as f64 / (processor_seconds()? - start))
    }
}

/// Seconds that this thread had a processor: what others do on the machine does not count.
fn processor_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: u64 = text.split(' ').next().ok_or("no time in /proc/thread-self/schedstat")?.parse()?;
    Ok(nanos as f64 * 1e-9)
}
