//! Rivals and bounds in replay: golden numbers of other simulators, exact counts on small logs, refusals.

use std::{fs::File, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array},
    error::ArrowError,
};
use nearcast_cache_node::index::PolicyKind;
use nearcast_datasets::{LogSource, RequestEvent};
use parquet::arrow::ArrowWriter;

use super::{
    CacheSize, CellReport, EvictionKind, LogColumns, Part, PlacementKind, PrefetchKind, ReadOptions, ReplayConfig,
    page, replay, replay_columns,
    tests::{event, quiet, random_log, refusal, run_one},
};

const UNIT: ReadOptions = ReadOptions { unit_size: true, single_region: false };

/// LRU without transfer times and sizes, counting from the start: as other simulators see the world.
fn plain(caches: Vec<CacheSize>) -> ReplayConfig {
    ReplayConfig { policies: vec![PolicyKind::Lru.into()], caches, read: UNIT, instant: true, ..quiet() }
}

/// Misses of libCacheSim 0.3.5 on the bundled log, unit sizes, whole log, first in one cache, then summed over one
/// cache per region; `bench/oracle/compare.py` asks it anew.
#[test]
fn policies_miss_what_libcachesim_missed_on_the_bundled_log() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/samples/web-1995.parquet");
    let source = LogSource::parse(sample).unwrap();
    let golden = [
        (PolicyKind::Fifo.into(), 34, 16_623, 15_930),
        (PolicyKind::Fifo.into(), 173, 9_065, 8_844),
        (PolicyKind::Lru.into(), 34, 14_862, 14_513),
        (PolicyKind::Lru.into(), 173, 7_615, 7_731),
        (EvictionKind::Belady, 34, 9_508, 9_445),
        (EvictionKind::Belady, 173, 4_391, 5_368),
        (PolicyKind::Sieve.into(), 34, 11_671, 12_183),
        (PolicyKind::Sieve.into(), 173, 6_395, 7_004),
        (PolicyKind::S3Fifo.into(), 34, 11_813, 11_855),
        (PolicyKind::S3Fifo.into(), 173, 6_258, 6_945),
        (PolicyKind::Arc.into(), 34, 12_335, 12_304),
        (PolicyKind::Arc.into(), 173, 6_551, 7_083),
    ];
    for single_region in [true, false] {
        let read = ReadOptions { unit_size: true, single_region };
        let log = LogColumns::read(&source, read, |_| ()).unwrap();
        for (policy, cache, in_one, in_regions) in golden {
            let config = ReplayConfig { policies: vec![policy], read, ..plain(vec![CacheSize::Bytes(cache)]) };
            let misses = replay_columns("log", &log, &config, &|_| ()).unwrap().cells[0].misses;
            assert_eq!(misses, if single_region { in_one } else { in_regions }, "{policy:?} {cache}");
        }
    }
}

#[test]
fn belady_misses_what_a_look_into_the_future_misses_and_never_more_than_others() {
    let events = random_log(3_000);
    let cell = |policy| run_one(&events, &ReplayConfig { policies: vec![policy], ..plain(vec![CacheSize::Bytes(9)]) });
    let belady = cell(EvictionKind::Belady).misses;
    let mut misses = 0;
    for region in ["north", "south"] {
        let keys: Vec<_> = events.iter().filter(|event| event.region == region).map(|event| &event.key).collect();
        let mut held: Vec<&String> = Vec::new();
        for (now, key) in keys.iter().enumerate() {
            if held.contains(key) {
                continue;
            }
            misses += 1;
            if held.len() == 9 {
                let next_use = |held: &&String| keys[now..].iter().position(|key| key == held).unwrap_or(usize::MAX);
                let last = (0..9).max_by_key(|index| next_use(&held[*index])).unwrap();
                held.remove(last);
            }
            held.push(key);
        }
    }
    assert_eq!(belady, misses);
    for kind in PolicyKind::ALL {
        assert!(cell(kind.into()).misses >= belady, "{kind:?}");
    }
}

