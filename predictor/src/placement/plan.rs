//! Replica sets, as planned.

use nearcast_datasets::{KeyId, Map};

use super::NodeSet;

/// One key's part of a [`Plan`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlannedKey {
    /// Where it should be held.
    pub nodes: NodeSet,
    /// Bytes of each replica.
    pub bytes: u64,
    /// Seconds of waiting that its replicas are expected to save over the horizon.
    pub saved_seconds: f32,
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

    /// Adds replicas of a key.
    pub(super) fn add(&mut self, key: KeyId, bytes: u64, nodes: NodeSet, held: NodeSet, saved_seconds: f32) {
        if nodes.is_empty() {
            return;
        }
        let planned = self.keys.entry(key).or_default();
        let new = nodes.minus(planned.nodes);
        for node in new.iter() {
            self.load_bytes[node] += bytes;
            planned.nodes = planned.nodes.with(node);
        }
        planned.bytes = bytes;
        planned.saved_seconds += saved_seconds;
        self.transfer_bytes += bytes * new.minus(held).len() as u64;
        self.saved_seconds += f64::from(saved_seconds);
    }
}
