//! What is expected of each key over the next horizon.

use nearcast_datasets::KeyId;

use super::{
    NodeSet,
    lanes::{LANES, Lanes, groups},
};

/// Expected requests per key and region over one horizon, dense by region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DemandTable {
    regions: usize,
    keys: Vec<KeyDemand>,
    /// Row-major (key, region), each row filled up with zeros.
    requests: Vec<Lanes>,
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
        self.requests.extend(padded(&requests[..requests.len().min(self.regions)], groups(self.regions)));
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
        &self.lanes(row).as_flattened()[..self.regions]
    }

    /// The same, in groups; zero beyond the regions.
    pub(super) fn lanes(&self, row: usize) -> &[Lanes] {
        let groups = groups(self.regions);
        &self.requests[row * groups..(row + 1) * groups]
    }

    /// Has rows fetched from memory together, instead of one after the other when their turn comes.
    #[inline(always)]
    pub(super) fn touch(&self, rows: &[u32]) {
        let mut sum = 0.0;
        for row in rows.iter().map(|row| *row as usize) {
            sum += self.keys[row].bytes as f32;
            for group in self.lanes(row) {
                sum += group[0];
            }
        }
        std::hint::black_box(sum);
    }
}

/// Requests in so many groups, of which what makes no sense counts as nothing.
pub(super) fn padded(requests: &[f32], groups: usize) -> impl Iterator<Item = Lanes> {
    (0..groups).map(|group| {
        let of = |lane: usize| requests.get(group * LANES + lane).copied().unwrap_or(0.0);
        std::array::from_fn(|lane| Some(of(lane)).filter(|it| it.is_finite()).unwrap_or(0.0).max(0.0))
    })
}
