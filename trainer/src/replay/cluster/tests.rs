//! When orders land, and what requests before and after that feel.

use nearcast_datasets::RequestEvent;
use nearcast_predictor::engine::EngineConfig;
use nearcast_proto::{
    message::{CommandId, Epoch},
    topology::Topology,
};

use super::*;
use crate::replay::{PlacementKind, PrefetchKind, ReadOptions};

const SIZE: u64 = 500_000;

fn event(millis: i64, key: &str) -> RequestEvent {
    RequestEvent {
        timestamp: Timestamp::from_micros(millis * 1_000),
        client: "c".to_owned(),
        region: "a".to_owned(),
        key: key.to_owned(),
        size_bytes: SIZE,
        range: None,
        node: None,
        outcome: None,
        latency_us: None,
        arm: None,
        model_version: None,
    }
}

fn setup(topology: &Topology, is_instant: bool) -> CellSetup<'_> {
    CellSetup {
        node: nearcast_cache_node::core::NodeCoreConfig::default(),
        policy: EvictionKind::default(),
        prefetch: PrefetchKind::Nearcast,
        placement: PlacementKind::None,
        topology,
        segment_bytes: 1 << 20,
        control_round_trip: Duration::from_millis(20),
        is_instant,
    }
}

/// To fetch all of `key` from the origin.
fn order(key: KeyId) -> Order {
    Order {
        id: CommandId(900),
        epoch: Epoch(0),
        action: Action::Replicate,
        node: nearcast_predictor::engine::NodeIndex(0),
        key,
        size_bytes: SIZE,
        segments: vec![0],
        sources: vec![OrderSource::Origin],
        deadline: Timestamp::MAX,
        probability: 1.0,
        expected_value_seconds: 1.0,
    }
}

/// Asks for `/x` at the times given, having sent an order for it at 0; the causes of the misses among them.
fn causes(asked_at_millis: &[i64], is_instant: bool) -> (Vec<MissCause>, Tally) {
    let asked = asked_at_millis.iter().map(|millis| event(*millis, "/x"));
    let events: Vec<_> = std::iter::once(event(0, "/other")).chain(asked).collect();
    let log = LogColumns::from_events(&events, ReadOptions::default());
    let topology = Topology::default();
    let mut engine = Engine::new(EngineConfig::default(), topology.clone());
    engine.set_arm(nearcast_predictor::engine::Arm::None, false);
    let key = engine.intern_key("/x");
    let mut cluster = Cluster::new(&log, &setup(&topology, is_instant), Some(engine)).unwrap();
    cluster.play(0);
    cluster.predictor.as_mut().unwrap().to_nodes.send(Timestamp::from_micros(0), order(key));
    cluster.start_counting(Timestamp::from_micros(0));
    let mut causes = Vec::new();
    for index in 1..log.len() {
        let before = cluster.tally.miss_causes;
        cluster.play(index);
        let grew = |cause: &MissCause| cluster.tally.miss_causes.count(*cause) > before.count(*cause);
        causes.extend(MissCause::ALL.into_iter().filter(grew));
    }
    (causes, cluster.finish().0)
}

#[test]
fn an_order_for_what_nobody_ever_asks_for_is_fetched_and_paid_for() {
    let log = LogColumns::from_events(&[event(0, "/x"), event(500, "/x")], ReadOptions::default());
    let topology = Topology::default();
    let mut engine = Engine::new(EngineConfig::default(), topology.clone());
    engine.set_arm(nearcast_predictor::engine::Arm::None, false);
    let order = order(engine.intern_key("/made-up"));
    let mut cluster = Cluster::new(&log, &setup(&topology, false), Some(engine)).unwrap();
    cluster.predictor.as_mut().unwrap().to_nodes.send(Timestamp::from_micros(0), order);
    cluster.play(0);
    cluster.play(1);
    let (tally, _) = cluster.finish();
    assert_eq!((tally.prefetch.landed, tally.prefetch.bytes, tally.origin_bytes), (1, SIZE, 2 * SIZE));
}

// The order takes 10 ms to its node, the transfer 120 ms of round trip and 10 ms of bandwidth: it lands at 140 ms.

#[test]
fn a_prefetch_is_a_hit_only_after_its_transfer_would_have_ended() {
    let (missed, tally) = causes(&[141], false);
    assert_eq!((missed, tally.prefetch.used, tally.prefetch.landed), (vec![], 1, 1));
    assert_eq!(tally.origin_bytes, SIZE);
}

#[test]
fn a_request_before_that_waits_for_the_rest_of_it_and_fetches_nothing() {
    let (missed, tally) = causes(&[100, 141], false);
    assert_eq!((missed, tally.prefetch.used, tally.prefetch.late), (vec![MissCause::LatePrefetch], 0, 1));
    assert_eq!(tally.origin_bytes, SIZE);
    assert!((tally.latency_ms(1.0) - 50.0).abs() < 0.1, "10 to the client and 40 until it lands");
}

#[test]
fn a_request_before_the_order_arrives_knows_nothing_of_it() {
    let (missed, tally) = causes(&[5, 200], false);
    assert_eq!((missed, tally.prefetch.used, tally.prefetch.bytes), (vec![MissCause::First], 0, 0));
    assert_eq!(tally.origin_bytes, SIZE);
}

#[test]
fn an_instant_prefetch_lands_at_once() {
    let (missed, tally) = causes(&[5], true);
    assert_eq!((missed, tally.prefetch.used), (vec![], 1));
}
