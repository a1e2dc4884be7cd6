//! How often each key was requested: what the vocabulary is chosen by.

use nearcast_datasets::KeyId;

use super::{Features, TimeRange};
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
        let mut requests = vec![0_u64; self.log.keys.bound()];
        self.scan(range, |rows| {
            rows.key.iter().for_each(|key| requests[*key as usize] += 1);
            Ok(())
        })?;
        let counts = (0..).zip(requests).filter(|(_, requests)| *requests > 0);
        Ok(counts.map(|(key, requests)| KeyCount { key: KeyId(key), requests }).collect())
    }
}
