//! What the queries answer, on logs small enough to check by hand.

use std::time::Duration;

use nearcast_datasets::{KeyId, Timestamp};
use nearcast_models::{CoAccess, CoAccessConfig};

use super::*;
use crate::testing::{Row, features};

const HOUR: Duration = Duration::from_secs(3_600);

fn seconds(start: i64, end: i64) -> TimeRange {
    TimeRange { start: Timestamp::from_micros(start * 1_000_000), end: Timestamp::from_micros(end * 1_000_000) }
}

fn pairs(features: &Features, scope: PairScope, range: TimeRange, limits: PairLimits) -> Vec<(String, String, f64)> {
    let name = |key| features.log.key(key).to_owned();
    let pairs = features.pairs(scope, range, limits).unwrap();
    let mut pairs: Vec<_> = pairs.iter().map(|pair| (name(pair.from), name(pair.to), pair.weight)).collect();
    pairs.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    pairs
}

/// A half-life so long that nothing decays.
const ALL: PairLimits = PairLimits { successors_max: 100, half_life: Duration::from_secs(1 << 40) };

#[test]
fn sessions_follow_each_client_and_end_at_the_gap() {
    let rows: [Row<'_>; 7] = [
        (0, "a", "r", "/1"),
        (0, "b", "r", "/9"),
        (0, "a", "r", "/2"),
        (1_800, "a", "r", "/3"),
        (3_601, "a", "r", "/4"),
        (3_602, "b", "r", "/8"),
        (3_603, "a", "r", "/5"),
    ];
    let (_folder, features) = features(&rows);
    let sessions = features.sessions(seconds(0, 10_000)).unwrap();
    let named: Vec<String> =
        sessions.iter().map(|session| session.iter().map(|key| features.log.key(*key)).collect()).collect();
    assert_eq!(named, ["/1/2/3", "/4/5", "/9", "/8"], "a pause of exactly the gap does not end a session");
    assert_eq!((sessions.len(), sessions.transitions()), (4, 3));
}

#[test]
fn client_pairs_weigh_by_distance_and_never_cross_sessions_or_clients() {
    let rows: [Row<'_>; 6] = [
        (0, "a", "r", "/1"),
        (1, "b", "r", "/9"),
        (2, "a", "r", "/2"),
        (3, "a", "r", "/3"),
        (4, "a", "r", "/1"),
        (9_000, "a", "r", "/7"),
    ];
    let (_folder, features) = features(&rows);
    let found = pairs(&features, PairScope::Client, seconds(0, 10_000), ALL);
    let expected = [("/1", "/2", 1.0), ("/1", "/3", 0.5), ("/2", "/1", 0.5), ("/2", "/3", 1.0), ("/3", "/1", 1.0)];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.0.as_str(), found.1.as_str()), (expected.0, expected.1));
        assert!((found.2 - expected.2).abs() < 1e-5, "{found:?}");
    }
}

#[test]
fn region_pairs_join_different_clients_of_one_region() {
    let rows: [Row<'_>; 4] = [(0, "a", "r", "/1"), (1, "a", "r", "/2"), (2, "b", "r", "/3"), (3, "c", "s", "/4")];
    let (_folder, features) = features(&rows);
    let found = pairs(&features, PairScope::Region, seconds(0, 10), ALL);
    let names: Vec<_> = found.iter().map(|(from, to, _)| format!("{from}{to}")).collect();
    assert_eq!(names, ["/1/3", "/2/3"]);
}

#[test]
fn pairs_are_the_same_however_many_partitions_count_them() {
    let clients = ["a", "b", "c", "d", "e"];
    let keys = ["/0", "/1", "/2", "/3", "/4", "/5", "/6"];
    let rows: Vec<Row<'_>> = (0..500_usize)
        .map(|n| (n as i64, clients[n * n % 5], ["r", "s"][n / 3 % 2], keys[(n * 3 + n / 7) % 7]))
        .collect();
    let (_folder, mut features) = features(&rows);
    for scope in [PairScope::Client, PairScope::Region] {
        let counted = [1, 2, 5].map(|partitions| {
            features.config.engine.partitions = partitions;
            pairs(&features, scope, seconds(0, 400), PairLimits { half_life: HOUR, ..ALL })
        });
        assert!(counted[0].len() > 20, "{counted:?}");
        assert!(counted[0] == counted[1] && counted[0] == counted[2]);
    }
}

/// What executors of a cluster do, without the cluster.
#[test]
fn parts_by_source_key_hold_the_same_pairs_and_no_pair_twice() {
    let clients = ["a", "b", "c", "d", "e"];
    let keys = ["/0", "/1", "/2", "/3", "/4", "/5", "/6"];
    let rows: Vec<Row<'_>> = (0..500_usize)
        .map(|n| (n as i64, clients[n * n % 5], ["r", "s"][n / 3 % 2], keys[(n * 3 + n / 7) % 7]))
        .collect();
    let (_folder, mut features) = features(&rows);
    features.config.engine.partitions = 3;
    let (range, limits) = (seconds(0, 400), PairLimits { successors_max: 2, half_life: HOUR });
    for scope in [PairScope::Client, PairScope::Region] {
        let mut found = Vec::new();
        for part in 0..3 {
            let count = features.pair_count(scope, limits, part, true);
            let runs = count.run(&features.log.file(), range, features.log.scratch()).unwrap();
            for_each_head(runs, limits.successors_max, |pairs| {
                assert!(pairs.iter().all(|pair| pair.from.0 as usize % 3 == part));
                found.extend_from_slice(pairs);
                Ok(())
            })
            .unwrap();
        }
        found.sort_by_key(|pair| pair.from);
        assert!(found.len() > 10 && found == features.pairs(scope, range, limits).unwrap(), "{found:?}");
    }
}

#[test]
fn pairs_halve_per_half_life_and_only_the_heaviest_are_kept() {
    let rows: [Row<'_>; 6] = [
        (0, "a", "r", "/1"),
        (1, "a", "r", "/2"),
        (3_600, "b", "r", "/1"),
        (3_601, "b", "r", "/3"),
        (3_602, "c", "r", "/1"),
        (3_603, "c", "r", "/3"),
    ];
    let (_folder, features) = features(&rows);
    let decayed = pairs(&features, PairScope::Client, seconds(0, 7_200), PairLimits { half_life: HOUR, ..ALL });
    assert!((decayed[0].2 - 0.25).abs() < 1e-3 && (decayed[1].2 - 1.0).abs() < 2e-3, "{decayed:?}");
    let first = pairs(&features, PairScope::Client, seconds(0, 7_200), PairLimits { successors_max: 1, ..ALL });
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].1, "/3");
}

