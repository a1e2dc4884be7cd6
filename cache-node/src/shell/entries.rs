//! What is held, by key.

use nearcast_datasets::{KeyId, Map, SegmentId};

use crate::{digest::Digest, object::SharedObject};

/// An object of which something is held or has just landed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) object: SharedObject,
    /// Segments held.
    pub(super) held_count: u32,
    /// The digest of the first segment's payload: most objects have no other.
    first: Option<Digest>,
}

/// Objects and the digests of their segments. Keys are numbered densely, so this is an array: 40 bytes per key, and no
/// hashing on a request's way.
#[derive(Debug, Default)]
pub(super) struct Entries {
    slots: Vec<Option<Entry>>,
    /// Of all segments but the first.
    digests: Map<SegmentId, Digest>,
}

impl Entries {
    pub(super) fn get(&self, id: KeyId) -> Option<&Entry> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: KeyId) -> Option<&mut Entry> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    /// Makes `object` the one known by a number. Nothing of it is held yet.
    pub(super) fn insert(&mut self, id: KeyId, object: SharedObject) {
        let position = id.0 as usize;
        if position >= self.slots.len() {
            self.slots.resize_with(position + 1, || None);
        }
        self.slots[position] = Some(Entry { object, held_count: 0, first: None });
    }

    pub(super) fn remove(&mut self, id: KeyId) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            *slot = None;
        }
    }

    /// The digest of a held segment's payload.
    pub(super) fn digest(&self, segment: SegmentId) -> Option<Digest> {
        if segment.index == 0 { self.get(segment.key)?.first } else { self.digests.get(&segment).copied() }
    }

    /// Remembers the digest of a segment of a known object.
    pub(super) fn set_digest(&mut self, segment: SegmentId, digest: Digest) {
        if segment.index > 0 {
            self.digests.insert(segment, digest);
        } else if let Some(entry) = self.get_mut(segment.key) {
            entry.first = Some(digest);
        }
    }

    /// Forgets the digest of a segment.
    pub(super) fn forget_digest(&mut self, segment: SegmentId) {
        if segment.index > 0 {
            self.digests.remove(&segment);
        } else if let Some(entry) = self.get_mut(segment.key) {
            entry.first = None;
        }
    }

    /// Makes room for so many keys.
    pub(super) fn reserve(&mut self, count: usize) {
        self.slots.reserve_exact(count.saturating_sub(self.slots.len()));
    }
}
