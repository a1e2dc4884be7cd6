//! Placement strategies in replay, on a log where pulling through is of no use.

use nearcast_cache_node::index::PolicyKind;

use super::{
    CacheSize, CellReport, PlacementKind, ReadOptions, ReplayConfig,
    tests::{event, quiet, run_one},
};

/// Two regions go round twenty keys for half a day; a node has room for ten, which LRU always drops too early.
fn rounds(placement: PlacementKind, share: f64) -> CellReport {
    rounds_with(&rounds_config(placement, share))
}

fn rounds_with(config: &ReplayConfig) -> CellReport {
    let events: Vec<_> = (0..4_000)
        .map(|step| event(10_000 * step, ["north", "south"][step as usize % 2], &format!("/k/{}", step / 2 % 20), 1))
        .collect();
    run_one(&events, config)
}

fn rounds_config(placement: PlacementKind, share: f64) -> ReplayConfig {
    let mut config = ReplayConfig {
        policies: vec![PolicyKind::Lru.into()],
        placements: vec![placement],
        caches: vec![CacheSize::Bytes(10)],
        read: ReadOptions { unit_size: true, single_region: false },
        warmup: 0.3,
        ..quiet()
    };
    config.placing.share = share;
    config
}

#[test]
fn placed_replicas_halve_the_wait_where_pulling_through_never_hits() {
    let alone = rounds(PlacementKind::None, 0.9);
    assert_eq!((alone.hits, alone.peer_bytes), (0, 0));
    for placement in PlacementKind::ALL.into_iter().filter(|placement| placement.places()) {
        let placed = rounds(placement, 0.9);
        assert_eq!(placed.hits + placed.misses, placed.requests);
        let (placed, alone) = (placed.latency_ms.mean, alone.latency_ms.mean);
        assert!(placed < 0.6 * alone, "{placement:?}: {placed} ms against {alone} ms");
    }
}

#[test]
fn without_room_for_replicas_nothing_is_placed() {
    for placement in [PlacementKind::Static, PlacementKind::Reactive, PlacementKind::Volley] {
        let cell = rounds(placement, 0.0);
        assert_eq!((cell.hits, cell.prefetch.issued), (0, 0), "{placement:?}");
    }
}

#[test]
fn the_same_log_is_placed_the_same_way_twice() {
    let json = |cell: CellReport| serde_json::to_string(&cell).unwrap();
    for placement in [PlacementKind::Volley, PlacementKind::Gapa] {
        assert_eq!(json(rounds(placement, 0.5)), json(rounds(placement, 0.5)), "{placement:?}");
    }
}

#[test]
fn over_slow_links_little_is_moved_and_what_readers_bring_is_held() {
    let over = |link_share| {
        let mut config = ReplayConfig { warmup: 0.0, ..rounds_config(PlacementKind::Reactive, 0.9) };
        config.placing.link_share = link_share;
        rounds_with(&config)
    };
    let (fast, slow) = (over(0.5), over(1e-12));
    // A byte in 20,000 s, from the origin and the other node, to each of two, for half a day.
    let most = 4 * (1 + 40_000 / 20_000);
    assert!(slow.prefetch.bytes <= most && slow.prefetch.bytes < fast.prefetch.bytes, "{slow:?} {fast:?}");
    assert!(slow.latency_ms.mean < 1.2 * fast.latency_ms.mean, "{slow:?} {fast:?}");
}
