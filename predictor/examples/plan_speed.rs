//! How long planning takes: replica sets for a million keys and fifty regions, on one thread.
//!
//! ```text
//! cargo run --release -p nearcast-predictor --example plan_speed -- [KEYS [REGIONS]]
//! ```
//!
//! Demand is Zipf-like over keys, each region with a taste of its own and all regions asking for every key; sizes are
//! log-uniform, each node has room for a tenth of all bytes. The first plan finds its prices from nothing; the second
//! is for demand that has changed a little, with what the first one placed held. Prints one JSON document. Next to the
//! time by the clock is the thread's own on a processor, where Linux tells it: other work on the machine adds to the former.

use std::{process::ExitCode, time::Instant};

use nearcast_datasets::KeyId;
use nearcast_predictor::placement::{Cost, DemandTable, KeyDemand, NodeSet, Plan, Planner, PlannerConfig, Sites};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[expect(clippy::print_stdout, reason = "an example's output is its purpose")]
fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let keys = numbers.first().copied().unwrap_or(1_000_000);
    let regions = numbers.get(1).copied().unwrap_or(50);
    let first = demand(keys, regions, 1, None);
    let bytes: u64 = (0..first.len()).map(|row| first.key(row).bytes).sum();
    let place = |region: usize| ((region * 37 % 100) as f32, (region * 61 % 100) as f32);
    let link = |region: usize, node: usize| {
        let ((x, y), (other_x, other_y)) = (place(region), place(node));
        Cost { round_trip: 0.002 * (x - other_x).hypot(y - other_y), per_byte: 2e-8 }
    };
    let origin = |_| Cost { round_trip: 0.2, per_byte: 2e-8 };
    let Ok(sites) = Sites::new(regions, vec![bytes / 10; regions], link, origin) else {
        return ExitCode::FAILURE;
    };
    let mut planner = Planner::new(PlannerConfig::default(), sites);
    let (cold, plan) = timed(&mut planner, &first);
    let (warm, next) = timed(&mut planner, &demand(keys, regions, 2, Some(&plan)));
    let load: u64 = (0..regions).map(|node| next.load_bytes(node)).sum();
    let report = serde_json::json!({
        "schema": "nearcast.plan_speed/1",
        "keys": keys,
        "regions": regions,
        "first_plan_seconds": cold.0,
        "first_plan_processor_seconds": cold.1,
        "next_plan_seconds": warm.0,
        "next_plan_processor_seconds": warm.1,
        "keys_placed": next.len(),
        "replicas": next.iter().map(|(_, planned)| planned.nodes.len()).sum::<usize>(),
        "capacity_used": load as f64 / ((bytes / 10).max(1) as f64 * regions as f64),
        "saved_seconds": [plan.saved_seconds, next.saved_seconds],
        "moved_share": next.transfer_bytes as f64 / load.max(1) as f64,
    });
    println!("{report}");
    ExitCode::SUCCESS
}

/// Plans; seconds by the clock and on a processor.
#[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
fn timed(planner: &mut Planner, demand: &DemandTable) -> ((f64, Option<f64>), Plan) {
    let (start, busy) = (Instant::now(), processor_seconds());
    let plan = planner.plan(demand);
    let seconds = start.elapsed().as_secs_f64();
    let busy = processor_seconds().zip(busy).map(|(now, before)| now - before);
    ((seconds, busy), plan)
}

/// How long this thread has been on a processor.
fn processor_seconds() -> Option<f64> {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(said.split_whitespace().next()?.parse::<u64>().ok()? as f64 / 1e9)
}

fn demand(keys: usize, regions: usize, seed: u64, before: Option<&Plan>) -> DemandTable {
    let (mut fixed, mut noise) = (ChaCha8Rng::seed_from_u64(7), ChaCha8Rng::seed_from_u64(seed));
    let mut table = DemandTable::new(regions);
    let mut requests = vec![0.0; regions];
    for number in 0..keys {
        let rank = 1.0 + fixed.random::<f32>() * keys as f32;
        for request in &mut requests {
            let taste = 0.3 + 1.4 * fixed.random::<f32>();
            *request = 1e5 / rank * taste * (0.9 + 0.2 * noise.random::<f32>());
        }
        let bytes = (10.0_f64.powf(3.5 + 3.0 * fixed.random::<f64>())) as u64;
        let key = KeyId(number as u32);
        let held = before.map_or(NodeSet::EMPTY, |plan| plan.nodes(key));
        table.push(KeyDemand { key, bytes, held, replicas_min: 1 }, &requests);
    }
    table
}
