//! SIEVE: a queue with a hand that forgives one visit.
//!
//! Zhang, Yang, Yue, Vigfusson, Rashmi: *SIEVE is Simpler than LRU*, NSDI 2024. A request only marks its segment. The
//! hand moves from the oldest to the newest, takes the mark off whatever has one and evicts the first that has none;
//! there it stays until the next eviction. So what survives keeps its place, and newcomers are sifted early.

use nearcast_datasets::{SegmentId, Timestamp};

use super::{
    list::{Entry, Lists, Slot},
    policy::Policy,
};

/// Evicts the first segment from the hand on that was not asked for since the hand last passed.
#[derive(Debug, Default)]
pub(super) struct SievePolicy {
    /// Marked when visited.
    queue: Lists<bool, 1>,
    /// Where the search for a victim goes on; the oldest if nowhere.
    hand: Option<Slot>,
}

impl Policy for SievePolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        let slot = self.queue.find(segment)?;
        let entry = self.queue.entry_mut(slot);
        entry.mark = true;
        Some(entry.bytes)
    }

    fn insert(&mut self, _now: Timestamp, segment: SegmentId, bytes: u64) {
        self.queue.push(QUEUE, segment, bytes, false);
    }

    fn remove(&mut self, segment: SegmentId) -> Option<u64> {
        let slot = self.queue.find(segment)?;
        if self.hand == Some(slot) {
            self.hand = self.queue.newer(slot);
        }
        Some(self.queue.remove(slot).1)
    }

    fn evict(&mut self, _now: Timestamp) -> Option<(SegmentId, u64)> {
        let mut hand = self.hand.or_else(|| self.queue.oldest(QUEUE))?;
        while std::mem::take(&mut self.queue.entry_mut(hand).mark) {
            hand = self.queue.newer(hand).or_else(|| self.queue.oldest(QUEUE))?;
        }
        self.hand = self.queue.newer(hand);
        Some(self.queue.remove(hand))
    }

    fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.queue.find(segment).map(|slot| self.queue.entry(slot).bytes)
    }

    /// From the hand on and once around, those without a mark; then likewise those with one.
    fn iter(&self) -> Box<dyn Iterator<Item = (SegmentId, u64)> + '_> {
        let from_hand = self.queue.iter_from(self.hand);
        let up_to_hand = self
            .queue
            .iter(QUEUE)
            .take_while(|entry| self.hand.is_none_or(|hand| self.queue.entry(hand).segment != entry.segment));
        let (marked, unmarked): (Vec<&Entry<bool>>, Vec<_>) = from_hand.chain(up_to_hand).partition(|entry| entry.mark);
        Box::new(unmarked.into_iter().chain(marked).map(|entry| (entry.segment, entry.bytes)))
    }

    fn used_bytes(&self) -> u64 {
        self.queue.bytes(QUEUE)
    }

    fn len(&self) -> usize {
        self.queue.len(QUEUE)
    }
}

const QUEUE: usize = 0;
