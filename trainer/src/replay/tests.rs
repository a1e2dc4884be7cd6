//! Replay as a whole: exact counts and times on small logs, and the report's promises.

use nearcast_cache_node::{core::MissCause, index::PolicyKind};
use nearcast_datasets::{LogSource, LogWriter, RequestEvent, Timestamp, WriteOptions};
use nearcast_proto::topology::Topology;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    CacheSize, CellReport, LogColumns, PlacementKind, PrefetchKind, ReadOptions, ReplayConfig, ReplayError, page,
    replay_columns, write_page,
};

/// `region` asks for `key` of `size_bytes` at `millis`.
pub(super) fn event(millis: i64, region: &str, key: &str, size_bytes: u64) -> RequestEvent {
    RequestEvent {
        timestamp: Timestamp::from_micros(millis * 1_000),
        client: format!("client-{}", millis % 3),
        region: region.to_owned(),
        key: key.to_owned(),
        size_bytes,
        range: None,
        node: None,
        outcome: None,
        latency_us: None,
        arm: None,
        model_version: None,
    }
}

/// Two regions ask for keys that follow each other, some more often than others.
pub(super) fn random_log(requests: i64) -> Vec<RequestEvent> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut number = 0_u32;
    let mut next = |millis: i64| {
        number = if random.random_bool(0.6) { (number + 1) % 60 } else { random.random_range(0..60_u32).pow(2) / 60 };
        event(millis * 40, ["north", "south"][random.random_range(0..2)], &format!("/k/{number}"), 1_000)
    };
    (0..requests).map(&mut next).collect()
}

pub(super) fn quiet() -> ReplayConfig {
    let prefetchers = vec![PrefetchKind::None];
    ReplayConfig { prefetchers, warmup: 0.0, with_timing: false, ..ReplayConfig::default() }
}

fn run(events: &[RequestEvent], config: &ReplayConfig) -> Vec<CellReport> {
    let log = LogColumns::from_events(events, config.read);
    replay_columns("log", &log, config, &|_| ()).unwrap().cells
}

pub(super) fn run_one(events: &[RequestEvent], config: &ReplayConfig) -> CellReport {
    run(events, config).remove(0)
}

pub(super) fn refusal(events: &[RequestEvent], config: &ReplayConfig) -> String {
    let log = LogColumns::from_events(events, config.read);
    replay_columns("log", &log, config, &|_| ()).unwrap_err().to_string()
}

#[test]
fn lru_without_prefetching_misses_like_a_textbook_lru_per_region() {
    let events = random_log(3_000);
    let read = ReadOptions { unit_size: true, single_region: false };
    let caches = vec![CacheSize::Bytes(7)];
    let policies = vec![PolicyKind::Lru.into()];
    let cell = run_one(&events, &ReplayConfig { policies, read, caches, instant: true, ..quiet() });
    let mut held: [Vec<&str>; 2] = Default::default();
    let mut misses = 0;
    for event in &events {
        let list = &mut held[usize::from(event.region == "south")];
        if let Some(position) = list.iter().position(|key| *key == event.key) {
            list.remove(position);
        } else {
            misses += 1;
            if list.len() == 7 {
                list.remove(0);
            }
        }
        list.push(&event.key);
    }
    assert_eq!((cell.requests, cell.misses, cell.hits), (3_000, misses, 3_000 - misses));
    assert_eq!(cell.origin_bytes, misses);
    assert_eq!(cell.miss_causes.total(), misses);
    assert_eq!(cell.miss_causes.count(MissCause::First), 120);
}

#[test]
fn requests_wait_for_round_trips_bandwidth_and_transfers_under_way() {
    // The built-in topology: 10 ms to the client, 120 ms and 50 MB/s to the origin. 500 kB take 10 ms.
    let size = 500_000;
    let events = [event(0, "a", "/x", size), event(50, "a", "/x", size), event(200, "a", "/x", size)];
    let cell = run_one(&events, &ReplayConfig { caches: vec![CacheSize::Share(1.0)], ..quiet() });
    // 10 + 130 for the first, 10 + the 80 that are left of it for the second, 10 for the third.
    assert!((cell.latency_ms.mean - (140.0 + 90.0 + 10.0) / 3.0).abs() < 0.01, "{:?}", cell.latency_ms);
    assert!((cell.latency_ms.p50 - 90.0).abs() < 0.1, "{:?}", cell.latency_ms);
    assert_eq!((cell.misses, cell.origin_bytes, cell.peer_bytes), (2, size, 0));
}

