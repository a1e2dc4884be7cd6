//! Measures what the engine keeps in memory per client, per key and per entry of the ghosts that stand for nodes without
//! prefetching.
//!
//! ```text
//! cargo run --release --package nearcast-predictor --example memory -- 13    # regions
//! ```
//!
//! Reads the resident set of the process from `/proc`, so it runs on Linux only.

use std::{
    error::Error,
    fs,
    io::{self, Write},
};

use nearcast_datasets::{RegionId, ServedFrom, Timestamp};
use nearcast_predictor::engine::{Engine, EngineConfig, EngineSettings, NodeIndex, Observation};
use nearcast_proto::{
    message::{NodeDescriptor, NodeName},
    topology::Topology,
};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// How many clients and keys are measured.
const COUNT: u64 = 300_000;
/// What a ghost holds by default before it follows a sample of the keys only.
const GHOST_ENTRIES: u64 = 65_000;

fn main() -> Result<()> {
    let regions = std::env::args().nth(1).map_or(Ok(1), |regions| regions.parse())?;
    let mut world = World::new(regions, 1_000)?;
    let empty = resident_bytes()?;
    (0..COUNT).for_each(|client| world.ask(client, "/"));
    let met = resident_bytes()?;
    for request in 0..5 * COUNT {
        world.ask(request % COUNT, &format!("/pages/{}", request % 1_009));
    }
    let known = resident_bytes()?;
    for number in 0..COUNT {
        world.ask(number % 1_000, &format!("/objects/number/{number:07}"));
    }
    let filled = resident_bytes()?;
    let mut out = io::stdout().lock();
    let per = |before: u64, after: u64| after.saturating_sub(before) / COUNT;
    writeln!(out, "regions: {regions}")?;
    writeln!(out, "bytes per client after one request: {}", per(empty, met))?;
    writeln!(out, "bytes per client after six requests: {}", per(empty, known))?;
    writeln!(out, "bytes per key, its name of 23 bytes and up to 8 pairs included: {}", per(known, filled))?;
    writeln!(out, "bytes per ghost entry: {}", ghost_entry_bytes()?)?;
    Ok(())
}

/// One node with room for everything, and the same requests again with room for next to nothing: the difference is what its
/// ghost holds.
fn ghost_entry_bytes() -> Result<u64> {
    let grown = |capacity_bytes: u64| -> Result<(World, u64)> {
        let mut world = World::new(1, capacity_bytes)?;
        let before = resident_bytes()?;
        (0..GHOST_ENTRIES).for_each(|number| world.ask(number % 1_000, &format!("/objects/number/{number:07}")));
        let after = resident_bytes()?;
        Ok((world, after.saturating_sub(before)))
    };
    // The first takes up what tables that grew have left free.
    let _first = grown(1_000)?;
    let (_kept, small) = grown(1_000)?;
    let (_kept_too, large) = grown(1 << 40)?;
    Ok(large.saturating_sub(small) / GHOST_ENTRIES)
}

/// An engine with one node per region, asked in turn.
struct World {
    engine: Engine,
    places: Vec<(NodeIndex, RegionId)>,
    requests: u64,
}

impl World {
    fn new(regions: usize, capacity_bytes: u64) -> Result<Self> {
        let settings = EngineSettings { clients_max: 1_000_000, ..EngineSettings::default() };
        let mut engine = Engine::new(EngineConfig::try_from(settings)?, Topology::default());
        let place = |number: usize| {
            let region = format!("region-{number}");
            let node = NodeDescriptor {
                name: NodeName::from(region.as_str()),
                region: region.as_str().into(),
                url: "http://node.test".into(),
                capacity_bytes,
                segment_bytes: 1 << 20,
            };
            (engine.handle_join(Timestamp::default(), node), engine.intern_region(&region))
        };
        let places = (0..regions).map(place).collect();
        Ok(Self { engine, places, requests: 0 })
    }

    fn ask(&mut self, client: u64, key: &str) {
        self.requests += 1;
        let now = Timestamp::from_micros(i64::try_from(self.requests * 1_000).unwrap_or(i64::MAX));
        let (node, region) = self.places[self.requests as usize % self.places.len()];
        let key = self.engine.intern_key(key);
        let seen = Observation { node, client, region, key, size_bytes: 1, range: None, served: ServedFrom::Origin };
        self.engine.handle_request(now, &seen);
        while self.engine.poll_order(now).is_some() {}
    }
}

/// Bytes of memory that the process has in use.
fn resident_bytes() -> Result<u64> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = pages.split(' ').nth(1).ok_or("no resident set in /proc/self/statm")?.parse()?;
    Ok(pages * 4_096)
}
