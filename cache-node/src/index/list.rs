//! Linked lists of segments in one slab, with one table to find any of them: what queue-based policies are made of.

use nearcast_datasets::{Map, SegmentId};

/// Where an entry lies in the slab; valid until the entry is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

/// A segment on one of the lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<T> {
    pub(crate) segment: SegmentId,
    pub(crate) bytes: u64,
    /// The list that it is on.
    pub(crate) list: usize,
    /// What the policy remembers of it.
    pub(crate) mark: T,
    older: u32,
    newer: u32,
}

/// `N` lists of segments, each from oldest to newest. A segment is on one list at most. All operations take constant
/// time, and an entry keeps its slot when it moves.
#[derive(Clone, Debug)]
pub(crate) struct Lists<T, const N: usize> {
    slots: Map<SegmentId, u32>,
    entries: Vec<Entry<T>>,
    /// The first slot that is free; the others follow by `newer`.
    free: u32,
    lists: [List; N],
}

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
    len: usize,
    bytes: u64,
}

impl<T, const N: usize> Default for Lists<T, N> {
    fn default() -> Self {
        let list = List { oldest: NONE, newest: NONE, len: 0, bytes: 0 };
        Self { slots: Map::default(), entries: Vec::new(), free: NONE, lists: [list; N] }
    }
}

impl<T, const N: usize> Lists<T, N> {
    /// Appends a segment that is on no list as the newest of `list`.
    pub(crate) fn push(&mut self, list: usize, segment: SegmentId, bytes: u64, mark: T) -> Slot {
        let entry = Entry { segment, bytes, list, mark, older: NONE, newer: NONE };
        let slot = if self.free == NONE {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("an index holds fewer than 2^32 segments")
        } else {
            let slot = self.free;
            self.free = self.entries[slot as usize].newer;
            self.entries[slot as usize] = entry;
            slot
        };
        let held = self.slots.insert(segment, slot);
        debug_assert_eq!(held, None, "only what is on no list is pushed");
        self.link(list, slot);
        Slot(slot)
    }

    /// Makes an entry the newest of `list`, be it its own or another one.
    pub(crate) fn move_to(&mut self, list: usize, slot: Slot) {
        if list == self.entries[slot.0 as usize].list && self.lists[list].newest == slot.0 {
            return;
        }
        self.unlink(slot.0);
        self.link(list, slot.0);
    }

    /// Takes an entry away.
    pub(crate) fn remove(&mut self, slot: Slot) -> (SegmentId, u64) {
        self.unlink(slot.0);
        let entry = &mut self.entries[slot.0 as usize];
        let removed = (entry.segment, entry.bytes);
        entry.newer = self.free;
        self.free = slot.0;
        self.slots.remove(&removed.0);
        removed
    }

    pub(crate) fn entry_mut(&mut self, slot: Slot) -> &mut Entry<T> {
        &mut self.entries[slot.0 as usize]
    }

    pub(crate) fn find(&self, segment: SegmentId) -> Option<Slot> {
        self.slots.get(&segment).copied().map(Slot)
    }

    pub(crate) fn entry(&self, slot: Slot) -> &Entry<T> {
        &self.entries[slot.0 as usize]
    }

    /// The oldest entry of `list`.
    pub(crate) fn oldest(&self, list: usize) -> Option<Slot> {
        found(self.lists[list].oldest)
    }

    /// The entry that came to its list after this one.
    pub(crate) fn newer(&self, slot: Slot) -> Option<Slot> {
        found(self.entries[slot.0 as usize].newer)
    }

    /// The entries of `list`, oldest first.
    pub(crate) fn iter(&self, list: usize) -> impl Iterator<Item = &Entry<T>> {
        self.iter_from(self.oldest(list))
    }

    /// The entries of a list from `first` to its newest.
    pub(crate) fn iter_from(&self, first: Option<Slot>) -> impl Iterator<Item = &Entry<T>> {
        std::iter::successors(first, |slot| self.newer(*slot)).map(|slot| self.entry(slot))
    }

    /// Entries on all lists.
    pub(crate) fn entries_len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn bytes(&self, list: usize) -> u64 {
        self.lists[list].bytes
    }

    pub(crate) fn len(&self, list: usize) -> usize {
        self.lists[list].len
    }

    fn link(&mut self, list: usize, slot: u32) {
        let ends = &mut self.lists[list];
        let entry = &mut self.entries[slot as usize];
        (entry.list, entry.older, entry.newer) = (list, ends.newest, NONE);
        ends.len += 1;
        ends.bytes += entry.bytes;
        let before = std::mem::replace(&mut ends.newest, slot);
        if before == NONE {
            ends.oldest = slot;
        } else {
            self.entries[before as usize].newer = slot;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { list, bytes, older, newer, .. } = self.entries[slot as usize];
        let ends = &mut self.lists[list];
        ends.len -= 1;
        ends.bytes -= bytes;
        if older == NONE {
            ends.oldest = newer;
        } else {
            self.entries[older as usize].newer = newer;
        }
        if newer == NONE {
            self.lists[list].newest = older;
        } else {
            self.entries[newer as usize].older = older;
        }
    }
}

fn found(slot: u32) -> Option<Slot> {
    (slot != NONE).then_some(Slot(slot))
}

/// The end of a list.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use nearcast_datasets::KeyId;
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::*;

    fn segment(number: u32) -> SegmentId {
        SegmentId { key: KeyId(number), index: 0 }
    }

    proptest! {
        #[test]
        fn lists_do_what_plain_queues_do(steps in prop::collection::vec((0..3_u8, 0..3_usize, 0..12_u32), 1..300)) {
            let mut lists: Lists<(), 3> = Lists::default();
            let mut plain: [VecDeque<u32>; 3] = Default::default();
            for (step, list, number) in steps {
                let held = plain.iter().position(|queue| queue.contains(&number));
                let slot = lists.find(segment(number));
                prop_assert_eq!(slot.map(|slot| lists.entry(slot).list), held);
                if let (Some(held), 1..) = (held, step) {
                    plain[held].retain(|other| *other != number);
                }
                match (step, slot) {
                    (0, None) => {
                        lists.push(list, segment(number), u64::from(number), ());
                        plain[list].push_back(number);
                    }
                    (1, Some(slot)) => {
                        lists.move_to(list, slot);
                        plain[list].push_back(number);
                    }
                    (2, Some(slot)) => prop_assert_eq!(lists.remove(slot), (segment(number), u64::from(number))),
                    _ => {}
                }
                for (list, queue) in plain.iter().enumerate() {
                    let found: Vec<_> = lists.iter(list).map(|entry| entry.segment.key.0).collect();
                    prop_assert_eq!(&found, &queue.iter().copied().collect::<Vec<_>>());
                    prop_assert_eq!(lists.len(list), queue.len());
                    prop_assert_eq!(lists.bytes(list), queue.iter().copied().map(u64::from).sum::<u64>());
                }
            }
        }
    }
}
