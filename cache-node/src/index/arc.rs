//! ARC: recency and frequency, each with a ghost list that says when it was given too little.
//!
//! Megiddo, Modha: *ARC: A Self-Tuning, Low Overhead Replacement Cache*, FAST 2003. Segments asked for once are held
//! by recency in `T1`, those asked for again in `T2`; what either evicts is remembered in `B1` or `B2`. A request for
//! what `B1` remembers raises the target of `T1`, one for what `B2` remembers lowers it.
//!
//! The paper decides all of this at once when a request misses. Here the miss adapts the target, and the ghost waits,
//! claimed, until its segment has been fetched. `T1` and `B1` together remember at most the capacity in bytes, all four
//! at most twice the capacity, and each ghost list at most [`GHOSTS_MAX`] segments.

use nearcast_datasets::{SegmentId, Timestamp};

use super::{
    list::{Lists, Slot},
    policy::{GHOSTS_MAX, Policy},
};

/// Evicts from `T1` while that is over its target, else from `T2`.
#[derive(Clone, Debug)]
pub(super) struct ArcPolicy {
    /// Ghosts are marked while their segment is being fetched: they have adapted the target already.
    lists: Lists<bool, 4>,
    capacity_bytes: u64,
    /// Bytes that `T1` should have, `p` in the paper.
    target_bytes: f64,
    /// Whether the latest miss is remembered by `B2`.
    misses_b2: bool,
}

impl ArcPolicy {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self { lists: Lists::default(), capacity_bytes, target_bytes: 0.0, misses_b2: false }
    }

    fn find(&self, segment: SegmentId) -> Option<Slot> {
        self.lists.find(segment).filter(|slot| self.lists.entry(*slot).list <= T2)
    }

    /// A request misses what a ghost list remembers.
    fn adapt(&mut self, ghost: Slot) {
        let entry = self.lists.entry_mut(ghost);
        let (list, bytes) = (entry.list, entry.bytes as f64);
        if std::mem::replace(&mut entry.mark, true) {
            return;
        }
        let (b1, b2) = (self.lists.bytes(B1) as f64, self.lists.bytes(B2) as f64);
        let target = match list {
            B1 => self.target_bytes + bytes * (b2 / b1.max(1.0)).max(1.0),
            _ => self.target_bytes - bytes * (b1 / b2.max(1.0)).max(1.0),
        };
        self.target_bytes = target.clamp(0.0, self.capacity_bytes as f64);
        self.lists.move_to(list, ghost);
    }

    fn trim(&mut self) {
        let is_long = |lists: &Lists<bool, 4>, ghosts| lists.len(ghosts) > GHOSTS_MAX;
        while self.lists.bytes(T1) + self.lists.bytes(B1) > self.capacity_bytes || is_long(&self.lists, B1) {
            let Some(oldest) = self.lists.oldest(B1) else { break };
            self.lists.remove(oldest);
        }
        let all_bytes_max = self.capacity_bytes.saturating_mul(2);
        let all_bytes = |lists: &Lists<bool, 4>| (T1..=B2).map(|list| lists.bytes(list)).sum::<u64>();
        while all_bytes(&self.lists) > all_bytes_max || is_long(&self.lists, B2) {
            let Some(oldest) = self.lists.oldest(B2) else { break };
            self.lists.remove(oldest);
        }
    }
}

impl Policy for ArcPolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        let slot = self.lists.find(segment);
        let list = slot.map(|slot| self.lists.entry(slot).list);
        if list.is_none_or(|list| list > T2) {
            self.misses_b2 = list == Some(B2);
            if let Some(ghost) = slot {
                self.adapt(ghost);
            }
            return None;
        }
        let slot = slot?;
        self.lists.move_to(T2, slot);
        Some(self.lists.entry(slot).bytes)
    }

    fn insert(&mut self, _now: Timestamp, segment: SegmentId, bytes: u64) {
        let ghost = self.lists.find(segment);
        if let Some(slot) = ghost {
            self.lists.remove(slot);
        }
        self.lists.push(if ghost.is_some() { T2 } else { T1 }, segment, bytes, false);
        self.misses_b2 = false;
        self.trim();
    }

    fn remove(&mut self, segment: SegmentId) -> Option<u64> {
        let slot = self.find(segment)?;
        Some(self.lists.remove(slot).1)
    }

    /// The paper's `REPLACE`.
    fn evict(&mut self, _now: Timestamp) -> Option<(SegmentId, u64)> {
        let t1_bytes = self.lists.bytes(T1) as f64;
        let is_over = t1_bytes > self.target_bytes || self.misses_b2 && t1_bytes >= self.target_bytes;
        let (first, second) = if is_over { (T1, T2) } else { (T2, T1) };
        let victim = self.lists.oldest(first).or_else(|| self.lists.oldest(second))?;
        let entry = self.lists.entry(victim);
        let evicted = (entry.segment, entry.bytes);
        let ghosts = if entry.list == T1 { B1 } else { B2 };
        self.lists.move_to(ghosts, victim);
        Some(evicted)
    }

    fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.find(segment).map(|slot| self.lists.entry(slot).bytes)
    }

    /// Evicts from a copy.
    fn iter(&self) -> Box<dyn Iterator<Item = (SegmentId, u64)> + '_> {
        let mut copy = self.clone();
        Box::new(std::iter::from_fn(move || copy.evict(Timestamp::default())))
    }

    fn used_bytes(&self) -> u64 {
        self.lists.bytes(T1) + self.lists.bytes(T2)
    }

    fn len(&self) -> usize {
        self.lists.len(T1) + self.lists.len(T2)
    }
}

const T1: usize = 0;
const T2: usize = 1;
const B1: usize = 2;
const B2: usize = 3;
