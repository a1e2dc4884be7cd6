//! Whole synthetic logs: reproducible, bounded, and as predictable as they claim.

use std::{collections::BTreeMap, fs};

use super::*;
use crate::{LogSource, read_events};

fn small() -> WorkloadConfig {
    WorkloadConfig {
        request_count: 60_000,
        key_count: 300,
        client_count: 4_000,
        days: 4.0,
        zipf_exponent: 0.8,
        drift_per_day: 0.0,
        newborn_per_day: 0.0,
        ..WorkloadConfig::default()
    }
}

/// What the oracle hits must lie within four standard deviations of what it claims.
fn check_oracle(best: &BestAccuracy) {
    assert!(best.requests > 1_000);
    for entry in &best.at {
        let deviation = (entry.best_hit_rate * (1.0 - entry.best_hit_rate) / best.requests as f64).sqrt();
        let difference = (entry.oracle_hit_rate - entry.best_hit_rate).abs();
        assert!(difference <= 4.0 * deviation, "{entry:?} over {} requests", best.requests);
        assert!((entry.oracle_mrr - entry.best_mrr).abs() <= 4.0 * deviation, "{entry:?}");
    }
}

#[test]
fn an_oracle_that_knows_the_chain_reaches_the_stated_accuracy() {
    let config =
        WorkloadConfig { key_count: 2_000, drift_per_day: 0.5, newborn_per_day: 0.2, regional_share: 0.5, ..small() };
    let mut workload = Workload::new(&config).unwrap();
    while workload.next_request().is_some() {}
    assert!(workload.born_key_count() > 3_000, "{} keys born", workload.born_key_count());
    let truth = truth(&workload, &config);
    for best in [&truth.next_key, &truth.first_key, &truth.any_key] {
        check_oracle(best);
    }
    assert_eq!(truth.next_key.requests + truth.first_key.requests, config.request_count);
}

/// Reads only the file: successors are counted by client in its first two thirds and foretold in the rest.
#[test]
fn a_learner_that_sees_only_the_log_comes_close_to_the_stated_accuracy_but_not_above() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("log.parquet");
    let report = synthesize(&small(), &out, |_| {}).unwrap();
    let mut last: BTreeMap<String, (Timestamp, String)> = BTreeMap::new();
    let mut pairs = Vec::new();
    for row in read_events(&LogSource::from(&*out)).unwrap().map(Result::unwrap) {
        let before = last.insert(row.client, (row.timestamp, row.key.clone()));
        if let Some((at, key)) = before
            && row.timestamp.since(at).as_secs() <= report.truth.session_gap_seconds
        {
            pairs.push((key, row.key));
        }
    }
    assert_eq!(pairs.len() as u64, report.truth.next_key.requests);
    let (train, test) = pairs.split_at(pairs.len() * 2 / 3);
    let mut counts: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for (from, to) in train {
        *counts.entry(from).or_default().entry(to).or_default() += 1;
    }
    let mut hits = 0;
    for (from, to) in test {
        let Some(successors) = counts.get(&**from) else { continue };
        let mut ranked: Vec<_> = successors.iter().collect();
        ranked.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        hits += u32::from(ranked.iter().take(5).any(|(key, _)| *key == to));
    }
    let (found, best) = (f64::from(hits) / test.len() as f64, report.truth.next_key.at[1].best_hit_rate);
    let noise = 4.0 * (best / test.len() as f64).sqrt();
    assert!(found <= best + noise && found >= 0.9 * best, "found {found}, stated {best}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, seed| {
        let config = WorkloadConfig { request_count: 3_000, days: 0.5, seed, newborn_per_day: 1.0, ..small() };
        let out = folder.path().join(name);
        let report = synthesize(&config, &out, |_| {}).unwrap();
        assert_eq!(report.requests, 3_000);
        (fs::read(out).unwrap(), fs::read(report.truth_file).unwrap())
    };
    assert!(make("a.parquet", 1) == make("b.parquet", 1));
    assert!(make("a.parquet", 1) != make("c.parquet", 2));
}

#[test]
fn sessions_of_a_client_never_overlap() {
    let mut workload = Workload::new(&WorkloadConfig { client_count: 700, ..small() }).unwrap();
    let mut last: BTreeMap<u32, (Timestamp, u32)> = BTreeMap::new();
    let mut now = Timestamp::MIN;
    while let Some(request) = workload.next_request() {
        assert!(request.timestamp >= now);
        now = request.timestamp;
        let before = last.insert(request.client, (now, request.key));
        match (request.last_key, before) {
            (Some(key), Some((at, before))) => {
                assert!(key == before && now.since(at) <= config::THINK_MAX);
            }
            (None, Some((at, _))) => assert!(now.since(at) > config::SESSION_GAP),
            (Some(_), None) => panic!("a session without a beginning"),
            (None, None) => {}
        }
    }
    assert_eq!(workload.dropped_session_count(), 0);
}

#[test]
fn a_folder_holds_one_part_a_day_and_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("log");
    let report = synthesize(&WorkloadConfig { request_count: 5_000, days: 2.0, ..small() }, &out, |_| {}).unwrap();
    assert!(report.files.len() >= 2 && out.join("date=2024-01-01").is_dir());
    let truth: serde_json::Value = serde_json::from_slice(&fs::read(out.join("truth.json")).unwrap()).unwrap();
    assert_eq!(truth["schema"], "nearcast.truth/1");
    assert_eq!(read_events(&LogSource::from(&*out)).unwrap().count(), 5_000);
}
