//! Replica sets, as planned.

use nearcast_datasets::{KeyId, Map};

use super::{KeyDemand, NodeSet};

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

/// Which nodes should hold which keys; a key that is not in it is left to pull-through or hashing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    keys: Map<KeyId, PlannedKey>,
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

    /// Where `key` should be held; nowhere in particular when the plan does not have it.
    pub fn nodes(&self, key: KeyId) -> NodeSet {
        self.keys.get(&key).map_or(NodeSet::EMPTY, |planned| planned.nodes)
    }

    /// The row of the demand that `key` was planned by.
    pub(super) fn row(&self, key: KeyId) -> Option<usize> {
        self.keys.get(&key).map(|planned| planned.row as usize)
    }

    /// All that is planned, in no particular but always the same order.
    pub fn iter(&self) -> impl Iterator<Item = (KeyId, &PlannedKey)> {
        self.keys.iter().map(|(key, planned)| (*key, planned))
    }

    /// Number of keys with replicas.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing is planned.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Bytes planned at a node.
    pub fn load_bytes(&self, node: usize) -> u64 {
        self.load_bytes.get(node).copied().unwrap_or(0)
    }

    /// Adds one replica that was not planned for.
    pub(super) fn hold_also(&mut self, key: KeyId, bytes: u64, node: usize, saved_seconds: f32) {
        let planned = self.keys.entry(key).or_default();
        if planned.nodes.contains(node) {
            return;
        }
        planned.nodes = planned.nodes.with(node);
        planned.bytes = bytes;
        planned.saved_seconds += saved_seconds;
        self.load_bytes[node] += bytes;
    }

    /// Adds replicas of a key, the one in that row of the demand.
    pub(super) fn add(&mut self, row: usize, demand: &KeyDemand, nodes: NodeSet, saved_seconds: f32) {
        let KeyDemand { key, bytes, held, .. } = *demand;
        if nodes.is_empty() {
            return;
        }
        let planned = self.keys.entry(key).or_default();
        let new = nodes.minus(planned.nodes);
        for node in new.iter() {
            self.load_bytes[node] += bytes;
            planned.nodes = planned.nodes.with(node);
        }
        (planned.bytes, planned.row) = (bytes, row as u32);
        planned.saved_seconds += saved_seconds;
        self.transfer_bytes += bytes * new.minus(held).len() as u64;
        self.saved_seconds += f64::from(saved_seconds);
    }
}
