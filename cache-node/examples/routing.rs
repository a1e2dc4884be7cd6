//! How long it takes to find the sources of a miss: a million keys with explicit holders, and as many without.
//!
//! ```text
//! cargo run --release -p nearcast-cache-node --example routing -- [KEYS [NODES]]
//! ```
//!
//! Each key has two or three holders among the nodes; half of the look-ups are for keys that have none and go to their
//! home. The time includes hashing the key. Prints one JSON document.

use std::{process::ExitCode, sync::Arc, time::Duration, time::Instant};

use nearcast_cache_node::core::routing::{FetchSource, Link, MemberId, RoutingConfig, RoutingTable, key_hash};
use nearcast_datasets::{KeyId, Timestamp};
use nearcast_proto::message::{CacheMap, Epoch, Member, NodeDescriptor, NodeName};

#[expect(clippy::print_stdout, reason = "an example's output is its purpose")]
fn main() -> ExitCode {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let keys = numbers.first().copied().unwrap_or(1_000_000);
    let nodes = numbers.get(1).copied().unwrap_or(13).clamp(1, 1_000);
    let table = table(keys, nodes);
    let names: Vec<String> = (0..2 * keys).map(|key| format!("/catalogue/{}/item-{key}.html", key % 97)).collect();
    let (placed_micros, sources) = time(&table, &names, 0..keys);
    let (hashed_micros, _) = time(&table, &names, keys..2 * keys);
    let report = serde_json::json!({
        "schema": "nearcast.routing/1",
        "keys_placed": table.placement_count(),
        "nodes": nodes,
        "placed_microseconds": placed_micros,
        "hashed_microseconds": hashed_micros,
        "sources_of_a_placed_key": f64::from(sources) / f64::from(keys),
    });
    println!("{report}");
    ExitCode::SUCCESS
}

fn table(keys: u32, nodes: u32) -> RoutingTable {
    let member = |number: u32| Member {
        node: NodeDescriptor {
            name: NodeName::from(format!("node-{number}").as_str()),
            region: Arc::from("r"),
            url: Arc::from(""),
            capacity_bytes: 1 << 30,
            segment_bytes: 1 << 20,
        },
        alive: true,
    };
    let map = CacheMap { epoch: Epoch(1), members: (0..nodes).map(member).collect() };
    let config = RoutingConfig { placements_max: keys as usize, ..RoutingConfig::default() };
    let mut table = RoutingTable::new(config, &NodeName::from("node-0"));
    let mut round_trip = Duration::ZERO;
    table.install(&map, |_| {
        round_trip += Duration::from_millis(7);
        Link { round_trip, bandwidth: 50e6 }
    });
    for key in 0..keys {
        let holder = |step: u32| MemberId(u16::try_from((key.wrapping_mul(7) + 5 * step) % nodes).unwrap_or(0));
        let holders: Vec<MemberId> = (0..2 + key % 2).map(holder).collect();
        table.place(KeyId(key), &holders);
    }
    table
}

/// Microseconds per look-up, in an order that no cache likes, and how many sources were found.
#[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
fn time(table: &RoutingTable, names: &[String], keys: std::ops::Range<u32>) -> (f64, u32) {
    let mut sources: Vec<FetchSource> = Vec::new();
    let (count, mut found) = (keys.len() as u32, 0);
    let start = Instant::now();
    for step in 0..count {
        let key = keys.start + (u64::from(step) * 2_654_435_761 % u64::from(count)) as u32;
        sources.clear();
        table.route(Timestamp::from_micros(1), KeyId(key), key_hash(&names[key as usize]), 100_000, &mut sources);
        found += sources.len() as u32;
    }
    (start.elapsed().as_secs_f64() * 1e6 / f64::from(count.max(1)), found)
}
