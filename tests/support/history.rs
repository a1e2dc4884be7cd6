//! A log of what nodes might have answered before an experiment.

use std::path::Path;

use nearcast_datasets::{LogWriter, RequestEvent, ServedFrom, Timestamp, WriteOptions};

/// So many tenths of a second, in each of which every node answers one request; their hits rise and fall together, and
/// change after each `tide` of them.
pub(crate) fn write_history(path: &Path, nodes: &[&str], tenths: u64, tide: u64) {
    let options = WriteOptions { optional_columns: true, ..WriteOptions::default() };
    let mut writer = LogWriter::create(path, options).expect("writable");
    for tenth in 0..tenths {
        for (place, node) in nodes.iter().enumerate() {
            let is_hit = (tenth * 7 + place as u64) % 10 < 4 + (tenth / tide) % 3;
            let event = RequestEvent {
                timestamp: Timestamp::from_micros(1_700_000_000_000_000 + tenth as i64 * 100_000),
                client: "c".to_owned(),
                region: (*node).to_owned(),
                key: "/k".to_owned(),
                size_bytes: 1_000,
                range: None,
                node: Some((*node).to_owned()),
                outcome: Some(if is_hit { ServedFrom::Memory } else { ServedFrom::Origin }),
                latency_us: Some(1_000 + tenth % 7),
                arm: None,
                model_version: None,
            };
            writer.push(&event).expect("a row");
        }
    }
    writer.finish().expect("a log");
}
