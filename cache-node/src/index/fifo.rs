//! First in, first out: what use does not change.

use nearcast_datasets::{SegmentId, Timestamp};

use super::{list::Lists, policy::Policy};

/// Evicts what came first, however often it was asked for since.
#[derive(Debug, Default)]
pub(super) struct FifoPolicy {
    queue: Lists<(), 1>,
}

impl Policy for FifoPolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        self.bytes(segment)
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
