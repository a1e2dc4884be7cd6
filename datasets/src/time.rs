//! How instants are written for people, and on which day they are.

use chrono::{DateTime, SecondsFormat};

use crate::Timestamp;

/// The instant as RFC 3339 in UTC with microseconds, or its bare number when no calendar reaches it.
pub fn rfc3339(instant: Timestamp) -> String {
    match DateTime::from_timestamp_micros(instant.micros()) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => format!("{} µs", instant.micros()),
    }
}

/// The UTC day as `YYYY-MM-DD`; days beyond the calendar count as its first.
pub(crate) fn day(instant: Timestamp) -> String {
    DateTime::from_timestamp_micros(instant.micros()).unwrap_or_default().format("%Y-%m-%d").to_string()
}

/// The UTC day's number since the epoch.
pub(crate) const fn day_number(instant: Timestamp) -> i64 {
    instant.micros().div_euclid(86_400_000_000)
}
