//! Small logs for tests.

use std::path::Path;

use nearcast_datasets::{LogSource, LogWriter, RequestEvent, Timestamp, WriteOptions};

use crate::{RawTrainConfig, TrainConfig, features::Features};

/// One row: seconds, client, region, key.
pub(crate) type Row<'a> = (i64, &'a str, &'a str, &'a str);

/// Writes `rows` as a log.
pub(crate) fn write_log<'a>(path: &Path, rows: impl IntoIterator<Item = Row<'a>>) -> LogSource {
    let mut writer = LogWriter::create(path, WriteOptions::default()).unwrap();
    for (seconds, client, region, key) in rows {
        writer.push(&event(seconds, client, region, key)).unwrap();
    }
    writer.finish().unwrap();
    LogSource::from(path)
}

/// Features of a log with these rows.
pub(crate) fn features(rows: &[Row<'_>]) -> (tempfile::TempDir, Features) {
    let folder = tempfile::tempdir().unwrap();
    let log = write_log(&folder.path().join("log.parquet"), rows.iter().copied());
    let features = Features::prepare(&[log], &config().features, &mut |_| ()).unwrap();
    (folder, features)
}

/// A configuration that fits small logs quickly.
pub(crate) fn config() -> TrainConfig {
    let mut raw = RawTrainConfig::default();
    raw.fit.epochs_max = 3;
    raw.demand.epochs = 1;
    raw.features.memory_mib = 64;
    let sequence = &mut raw.model.sequence;
    (sequence.embedding_width, sequence.hidden_width, sequence.lanes, sequence.negatives) = (16, 16, 16, 16);
    raw.model.vocabulary.token_buckets = 64;
    raw.try_into().unwrap()
}

/// One request for 1,000 bytes.
pub(crate) fn event(seconds: i64, client: &str, region: &str, key: &str) -> RequestEvent {
    RequestEvent {
        timestamp: Timestamp::from_micros(seconds * 1_000_000),
        client: client.to_owned(),
        region: region.to_owned(),
        key: key.to_owned(),
        size_bytes: 1_000,
        range: None,
        node: None,
        outcome: None,
        latency_us: None,
        arm: None,
        model_version: None,
    }
}