#[test]
fn a_home_node_fetches_for_everybody() {
    let keys: Vec<_> = (0..40).map(|number| format!("/k/{number}")).collect();
    let first = keys.iter().zip(0..).map(|(key, at)| event(1_000 * at, "a", key, 100));
    let second = keys.iter().zip(100..).map(|(key, at)| event(1_000 * at, "b", key, 100));
    let events: Vec<_> = first.chain(second).collect();
    let config = ReplayConfig { caches: vec![CacheSize::Share(1.0)], ..quiet() };
    let alone = run_one(&events, &config);
    let homes = run_one(&events, &ReplayConfig { placements: vec![PlacementKind::Hash], ..config });
    assert_eq!((alone.origin_bytes, alone.peer_bytes, alone.misses), (8_000, 0, 80));
    assert_eq!(homes.origin_bytes, 4_000);
    // Keys at home in b reached a through b, so b hits on them; for the others b asks a, who has them.
    let at_home_in_b = homes.peer_bytes / 100 - homes.miss_causes.count(MissCause::Elsewhere);
    assert_eq!(homes.miss_causes.count(MissCause::Elsewhere), 40 - at_home_in_b);
    assert_eq!((homes.hits, homes.peer_bytes), (at_home_in_b, 4_000));
    assert!(at_home_in_b > 5 && at_home_in_b < 35, "{at_home_in_b} of 40 keys are at home in b");
}

#[test]
fn large_objects_are_held_and_asked_for_by_segment() {
    let range = |start, end| Some(nearcast_datasets::ByteRange { start, end });
    let mut events = vec![event(0, "a", "/film", 1_000); 4];
    for (index, part) in [range(0, 100), range(100, 300), range(250, 350), None].into_iter().enumerate() {
        events[index].timestamp = Timestamp::from_micros(index as i64 * 1_000_000);
        events[index].range = part;
    }
    let config = ReplayConfig { caches: vec![CacheSize::Bytes(10_000)], segment_bytes: 100, ..quiet() };
    let cell = run_one(&events, &config);
    // Segments 0, then 1 and 2, then 3 beside the known 2, then the six that are left.
    assert_eq!((cell.misses, cell.origin_bytes), (4, 1_000));
    assert!((cell.byte_miss_ratio - 1_000.0 / (100.0 + 200.0 + 200.0 + 1_000.0)).abs() < 1e-9);
}

#[test]
fn only_requests_after_the_warm_up_are_counted() {
    let events: Vec<_> = (0..10).map(|at| event(1_000 * at, "a", "/x", 1)).collect();
    let cell = run_one(&events, &ReplayConfig { warmup: 0.3, caches: vec![CacheSize::Bytes(5)], ..quiet() });
    assert_eq!((cell.requests, cell.misses, cell.origin_bytes), (7, 0, 0));
}

#[test]
fn a_window_of_several_logs_is_read_in_time_order_and_knows_nothing_outside_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, events: &[RequestEvent]| {
        let path = folder.path().join(name);
        let mut writer = LogWriter::create(&path, WriteOptions::default()).unwrap();
        events.iter().for_each(|event| writer.push(event).unwrap());
        writer.finish().unwrap();
        LogSource::from(path.as_path())
    };
    let odd = write("odd", &[event(1, "a", "/one", 10), event(3, "a", "/three", 20), event(9, "c", "/nine", 40)]);
    let even = write("even", &[event(2, "b", "/two", 1), event(4, "a", "/one", 10), event(8, "a", "/eight", 80)]);
    let window = Timestamp::from_micros(2_000)..Timestamp::from_micros(8_000);
    let columns = LogColumns::read_within(&[odd.clone(), even], &window, ReadOptions::default()).unwrap();
    let keys: Vec<_> = (0..columns.len()).map(|row| columns.key_name(columns.row(row).key)).collect();
    assert_eq!(keys, ["/two", "/three", "/one"]);
    assert_eq!((columns.key_count(), columns.distinct_bytes()), (3, 31));
    assert_eq!(columns.region_names().len(), 2, "{:?}", columns.region_names());
    let empty = Timestamp::from_micros(4_000)..Timestamp::from_micros(5_000);
    let nothing = LogColumns::read_within(&[odd], &empty, ReadOptions::default());
    assert!(matches!(nothing, Err(ReplayError::EmptyLog { .. })), "{nothing:?}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_however_many_threads() {
    let events = random_log(2_000);
    let config = ReplayConfig {
        prefetchers: vec![PrefetchKind::Nearcast, PrefetchKind::None],
        placements: vec![PlacementKind::None, PlacementKind::Hash],
        caches: vec![CacheSize::Share(0.1), CacheSize::Share(0.3)],
        budgets: vec![0.05, 0.25],
        ..quiet()
    };
    let log = LogColumns::from_events(&events, config.read);
    let text = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let report = pool.install(|| replay_columns("log", &log, &config, &|_| ())).unwrap();
        (serde_json::to_string(&report).unwrap(), page(&report).unwrap())
    };
    let (one, two) = (text(1), text(2));
    assert!(one == two, "{}\n{}", one.0, two.0);
    assert_eq!(one.0.matches("\"policy\"").count(), 12, "2 placements x 2 caches x (2 budgets + 1 without)");
    assert!(!one.0.contains("events_per_second"));
}

