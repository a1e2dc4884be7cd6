//! The held segments, in one dense array that random picks can be taken from.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use nearcast_datasets::SegmentId;

use super::history::History;

/// A held segment. 40 bytes with its padding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) segment: SegmentId,
    pub(super) bytes: u64,
    pub(super) history: History,
}

/// Every held segment. Positions change: removing one moves the last into its place.
#[derive(Debug, Default)]
pub(super) struct Entries {
    list: Vec<Entry>,
    positions: HashTable<u32>,
    used_bytes: u64,
}

impl Entries {
    pub(super) fn position(&self, segment: SegmentId) -> Option<usize> {
        let found = self.positions.find(hash(segment), |position| self.list[*position as usize].segment == segment);
        found.map(|position| *position as usize)
    }

    pub(super) fn at(&self, position: usize) -> &Entry {
        &self.list[position]
    }

    pub(super) fn at_mut(&mut self, position: usize) -> &mut Entry {
        &mut self.list[position]
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let position = self.list.len() as u32;
        self.used_bytes += entry.bytes;
        self.list.push(entry);
        let list = &self.list;
        self.positions.insert_unique(hash(entry.segment), position, |position| hash(list[*position as usize].segment));
    }

    pub(super) fn swap_remove(&mut self, position: usize) -> Entry {
        let removed = self.list.swap_remove(position);
        self.used_bytes -= removed.bytes;
        if let Ok(found) = self.positions.find_entry(hash(removed.segment), |other| *other as usize == position) {
            found.remove();
        }
        if let Some(moved) = self.list.get(position) {
            let old = self.list.len() as u32;
            if let Some(known) = self.positions.find_mut(hash(moved.segment), |other| *other == old) {
                *known = position as u32;
            }
        }
        removed
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}

pub(super) fn hash(segment: SegmentId) -> u64 {
    FixedState::default().hash_one(segment)
}
