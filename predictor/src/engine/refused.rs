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
    pair: u64,
    request: u64,
    probability: f32,
}

impl Default for Refused {
    fn default() -> Self {
        Self { cells: vec![Cell::default(); CELLS] }
    }
}

impl Refused {
    pub(super) fn record(&mut self, node: NodeIndex, key: KeyId, request: u64, probability: f32) {
        let pair = pair_hash(node, key);
        self.cells[pair as usize & (CELLS - 1)] = Cell { pair, request, probability };
    }

    /// Whether a candidate that looks this probable was refused shortly before and has not become more probable.
    pub(super) fn contains(&self, node: NodeIndex, key: KeyId, request: u64, probability: f32) -> bool {
        let pair = pair_hash(node, key);
        let cell = self.cells[pair as usize & (CELLS - 1)];
        cell.pair == pair && cell.request + REMEMBERED_REQUESTS >= request && probability <= cell.probability * BETTER
    }
}

const CELLS: usize = 1 << 15;
const REMEMBERED_REQUESTS: u64 = 64;
const BETTER: f32 = 1.1;
