//! One queue: first in, first out, or least recently used, which differ in what a touch does.

use nearcast_datasets::{SegmentId, Timestamp};

use super::{list::Lists, policy::Policy};

/// Evicts the oldest of a queue.
#[derive(Debug)]
pub(super) struct QueuePolicy {
    queue: Lists<(), 1>,
    /// Whether what is asked for counts as new again.
    is_renewed: bool,
}

impl QueuePolicy {
    /// Evicts what came first, however often it was asked for since.
    pub(super) fn fifo() -> Self {
        Self { queue: Lists::default(), is_renewed: false }
    }

    /// Evicts what was not asked for the longest.
    pub(super) fn lru() -> Self {
        Self { queue: Lists::default(), is_renewed: true }
    }
}

impl Policy for QueuePolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        let slot = self.queue.find(segment)?;
        if self.is_renewed {
            self.queue.move_to(QUEUE, slot);
        }
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
