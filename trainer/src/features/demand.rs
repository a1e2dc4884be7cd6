//! Demand: how finely the log tells time, which decides the horizons that can be asked about.

use std::time::Duration;

use arrow::datatypes::Int64Type;

use super::{Features, TimeRange, columns::column};
use crate::Result;

impl Features {
    /// The coarsest of an hour, a quarter of an hour, a minute and a second that every timestamp of `range` is a
    /// multiple of; zero when there is none.
    pub(crate) fn resolution(&self, range: TimeRange) -> Result<Duration> {
        let rests: Vec<String> = RESOLUTIONS_SECONDS
            .iter()
            .map(|seconds| format!("COALESCE(MAX(ABS(at % {})), 0) AS rest_{seconds}", seconds * 1_000_000))
            .collect();
        let sql = format!("SELECT {} FROM requests WHERE {}", rests.join(", "), range.condition());
        let mut found = Duration::ZERO;
        self.engine.for_each(&sql, |batch| {
            for seconds in RESOLUTIONS_SECONDS {
                let rests = column::<Int64Type>(batch, &format!("rest_{seconds}"))?;
                if found.is_zero() && rests.values().iter().all(|rest| *rest == 0) {
                    found = Duration::from_secs(seconds);
                }
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// Coarsest first.
const RESOLUTIONS_SECONDS: [u64; 4] = [3_600, 900, 60, 1];
