//! Histories of evicted segments, for when they come back.

use std::collections::VecDeque;

use hashbrown::HashTable;
use nearcast_datasets::SegmentId;

use super::{entries::hash, history::History};

/// Evicted segments remembered per held one.
const GHOSTS_PER_ENTRY: usize = 2;

#[derive(Debug)]
struct Ghost {
    segment: SegmentId,
    history: History,
}

/// The latest victims' histories, oldest forgotten first. 28 bytes each and 6 to 12 of the table.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    queue: VecDeque<Ghost>,
    /// The number of the queue's front; numbers wrap.
    first: u32,
    numbers: HashTable<u32>,
}

impl Ghosts {
    pub(super) fn get_mut(&mut self, segment: SegmentId) -> Option<&mut History> {
        let number = *self.numbers.find(hash(segment), |number| self.is(*number, segment))?;
        self.queue.get_mut(number.wrapping_sub(self.first) as usize).map(|ghost| &mut ghost.history)
    }

    /// Takes a history out, because its segment is held again or purged.
    pub(super) fn take(&mut self, segment: SegmentId) -> Option<History> {
        let Self { queue, first, numbers } = self;
        let at = |number: u32| number.wrapping_sub(*first) as usize;
        let found = numbers.find_entry(hash(segment), |number| queue[at(*number)].segment == segment);
        let (number, _) = found.ok()?.remove();
        self.queue.get(number.wrapping_sub(self.first) as usize).map(|ghost| ghost.history)
    }

    /// Remembers a victim, forgetting what is beyond the bound for a cache of so many entries.
    pub(super) fn push(&mut self, segment: SegmentId, history: History, entries: usize) {
        let number = self.first.wrapping_add(self.queue.len() as u32);
        self.queue.push_back(Ghost { segment, history });
        let Self { queue, first, numbers } = self;
        numbers
            .insert_unique(hash(segment), number, |number| hash(queue[number.wrapping_sub(*first) as usize].segment));
        while self.queue.len() > GHOSTS_PER_ENTRY * entries {
            self.pop();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    fn pop(&mut self) {
        let Some(ghost) = self.queue.pop_front() else { return };
        let number = self.first;
        self.first = self.first.wrapping_add(1);
        // Absent when it was taken, or remembered under a newer number.
        if let Ok(found) = self.numbers.find_entry(hash(ghost.segment), |other| *other == number) {
            found.remove();
        }
    }

    fn is(&self, number: u32, segment: SegmentId) -> bool {
        self.queue.get(number.wrapping_sub(self.first) as usize).is_some_and(|ghost| ghost.segment == segment)
    }
}
