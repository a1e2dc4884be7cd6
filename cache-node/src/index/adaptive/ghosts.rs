//! Histories of evicted segments, for when they come back.

use nearcast_datasets::SegmentId;

use super::{
    entries::hash,
    history::{Faded, History},
};

/// Evicted segments remembered per held one.
const GHOSTS_PER_ENTRY: usize = 4;

/// Ghosts that share a bucket.
const WAYS: usize = 8;

/// A history under the upper half of its segment's hash. 16 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ghost {
    print: u32,
    history: Faded,
}

/// The latest victims' histories, in small buckets of which each is a queue: a new ghost pushes out the oldest of its
/// bucket. Segments are told apart by 32 bits of hash: in a cache of a million, one new segment in a thousand finds a
/// stranger's history, which costs no more than a worse guess.
#[derive(Clone, Debug, Default)]
pub(super) struct Ghosts {
    buckets: Vec<[Ghost; WAYS]>,
}

impl Ghosts {
    /// The history of a segment that is remembered.
    pub(super) fn get_mut(&mut self, segment: SegmentId) -> Option<&mut Faded> {
        let (bucket, way) = self.find(print(segment))?;
        Some(&mut self.buckets[bucket][way].history)
    }

    /// Takes a history out, because its segment is held again or purged.
    pub(super) fn take(&mut self, segment: SegmentId) -> Option<Faded> {
        let (bucket, way) = self.find(print(segment))?;
        let ghosts = &mut self.buckets[bucket][way..];
        let taken = ghosts[0].history;
        ghosts[0] = Ghost::default();
        ghosts.rotate_left(1);
        Some(taken)
    }

    /// Remembers a victim of a cache that holds so many entries.
    pub(super) fn push(&mut self, segment: SegmentId, history: &History, entries: u32) {
        let wanted = (entries as usize * GHOSTS_PER_ENTRY).div_ceil(WAYS);
        if wanted > self.buckets.len() || wanted < self.buckets.len() / 2 {
            self.resize(wanted + wanted / 16);
        }
        self.place(Ghost { print: print(segment), history: Faded::from(history) });
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.buckets.len() * WAYS
    }

    fn resize(&mut self, buckets: usize) {
        let old = std::mem::replace(&mut self.buckets, vec![[Ghost::default(); WAYS]; buckets]);
        for bucket in old {
            for ghost in bucket.into_iter().rev().filter(|ghost| !ghost.history.is_none()) {
                self.place(ghost);
            }
        }
    }

    fn place(&mut self, ghost: Ghost) {
        let bucket = self.bucket(ghost.print);
        let ghosts = &mut self.buckets[bucket];
        ghosts.copy_within(..WAYS - 1, 1);
        ghosts[0] = ghost;
    }

    fn find(&self, print: u32) -> Option<(usize, usize)> {
        let bucket = self.bucket(print);
        let is_it = |ghost: &Ghost| ghost.print == print && !ghost.history.is_none();
        Some((bucket, self.buckets.get(bucket)?.iter().position(is_it)?))
    }

    fn bucket(&self, print: u32) -> usize {
        ((u64::from(print) * self.buckets.len() as u64) >> 32) as usize
    }
}

fn print(segment: SegmentId) -> u32 {
    (hash(segment) >> 32) as u32
}
