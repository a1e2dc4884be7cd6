//! W-TinyLFU: a small window by recency before a main part that only lets in what is asked for more often.
//!
//! Einziger, Friedman, Manes: *TinyLFU: A Highly Efficient Cache Admission Policy*, ACM Transactions on Storage 13(4),
//! 2017. Newcomers enter the window, one hundredth of the bytes. When room is needed, the oldest of the window and the
//! victim of main are compared by how often either was asked for lately, and the one asked for less leaves. Main is a
//! segmented LRU: four fifths of it belong to segments asked for while there. No doorkeeper; the window does not adapt.
//!
//! Frequencies are kept for what is not held as well: eight bytes of sketch for each segment that main ever held at a
//! time, rounded up to a power of two.

use nearcast_datasets::{SegmentId, Timestamp};

use super::{
    list::{Lists, Slot},
    policy::Policy,
    sketch::FrequencySketch,
};

/// Evicts the less frequent of two: the oldest newcomer, or the oldest of main that has not been asked for there.
#[derive(Clone, Debug)]
pub(super) struct WTinyLfuPolicy {
    lists: Lists<(), 3>,
    frequencies: FrequencySketch,
    window_bytes_max: u64,
    protected_bytes_max: u64,
    /// Whether something left since the last one came, so that there is no room to pass on to main for free.
    is_full: bool,
}

impl WTinyLfuPolicy {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let window_bytes_max = (capacity_bytes / 100).max(1);
        Self {
            lists: Lists::default(),
            frequencies: FrequencySketch::default(),
            window_bytes_max,
            protected_bytes_max: capacity_bytes.saturating_sub(window_bytes_max) / 5 * 4,
            is_full: false,
        }
    }

    fn evict_slot(&mut self) -> Option<Slot> {
        let of_main = self.lists.oldest(PROBATION).or_else(|| self.lists.oldest(PROTECTED));
        let candidate = self.lists.oldest(WINDOW);
        let (Some(victim), Some(candidate)) = (of_main, candidate) else { return of_main.or(candidate) };
        if self.lists.bytes(WINDOW) < self.window_bytes_max {
            return Some(victim);
        }
        let frequency = |slot| self.frequencies.estimate(self.lists.entry(slot).segment);
        if frequency(candidate) > frequency(victim) {
            self.lists.move_to(PROBATION, candidate);
            return Some(victim);
        }
        Some(candidate)
    }
}

impl Policy for WTinyLfuPolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        self.frequencies.record(segment, self.lists.entries_len());
        let slot = self.lists.find(segment)?;
        let entry = self.lists.entry(slot);
        let bytes = entry.bytes;
        match entry.list {
            WINDOW => self.lists.move_to(WINDOW, slot),
            _ => self.lists.move_to(PROTECTED, slot),
        }
        while self.lists.bytes(PROTECTED) > self.protected_bytes_max {
            let Some(oldest) = self.lists.oldest(PROTECTED) else { break };
            self.lists.move_to(PROBATION, oldest);
        }
        Some(bytes)
    }

    fn insert(&mut self, _now: Timestamp, segment: SegmentId, bytes: u64) {
        self.lists.push(WINDOW, segment, bytes, ());
        if std::mem::take(&mut self.is_full) {
            return;
        }
        while self.lists.bytes(WINDOW) > self.window_bytes_max {
            let Some(oldest) = self.lists.oldest(WINDOW) else { break };
            self.lists.move_to(PROBATION, oldest);
        }
    }

    fn remove(&mut self, segment: SegmentId) -> Option<u64> {
        let slot = self.lists.find(segment)?;
        Some(self.lists.remove(slot).1)
    }

    fn evict(&mut self, _now: Timestamp) -> Option<(SegmentId, u64)> {
        self.is_full = true;
        let victim = self.evict_slot()?;
        Some(self.lists.remove(victim))
    }

    fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.lists.find(segment).map(|slot| self.lists.entry(slot).bytes)
    }

    /// Evicts from a copy.
    fn iter(&self) -> Box<dyn Iterator<Item = (SegmentId, u64)> + '_> {
        let mut copy = self.clone();
        Box::new(std::iter::from_fn(move || copy.evict(Timestamp::default())))
    }

    fn used_bytes(&self) -> u64 {
        (WINDOW..=PROTECTED).map(|list| self.lists.bytes(list)).sum()
    }

    fn len(&self) -> usize {
        (WINDOW..=PROTECTED).map(|list| self.lists.len(list)).sum()
    }
}

const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;
