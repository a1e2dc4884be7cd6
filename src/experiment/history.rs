//! What nodes measured before, from the Parquet logs that they wrote.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, ensure};
use nearcast_datasets::{LogSource, read_events};
use nearcast_predictor::experiments::{NodeHistory, Slot};

/// Reads logs and cuts them into slots of `slot_seconds`, by node.
///
/// # Errors
/// When a log cannot be read, or its rows do not say which node answered, how, and in what time.
pub(crate) fn read(logs: &[String], slot_seconds: f64) -> anyhow::Result<Vec<NodeHistory>> {
    let slot_micros = ((slot_seconds * 1e6) as i64).max(1);
    let mut nodes: BTreeMap<String, BTreeMap<i64, Slot>> = BTreeMap::new();
    for log in logs {
        for event in read_events(&LogSource::parse(log)?)? {
            let event = event.with_context(|| format!("cannot read {log}"))?;
            let (Some(node), Some(served), Some(latency_us)) = (event.node, event.outcome, event.latency_us) else {
                continue;
            };
            let number = event.timestamp.micros().div_euclid(slot_micros);
            let bytes = event.range.map_or(event.size_bytes, |range| range.end.saturating_sub(range.start));
            let slot = nodes.entry(node).or_default().entry(number).or_default();
            slot.add(served, bytes, std::time::Duration::from_micros(latency_us));
        }
    }
    ensure!(
        !nodes.is_empty(),
        "no row says which node answered, how and in what time: give the logs that nodes wrote ([log] of a node)"
    );
    let longest = nodes.values().map(|slots| slots.len()).max().unwrap_or_default();
    let together = i64::try_from(longest.div_ceil(SLOTS_MAX)).unwrap_or(i64::MAX).max(1);
    let coarser = |slots: BTreeMap<i64, Slot>| {
        let mut merged: BTreeMap<i64, Slot> = BTreeMap::new();
        for (number, slot) in slots {
            merged.entry(number.div_euclid(together)).or_default().merge(&slot);
        }
        merged
    };
    Ok(nodes.into_iter().map(|(node, slots)| history(node, &coarser(slots), slot_micros * together)).collect())
}

fn history(node: String, slots: &BTreeMap<i64, Slot>, slot_micros: i64) -> NodeHistory {
    let first = slots.keys().next().copied().unwrap_or_default();
    let last = slots.keys().next_back().copied().unwrap_or_default();
    NodeHistory {
        node: Arc::from(node),
        first_micros: first * slot_micros,
        slot_seconds: slot_micros as f64 / 1e6,
        slots: (first..=last).map(|number| slots.get(&number).copied().unwrap_or_default()).collect(),
    }
}

/// Slots of a node that are sent: a week in ten minutes each.
const SLOTS_MAX: usize = 1_008;

#[cfg(test)]
mod tests {
    use nearcast_datasets::{LogWriter, RequestEvent, ServedFrom, Timestamp, WriteOptions};

    use super::*;

    fn event(second: i64, node: Option<&str>) -> RequestEvent {
        RequestEvent {
            timestamp: Timestamp::from_micros(second * 1_000_000),
            client: "c".to_owned(),
            region: "eu".to_owned(),
            key: "/k".to_owned(),
            size_bytes: 10,
            range: None,
            node: node.map(str::to_owned),
            outcome: Some(if second % 2 == 0 { ServedFrom::Memory } else { ServedFrom::Origin }),
            latency_us: Some(1_000),
            arm: None,
            model_version: None,
        }
    }

    #[test]
    fn rows_become_slots_without_a_gap_and_those_of_no_node_are_left_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log.parquet");
        let options = WriteOptions { optional_columns: true, ..WriteOptions::default() };
        let mut writer = LogWriter::create(&path, options).expect("writable");
        for second in [0, 1, 2, 25] {
            writer.push(&event(second, Some("eu-1"))).expect("a row");
        }
        writer.push(&event(30, None)).expect("a row");
        writer.finish().expect("a log");
        let found = read(&[path.display().to_string()], 10.0).expect("a history");
        let requests: Vec<u64> = found[0].slots.iter().map(|slot| slot.requests).collect();
        assert_eq!((found.len(), requests), (1, vec![3, 0, 1]));
        assert_eq!((found[0].slots[0].hits, found[0].slots[0].origin_bytes), (2, 10));
    }
}
