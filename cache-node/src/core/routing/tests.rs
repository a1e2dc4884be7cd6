//! Homes in proportion to capacity, small moves on change, sources in order of cost.

use std::{sync::Arc, time::Duration};

use nearcast_datasets::{KeyId, Timestamp};
use nearcast_proto::message::{CacheMap, Epoch, Member, NodeDescriptor, NodeName};

use super::{FetchSource, Link, MemberId, RoutingConfig, RoutingTable, key_hash};

fn map(members: &[(&str, u64, bool)]) -> CacheMap {
    let member = |(name, capacity_bytes, alive): &(&str, u64, bool)| Member {
        node: NodeDescriptor {
            name: NodeName::from(*name),
            region: Arc::from(*name),
            url: Arc::from(""),
            capacity_bytes: *capacity_bytes,
            segment_bytes: 1 << 20,
        },
        alive: *alive,
    };
    CacheMap { epoch: Epoch(1), members: members.iter().map(member).collect() }
}

/// A table of node `a` to which node names further down the alphabet are farther away.
fn table(members: &[(&str, u64, bool)]) -> RoutingTable {
    let mut table = RoutingTable::new(RoutingConfig::default(), &NodeName::from("a"));
    table.install(&map(members), distance);
    table
}

fn distance(node: &NodeDescriptor) -> Link {
    let letters = u64::from(node.name.0.as_bytes()[0] - b'a');
    Link { round_trip: Duration::from_millis(10 * letters), bandwidth: 1e6 }
}

fn homes(table: &RoutingTable, keys: u32) -> Vec<Option<MemberId>> {
    (0..keys).map(|key| table.home(key_hash(&format!("/k/{key}")))).collect()
}

#[test]
fn homes_follow_capacity() {
    let table = table(&[("a", 100, true), ("b", 300, true), ("c", 0, false)]);
    let b = table.member(&NodeName::from("b"));
    let share = homes(&table, 20_000).iter().filter(|home| **home == b).count() as f64 / 20_000.0;
    assert!((share - 0.75).abs() < 0.02, "{share}");
}

#[test]
fn a_member_that_leaves_moves_only_its_own_keys() {
    let mut table = table(&[("a", 1, true), ("b", 1, true), ("c", 1, true)]);
    let before = homes(&table, 2_000);
    let c = table.member(&NodeName::from("c"));
    table.install(&map(&[("a", 1, true), ("b", 1, true)]), distance);
    let after = homes(&table, 2_000);
    assert!(before.iter().zip(&after).all(|(old, new)| old == new || (*old == c && *new != c)));
    assert!(before.contains(&c) && !after.contains(&c));
}

#[test]
fn every_node_finds_the_same_home() {
    let members = [("a", 5, true), ("b", 7, true), ("c", 9, true)];
    let here = table(&members);
    let mut there = RoutingTable::new(RoutingConfig::default(), &NodeName::from("c"));
    there.install(&map(&members), distance);
    for key in 0..500 {
        let hash = key_hash(&format!("/k/{key}"));
        let (left, right) = (here.home(hash).unwrap(), there.home(hash).unwrap());
        assert_eq!(here.name(left), there.name(right));
    }
}

#[test]
fn holders_come_by_cost_and_the_origin_last() {
    let mut table = table(&[("a", 1, true), ("b", 1, true), ("c", 1, true), ("d", 1, false)]);
    let id = |table: &RoutingTable, name: &str| table.member(&NodeName::from(name)).unwrap();
    let (a, b, c, d) = (id(&table, "a"), id(&table, "b"), id(&table, "c"), id(&table, "d"));
    table.place(KeyId(1), &[d, c, a, b]);
    let route = |table: &RoutingTable, micros| {
        let mut sources = Vec::new();
        table.route(Timestamp::from_micros(micros), KeyId(1), key_hash("/k"), 1, &mut sources);
        sources
    };
    assert_eq!(route(&table, 0), [FetchSource::Peer(b), FetchSource::Peer(c), FetchSource::Origin]);
    table.handle_failure(Timestamp::from_micros(0), b);
    assert_eq!(route(&table, 1), [FetchSource::Peer(c), FetchSource::Origin]);
    assert_eq!(route(&table, 5_000_000).len(), 3, "skipped for five seconds only");
    table.handle_failure(Timestamp::from_micros(6_000_000), b);
    table.handle_success(b);
    assert_eq!(route(&table, 6_000_001).len(), 3);
}

#[test]
fn the_home_itself_goes_to_the_origin() {
    let table = table(&[("a", 1, true), ("b", 1, true)]);
    for key in 0..50 {
        let hash = key_hash(&format!("/k/{key}"));
        let mut sources = Vec::new();
        table.route(Timestamp::from_micros(0), KeyId(key), hash, 1, &mut sources);
        let home = table.home(hash).unwrap();
        let expected = if home == table.own() { vec![] } else { vec![FetchSource::Peer(home)] }
            .into_iter()
            .chain([FetchSource::Origin]);
        assert_eq!(sources, expected.collect::<Vec<_>>());
    }
}
