//! Members that come and go, reports out of order, and tables at their bounds.

use super::*;

fn taught(settings: EngineSettings) -> World {
    let mut world = World::new(settings, &["eu", "us"], 30, 10);
    for visit in 0..1_000_u64 {
        let page = visit % 50;
        world.ask(0, visit, &format!("/{page}"));
        world.ask(0, visit, &format!("/{page}.gif"));
    }
    assert!(!world.orders.is_empty());
    world
}

#[test]
fn a_node_that_left_gets_no_orders_and_comes_back_with_its_inventory() {
    let mut world = taught(EngineSettings::default());
    let node = NodeIndex(0);
    world.engine.handle_leave(world.now, node);
    let key = world.key("/1");
    assert_eq!(world.engine.holders(SegmentId { key, index: 0 }).count(), 0);
    assert_eq!(world.engine.account().bounds.outstanding, world.engine.outstanding.len());
    world.orders.clear();
    for visit in 0..50 {
        world.ask(1, visit, &format!("/{visit}"));
    }
    assert!(world.orders.iter().all(|order| order.node != node));

    let epoch = world.engine.epoch();
    assert_eq!(world.join("eu"), node, "it keeps its number");
    assert!(world.engine.epoch() > epoch);
    world.engine.handle_gained(world.now, node, SegmentId { key, index: 0 }, SIZE);
    assert!(world.engine.cache_map().holds(node, SegmentId { key, index: 0 }));
}

#[test]
fn reports_of_unknown_nodes_and_orders_are_counted_and_ignored() {
    let mut world = taught(EngineSettings::default());
    let before = world.engine.account().clone();
    let (now, stranger) = (world.now, NodeIndex(77));
    world.engine.handle_outcome(now, CommandId(1 << 40), OutcomeKind::Used, Duration::ZERO);
    world.engine.handle_leave(now, stranger);
    world.engine.handle_gained(now, stranger, SegmentId { key: KeyId(0), index: 0 }, 1);
    world.engine.handle_result(now, CommandId(1 << 40), CommandStatus::Failed, 9);
    let after = world.engine.account();
    assert_eq!(after.unknown - before.unknown, 3);
    assert_eq!((after.used, after.unused, after.void), (before.used, before.unused, before.void));
}

#[test]
fn an_order_that_nobody_answers_becomes_void_and_frees_its_budget() {
    let mut world = taught(EngineSettings::default());
    let mut silent = None;
    for visit in 0..200_u64 {
        let key = world.key(&format!("/{}", visit % 50));
        let region = world.engine.intern_region("eu");
        let seen = Observation {
            node: NodeIndex(0),
            client: visit + 10_000,
            region,
            key,
            size_bytes: SIZE,
            range: None,
            served: ServedFrom::Memory,
        };
        world.engine.handle_request(world.now, &seen);
        silent = silent.or_else(|| world.engine.poll_order(world.now));
    }
    let order = silent.expect("a taught engine issues");
    assert!(world.engine.poll_timeout().is_some(), "an order is unanswered");
    let void = world.engine.account().void;
    world.engine.handle_timeout(order.deadline);
    assert!(world.engine.outstanding.contains(order.node, order.key), "its answer may still be on its way");
    world.engine.handle_timeout(order.deadline.after(Duration::from_secs(3_600)));
    assert!(world.engine.account().void > void);
    assert!(!world.engine.outstanding.contains(order.node, order.key));
}

#[test]
fn every_table_stays_within_its_bound() {
    let settings = EngineSettings {
        keys_max: 60,
        clients_max: 8,
        labels_max: 16,
        outstanding_max: 4,
        nodes_max: 2,
        regions_max: 2,
        ..EngineSettings::default()
    };
    let mut world = World::new(settings, &["eu", "us"], 30, 10);
    let mut dice = Dice(9);
    for visit in 0..3_000_u64 {
        let page = dice.roll(200);
        world.ask(0, visit, &format!("/{page}"));
        world.ask(0, visit, &format!("/{page}.gif"));
    }
    let bounds = world.engine.account().bounds;
    assert!(bounds.keys <= 60 && bounds.keys_forgotten > 0, "{bounds:?}");
    assert!(bounds.clients <= 8 && bounds.clients_forgotten > 0, "{bounds:?}");
    assert!(bounds.labels <= 16 && bounds.outstanding <= 4, "{bounds:?}");
    let third = world.join("asia");
    assert_eq!(third, NodeIndex(2));
    assert!(world.engine.node(third).is_none());
}

#[test]
fn settings_out_of_range_and_unknown_ones_are_refused_by_name() {
    let negative = EngineSettings { budget_share: -0.1, ..EngineSettings::default() };
    let message = EngineConfig::try_from(negative).expect_err("a negative budget").to_string();
    assert!(message.contains("budget_share") && message.contains("-0.1"), "{message}");
    assert!(toml::from_str::<EngineConfig>("keys_maximum = 3").is_err());
    assert!(toml::from_str::<EngineConfig>("keys_max = 0").is_err());
    assert!(toml::from_str::<EngineConfig>("keys_max = 3").is_ok());
}
