//! Many regions: 200 nodes are replayed as two are, and more than the engine's defaults take are not left out unseen.

use nearcast_datasets::{
    RequestEvent,
    synthesize::{RegionConfig, Workload, WorkloadConfig},
};

use super::{
    CacheSize, CellReport, LogColumns, PlacementKind, PrefetchKind, ReplayConfig, replay_columns,
    tests::{event, quiet, refusal},
};

/// So many regions around the world, which share most of their taste.
fn many(regions: usize, requests: u64) -> Vec<RequestEvent> {
    let region = |number: usize| RegionConfig {
        name: format!("r{number:04}"),
        utc_offset_hours: (number % 24) as f64 - 12.0,
        share: 1.0 / regions as f64,
    };
    let config = WorkloadConfig {
        request_count: requests,
        key_count: 500,
        client_count: 1_000.max(regions as u32),
        regions: (0..regions).map(region).collect(),
        days: 1.0,
        drift_per_day: 0.0,
        newborn_per_day: 0.0,
        ..WorkloadConfig::default()
    };
    let mut workload = Workload::new(&config).unwrap();
    let mut events = Vec::new();
    while let Some(request) = workload.next_request() {
        let (region, key) = (&config.regions[request.region].name, workload.key_name(request.key));
        let mut event = event(0, region, key, workload.size_bytes(request.key));
        event.timestamp = request.timestamp;
        event.client = Workload::client_name(request.client);
        events.push(event);
    }
    events
}

fn play(regions: usize, prefetch: PrefetchKind, placement: PlacementKind) -> CellReport {
    let (prefetchers, placements) = (vec![prefetch], vec![placement]);
    let config = ReplayConfig { prefetchers, placements, caches: vec![CacheSize::Share(0.05)], ..quiet() };
    let log = LogColumns::from_events(&many(regions, 10_000), config.read);
    assert!(log.region_names().len() > regions * 9 / 10);
    replay_columns("log", &log, &config, &|_| ()).unwrap().cells.remove(0)
}

#[test]
fn two_hundred_nodes_are_replayed_and_the_same_way_twice() {
    for placement in [PlacementKind::None, PlacementKind::Hash] {
        let [alone, ahead] = [PrefetchKind::None, PrefetchKind::Nearcast].map(|kind| play(200, kind, placement));
        assert_eq!((alone.requests, ahead.requests), (10_000, 10_000));
        assert!(
            ahead.prefetch.used > 500 && 10 * ahead.misses < 9 * alone.misses,
            "{placement:?}: {:?}",
            ahead.prefetch
        );
        let account = ahead.account.as_ref().unwrap();
        assert!(account.nodes.len() > 180 && account.bounds.nodes_refused == 0, "{}", account.nodes.len());
        let again = play(200, PrefetchKind::Nearcast, placement);
        assert_eq!(serde_json::to_string(&ahead).unwrap(), serde_json::to_string(&again).unwrap());
    }
    // With homes, what a region lacks is at another node.
    assert!(play(200, PrefetchKind::None, PlacementKind::Hash).peer_bytes > 0);
}

#[test]
fn beyond_the_engines_default_bounds_no_node_is_turned_away() {
    let cell = play(300, PrefetchKind::Nearcast, PlacementKind::None);
    let account = cell.account.unwrap();
    let bounds = &account.bounds;
    assert!(account.nodes.len() > 270, "{}", account.nodes.len());
    assert_eq!((bounds.nodes_refused, bounds.regions_shared), (0, 0));
}

#[test]
fn more_nodes_than_an_engine_can_tell_apart_are_refused() {
    let events: Vec<_> = (0..1_100).map(|region| event(region, &format!("r{region}"), "/k", 1_000)).collect();
    let config = ReplayConfig { prefetchers: vec![PrefetchKind::Nearcast], ..quiet() };
    let said = refusal(&events, &config);
    assert!(said.contains("nodes_max") && said.contains("1100") && said.contains("1024"), "{said}");
}
