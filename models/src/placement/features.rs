//! What the placement head knows besides embeddings: the time, and how much was asked for lately.

use nearcast_datasets::Timestamp;

use crate::{DemandQuery, placement::RecentCounts};

/// Number of such features.
pub(super) const EXTRA_COUNT: usize = 12;

const DAY_MICROS: i64 = 86_400_000_000;
/// 1970-01-01 was a Thursday; any fixed weekday would do as the origin of the angle.
const WEEK_MICROS: i64 = 7 * DAY_MICROS;

/// Hour of day as an angle and its double (two peaks a day), weekday as an angle, logs of the recent counts, and
/// whether the key has an embedding of its own.
pub(super) fn extras(query: &DemandQuery) -> [f32; EXTRA_COUNT] {
    let day = angle(query.at, DAY_MICROS);
    let week = angle(query.at, WEEK_MICROS);
    let RecentCounts { key_region_last, key_region_previous, key_region_day_ago, key_last, region_last } = query.counts;
    let log = |count: f32| count.max(0.0).ln_1p();
    [
        day.sin(),
        day.cos(),
        (2.0 * day).sin(),
        (2.0 * day).cos(),
        week.sin(),
        week.cos(),
        log(key_region_last),
        log(key_region_previous),
        log(key_region_day_ago),
        log(key_last),
        // Whole regions count in thousands: brought to the size of the others.
        0.25 * log(region_last),
        f32::from(u8::from(query.item.row.is_some())),
    ]
}

fn angle(at: Timestamp, period_micros: i64) -> f32 {
    (at.micros().rem_euclid(period_micros) as f64 / period_micros as f64 * std::f64::consts::TAU) as f32
}
