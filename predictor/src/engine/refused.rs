//! Refused candidates: not to be weighed again at once.

use nearcast_datasets::KeyId;

use super::{NodeIndex, history::pair_hash};

/// Remembers, in a table of fixed size, which candidates were refused a moment ago and how probable they looked.
#[derive(Debug)]
pub(super) struct Refused {
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// What tells the pair from others with the same cell.
    tag: u32,
    /// The number of the request, wrapping.
    request: u32,
    probability: f32,
}

impl Default for Refused {
    fn default() -> Self {
        Self { cells: vec![Cell::default(); CELLS] }
    }
}

impl Refused {
    pub(super) fn record(&mut self, node: NodeIndex, key: KeyId, request: u64, probability: f32) {
        let (position, tag) = place(node, key);
        self.cells[position] = Cell { tag, request: request as u32, probability };
    }

    /// Whether a candidate that looks this probable was refused shortly before and has not become more probable.
    pub(super) fn contains(&self, node: NodeIndex, key: KeyId, request: u64, probability: f32) -> bool {
        let (position, tag) = place(node, key);
        let cell = self.cells[position];
        let is_recent = (request as u32).wrapping_sub(cell.request) <= REMEMBERED_REQUESTS;
        cell.tag == tag && is_recent && probability <= cell.probability * BETTER
    }
}

/// The cell of a pair, and what tells the pair from others with the same cell.
fn place(node: NodeIndex, key: KeyId) -> (usize, u32) {
    let pair = pair_hash(node, key);
    (pair as usize & (CELLS - 1), (pair >> 32) as u32)
}

/// Some times as many as are refused within the time they are remembered, and few enough for a processor's own cache.
const CELLS: usize = 1 << 13;
const REMEMBERED_REQUESTS: u32 = 64;
const BETTER: f32 = 1.1;
