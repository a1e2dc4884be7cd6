//! Keys by number, with what nodes hold of them: shared by the event task, the planning thread and the streams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nearcast_datasets::{Interner, KeyId, Map, Set, Timestamp, segment_count, segment_len};
use nearcast_proto::message::{Epoch, SegmentSet};

use crate::placement::{Holdings, NodeSet};

/// [`Known`] behind its lock, which is held for look-ups only.
#[derive(Clone, Debug)]
pub(crate) struct SharedKnown(Arc<Mutex<Known>>);

/// Keys and who holds them whole. Numbers are given out again only when nothing can mean the old key any more.
#[derive(Debug)]
pub(crate) struct Known {
    names: Interner,
    facts: Vec<Facts>,
    /// Of objects of several segments, those that a node holds while it does not hold all.
    partial: Map<(KeyId, usize), Set<u32>>,
    partial_segments: usize,
    keys_max: usize,
    segments_max: usize,
    hand: u32,
    refused: u64,
    /// Numbers taken from their keys that nobody has been told of.
    forgotten: Vec<KeyId>,
}

/// What is known of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    bytes: u64,
    held: NodeSet,
    asked: Timestamp,
    /// The last epoch in which the map said something of it.
    mapped: Epoch,
}

/// When a key's number may be given to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgettable {
    /// Nobody asked for it since.
    pub(crate) silent_since: Timestamp,
    /// The map's changes after this epoch are still told.
    pub(crate) reach: Epoch,
}

impl SharedKnown {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Known {
            names: Interner::default(),
            facts: Vec::new(),
            partial: Map::default(),
            partial_segments: 0,
            keys_max,
            segments_max: keys_max,
            hand: 0,
            refused: 0,
            forgotten: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holdings for SharedKnown {
    fn holders(&self, key: KeyId) -> NodeSet {
        self.lock().holders(key)
    }
}

impl Known {
    /// The number of a key, given out now when it is new; `None` when there is no room for it. `is_in_use` says whether
    /// something that is kept elsewhere still means a key by its number.
    pub(crate) fn intern(
        &mut self,
        name: &Arc<str>,
        forgettable: Forgettable,
        is_in_use: impl Fn(KeyId) -> bool,
    ) -> Option<KeyId> {
        if let Some(key) = self.find(name) {
            return Some(key);
        }
        if self.names.len() >= self.keys_max && !self.forget_one(forgettable, is_in_use) {
            self.refused += 1;
            return None;
        }
        let number = self.names.insert_shared(Arc::clone(name));
        if number as usize >= self.facts.len() {
            self.facts.resize(number as usize + 1, Facts::default());
        }
        self.facts[number as usize] = Facts::default();
        Some(KeyId(number))
    }

    /// The number of a key that has one.
    pub(crate) fn find(&self, name: &str) -> Option<KeyId> {
        self.names.find(name).map(KeyId)
    }

    /// The key behind a number.
    pub(crate) fn name(&self, key: KeyId) -> Option<&Arc<str>> {
        self.names.name(key.0)
    }

    /// The nodes that hold all of a key.
    pub(crate) fn holders(&self, key: KeyId) -> NodeSet {
        self.facts.get(key.0 as usize).map_or(NodeSet::EMPTY, |facts| facts.held)
    }

    /// Bytes of the whole object; zero when they are not known.
    pub(crate) fn bytes(&self, key: KeyId) -> u64 {
        self.facts.get(key.0 as usize).map_or(0, |facts| facts.bytes)
    }

    /// Somebody asked for a key of so many bytes.
    pub(crate) fn note_asked(&mut self, now: Timestamp, key: KeyId, bytes: u64) {
        if let Some(facts) = self.facts.get_mut(key.0 as usize) {
            facts.asked = now;
            if bytes > 0 {
                facts.bytes = bytes;
            }
        }
    }

    /// The map said something of a key.
    pub(crate) fn note_mapped(&mut self, key: KeyId, epoch: Epoch) {
        if let Some(facts) = self.facts.get_mut(key.0 as usize) {
            facts.mapped = epoch;
        }
    }

    /// A node holds segments of a key; returns the bytes that it did not hold before.
    pub(crate) fn note_gained(&mut self, key: KeyId, node: usize, set: &SegmentSet, segment_bytes: u64) -> u64 {
        let Some(facts) = self.facts.get_mut(key.0 as usize) else { return 0 };
        facts.bytes = set.size_bytes;
        if facts.held.contains(node) {
            return 0;
        }
        let count = segment_count(set.size_bytes, segment_bytes);
        if count == 1 {
            facts.held = facts.held.with(node);
            return set.size_bytes;
        }
        let there = self.partial.entry((key, node)).or_default();
        let mut bytes = 0;
        for index in set.segments.iter().filter(|index| **index < count) {
            if self.partial_segments >= self.segments_max {
                self.refused += 1;
                break;
            }
            if there.insert(*index) {
                self.partial_segments += 1;
                bytes += segment_len(set.size_bytes, segment_bytes, *index);
            }
        }
        if there.len() == count as usize {
            facts.held = facts.held.with(node);
        }
        if facts.held.contains(node) || there.is_empty() {
            self.drop_partial(key, node);
        }
        bytes
    }

