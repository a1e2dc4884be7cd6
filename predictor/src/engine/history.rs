//! History: what became of earlier prefetches of a key to a node.

use nearcast_datasets::KeyId;

use super::NodeIndex;

/// How often prefetching a key to a node worked and how often it did not, in a table of fixed size: where two pairs
/// meet, the later one stays.
#[derive(Debug)]
pub(super) struct History {
    cells: Vec<Cell>,
}

/// What became of one key at one node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    node: NodeIndex,
    key: KeyId,
    pub used: u8,
    pub unused: u8,
}

impl History {
    pub(super) fn new(pairs_max: usize) -> Self {
        Self { cells: vec![Cell::default(); pairs_max.next_power_of_two()] }
    }

    pub(super) fn find(&self, node: NodeIndex, key: KeyId) -> Cell {
        let cell = self.cells[self.position(node, key)];
        if cell.node == node && cell.key == key { cell } else { Cell { node, key, used: 0, unused: 0 } }
    }

    pub(super) fn learn(&mut self, node: NodeIndex, key: KeyId, used: bool) {
        let mut cell = self.find(node, key);
        let count = if used { &mut cell.used } else { &mut cell.unused };
        *count = count.saturating_add(1);
        let position = self.position(node, key);
        self.cells[position] = cell;
    }

    pub(super) fn clear_key(&mut self, nodes: usize, key: KeyId) {
        for node in (0..nodes).filter_map(|node| u16::try_from(node).ok()).map(NodeIndex) {
            let position = self.position(node, key);
            if self.cells[position].key == key {
                self.cells[position] = Cell::default();
            }
        }
    }

    fn position(&self, node: NodeIndex, key: KeyId) -> usize {
        pair_hash(node, key) as usize & (self.cells.len() - 1)
    }
}

/// A well mixed number for a node and a key.
pub(super) fn pair_hash(node: NodeIndex, key: KeyId) -> u64 {
    let pair = u64::from(node.0) << 32 | u64::from(key.0);
    let mixed = (pair ^ (pair >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}