#[test]
fn a_cell_is_compared_with_itself_without_prefetching_even_if_that_was_not_asked_for() {
    let events = random_log(2_000);
    let nearcast = ReplayConfig { prefetchers: vec![PrefetchKind::Nearcast], ..quiet() };
    let cells = run(&events, &nearcast);
    let without = run_one(&events, &quiet());
    assert_eq!(cells.len(), 1);
    assert_eq!(cells[0].baseline.fetched_bytes, without.fetched_bytes());
    let extra = cells[0].fetched_bytes() as f64 / without.fetched_bytes() as f64 - 1.0;
    assert!((cells[0].extra_fetch_ratio - extra).abs() < 1e-12);
    assert!(without.extra_fetch_ratio.abs() < 1e-12);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let events = random_log(10);
    let with = |change: &dyn Fn(&mut ReplayConfig)| {
        let mut config = quiet();
        change(&mut config);
        refusal(&events, &config)
    };
    let cases = [
        (with(&|config| config.caches = vec![CacheSize::Share(0.0)]), "cache size `0` is 0 bytes"),
        (with(&|config| config.budgets = vec![-0.1]), "`budget` is -0.1"),
        (with(&|config| config.warmup = 1.0), "`warmup` is 1"),
        (with(&|config| config.policies.clear()), "`policies` is empty"),
        (with(&|config| config.node.flights_max = 0), "the node cannot be set up so"),
        (
            with(&|config| {
                config.prefetchers = vec![PrefetchKind::Nearcast];
                config.engine.keys_max = 0;
            }),
            "keys_max",
        ),
    ];
    for (message, part) in &cases {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_topology_without_a_region_of_the_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topology.toml");
    std::fs::write(&path, "[regions.north]\n[regions.soth]\n").unwrap();
    let config = ReplayConfig { topology: Topology::load(&path).unwrap(), ..quiet() };
    let message = refusal(&random_log(50), &config);
    assert!(message.contains("`south`") && message.contains("did you mean `soth`?"), "{message}");
}

#[test]
fn an_object_of_absurd_size_is_refused_by_name() {
    let message = refusal(&[event(0, "a", "/bogus", u64::MAX)], &ReplayConfig { segment_bytes: 1 << 20, ..quiet() });
    assert!(message.contains("/bogus") && message.contains("--unit-size"), "{message}");
}

#[test]
fn cache_sizes_are_read_as_bytes_or_shares() {
    let read = |text: &str| text.parse::<CacheSize>();
    assert_eq!(read("0.1").unwrap(), CacheSize::Share(0.1));
    assert_eq!(read("10GiB").unwrap(), CacheSize::Bytes(10 << 30));
    assert_eq!(read("500000").unwrap(), CacheSize::Bytes(500_000));
    assert_eq!(CacheSize::Share(0.1).bytes(182_790).unwrap(), 18_279);
    assert_eq!(CacheSize::Share(0.1).bytes(18_009).unwrap(), 1_800);
    for text in ["", "ten", "-1", "1.5.2", "5 parsecs", "inf"] {
        assert!(matches!(read(text), Err(ReplayError::CacheSize { .. })), "{text}");
    }
}

#[test]
fn the_page_stands_alone_and_is_written_whole_or_not_at_all() {
    let events = random_log(300);
    let log = LogColumns::from_events(&events, ReadOptions::default());
    let report = replay_columns("a<b>.parquet", &log, &quiet(), &|_| ()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    write_page(&report, &path).unwrap();
    let html = std::fs::read_to_string(&path).unwrap();
    assert_eq!(html.matches("<svg").count(), 2);
    assert!(html.contains("a&lt;b&gt;.parquet") && !html.contains("a<b>"));
    assert!(!html.contains("<script") && !html.contains("href="));
    let missing = folder.path().join("missing").join("report.html");
    assert!(write_page(&report, &missing).unwrap_err().to_string().contains("report.html"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
