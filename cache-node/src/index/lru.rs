//! Least recently used.

use nearcast_datasets::{SegmentId, Timestamp};

use super::{list::Lists, policy::Policy};

/// Evicts what was not asked for the longest.
#[derive(Debug, Default)]
pub(super) struct LruPolicy {
    queue: Lists<(), 1>,
}

impl Policy for LruPolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        let slot = self.queue.find(segment)?;
        self.queue.move_to(QUEUE, slot);
        Some(self.queue.entry(slot).bytes)
    }

    fn insert(&mut self, _now: Timestamp, segment: SegmentId, bytes: u64) {
        self.queue.push(QUEUE, segment, bytes, ());
    }

    fn remove(&mut self, segment: SegmentId) -> Option<u64> {
        let slot = self.queue.find(segment)?;
        Some(self.queue.remove(slot).1)
    }

    fn evict(&mut self, _now: Timestamp) -> Option<(SegmentId, u64)> {
        let oldest = self.queue.oldest(QUEUE)?;
        Some(self.queue.remove(oldest))
    }

    fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.queue.find(segment).map(|slot| self.queue.entry(slot).bytes)
    }

    fn iter(&self) -> Box<dyn Iterator<Item = (SegmentId, u64)> + '_> {
        Box::new(self.queue.iter(QUEUE).map(|entry| (entry.segment, entry.bytes)))
    }

    fn used_bytes(&self) -> u64 {
        self.queue.bytes(QUEUE)
    }

    fn len(&self) -> usize {
        self.queue.len(QUEUE)
    }
}

const QUEUE: usize = 0;