    /// A node lost segments of a key; returns the bytes that it held before, and whether it held all of the key.
    pub(crate) fn note_lost(&mut self, key: KeyId, node: usize, set: &SegmentSet, segment_bytes: u64) -> (u64, bool) {
        let Some(facts) = self.facts.get_mut(key.0 as usize) else { return (0, false) };
        let (was_whole, size) = (facts.held.contains(node), set.size_bytes);
        facts.held = facts.held.without(node);
        let count = segment_count(size, segment_bytes);
        if count == 1 {
            return (if was_whole { size } else { 0 }, was_whole);
        }
        if was_whole && self.partial_segments + count as usize <= self.segments_max {
            self.partial.insert((key, node), (0..count).collect());
            self.partial_segments += count as usize;
        }
        let Some(there) = self.partial.get_mut(&(key, node)) else {
            return (if was_whole { size } else { 0 }, was_whole);
        };
        let mut bytes = 0;
        for index in &set.segments {
            if there.remove(index) {
                self.partial_segments -= 1;
                bytes += segment_len(size, segment_bytes, *index);
            }
        }
        if there.is_empty() {
            self.partial.remove(&(key, node));
        }
        (bytes, was_whole)
    }

    /// Nothing is known any more of what a node holds; returns the keys that it held whole.
    pub(crate) fn clear_node(&mut self, node: usize) -> Vec<KeyId> {
        let mut lost = Vec::new();
        for (key, facts) in (0_u32..).map(KeyId).zip(&mut self.facts) {
            if facts.held.contains(node) {
                facts.held = facts.held.without(node);
                lost.push(key);
            }
        }
        let partial: Vec<_> = self.partial.keys().copied().filter(|(_, at)| *at == node).collect();
        partial.into_iter().for_each(|(key, node)| self.drop_partial(key, node));
        lost
    }

    /// Numbers that were taken from their keys since this was last asked, to tell who else counts by them.
    pub(crate) fn take_forgotten(&mut self) -> Vec<KeyId> {
        std::mem::take(&mut self.forgotten)
    }

    /// How many keys are known.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Keys and segments that there was no room for.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    fn drop_partial(&mut self, key: KeyId, node: usize) {
        if let Some(segments) = self.partial.remove(&(key, node)) {
            self.partial_segments -= segments.len();
        }
    }

    /// Makes room for one key, if one of the next few may be forgotten.
    fn forget_one(&mut self, forgettable: Forgettable, is_in_use: impl Fn(KeyId) -> bool) -> bool {
        let bound = u32::try_from(self.facts.len()).unwrap_or(u32::MAX).max(1);
        for _ in 0..PROBES {
            self.hand = (self.hand + 1) % bound;
            let facts = self.facts[self.hand as usize];
            let is_forgettable = facts.held.is_empty()
                && facts.asked < forgettable.silent_since
                && facts.mapped <= forgettable.reach
                && self.names.name(self.hand).is_some()
                && !is_in_use(KeyId(self.hand));
            if is_forgettable {
                self.names.remove(self.hand);
                self.forgotten.push(KeyId(self.hand));
                return true;
            }
        }
        false
    }
}

/// Keys looked at for one that may be forgotten.
const PROBES: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn unused(_: KeyId) -> bool {
        false
    }

    const NOW: Forgettable = Forgettable { silent_since: Timestamp::MIN, reach: Epoch(0) };

    fn set(key: &str, size_bytes: u64, segments: &[u32]) -> SegmentSet {
        SegmentSet { key: Arc::from(key), size_bytes, segments: segments.to_vec() }
    }

    #[test]
    fn a_key_is_held_once_all_its_segments_are_and_no_longer_once_one_is_lost() {
        let shared = SharedKnown::new(10);
        let mut known = shared.lock();
        let key = known.intern(&Arc::from("/a"), NOW, unused).unwrap();
        assert_eq!(known.note_gained(key, 3, &set("/a", 25, &[0, 2]), 10), 15);
        assert!(known.holders(key).is_empty());
        assert_eq!(known.note_gained(key, 3, &set("/a", 25, &[1, 2, 9]), 10), 10);
        assert!(known.holders(key).contains(3));
        assert_eq!(known.note_gained(key, 3, &set("/a", 25, &[1]), 10), 0);
        assert_eq!(known.note_lost(key, 3, &set("/a", 25, &[2]), 10), (5, true));
        assert_eq!(known.note_lost(key, 3, &set("/a", 25, &[2]), 10), (0, false));
        assert_eq!(known.note_gained(key, 3, &set("/a", 25, &[2]), 10), 5);
        assert_eq!(known.clear_node(3), [key]);
        assert_eq!((known.holders(key).len(), known.partial_segments), (0, 0));
    }

    #[test]
    fn numbers_are_given_out_again_only_when_nothing_can_mean_the_old_key() {
        let shared = SharedKnown::new(2);
        let mut known = shared.lock();
        let later = Timestamp::from_micros(10);
        let (a, b) = (
            known.intern(&Arc::from("/a"), NOW, unused).unwrap(),
            known.intern(&Arc::from("/b"), NOW, unused).unwrap(),
        );
        known.note_asked(later, a, 5);
        known.note_mapped(b, Epoch(3));
        let silent = Forgettable { silent_since: later, reach: Epoch(2) };
        assert_eq!(known.intern(&Arc::from("/c"), silent, unused), None);
        assert_eq!(known.refused(), 1);
        let reached = Forgettable { reach: Epoch(3), ..silent };
        assert_eq!(known.intern(&Arc::from("/c"), reached, |key| key == b), None, "it is meant to be held somewhere");
        assert_eq!(known.take_forgotten(), []);
        assert_eq!(known.intern(&Arc::from("/c"), reached, unused), Some(b));
        assert_eq!((known.take_forgotten(), known.take_forgotten()), (vec![b], vec![]));
        assert_eq!((known.find("/b"), known.len()), (None, 2));
    }
}
