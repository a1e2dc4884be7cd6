//! Where prefetched segments wait for their first use.

use foldhash::fast::FixedState;
use lru::LruCache;
use nearcast_datasets::{SegmentId, Timestamp};
use nearcast_proto::message::CommandId;

use super::Unused;

/// A prefetched segment that nobody has asked for yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbationEntry {
    pub(super) bytes: u64,
    command: CommandId,
    landed_at: Timestamp,
    turnover_bytes: u64,
}

impl ProbationEntry {
    pub(super) fn unused(&self, now: Timestamp) -> Unused {
        Unused { command: self.command, residence: now.since(self.landed_at) }
    }
}

/// Prefetched segments in order of arrival. A request moves a segment out, so nothing ever changes that order.
#[derive(Debug)]
pub(super) struct ProbationList {
    list: LruCache<SegmentId, ProbationEntry, FixedState>,
    used_bytes: u64,
}

impl Default for ProbationList {
    fn default() -> Self {
        Self { list: LruCache::unbounded_with_hasher(FixedState::default()), used_bytes: 0 }
    }
}

impl ProbationList {
    pub(super) fn insert(
        &mut self,
        now: Timestamp,
        segment: SegmentId,
        bytes: u64,
        command: CommandId,
        turnover_bytes: u64,
    ) {
        self.list.put(segment, ProbationEntry { bytes, command, landed_at: now, turnover_bytes });
        self.used_bytes += bytes;
    }

    pub(super) fn remove(&mut self, segment: SegmentId) -> Option<ProbationEntry> {
        // Most nodes have prefetching off most of the time; then this is on the path of every miss.
        if self.list.is_empty() {
            return None;
        }
        let entry = self.list.pop(&segment)?;
        self.used_bytes -= entry.bytes;
        Some(entry)
    }

    pub(super) fn pop_oldest(&mut self) -> Option<(SegmentId, ProbationEntry)> {
        let oldest = self.list.pop_lru()?;
        self.used_bytes -= oldest.1.bytes;
        Some(oldest)
    }

    /// Whether main was filled once over since the oldest entry landed: as long as a demanded segment that nobody
    /// asks for again would last. Without this rule a share of the cache would stay lost when prefetching stops.
    pub(super) fn oldest_is_stale(&self, turnover_bytes: u64, capacity_bytes: u64) -> bool {
        self.list.peek_lru().is_some_and(|(_, entry)| turnover_bytes - entry.turnover_bytes > capacity_bytes)
    }

    pub(super) fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.list.peek(&segment).map(|entry| entry.bytes)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SegmentId, u64)> {
        self.list.iter().rev().map(|(segment, entry)| (*segment, entry.bytes))
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}
