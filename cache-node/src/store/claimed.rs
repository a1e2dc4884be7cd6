//! Which payloads the index still claims, as the disk tier asks when it reclaims a block.

use std::sync::{Arc, Mutex, PoisonError};

use foyer::{Statistics, StorageFilterCondition, StorageFilterResult};
use nearcast_datasets::Set;

/// The claimed payloads by foyer's hash of their number. Cheap to clone; 8 bytes per payload and table overhead.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimed(Arc<Mutex<Set<u64>>>);

impl Claimed {
    pub(super) fn insert(&self, hash: u64) {
        self.with(|hashes| hashes.insert(hash));
    }

    pub(super) fn reserve(&self, count: usize) {
        self.with(|hashes| hashes.reserve(count));
    }

    pub(super) fn remove(&self, hash: u64) {
        self.with(|hashes| hashes.remove(&hash));
    }

    pub(super) fn clear(&self) {
        self.with(Set::clear);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Set<u64>) -> T) -> T {
        // A set of integers is sound whatever panicked while it was locked.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl StorageFilterCondition for Claimed {
    fn filter(&self, _: &Arc<Statistics>, hash: u64, _: usize) -> StorageFilterResult {
        if self.with(|hashes| hashes.contains(&hash)) {
            StorageFilterResult::Admit
        } else {
            StorageFilterResult::Reject
        }
    }
}
