//! Instants as people read them.

use chrono::{DateTime, SecondsFormat};
use nearcast_datasets::Timestamp;

/// An instant as `2026-11-23T09:00:00Z`; the plain number of microseconds where a calendar cannot say it.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    DateTime::from_timestamp_micros(at.micros())
        .map_or_else(|| format!("{} µs", at.micros()), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}
