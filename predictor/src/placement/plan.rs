//! Replica sets, as planned.

use std::num::NonZeroU32;

use nearcast_datasets::{KeyId, Map};

use super::{DemandTable, KeyDemand, NodeSet};

/// One key's part of a [`Plan`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlannedKey {
    /// Where it should be held.
    pub nodes: NodeSet,
    /// Bytes of each replica.
    pub bytes: u64,
    /// Seconds of waiting that its replicas are expected to save over the horizon.
    pub saved_seconds: f32,
    /// The key's row in the demand that was planned for.
    pub(crate) row: u32,
}

/// Which of a key's planned replicas are not simply fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waits {
    /// The nodes that are to keep it from when it is there: fetching it ahead of a reader is not worth its bytes, or not
    /// possible.
    pub awaited: NodeSet,
    /// Of those that fetch it, the nodes where most of the demand comes only later: what is needed before goes first.
    pub ahead: NodeSet,
    /// Of those that await it, the nodes whose links have no room for it before the next plan.
    pub postponed: NodeSet,
}

/// Which nodes should hold which keys; a key that is not in it is left to pull-through or hashing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    keys: Vec<(KeyId, PlannedKey)>,
    /// By the key's number: its place among them.
    places: Vec<Option<NonZeroU32>>,
    /// Of keys that have any.
    waits: Map<KeyId, Waits>,
    /// Bytes planned per node.
    load_bytes: Vec<u64>,
    /// Bytes of replicas that are not held yet.
    pub transfer_bytes: u64,
    /// Seconds of waiting that the whole plan is expected to save over the horizon.
    pub saved_seconds: f64,
}

impl Plan {
    /// A plan of nothing for so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self { load_bytes: vec![0; nodes], ..Self::default() }
    }

    /// Makes room for so many keys at once, numbered below `numbers`.
    pub(super) fn reserve(&mut self, keys: usize, numbers: usize) {
        self.keys.reserve(keys);
        self.places.resize(self.places.len().max(numbers), None);
    }

    /// What is planned of `key`.
    fn get(&self, key: KeyId) -> Option<&PlannedKey> {
        let place = self.places.get(key.0 as usize).copied().flatten()?;
        self.keys.get(place.get() as usize - 1).map(|(_, planned)| planned)
    }

    fn entry(&mut self, key: KeyId) -> &mut PlannedKey {
        let number = key.0 as usize;
        if self.places.len() <= number {
            self.places.resize(number + 1, None);
        }
        let place = match self.places[number] {
            Some(place) => place.get() as usize - 1,
            None => {
                self.keys.push((key, PlannedKey::default()));
                self.places[number] = NonZeroU32::new(self.keys.len() as u32);
                self.keys.len() - 1
            }
        };
        &mut self.keys[place].1
    }

    /// Where `key` should be held; nowhere in particular when the plan does not have it.
    pub fn nodes(&self, key: KeyId) -> NodeSet {
        self.get(key).map_or(NodeSet::EMPTY, |planned| planned.nodes)
    }

    /// All that is planned, about the best per byte first.
    pub fn iter(&self) -> impl Iterator<Item = (KeyId, &PlannedKey)> {
        self.keys.iter().map(|(key, planned)| (*key, planned)).filter(|(_, planned)| !planned.nodes.is_empty())
    }

    /// Number of keys with replicas.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing is planned.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Which replicas of `key` are not simply fetched.
    pub fn waits(&self, key: KeyId) -> Waits {
        self.waits.get(&key).copied().unwrap_or_default()
    }

    /// The same of all keys that have any.
    pub fn all_waits(&self) -> &Map<KeyId, Waits> {
        &self.waits
    }

    /// Bytes planned at a node, without those that have to wait for their links.
    pub fn load_bytes(&self, node: usize) -> u64 {
        self.load_bytes.get(node).copied().unwrap_or(0)
    }

    /// Plans nothing any more for a key.
    pub(super) fn forget(&mut self, key: KeyId) {
        let Some(place) = self.places.get_mut(key.0 as usize).and_then(Option::take) else { return };
        let planned = std::mem::take(&mut self.keys[place.get() as usize - 1].1);
        let postponed = self.waits.remove(&key).unwrap_or_default().postponed;
        planned.nodes.minus(postponed).iter().for_each(|node| self.load_bytes[node] -= planned.bytes);
    }

    /// A node is to keep a key from when it is there.
    pub(super) fn await_at(&mut self, key: KeyId, node: usize) {
        let waits = self.waits.entry(key).or_default();
        waits.awaited = waits.awaited.with(node);
    }

    /// The same, because its link has no room for so many bytes of it before the next plan.
    pub(super) fn postpone_at(&mut self, key: KeyId, bytes: u64, node: usize) {
        self.await_at(key, node);
        let waits = self.waits.entry(key).or_default();
        waits.postponed = waits.postponed.with(node);
        self.load_bytes[node] -= bytes;
    }

    /// A node is to fetch a key for later.
    pub(super) fn fetch_ahead_at(&mut self, key: KeyId, node: usize) {
        let waits = self.waits.entry(key).or_default();
        waits.ahead = waits.ahead.with(node);
    }

    /// Adds one replica that was not planned for.
    pub(super) fn hold_also(&mut self, key: KeyId, bytes: u64, node: usize, saved_seconds: f32) {
        let planned = self.entry(key);
        if planned.nodes.contains(node) {
            return;
        }
        planned.nodes = planned.nodes.with(node);
        planned.bytes = bytes;
        planned.saved_seconds += saved_seconds;
        self.load_bytes[node] += bytes;
    }

    /// Adds replicas of a key that it does not have, the one in that row of the demand.
    pub(super) fn add(&mut self, row: usize, demand: &KeyDemand, nodes: NodeSet, saved_seconds: f32) {
        nodes.iter().for_each(|node| self.load_bytes[node] += demand.bytes);
        self.put(row, demand, nodes, saved_seconds);
    }

    /// Has what [`Self::put`] needs of rows fetched from memory together.
    pub(super) fn touch(&self, demand: &DemandTable, rows: &[u32]) {
        let place = |row: &u32| self.places.get(demand.key(*row as usize).key.0 as usize).copied().flatten();
        std::hint::black_box(rows.iter().filter_map(place).count());
    }

    /// Takes over what each node was filled with, counted where it was, of which [`Self::put`] then says what it is.
    pub(super) fn load(&mut self, load_bytes: Vec<u64>) {
        self.load_bytes = load_bytes;
    }

    /// Notes replicas of a key that it does not have, whose bytes are counted already.
    pub(super) fn put(&mut self, row: usize, demand: &KeyDemand, nodes: NodeSet, saved_seconds: f32) {
        let KeyDemand { key, bytes, held, .. } = *demand;
        if nodes.is_empty() {
            return;
        }
        *self.entry(key) = PlannedKey { nodes, bytes, saved_seconds, row: row as u32 };
        self.transfer_bytes += bytes * nodes.minus(held).len() as u64;
        self.saved_seconds += f64::from(saved_seconds);
    }
}
