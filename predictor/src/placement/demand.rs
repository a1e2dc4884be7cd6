//! What is expected of each key over the next horizon.

use nearcast_datasets::KeyId;

use super::NodeSet;

/// Expected requests per key and region over one horizon, dense by region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DemandTable {
    regions: usize,
    keys: Vec<KeyDemand>,
    /// Row-major (key, region).
    requests: Vec<f32>,
}

/// What a plan must know about a key besides its demand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeyDemand {
    /// Which key.
    pub key: KeyId,
    /// Bytes of the whole object.
    pub bytes: u64,
    /// Nodes that hold it now, for whatever reason: a replica there needs no transfer.
    pub held: NodeSet,
    /// The fewest replicas that its class asks for when it is placed at all.
    pub replicas_min: u8,
}

impl DemandTable {
    /// A table of no key yet.
    pub fn new(regions: usize) -> Self {
        Self { regions, keys: Vec::new(), requests: Vec::new() }
    }

    /// Adds a key; regions beyond the table's are left out, missing ones ask for nothing. What is not a number or
    /// below zero counts as nothing.
    pub fn push(&mut self, key: KeyDemand, requests: &[f32]) {
        self.keys.push(key);
        let sound = |region: usize| requests.get(region).copied().filter(|it| it.is_finite()).unwrap_or(0.0).max(0.0);
        self.requests.extend((0..self.regions).map(sound));
    }

    /// Number of regions.
    pub fn regions(&self) -> usize {
        self.regions
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A key by its row.
    pub fn key(&self, row: usize) -> &KeyDemand {
        &self.keys[row]
    }

    /// Expected requests by region of a key by its row.
    pub fn requests(&self, row: usize) -> &[f32] {
        &self.requests[row * self.regions..(row + 1) * self.regions]
    }
}
