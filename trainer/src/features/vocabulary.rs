//! How often each key was requested: what the vocabulary is chosen by.

use arrow::datatypes::{Int64Type, UInt32Type};
use nearcast_datasets::KeyId;

use super::{Features, TimeRange, columns::column};
use crate::Result;

/// A key and how often it was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyCount {
    /// The key's code.
    pub(crate) key: KeyId,
    /// Requests in the range.
    pub(crate) requests: u64,
}

impl Features {
    /// Every key requested in `range`, ordered by code.
    pub(crate) fn key_counts(&self, range: TimeRange) -> Result<Vec<KeyCount>> {
        let sql = format!(
            "SELECT key, COUNT(*) AS requests FROM requests WHERE {} GROUP BY key ORDER BY key",
            range.condition(),
        );
        let mut counts = Vec::new();
        self.engine.for_each(&sql, |batch| {
            let keys = column::<UInt32Type>(batch, "key")?;
            let requests = column::<Int64Type>(batch, "requests")?;
            let rows = keys.values().iter().zip(requests.values());
            counts.extend(rows.map(|(key, count)| KeyCount { key: KeyId(*key), requests: count.unsigned_abs() }));
            Ok(())
        })?;
        Ok(counts)
    }
}
