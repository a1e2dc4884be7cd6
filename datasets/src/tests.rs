//! What this crate's tests share.

use std::path::Path;

use crate::{LogSource, LogWriter, RequestEvent, Timestamp, WriteOptions};

/// A row without optional columns at a second since the epoch.
pub(crate) fn event(second: i64, client: &str, region: &str, key: &str, size_bytes: u64) -> RequestEvent {
    RequestEvent {
        timestamp: Timestamp::from_micros(second * 1_000_000),
        client: client.into(),
        region: region.into(),
        key: key.into(),
        size_bytes,
        range: None,
        node: None,
        outcome: None,
        latency_us: None,
        arm: None,
        model_version: None,
    }
}

/// Writes rows as one file.
pub(crate) fn write_file(path: &Path, rows: &[RequestEvent]) -> LogSource {
    write_with(path, rows, WriteOptions::default())
}

/// Writes rows.
pub(crate) fn write_with(path: &Path, rows: &[RequestEvent], options: WriteOptions) -> LogSource {
    let mut writer = LogWriter::create(path, options).unwrap();
    for row in rows {
        writer.push(row).unwrap();
    }
    writer.finish().unwrap();
    LogSource::from(path)
}