/// Real sizes, transfers that take time, objects of several segments and parts of them.
#[test]
fn belady_keeps_its_place_in_the_future_when_requests_join_transfers_and_ask_for_parts() {
    let mut events = random_log(2_000);
    for (event, number) in events.iter_mut().zip(0_u64..) {
        event.size_bytes = 1_000 + 500 * (event.key.len() as u64);
        event.range = (number % 3 == 0).then_some(nearcast_datasets::ByteRange { start: 400, end: 1_200 });
    }
    let cell = |policy| {
        let caches = vec![CacheSize::Share(0.15)];
        run_one(&events, &ReplayConfig { policies: vec![policy], caches, segment_bytes: 800, ..quiet() })
    };
    let (belady, lru) = (cell(EvictionKind::Belady), cell(PolicyKind::Lru.into()));
    assert!(belady.misses * 10 < lru.misses * 9, "{} against {}", belady.misses, lru.misses);
}

#[test]
fn belady_is_refused_where_requests_would_not_be_as_the_log_says() {
    let events = random_log(10);
    let belady = ReplayConfig { policies: vec![PolicyKind::Lru.into(), EvictionKind::Belady], ..quiet() };
    for config in [
        ReplayConfig { prefetchers: vec![PrefetchKind::None, PrefetchKind::Markov], ..belady.clone() },
        ReplayConfig { placements: vec![PlacementKind::Hash], ..belady },
    ] {
        let message = refusal(&events, &config);
        assert!(message.contains("`belady`") && message.contains("--prefetch none --placement none"), "{message}");
    }
}

fn prefetched(keys: impl IntoIterator<Item = String>, prefetch: PrefetchKind, cache: u64) -> CellReport {
    let events: Vec<RequestEvent> =
        keys.into_iter().zip(0..).map(|(key, at)| event(at * 1_000, "a", &key, 1)).collect();
    run_one(&events, &ReplayConfig { prefetchers: vec![prefetch], ..plain(vec![CacheSize::Bytes(cache)]) })
}

#[test]
fn one_block_lookahead_foresees_a_run_and_pays_for_the_block_after_it() {
    let cell = prefetched((0..100).map(|number| format!("block/{number}")), PrefetchKind::Obl, 20);
    assert_eq!((cell.misses, cell.prefetch.issued, cell.prefetch.used), (1, 100, 99));
    assert_eq!((cell.origin_bytes, cell.budget), (101, None), "100 and the one after, which nobody asked for");
    assert!((cell.extra_fetch_ratio - 0.01).abs() < 1e-12);
}

#[test]
fn only_without_probation_do_prefetches_in_vain_push_out_what_is_asked_for_again() {
    // Every round asks for the same three keys and for two new ones, whose successors nobody ever asks for.
    let round = |round: u32| {
        let new = [2 * round, 2 * round + 1].map(|number| format!("new/{}", number * 10));
        ["/a", "/b", "/c"].map(str::to_owned).into_iter().chain(new)
    };
    let events: Vec<RequestEvent> =
        (0..50).flat_map(round).zip(0..).map(|(key, at)| event(at * 1_000, "a", &key, 1)).collect();
    let misses = |part: Option<Part>| {
        let mut config = ReplayConfig { prefetchers: vec![PrefetchKind::Obl], ..plain(vec![CacheSize::Bytes(6)]) };
        part.into_iter().for_each(|part| config.leave_out(part));
        let cell = run_one(&events, &config);
        assert_eq!((cell.prefetch.issued, cell.prefetch.used), (100, 0));
        cell.misses
    };
    assert_eq!((misses(None), misses(Some(Part::Probation))), (3 + 100, 5 * 50));
}

#[test]
fn the_probability_graph_foresees_a_round_larger_than_the_cache_from_its_second_time_on() {
    let rounds = || (0..20).flat_map(|_| 0..40).map(|number| format!("page-{number}"));
    let cell = prefetched(rounds(), PrefetchKind::Markov, 30);
    assert_eq!(cell.misses, 41, "the first round and the first page of the second");
    assert!(cell.extra_fetch_ratio < 0.1, "{}", cell.extra_fetch_ratio);
    assert_eq!(prefetched(rounds(), PrefetchKind::None, 30).misses, 800);
}

