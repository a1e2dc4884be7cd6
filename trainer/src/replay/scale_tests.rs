//! Many regions: 200 nodes are replayed as two are, and more than the engine's defaults take are not left out unseen.

use nearcast_datasets::RequestEvent;

use super::{
    CacheSize, CellReport, PlacementKind, PrefetchKind, ReplayConfig,
    tests::{event, quiet, refusal, run_one},
};

/// Every region in turn asks for what the one before asked for, so that most requests of a region are new there.
fn many(regions: usize) -> Vec<RequestEvent> {
    let region = |step: usize| format!("r{:04}", step % regions);
    let key = |step: usize| format!("/k/{}", (step / regions * 7 + step % regions * 3) % 97);
    (0..20 * regions).map(|step| event(step as i64 * 5, &region(step), &key(step), 1_000)).collect()
}

fn play(regions: usize, prefetch: PrefetchKind, placement: PlacementKind) -> CellReport {
    let (prefetchers, placements) = (vec![prefetch], vec![placement]);
    run_one(&many(regions), &ReplayConfig { prefetchers, placements, caches: vec![CacheSize::Share(0.3)], ..quiet() })
}

#[test]
fn two_hundred_nodes_are_replayed_and_the_same_way_twice() {
    for placement in [PlacementKind::None, PlacementKind::Hash] {
        let [alone, ahead] = [PrefetchKind::None, PrefetchKind::Nearcast].map(|kind| play(200, kind, placement));
        assert_eq!((alone.requests, ahead.requests), (4_000, 4_000));
        assert!(ahead.prefetch.used > 100 && ahead.misses < alone.misses, "{placement:?}: {:?}", ahead.prefetch);
        let account = ahead.account.as_ref().unwrap();
        assert_eq!((account.nodes.len(), account.bounds.nodes_refused), (200, 0));
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
    assert_eq!((account.nodes.len(), bounds.nodes_refused, bounds.regions_shared), (300, 0, 0));
}

#[test]
fn more_nodes_than_an_engine_can_tell_apart_are_refused() {
    let config = ReplayConfig { prefetchers: vec![PrefetchKind::Nearcast], ..quiet() };
    let said = refusal(&many(1_100), &config);
    assert!(said.contains("nodes_max") && said.contains("1100") && said.contains("1024"), "{said}");
}
