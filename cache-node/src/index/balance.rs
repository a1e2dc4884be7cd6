//! How much of the cache prefetched segments may take before their first use: learned from what is missed.

use foldhash::fast::FixedState;
use lru::LruCache;
use nearcast_datasets::SegmentId;

/// Moves the bound of probation as ARC moves the bound between its lists (Megiddo and Modha, FAST '03).
///
/// Both sides remember the last segments that they had to drop, as many as probation holds. A miss on one that
/// probation dropped says that a larger probation would have had it; a miss on one that the main list dropped meanwhile
/// says the same of the main list. Each moves the bound by its bytes.
#[derive(Debug)]
pub(super) struct Balance {
    target_bytes: u64,
    least_bytes: u64,
    most_bytes: u64,
    dropped_main: Dropped,
    dropped_probation: Dropped,
}

impl Balance {
    /// Starts at a part of the most that probation may take.
    pub(super) fn new(most_bytes: u64) -> Self {
        let target_bytes = (most_bytes as f64 * START_SHARE) as u64;
        let least_bytes = (most_bytes as f64 * LEAST_SHARE) as u64;
        Self {
            target_bytes,
            least_bytes,
            most_bytes,
            dropped_main: Dropped::default(),
            dropped_probation: Dropped::default(),
        }
    }

    /// Bytes that probation may take now.
    pub(super) fn target_bytes(&self) -> u64 {
        self.target_bytes
    }

    /// A segment was dropped from the main list, while so many were on probation. Without any, nothing competes.
    pub(super) fn handle_main_dropped(&mut self, segment: SegmentId, probation_len: usize) {
        self.dropped_main.push(segment, probation_len);
    }

    /// A segment was dropped unused to keep within the bound.
    pub(super) fn handle_probation_dropped(&mut self, segment: SegmentId, probation_len: usize) {
        self.dropped_probation.push(segment, probation_len.max(1));
    }

    /// A segment of so many bytes was missed.
    pub(super) fn handle_missed(&mut self, segment: SegmentId, bytes: u64) {
        if self.dropped_probation.take(segment) {
            self.target_bytes = self.target_bytes.saturating_add(bytes).min(self.most_bytes);
        } else if self.dropped_main.take(segment) {
            self.target_bytes = self.target_bytes.saturating_sub(bytes).max(self.least_bytes);
        }
    }
}

/// The last segments dropped from one side.
#[derive(Debug)]
struct Dropped(LruCache<SegmentId, (), FixedState>);

impl Default for Dropped {
    fn default() -> Self {
        Self(LruCache::unbounded_with_hasher(FixedState::default()))
    }
}

impl Dropped {
    fn push(&mut self, segment: SegmentId, len_max: usize) {
        if len_max > 0 {
            self.0.put(segment, ());
        }
        while self.0.len() > len_max {
            self.0.pop_lru();
        }
    }

    fn take(&mut self, segment: SegmentId) -> bool {
        !self.0.is_empty() && self.0.pop(&segment).is_some()
    }
}

/// Where the bound starts, and the least it may become, as shares of the most.
const START_SHARE: f64 = 0.3;
const LEAST_SHARE: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;
    use nearcast_datasets::KeyId;

    fn segment(key: u32) -> SegmentId {
        SegmentId { key: KeyId(key), index: 0 }
    }

    #[test]
    fn follows_the_side_whose_drops_are_missed_within_its_limits() {
        let mut balance = Balance::new(100);
        assert_eq!(balance.target_bytes(), 30);
        balance.handle_probation_dropped(segment(1), 4);
        balance.handle_main_dropped(segment(2), 4);
        balance.handle_missed(segment(1), 5);
        balance.handle_missed(segment(1), 5);
        assert_eq!(balance.target_bytes(), 35, "a drop is missed once");
        balance.handle_missed(segment(2), 30);
        assert_eq!(balance.target_bytes(), 10);
        balance.handle_missed(segment(3), 30);
        assert_eq!(balance.target_bytes(), 10, "what was never held says nothing");
    }

    #[test]
    fn nothing_competes_while_nothing_is_on_probation() {
        let mut balance = Balance::new(100);
        balance.handle_main_dropped(segment(1), 0);
        balance.handle_missed(segment(1), 5);
        assert_eq!(balance.target_bytes(), 30);
    }
}
