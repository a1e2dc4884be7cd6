//! S3-FIFO: three queues and no list to reorder.
//!
//! Yang, Zhang, Qiu, Yue, Rashmi: *FIFO queues are all you need for cache eviction*, SOSP 2023. Newcomers wait in a
//! small queue of a tenth of the bytes; those asked for at least twice meanwhile go on to the main queue, the others
//! leave and are remembered in a ghost queue. Who comes back while remembered goes to the main queue at once, which
//! gives whoever was asked for another round. As in the authors' own simulator, what no longer fits into the small
//! queue before anything was ever evicted starts in the main queue, so that all of the cache fills at first.
//!
//! The ghost queue remembers as many bytes' worth of segments as the main queue may hold, and at most
//! [`GHOSTS_MAX`] of them. A ghost that is asked for is set aside, within the same bounds, until it has been fetched:
//! what makes room for it does not make it forgotten.

use nearcast_datasets::{SegmentId, Timestamp};

use super::{
    list::{Lists, Slot},
    policy::{GHOSTS_MAX, Policy},
};

/// Evicts from the small queue what was not asked for again, and from the main queue in rounds.
#[derive(Clone, Debug)]
pub(super) struct S3FifoPolicy {
    /// Marked with the requests since the entry came to its queue, less those spent on rounds, [`USES_MAX`] at most.
    queues: Lists<u8, 4>,
    small_bytes_max: u64,
    ghost_bytes_max: u64,
    has_evicted: bool,
}

impl S3FifoPolicy {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let share = |part, whole| (u128::from(capacity_bytes) * part / whole) as u64;
        let small_bytes_max = share(1, 10).max(1);
        Self { queues: Lists::default(), small_bytes_max, ghost_bytes_max: share(9, 10), has_evicted: false }
    }

    fn find(&self, segment: SegmentId) -> Option<Slot> {
        self.queues.find(segment).filter(|slot| self.queues.entry(*slot).list <= MAIN)
    }

    /// Moves an entry to one of the two queues of ghosts.
    fn remember(&mut self, ghosts: usize, slot: Slot) {
        self.queues.move_to(ghosts, slot);
        while self.queues.bytes(ghosts) > self.ghost_bytes_max || self.queues.len(ghosts) > GHOSTS_MAX {
            let Some(oldest) = self.queues.oldest(ghosts) else { break };
            self.queues.remove(oldest);
        }
    }

    /// Goes through the small queue until one leaves; those asked for twice go on to the main queue.
    fn evict_small(&mut self) -> Option<(SegmentId, u64)> {
        while let Some(oldest) = self.queues.oldest(SMALL) {
            let entry = self.queues.entry_mut(oldest);
            if std::mem::take(&mut entry.mark) >= PROMOTED_FROM {
                self.queues.move_to(MAIN, oldest);
                continue;
            }
            let victim = (entry.segment, entry.bytes);
            self.remember(GHOST, oldest);
            return Some(victim);
        }
        None
    }

    fn evict_main(&mut self) -> Option<(SegmentId, u64)> {
        loop {
            let oldest = self.queues.oldest(MAIN)?;
            let entry = self.queues.entry_mut(oldest);
            if entry.mark == 0 {
                return Some(self.queues.remove(oldest));
            }
            entry.mark -= 1;
            self.queues.move_to(MAIN, oldest);
        }
    }
}

impl Policy for S3FifoPolicy {
    fn touch(&mut self, _now: Timestamp, segment: SegmentId) -> Option<u64> {
        let slot = self.queues.find(segment)?;
        let entry = self.queues.entry_mut(slot);
        if entry.list > MAIN {
            self.remember(CLAIMED, slot);
            return None;
        }
        entry.mark = (entry.mark + 1).min(USES_MAX);
        Some(entry.bytes)
    }

    fn insert(&mut self, _now: Timestamp, segment: SegmentId, bytes: u64) {
        let ghost = self.queues.find(segment);
        if let Some(slot) = ghost {
            self.queues.remove(slot);
        }
        let overflows = !self.has_evicted && self.queues.bytes(SMALL) >= self.small_bytes_max;
        let queue = if ghost.is_some() || overflows { MAIN } else { SMALL };
        self.queues.push(queue, segment, bytes, 0);
    }

    fn remove(&mut self, segment: SegmentId) -> Option<u64> {
        let slot = self.find(segment)?;
        Some(self.queues.remove(slot).1)
    }

    fn evict(&mut self, _now: Timestamp) -> Option<(SegmentId, u64)> {
        self.has_evicted = true;
        if self.queues.bytes(SMALL) < self.small_bytes_max
            && let Some(victim) = self.evict_main()
        {
            return Some(victim);
        }
        self.evict_small().or_else(|| self.evict_main())
    }

    fn bytes(&self, segment: SegmentId) -> Option<u64> {
        self.find(segment).map(|slot| self.queues.entry(slot).bytes)
    }

    /// Evicts from a copy.
    fn iter(&self) -> Box<dyn Iterator<Item = (SegmentId, u64)> + '_> {
        let mut copy = self.clone();
        Box::new(std::iter::from_fn(move || copy.evict(Timestamp::default())))
    }

    fn used_bytes(&self) -> u64 {
        self.queues.bytes(SMALL) + self.queues.bytes(MAIN)
    }

    fn len(&self) -> usize {
        self.queues.len(SMALL) + self.queues.len(MAIN)
    }
}

const SMALL: usize = 0;
const MAIN: usize = 1;
const GHOST: usize = 2;
/// Ghosts whose segments are being fetched.
const CLAIMED: usize = 3;

/// Requests counted per segment: two bits.
const USES_MAX: u8 = 3;

/// Requests after the first that take a segment from the small queue to the main one.
const PROMOTED_FROM: u8 = 2;
