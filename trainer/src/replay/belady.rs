//! Belady's rule: evict what will be asked for last. Only a replay can know, so no node has this policy.
//!
//! Belady: *A study of replacement algorithms for a virtual-storage computer*, IBM Systems Journal 5(2), 1966. With
//! unit sizes nothing that fetches on demand misses less; with sizes that differ it is a good bound and not a proven one.

use std::collections::BTreeSet;

use nearcast_cache_node::index::Policy;
use nearcast_datasets::{Map, SegmentId, Timestamp};

use super::{LogColumns, objects::Objects};

/// For every request for a segment at one node, in the order of the log, which of them is the next for the same.
pub(super) type NextUses = Vec<u32>;

/// The next uses at each node when it is asked by its own clients only.
pub(super) fn next_uses(log: &LogColumns, objects: Objects) -> Vec<NextUses> {
    let mut nodes = vec![NextUses::new(); log.region_names().len()];
    let mut latest: Map<(usize, SegmentId), usize> = Map::default();
    for index in 0..log.len() {
        let row = log.row(index);
        let node = usize::from(row.region.0);
        for part in objects.segments(row.size_bytes, row.range) {
            let uses = &mut nodes[node];
            let segment = SegmentId { key: row.key, index: part };
            if let Some(before) = latest.insert((node, segment), uses.len()) {
                uses[before] = u32::try_from(uses.len()).unwrap_or(NEVER);
            }
            uses.push(NEVER);
        }
    }
    nodes
}

/// Evicts what will be asked for last, of those the one with the largest number.
#[derive(Debug)]
pub(super) struct BeladyPolicy {
    next_uses: NextUses,
    /// Requests so far.
    position: usize,
    held: Map<SegmentId, Held>,
    by_next_use: BTreeSet<(u32, SegmentId)>,
    /// Next use of what was asked for and is still under way.
    awaited: Map<SegmentId, u32>,
    used_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    next_use: u32,
    bytes: u64,
}

impl BeladyPolicy {
    pub(super) fn new(next_uses: NextUses) -> Self {
        Self {
            next_uses,
            position: 0,
            held: Map::default(),
            by_next_use: BTreeSet::new(),
            awaited: Map::default(),
            used_bytes: 0,
        }
    }
}

impl Policy for BeladyPolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        let next_use = self.next_uses.get(self.position).copied().unwrap_or(NEVER);
        self.position += 1;
        let Some(held) = self.held.get_mut(&segment) else {
            self.awaited.insert(segment, next_use);
            return None;
        };
        let before = std::mem::replace(&mut held.next_use, next_use);
        self.by_next_use.remove(&(before, segment));
        self.by_next_use.insert((next_use, segment));
        Some(held.bytes)
    }

    fn insert(&mut self, _now: Timestamp, segment: SegmentId, bytes: u64) {
        let next_use = self.awaited.remove(&segment).unwrap_or(NEVER);
        self.held.insert(segment, Held { next_use, bytes });
        self.by_next_use.insert((next_use, segment));
        self.used_bytes += bytes;
    }

    fn remove(&mut self, segment: SegmentId) -> Option<u64> {
        let Held { next_use, bytes } = self.held.remove(&segment)?;
        self.by_next_use.remove(&(next_use, segment));
        self.used_bytes -= bytes;
        Some(bytes)
    }

    fn evict(&mut self, _now: Timestamp) -> Option<(SegmentId, u64)> {
        let (_, segment) = self.by_next_use.pop_last()?;
        let Held { bytes, .. } = self.held.remove(&segment)?;
        self.used_bytes -= bytes;
        Some((segment, bytes))
    }

    fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.held.get(&segment).map(|held| held.bytes)
    }

    fn iter(&self) -> Box<dyn Iterator<Item = (SegmentId, u64)> + '_> {
        let entry = |(_, segment): &(u32, SegmentId)| self.held.get(segment).map(|held| (*segment, held.bytes));
        Box::new(self.by_next_use.iter().rev().filter_map(entry))
    }

    fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    fn len(&self) -> usize {
        self.held.len()
    }
}

/// A next use after the end of the log.
const NEVER: u32 = u32::MAX;
