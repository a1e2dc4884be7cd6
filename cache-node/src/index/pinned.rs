//! Segments that eviction leaves alone.

use std::collections::BTreeMap;

use nearcast_datasets::{SegmentId, Timestamp};

use super::{Evicted, Touched, probation::ProbationEntry};

/// Pinned segments, each with the prefetch that brought it while nobody has used it.
#[derive(Debug, Default)]
pub(super) struct PinnedList {
    entries: BTreeMap<SegmentId, (u64, Option<ProbationEntry>)>,
    used_bytes: u64,
}

impl PinnedList {
    pub(super) fn insert(&mut self, segment: SegmentId, bytes: u64, prefetch: Option<ProbationEntry>) {
        self.entries.insert(segment, (bytes, prefetch));
        self.used_bytes += bytes;
    }

    pub(super) fn touch(&mut self, now: Timestamp, segment: SegmentId) -> Option<Touched> {
        let (bytes, prefetch) = self.entries.get_mut(&segment)?;
        Some(Touched { bytes: *bytes, first_use: prefetch.take().map(|entry| entry.unused(now)) })
    }

    pub(super) fn remove(&mut self, now: Timestamp, segment: SegmentId) -> Option<Evicted> {
        let (bytes, prefetch) = self.entries.remove(&segment)?;
        self.used_bytes -= bytes;
        Some(Evicted { segment, bytes, unused: prefetch.map(|entry| entry.unused(now)) })
    }

    pub(super) fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.entries.get(&segment).map(|(bytes, _)| *bytes)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SegmentId, u64)> {
        self.entries.iter().map(|(segment, (bytes, _))| (*segment, *bytes))
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
