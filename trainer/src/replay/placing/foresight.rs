//! Forecasts that only a replay can make: they read the log ahead.

use std::time::Duration;

use nearcast_datasets::{KeyId, Map, RegionId, Timestamp};
use nearcast_predictor::placement::Forecast;

use crate::replay::LogColumns;

/// Requests by key and region, with bytes.
type Table = Map<KeyId, (u64, Vec<f32>)>;

/// Counts a request for an object of so many bytes.
fn count(table: &mut Table, regions: usize, key: KeyId, region: RegionId, size_bytes: u64) {
    let (bytes, counts) = table.entry(key).or_insert_with(|| (size_bytes, vec![0.0; regions]));
    *bytes = size_bytes;
    counts[usize::from(region.0)] += 1.0;
}

fn look_up(table: &Table, key: KeyId, requests: &mut [f32]) {
    match table.get(&key) {
        Some((_, counts)) => requests.copy_from_slice(counts),
        None => requests.fill(0.0),
    }
}

fn foreseen(table: &Table) -> Vec<(KeyId, u64)> {
    table.iter().map(|(key, (bytes, _))| (*key, *bytes)).collect()
}

/// Knows how often each region will ask for each key in all that counts.
#[derive(Debug)]
pub(super) struct Hindsight {
    table: Table,
}

impl Hindsight {
    pub(super) fn new(log: &LogColumns, counted_from: usize) -> Self {
        let mut table = Table::default();
        for row in (counted_from..log.len()).map(|index| log.row(index)) {
            count(&mut table, log.region_names().len(), row.key, row.region, row.size_bytes);
        }
        Self { table }
    }
}

impl Forecast for Hindsight {
    fn forget_key(&mut self, _key: KeyId) {}

    fn record(&mut self, _now: Timestamp, _key: KeyId, _region: RegionId) {}

    fn begin(&mut self, _now: Timestamp, _horizon: Duration) {}

    fn expect(&mut self, _now: Timestamp, key: KeyId, requests: &mut [f32], _is_planned: bool) {
        look_up(&self.table, key, requests);
    }

    fn foreseen(&self) -> Vec<(KeyId, u64)> {
        foreseen(&self.table)
    }
}

/// Knows how often each region will ask for each key until the horizon's end, keys nobody has asked for yet included.
#[derive(Debug)]
pub(super) struct NextHour {
    /// By row: when, what, where and how large, shared by no one, so that the log need not outlive the strategy.
    rows: Vec<(Timestamp, KeyId, RegionId, u64)>,
    regions: usize,
    table: Table,
    next: usize,
}

impl NextHour {
    pub(super) fn new(log: &LogColumns) -> Self {
        let row = |index| {
            let row = log.row(index);
            (row.timestamp, row.key, row.region, row.size_bytes)
        };
        let rows = (0..log.len()).map(row).collect();
        Self { rows, regions: log.region_names().len(), table: Table::default(), next: 0 }
    }
}

impl Forecast for NextHour {
    fn forget_key(&mut self, _key: KeyId) {}

    fn record(&mut self, _now: Timestamp, _key: KeyId, _region: RegionId) {}

    fn begin(&mut self, now: Timestamp, horizon: Duration) {
        self.table.clear();
        while self.rows.get(self.next).is_some_and(|(at, ..)| *at < now) {
            self.next += 1;
        }
        let end = now.after(horizon);
        for (_, key, region, bytes) in self.rows[self.next..].iter().take_while(|(at, ..)| *at < end) {
            count(&mut self.table, self.regions, *key, *region, *bytes);
        }
    }

    fn expect(&mut self, _now: Timestamp, key: KeyId, requests: &mut [f32], _is_planned: bool) {
        look_up(&self.table, key, requests);
    }

    fn foreseen(&self) -> Vec<(KeyId, u64)> {
        foreseen(&self.table)
    }
}
