//! The node core driven by hand: coalescing, demand before prefetch, causes and outcomes.

use std::time::Duration;

use nearcast_datasets::{KeyId, SegmentId, Timestamp};
use nearcast_proto::message::{CommandId, CommandStatus, OutcomeKind};

use super::{
    Answer, FetchFailed, Fetched, FetchedFrom, MissCause, NodeCore, NodeCoreConfig, NodeEvent, PrefetchOrder,
    routing::FetchSource,
};
use crate::index::{IndexConfig, PolicyKind};

fn core(configure: impl FnOnce(&mut NodeCoreConfig)) -> NodeCore {
    let index =
        IndexConfig { capacity_bytes: 10, policy: PolicyKind::Lru, probation_share: 0.4, ..IndexConfig::default() };
    let mut config = NodeCoreConfig { index, ..NodeCoreConfig::default() };
    configure(&mut config);
    NodeCore::new(&config).unwrap()
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn segment(key: u32) -> SegmentId {
    SegmentId { key: KeyId(key), index: 0 }
}

fn order(key: u32, bytes: u64, value_seconds: f64) -> PrefetchOrder {
    PrefetchOrder {
        command: CommandId(u64::from(key)),
        segment: segment(key),
        bytes,
        sources: vec![FetchSource::Origin],
        deadline: at(1_000),
        value_seconds,
    }
}

fn fetched(bytes: u64, from: FetchedFrom) -> Result<Fetched, FetchFailed> {
    Ok(Fetched { bytes, from, is_cacheable: true })
}

/// A request that fetches from the origin at once when it must; the cause of its miss, if it missed.
fn ask(core: &mut NodeCore, micros: i64, key: u32) -> Option<MissCause> {
    match core.handle_request(at(micros), segment(key), 1) {
        Answer::Hit { .. } => None,
        Answer::Join { cause } => Some(cause),
        Answer::Miss { cause } => {
            core.handle_fetched(at(micros), segment(key), fetched(1, FetchedFrom::Origin));
            Some(cause)
        }
    }
}

fn events(core: &mut NodeCore) -> Vec<NodeEvent> {
    std::iter::from_fn(|| core.poll_event()).collect()
}

fn results(core: &mut NodeCore) -> Vec<(u64, CommandStatus)> {
    let result = |event| match event {
        NodeEvent::Result { command, status, .. } => Some((command.0, status)),
        NodeEvent::Evicted { .. } | NodeEvent::Gained { .. } | NodeEvent::Outcome { .. } => None,
    };
    events(core).into_iter().filter_map(result).collect()
}

fn outcomes(core: &mut NodeCore) -> Vec<(u64, OutcomeKind, Duration)> {
    let outcome = |event| match event {
        NodeEvent::Outcome { command, kind, residence, .. } => Some((command.0, kind, residence)),
        NodeEvent::Evicted { .. } | NodeEvent::Gained { .. } | NodeEvent::Result { .. } => None,
    };
    events(core).into_iter().filter_map(outcome).collect()
}

#[test]
fn requests_for_one_segment_share_one_fetch() {
    let mut core = core(|_| ());
    assert_eq!(core.handle_request(at(0), segment(1), 1), Answer::Miss { cause: MissCause::First });
    assert_eq!(core.handle_request(at(1), segment(1), 1), Answer::Join { cause: MissCause::First });
    let landed = core.handle_fetched(at(2), segment(1), fetched(1, FetchedFrom::Origin));
    assert!(landed.is_held);
    assert_eq!(core.handle_request(at(3), segment(1), 1), Answer::Hit { first_use: false });
    assert_eq!(events(&mut core), [NodeEvent::Gained { segment: segment(1), bytes: 1 }]);
    assert_eq!((core.counters().joins, core.counters().misses.count(MissCause::First)), (1, 2));
}

#[test]
fn every_miss_has_its_cause() {
    let mut core = core(|config| config.index.capacity_bytes = 2);
    assert_eq!(ask(&mut core, 0, 1), Some(MissCause::First));
    assert_eq!(ask(&mut core, 1, 2), Some(MissCause::First));
    assert_eq!(ask(&mut core, 2, 3), Some(MissCause::First));
    assert_eq!(ask(&mut core, 3, 1), Some(MissCause::Capacity));
    core.handle_expired(at(4), segment(1));
    assert_eq!(ask(&mut core, 5, 1), Some(MissCause::Expired));

    core.handle_request(at(6), segment(4), 9);
    assert!(!core.handle_fetched(at(6), segment(4), fetched(9, FetchedFrom::Origin)).is_held);
    assert_eq!(ask(&mut core, 7, 4), Some(MissCause::Rejected));

    core.handle_request(at(8), segment(5), 1);
    let answer = Fetched { bytes: 1, from: FetchedFrom::Origin, is_cacheable: false };
    core.handle_fetched(at(8), segment(5), Ok(answer));
    assert_eq!(ask(&mut core, 9, 5), Some(MissCause::Uncacheable));

    core.handle_request(at(10), segment(6), 1);
    let landed = core.handle_fetched(at(10), segment(6), fetched(1, FetchedFrom::Peer));
    assert_eq!(landed.cause, Some(MissCause::Elsewhere));
    assert_eq!(core.counters().misses.count(MissCause::Elsewhere), 1);
    assert_eq!(core.counters().misses.total() + core.counters().hits, core.counters().requests);
}

#[test]
fn a_prefetch_is_used_once_and_reports_how_long_it_waited() {
    let mut core = core(|_| ());
    core.handle_order(at(0), order(1, 1, 1.0));
    assert_eq!(core.poll_prefetch(at(0)).map(|order| order.segment), Some(segment(1)));
    core.handle_prefetched(at(10), segment(1), fetched(1, FetchedFrom::Origin));
    assert_eq!(results(&mut core), [(1, CommandStatus::Done)]);
    assert_eq!(core.handle_request(at(40), segment(1), 1), Answer::Hit { first_use: true });
    assert_eq!(core.handle_request(at(50), segment(1), 1), Answer::Hit { first_use: false });
    assert_eq!(outcomes(&mut core), [(1, OutcomeKind::Used, Duration::from_micros(30))]);
}

#[test]
fn demand_joins_a_prefetch_under_way_and_calls_it_late_once() {
    let mut core = core(|_| ());
    core.handle_order(at(0), order(1, 1, 1.0));
    assert!(core.poll_prefetch(at(0)).is_some());
    assert_eq!(core.handle_request(at(5), segment(1), 1), Answer::Join { cause: MissCause::LatePrefetch });
    assert_eq!(core.handle_request(at(6), segment(1), 1), Answer::Join { cause: MissCause::LatePrefetch });
    assert_eq!(outcomes(&mut core), [(1, OutcomeKind::Late, Duration::ZERO)]);
    assert!(core.handle_prefetched(at(2_000), segment(1), fetched(1, FetchedFrom::Origin)).is_held);
    assert_eq!(core.handle_request(at(2_001), segment(1), 1), Answer::Hit { first_use: false });
    assert_eq!(core.counters().prefetch.late, 1);
}

#[test]
fn demand_overtakes_a_queued_prefetch() {
    let mut core = core(|config| config.prefetch_flights_max = 0);
    core.handle_order(at(0), order(1, 1, 1.0));
    assert!(core.poll_prefetch(at(0)).is_none());
    assert_eq!(core.handle_request(at(5), segment(1), 1), Answer::Miss { cause: MissCause::LatePrefetch });
    assert_eq!((core.queue_len(), results(&mut core)), (0, vec![(1, CommandStatus::Expired)]));
}

#[test]
fn demand_fetches_for_itself_when_the_prefetch_it_joined_fails() {
    let mut core = core(|_| ());
    core.handle_order(at(0), order(1, 1, 1.0));
    assert!(core.poll_prefetch(at(0)).is_some());
    core.handle_request(at(5), segment(1), 1);
    assert!(core.handle_prefetched(at(6), segment(1), Err(FetchFailed)).demand_waits);
    assert_eq!(core.handle_request(at(7), segment(1), 1), Answer::Join { cause: MissCause::LatePrefetch });
    assert!(core.handle_fetched(at(8), segment(1), fetched(1, FetchedFrom::Origin)).is_held);
    assert_eq!(results(&mut core), [(1, CommandStatus::Failed)]);
}

#[test]
fn prefetches_start_best_value_per_byte_first_within_their_bounds() {
    let mut core = core(|config| {
        config.prefetch_flights_max = 2;
        config.queue_max = 3;
    });
    for (key, bytes, value) in [(1, 2, 1.0), (2, 1, 3.0), (3, 4, 2.2), (4, 1, 0.1)] {
        core.handle_order(at(0), order(key, bytes, value));
    }
    assert_eq!(results(&mut core), [(4, CommandStatus::Rejected)]);
    let started: Vec<_> = std::iter::from_fn(|| core.poll_prefetch(at(1))).map(|order| order.command.0).collect();
    assert_eq!(started, [2, 3]);
    core.handle_prefetched(at(2), segment(2), fetched(1, FetchedFrom::Origin));
    assert_eq!(core.poll_prefetch(at(1_001)), None, "its deadline passed");
    assert_eq!(results(&mut core), [(2, CommandStatus::Done), (1, CommandStatus::Expired)]);
}

#[test]
fn no_prefetch_starts_while_demand_needs_the_links() {
    let mut core = core(|config| config.demand_flights_max = 1);
    core.handle_request(at(0), segment(1), 1);
    core.handle_order(at(0), order(9, 1, 1.0));
    core.handle_request(at(0), segment(2), 1);
    assert!(core.poll_prefetch(at(0)).is_none());
    core.handle_fetched(at(1), segment(2), fetched(1, FetchedFrom::Origin));
    assert!(core.poll_prefetch(at(1)).is_some());
}

#[test]
fn the_more_demand_is_under_way_the_fewer_prefetches_are() {
    let started_beside = |demand: u32| {
        let mut core = core(|config| (config.prefetch_flights_max, config.demand_flights_max) = (4, 7));
        (0..demand).for_each(|key| _ = core.handle_request(at(0), segment(key), 1));
        (100..110).for_each(|key| core.handle_order(at(0), order(key, 1, 1.0)));
        std::iter::from_fn(|| core.poll_prefetch(at(0))).count()
    };
    assert_eq!([0, 1, 2, 4, 6, 7, 8, 20].map(started_beside), [4, 4, 3, 2, 1, 1, 0, 0]);
}

#[test]
fn orders_that_make_no_sense_end_at_once() {
    let mut core = core(|_| ());
    ask(&mut core, 0, 1);
    core.handle_order(at(0), order(1, 1, 1.0));
    core.handle_order(at(0), order(2, 5, 1.0));
    core.handle_order(at(2_000), order(3, 1, 1.0));
    let ends = [(1, CommandStatus::AlreadyPresent), (2, CommandStatus::Rejected), (3, CommandStatus::Expired)];
    assert_eq!(results(&mut core), ends);
    assert_eq!(ask(&mut core, 2_001, 2), Some(MissCause::Rejected));
}

#[test]
fn a_full_flight_table_costs_coalescing_but_no_answer() {
    let mut core = core(|config| config.flights_max = 1);
    core.handle_request(at(0), segment(1), 1);
    assert_eq!(core.handle_request(at(0), segment(2), 1), Answer::Miss { cause: MissCause::First });
    assert_eq!(core.handle_request(at(0), segment(2), 1), Answer::Miss { cause: MissCause::First });
    assert!(core.handle_fetched(at(1), segment(2), fetched(1, FetchedFrom::Origin)).is_held);
    assert_eq!((core.counters().flights_full, core.flights_len()), (2, 1));
}

#[test]
fn a_damaged_payload_is_a_miss_that_repairs_the_index() {
    let mut core = core(|_| ());
    ask(&mut core, 0, 1);
    assert_eq!(core.handle_request(at(1), segment(1), 1), Answer::Hit { first_use: false });
    assert_eq!(core.handle_damaged(at(1), segment(1), 1), Answer::Miss { cause: MissCause::Capacity });
    assert_eq!((core.counters().hits, core.counters().repaired, core.index().len()), (0, 1, 0));
    core.handle_fetched(at(2), segment(1), fetched(1, FetchedFrom::Origin));
    assert_eq!(core.handle_request(at(3), segment(1), 1), Answer::Hit { first_use: false });
}

#[test]
fn pinned_segments_stay_until_ordered_away() {
    let mut core = core(|config| config.index.capacity_bytes = 2);
    ask(&mut core, 0, 1);
    core.handle_pin(CommandId(50), segment(1));
    core.handle_pin(CommandId(51), segment(2));
    for key in 2..6 {
        ask(&mut core, 1, key);
    }
    assert_eq!(ask(&mut core, 2, 1), None);
    core.handle_evict(at(3), CommandId(52), segment(1));
    assert_eq!(ask(&mut core, 4, 1), Some(MissCause::Expired));
    let ends = [(50, CommandStatus::Done), (51, CommandStatus::Rejected), (52, CommandStatus::Done)];
    assert_eq!(results(&mut core), ends);
}

#[test]
fn recalled_prefetches_are_dropped_at_once_or_when_they_land_unless_somebody_waits() {
    let mut core = core(|config| config.prefetch_flights_max = 2);
    for key in 1..=4 {
        core.handle_order(at(0), order(key, 1, f64::from(10 - key)));
    }
    let started: Vec<u64> = std::iter::from_fn(|| core.poll_prefetch(at(0))).map(|order| order.command.0).collect();
    assert_eq!(started, [1, 2], "two are under way, two wait");
    assert!(matches!(core.handle_request(at(1), segment(2), 1), Answer::Join { .. }));
    assert_eq!(core.handle_recall(), 3);
    assert_eq!(results(&mut core), [(3, CommandStatus::Expired), (4, CommandStatus::Expired)]);
    assert_eq!(core.poll_prefetch(at(2)).map(|order| order.command), None);
    assert!(!core.handle_prefetched(at(3), segment(1), fetched(1, FetchedFrom::Origin)).is_held);
    assert!(core.handle_prefetched(at(3), segment(2), fetched(1, FetchedFrom::Origin)).is_held);
    assert_eq!(results(&mut core), [(1, CommandStatus::Expired), (2, CommandStatus::Done)]);
    core.handle_order(at(4), order(5, 1, 1.0));
    assert_eq!(core.poll_prefetch(at(4)).map(|order| order.command), Some(CommandId(5)), "later ones go on");
}