#[test]
fn mithril_foresees_partners_that_come_back_seldom() {
    // 3,000 pairs in an order that changes from round to round.
    let round = |step: u32| (0..3_000).map(move |number| number * step % 3_000);
    let pairs = [7, 11, 13, 17, 19, 23].into_iter().flat_map(round);
    let keys: Vec<_> = pairs.flat_map(|pair| [format!("a/{pair}"), format!("b/{pair}")]).collect();
    let cell = prefetched(keys.clone(), PrefetchKind::Mithril, 600);
    let without = prefetched(keys, PrefetchKind::None, 600);
    assert!(cell.misses * 4 < without.misses * 3, "{} against {}", cell.misses, without.misses);
    // Of the pairs, 2,560 are known after the second round; neighbours by chance are taken for partners as well.
    assert!(cell.prefetch.used > 10_240 && cell.prefetch.unused < 20_000, "{:?}", cell.prefetch);
}

#[test]
fn the_perfect_prefetcher_waits_for_first_requests_and_transfers() {
    // 500 kB take 130 ms from the origin and 90 ms from a peer; a prefetch needs 20 ms of messages before.
    let size = 500_000;
    let events = [
        event(0, "a", "/x", size),
        event(100, "a", "/x", size), // under way
        event(105, "b", "/x", size), // known for too short
        event(140, "a", "/x", size), // fetched by demand
        event(400, "b", "/x", size),
        event(500, "b", "/y", size), // new to the world
        event(700, "a", "/y", size), // foreseen
    ];
    let oracle = |instant| {
        let caches = vec![CacheSize::Share(1.0)];
        let config =
            ReplayConfig { oracle: true, caches, instant, prefetchers: vec![PrefetchKind::Nearcast], ..quiet() };
        run_one(&events, &config).oracle.unwrap()
    };
    let (timed, instant) = (oracle(false), oracle(true));
    assert!((timed.perfect_miss_ratio - 4.0 / 7.0).abs() < 1e-9, "{timed:?}");
    assert!((instant.perfect_miss_ratio - 2.0 / 7.0).abs() < 1e-9, "{instant:?}");
    assert!(instant.belady_miss_ratio.is_some_and(|ratio| (ratio - 4.0 / 7.0).abs() < 1e-9), "{instant:?}");
    assert!(instant.share_of_oracle.is_some_and(|share| (0.0..=1.0).contains(&share)), "{instant:?}");
}

#[test]
fn bounds_are_told_only_when_asked_for_and_belady_only_without_placement() {
    let events = random_log(1_000);
    assert!(run_one(&events, &quiet()).oracle.is_none());
    let log = LogColumns::from_events(&events, ReadOptions::default());
    let html = |oracle| {
        let config = ReplayConfig { oracle, ..quiet() };
        page(&replay_columns("log", &log, &config, &|_| ()).unwrap()).unwrap()
    };
    assert!(html(true).contains("share of oracle") && !html(false).contains("share of oracle"));
    let placements = vec![PlacementKind::Hash];
    let oracle = run_one(&events, &ReplayConfig { oracle: true, placements, ..quiet() }).oracle.unwrap();
    assert_eq!((oracle.belady_miss_ratio, oracle.share_of_oracle), (None, None));
}

#[test]
fn rivals_replay_to_the_same_bytes() {
    let events = random_log(1_500);
    let policies = EvictionKind::all().collect();
    let prefetchers = vec![PrefetchKind::Obl, PrefetchKind::Markov, PrefetchKind::Mithril];
    let text = |config: &ReplayConfig| {
        let log = LogColumns::from_events(&events, config.read);
        serde_json::to_string(&replay_columns("log", &log, config, &|_| ()).unwrap()).unwrap()
    };
    for config in [ReplayConfig { policies, ..quiet() }, ReplayConfig { prefetchers, oracle: true, ..quiet() }] {
        assert_eq!(text(&config), text(&config));
    }
}

#[test]
fn a_log_out_of_order_is_refused_with_file_and_row() -> Result<(), ArrowError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shuffled.parquet");
    let text = |word| Arc::new(StringArray::from(vec![word; 2])) as ArrayRef;
    let timestamps = TimestampMicrosecondArray::from(vec![5, 3]).with_timezone("UTC");
    let batch = RecordBatch::try_from_iter([
        ("timestamp", Arc::new(timestamps) as ArrayRef),
        ("client", text("c")),
        ("region", text("eu")),
        ("key", text("/a")),
        ("size", Arc::new(UInt64Array::from(vec![1, 1]))),
    ])?;
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let message = replay(&LogSource::from(&*path), &quiet(), &|_| ()).unwrap_err().to_string();
    assert!(message.contains("shuffled.parquet: not sorted by time: row 1"), "{message}");
    Ok(())
}