/// The table that the predictor keeps online must come out the same when SQL builds it offline.
#[test]
fn client_pairs_equal_what_the_online_table_counts() {
    let clients = ["a", "b", "c"];
    let keys = ["/0", "/1", "/2", "/3", "/4", "/5"];
    let rows: Vec<Row<'_>> =
        (0..300_usize).map(|n| (n as i64 * 7, clients[n * n % 3], "r", keys[(n * 5 + n / 7) % 6])).collect();
    let (_folder, features) = features(&rows);
    let config = CoAccessConfig { half_life_seconds: 3_600.0, ..CoAccessConfig::default() };
    let range = seconds(0, 3_000);
    let limits = PairLimits { successors_max: 24, half_life: HOUR };
    let mut online = CoAccess::new(&config).unwrap();
    let mut recent: Vec<Vec<KeyId>> = vec![Vec::new(); features.log.clients];
    features
        .for_each_request(range, |request| {
            let recent = &mut recent[request.client.0 as usize];
            online.record(request.at, request.key);
            for (distance, from) in (1_u8..).zip(recent.iter()).filter(|(_, from)| **from != request.key) {
                online.observe(request.at, *from, request.key, 1.0 / f32::from(distance));
            }
            recent.insert(0, request.key);
            recent.truncate(features.config.pair_window);
            Ok(())
        })
        .unwrap();
    let mut exported = online.export(range.end);
    exported.sort_by_key(|row| row.key);
    let offline = features.pairs(PairScope::Client, range, limits).unwrap();
    let occurrences = features.occurrences(range, HOUR).unwrap();
    assert_eq!(exported.len(), occurrences.len());
    for (row, (key, count)) in exported.iter().zip(&occurrences) {
        assert_eq!(row.key, *key);
        assert!((f64::from(row.occurrences) - count).abs() < 0.02 * count, "{row:?} {count}");
        for pair in offline.iter().filter(|pair| pair.from == *key) {
            let counted = row.successors.iter().find(|(to, _)| *to == pair.to).map_or(0.0, |(_, weight)| *weight);
            // SQL ages a pair by when its first key came, the table by when its second came.
            assert!((f64::from(counted) - pair.weight).abs() < 0.03 * pair.weight + 0.01, "{pair:?} {counted}");
        }
    }
}

#[test]
fn resolution_is_the_coarsest_that_every_timestamp_keeps() {
    let of = |instants: &[i64]| {
        let rows: Vec<Row<'_>> = instants.iter().map(|at| (*at, "a", "r", "/1")).collect();
        features(&rows).1.resolution(seconds(0, 100_000)).unwrap().as_secs()
    };
    assert_eq!((of(&[0, 3_600, 7_200]), of(&[3_600, 4_500]), of(&[60, 3_600]), of(&[1, 2])), (3_600, 900, 60, 1));
}

#[test]
fn queries_see_nothing_outside_their_range() {
    let rows: [Row<'_>; 4] = [(0, "a", "r", "/1"), (1, "a", "r", "/2"), (2, "a", "s", "/3"), (3, "a", "s", "/4")];
    let (_folder, features) = features(&rows);
    let range = seconds(0, 2);
    assert_eq!(features.count(range).unwrap(), 2);
    assert_eq!(features.key_counts(range).unwrap().len(), 2);
    assert_eq!(features.regions(range).unwrap(), ["r"]);
    assert_eq!(features.sessions(range).unwrap().transitions(), 1);
    assert_eq!(pairs(&features, PairScope::Client, range, ALL).len(), 1);
    assert_eq!(features.occurrences(range, HOUR).unwrap().len(), 2);
}

#[test]
fn logs_that_overlap_in_time_become_one_stream() {
    let folder = tempfile::tempdir().unwrap();
    let log = |name: &str, rows: &[Row<'_>]| crate::testing::write_log(&folder.path().join(name), rows.iter().copied());
    let one = log("one.parquet", &[(0, "a", "r", "/1"), (2, "a", "r", "/3")]);
    let two = log("two.parquet", &[(1, "a", "s", "/2"), (3, "a", "s", "/4")]);
    let features = Features::prepare(&[one, two], &crate::testing::config().features, &mut |_| ()).unwrap();
    let sessions = features.sessions(seconds(0, 10)).unwrap();
    let keys: String = sessions.get(0).iter().map(|key| features.log.key(*key)).collect();
    assert_eq!((sessions.len(), keys.as_str()), (1, "/1/2/3/4"));
}
