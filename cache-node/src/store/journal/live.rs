//! What changes leave: which objects are known, and which of their segments are held.

use std::{borrow::Borrow, hash::Hash};

use nearcast_datasets::Map;

/// Objects by key, each as an `O`, with their segments, each as an `S`: the rules by which a journal is folded, whatever is
/// kept of its records.
#[derive(Debug)]
pub(super) struct Live<K, O, S> {
    /// In the order in which they were first heard of, with holes where they have gone.
    known: Vec<Option<Known<O, S>>>,
    places: Map<K, u32>,
    changes: u64,
}

/// An object that is known.
#[derive(Debug)]
pub(super) struct Known<O, S> {
    pub(super) object: O,
    /// By position, ascending.
    pub(super) segments: Vec<(u32, S)>,
    version: u64,
    /// When its latest segment was stored, or it became known, in changes.
    stored: u64,
}

impl<K, O, S> Default for Live<K, O, S> {
    fn default() -> Self {
        Self { known: Vec::new(), places: Map::default(), changes: 0 }
    }
}

impl<K: Eq + Hash, O, S> Live<K, O, S> {
    /// An object is known, or known better; another version drops the segments of the last.
    pub(super) fn handle_object(&mut self, key: K, version: u64, object: O) {
        self.changes += 1;
        let stored = self.changes;
        if let Some(known) = self.find_mut(&key) {
            if known.version != version {
                known.segments.clear();
            }
            (known.version, known.object) = (version, object);
            return;
        }
        // Numbers run out after more objects than memory has room for.
        let Ok(place) = u32::try_from(self.known.len()) else { return };
        self.places.insert(key, place);
        self.known.push(Some(Known { object, segments: Vec::new(), version, stored }));
    }

    /// A segment of a version is held; of another version than the known one, it says nothing.
    pub(super) fn handle_held<Q>(&mut self, key: &Q, version: u64, index: u32, segment: S)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.changes += 1;
        let stored = self.changes;
        let Some(known) = self.find_mut(key).filter(|known| known.version == version) else { return };
        known.stored = stored;
        match known.segments.binary_search_by_key(&index, |(other, _)| *other) {
            Ok(at) => known.segments[at].1 = segment,
            Err(at) => {
                // Most objects have one.
                known.segments.reserve_exact(1);
                known.segments.insert(at, (index, segment));
            }
        }
    }

    /// A segment is no longer held; without any, the object is forgotten.
    pub(super) fn handle_gone<Q>(&mut self, key: &Q, index: u32)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let Some(place) = self.places.get(key).copied() else { return };
        let Some(known) = &mut self.known[place as usize] else { return };
        known.segments.retain(|(other, _)| *other != index);
        if known.segments.is_empty() {
            self.known[place as usize] = None;
            self.places.remove(key);
        }
    }

    /// Nothing is held.
    pub(super) fn handle_cleared(&mut self) {
        self.known.clear();
        self.places.clear();
    }

    /// What is left, the least recently stored first; also objects of which no segment is held.
    pub(super) fn into_known(self) -> Vec<Known<O, S>> {
        let mut known: Vec<_> = self.known.into_iter().flatten().collect();
        // Which they nearly are: a sort that notices costs next to nothing.
        known.sort_by_key(|known| known.stored);
        known
    }

    fn find_mut<Q>(&mut self, key: &Q) -> Option<&mut Known<O, S>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let place = *self.places.get(key)?;
        self.known.get_mut(place as usize)?.as_mut()
    }
}
