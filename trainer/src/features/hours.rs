//! When keys are asked for: requests by hour of the day.

use arrow::datatypes::{Int64Type, UInt32Type};
use nearcast_datasets::{KeyId, Map};

use super::{Features, columns::column};
use crate::Result;

impl Features {
    /// Requests of each of `keys` by hour of the day (UTC), over the whole log.
    pub(crate) fn hourly(&self, keys: &[KeyId]) -> Result<Map<KeyId, [u64; 24]>> {
        let mut found: Map<KeyId, [u64; 24]> = keys.iter().map(|key| (*key, [0; 24])).collect();
        if keys.is_empty() {
            return Ok(found);
        }
        let codes: Vec<_> = keys.iter().map(|key| key.0.to_string()).collect();
        let sql = format!(
            "SELECT key, (at / {HOUR_MICROS}) % 24 AS hour, COUNT(*) AS requests FROM requests \
             WHERE key IN ({}) GROUP BY key, (at / {HOUR_MICROS}) % 24",
            codes.join(", ")
        );
        self.engine.for_each(&sql, |batch| {
            let keys = column::<UInt32Type>(batch, "key")?;
            let hours = column::<Int64Type>(batch, "hour")?;
            let requests = column::<Int64Type>(batch, "requests")?;
            for ((key, hour), count) in keys.values().iter().zip(hours.values()).zip(requests.values()) {
                let hour = usize::try_from(hour.rem_euclid(24)).unwrap_or(0);
                if let Some(hours) = found.get_mut(&KeyId(*key)) {
                    hours[hour] += count.unsigned_abs();
                }
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// Microseconds of an hour.
pub(crate) const HOUR_MICROS: i64 = 3_600_000_000;
