//! Least recently used, on the `lru` crate's list.

use foldhash::fast::FixedState;
use lru::LruCache;
use nearcast_datasets::{SegmentId, Timestamp};

use super::policy::Policy;

/// Evicts what was not asked for the longest.
#[derive(Debug)]
pub(super) struct LruPolicy {
    list: LruCache<SegmentId, u64, FixedState>,
    used_bytes: u64,
}

impl Default for LruPolicy {
    fn default() -> Self {
        Self { list: LruCache::unbounded_with_hasher(FixedState::default()), used_bytes: 0 }
    }
}

impl Policy for LruPolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        self.list.get(&segment).copied()
    }

    fn insert(&mut self, _now: Timestamp, segment: SegmentId, bytes: u64) {
        let held = self.list.put(segment, bytes);
        debug_assert_eq!(held, None, "the index inserts only what is not held");
        self.used_bytes += bytes;
    }

    fn remove(&mut self, segment: SegmentId) -> Option<u64> {
        let bytes = self.list.pop(&segment)?;
        self.used_bytes -= bytes;
        Some(bytes)
    }

    fn evict(&mut self, _now: Timestamp) -> Option<(SegmentId, u64)> {
        let victim = self.list.pop_lru()?;
        self.used_bytes -= victim.1;
        Some(victim)
    }

    fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.list.peek(&segment).copied()
    }

    fn iter(&self) -> Box<dyn Iterator<Item = (SegmentId, u64)> + '_> {
        Box::new(self.list.iter().rev().map(|(segment, bytes)| (*segment, *bytes)))
    }

    fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    fn len(&self) -> usize {
        self.list.len()
    }
}
