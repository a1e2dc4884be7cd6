//! What clients of each region waited by the hour of the day: where a day begins, averages hide it.

use std::time::Duration;

use hdrhistogram::Histogram;
use nearcast_datasets::Timestamp;
use serde::Serialize;

use super::tally::LATENCY_US_MAX;

/// What the clients of a region felt in one hour of the day, over all days.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegionHour {
    /// The region.
    pub region: String,
    /// The hour of the day, UTC, from 0 to 23.
    pub hour: u8,
    /// Requests of clients.
    pub requests: u64,
    /// Of those, not answered from what the region's own node held.
    pub misses: u64,
    /// What they waited, in milliseconds, on average.
    pub mean_ms: f64,
    /// 75 % of them at most, within a hundredth of it.
    pub p75_ms: f64,
    /// 99 % of them at most, within a hundredth of it.
    pub p99_ms: f64,
}

/// Counts by region and hour of the day.
#[derive(Debug)]
pub(super) struct Hours {
    /// Row-major (region, hour).
    cells: Vec<Cell>,
}

#[derive(Clone, Debug)]
struct Cell {
    misses: u64,
    latency_sum: Duration,
    latencies_us: Histogram<u32>,
}

impl Hours {
    /// Nothing counted yet for so many regions.
    pub(super) fn new(regions: usize) -> Self {
        let latencies_us = Histogram::new_with_max(LATENCY_US_MAX, DIGITS).expect("the bounds are constant and legal");
        let cell = Cell { misses: 0, latency_sum: Duration::ZERO, latencies_us };
        Self { cells: vec![cell; regions * HOURS] }
    }

    pub(super) fn record(&mut self, now: Timestamp, region: usize, latency: Duration, is_miss: bool) {
        let hour = now.micros().div_euclid(HOUR_MICROS).rem_euclid(HOURS as i64) as usize;
        let Some(cell) = self.cells.get_mut(region * HOURS + hour) else { return };
        cell.misses += u64::from(is_miss);
        cell.latency_sum += latency;
        cell.latencies_us.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// All hours with requests, by region.
    pub(super) fn report(&self, regions: &[String]) -> Vec<RegionHour> {
        let of = |(place, cell): (usize, &Cell)| {
            let requests = cell.latencies_us.len();
            let quantile_ms = |quantile| cell.latencies_us.value_at_quantile(quantile) as f64 / 1e3;
            (requests > 0).then(|| RegionHour {
                region: regions[place / HOURS].clone(),
                hour: (place % HOURS) as u8,
                requests,
                misses: cell.misses,
                mean_ms: cell.latency_sum.as_secs_f64() * 1e3 / requests as f64,
                p75_ms: quantile_ms(0.75),
                p99_ms: quantile_ms(0.99),
            })
        };
        self.cells.iter().enumerate().filter_map(of).collect()
    }
}

const HOURS: usize = 24;
const HOUR_MICROS: i64 = 3_600_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_the_day_is_the_same_on_every_day_and_in_one_region_only() {
        let mut hours = Hours::new(2);
        for day in -2..3 {
            let now = Timestamp::from_micros((24 * day + 23) * HOUR_MICROS + 5);
            hours.record(now, 1, Duration::from_millis(40), day == 0);
        }
        let said = hours.report(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(said.len(), 1);
        let RegionHour { region, hour, requests, misses, mean_ms, p99_ms, .. } = &said[0];
        assert_eq!((region.as_str(), *hour, *requests, *misses), ("b", 23, 5, 1));
        assert!((mean_ms - 40.0).abs() < 1e-9 && (p99_ms - 40.0).abs() < 0.4);
    }
}
