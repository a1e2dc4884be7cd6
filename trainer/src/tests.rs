//! Training as a whole: what a published version carries, and what it must not have seen.

use std::{ops::Range, path::Path, sync::Arc};

use nearcast_datasets::{LogSource, Timestamp};
use nearcast_models::{Model, Registry};
use nearcast_predictor::engine::{Account, Engine, EngineConfig};
use nearcast_proto::topology::Topology;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    PublishOptions, Published, Result, TrainConfig,
    replay::{LogColumns, PrefetchKind, ReplayConfig, replay_engine},
    testing::{Row, config, write_log},
    train,
};

/// Visits of pages with three images each, a second between requests; those after `changed_from` draw other pages.
fn visits(count: i64, changed_from: i64) -> Vec<(i64, String, &'static str, String)> {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut rows = Vec::new();
    for visit in 0..count {
        let client = visit % 20;
        let mut page: u32 = random.random_range(0..30_u32).pow(2) / 30;
        if visit >= changed_from {
            page += 100;
        }
        let region = ["north", "south"][(client % 2) as usize];
        for (second, part) in (0..).zip(["", "/a.gif", "/b.gif", "/c.gif"]) {
            rows.push((visit * 10 + second, format!("client-{client}"), region, format!("/page-{page}{part}")));
        }
    }
    rows
}

fn log_of(folder: &Path, changed_from: i64) -> LogSource {
    let rows = visits(VISITS, changed_from);
    let rows = rows.iter().map(|(at, client, region, key)| -> Row<'_> { (*at, client, region, key) });
    write_log(&folder.join("log.parquet"), rows)
}

fn run_training(folder: &Path, log: &LogSource, config: &TrainConfig) -> Result<(Published, Arc<Model>)> {
    let registry = Registry::open(folder.join("models").to_str().unwrap())?;
    let options = PublishOptions { now: Timestamp::from_micros(0), alias: None, checkpoints: None };
    let published = train(config, std::slice::from_ref(log), &registry, &options, &mut |_| ())?;
    let (_, model) = registry.load(&published.version.to_string())?;
    Ok((published, Arc::new(model)))
}

fn seconds(range: Range<i64>) -> Range<Timestamp> {
    Timestamp::from_micros(range.start * 1_000_000)..Timestamp::from_micros(range.end * 1_000_000)
}

/// The engine's account after a few dozen requests of later traffic: too few for a label to come due.
fn first_requests(log: &LogSource, model: Option<Arc<Model>>) -> Account {
    let config = ReplayConfig {
        prefetchers: vec![PrefetchKind::Nearcast],
        model: model.map(|model| (Arc::from("v"), model)),
        warmup: 0.0,
        ..ReplayConfig::default()
    };
    let range = seconds(VISITS * 8..VISITS * 8 + 120);
    let columns = LogColumns::read_within(std::slice::from_ref(log), &range, config.read).unwrap();
    assert_eq!(columns.len(), 48);
    replay_engine(&columns, &config).unwrap().1.account().clone()
}

#[test]
fn a_version_carries_a_calibrated_gate_that_works_from_the_first_request_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_of(folder.path(), VISITS);
    let (published, model) = run_training(folder.path(), &log, &config()).unwrap();

    let report = &published.metrics.gate_fit;
    let gate = model.gate.as_ref().expect("the version carries a gate");
    assert!(gate.learned > 200 && gate.learned <= report.labels, "{report:?}");
    assert!(report.labels_used > 20 && report.labels_used < report.labels, "{report:?}");
    assert!(report.calibration_error > 0.0 && report.calibration_error < 0.2, "{report:?}");
    assert_eq!(report.requests, published.metrics.data.train_requests);
    let later = report.later.expect("there is later traffic");
    assert_eq!(later.requests, published.metrics.evaluation.requests);
    let written = &model.metrics["gate_fit"];
    assert_eq!(written["labels"].as_u64(), Some(report.labels));
    let error = written["calibration_error"].as_f64().unwrap();
    assert!((error - report.calibration_error).abs() < 1e-12, "{error}");
    let line = format!("Expected calibration error {:.4}", report.calibration_error);
    assert!(model.card.contains("## Gate") && model.card.contains(&line), "{}", model.card);
    assert!(later.verdicts().iter().all(|verdict| model.card.contains(verdict)), "{}", model.card);

    let mut engine = Engine::new(EngineConfig::default(), Topology::default());
    engine.install_model(Timestamp::from_micros(0), Arc::from("v0001"), Arc::clone(&model));
    assert_eq!(&engine.gate().state(), gate);

    let gateless = Arc::new(Model { gate: None, ..Model::clone(&model) });
    let (with, without) = (first_requests(&log, Some(model)), first_requests(&log, Some(gateless)));
    assert_eq!((with.labels, without.labels), (0, 0), "nothing was learnt online yet");
    assert_eq!(without.issued, 0, "an engine whose gate has learnt nothing issues nothing");
    assert!(with.issued > 0, "{with:?}");
}

#[test]
fn the_gate_sees_nothing_after_the_split() {
    let state = |changed_from| {
        let folder = tempfile::tempdir().unwrap();
        let log = log_of(folder.path(), changed_from);
        let (published, model) = run_training(folder.path(), &log, &config()).unwrap();
        (model.gate.clone().unwrap(), published.metrics.gate_fit)
    };
    let boundary = VISITS * 7 / 10;
    let ((same, one), (changed, other)) = (state(VISITS), state(boundary + 1));
    assert_eq!(same, changed);
    assert_ne!(one.later, other.later, "the later part is what differs");
    let (earlier, _) = state(boundary - 20);
    assert_ne!(same, earlier, "before the split a change does show");
}

#[test]
fn a_version_without_a_gate_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_of(folder.path(), VISITS);
    let mut config = config();
    config.gate.requests_max = 0;
    let (published, model) = run_training(folder.path(), &log, &config).unwrap();
    assert!(model.gate.is_none());
    assert_eq!(published.metrics.gate_fit.left_out.as_deref(), Some("`gate.requests_max` is 0"));
    assert!(model.card.contains("`gate.requests_max` is 0"), "{}", model.card);
}

#[test]
fn the_gate_is_fitted_on_the_last_requests_within_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_of(folder.path(), VISITS);
    let mut config = config();
    config.gate.requests_max = 500;
    let (published, _) = run_training(folder.path(), &log, &config).unwrap();
    let report = published.metrics.gate_fit;
    assert!(report.requests > 250 && report.requests <= 500, "{report:?}");
    assert!(report.later.is_some_and(|later| later.requests <= 500), "{report:?}");
}

#[test]
fn a_model_that_comes_late_in_a_replay_changes_nothing_before() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_of(folder.path(), VISITS);
    let (_, model) = run_training(folder.path(), &log, &config()).unwrap();
    let columns = LogColumns::read(&log, crate::replay::ReadOptions::default(), |_| ()).unwrap();
    let account = |model: Option<&Arc<Model>>, from| {
        let model = model.map(|model| (Arc::from("v0001"), Arc::clone(model)));
        let config = ReplayConfig { model, model_from: Some(from), warmup: 0.0, ..ReplayConfig::default() };
        replay_engine(&columns, &config).unwrap().1.account().clone()
    };
    let never = account(None, Timestamp::MAX);
    assert_eq!(account(Some(&model), Timestamp::MAX), never);
    assert_ne!(account(Some(&model), Timestamp::from_micros(VISITS * 5_000_000)), never);
}

/// Ten seconds each.
const VISITS: i64 = 400;
