//! The cache map: which node holds which segment.

use nearcast_datasets::{KeyId, Map, SegmentId};

use super::NodeIndex;

/// Which node holds which segment, from inventories, deltas, observed requests and orders that were carried out.
///
/// One bit per node and segment. The first segment of an object has its row at the key's number; rows of further
/// segments are found through a map that is bounded by `segments_max`.
#[derive(Clone, Debug)]
pub struct CacheMap {
    words_per_row: usize,
    first: Vec<u64>,
    further: Map<SegmentId, u32>,
    further_rows: Vec<u64>,
    further_free: Vec<u32>,
    further_max: usize,
    refused: u64,
}

impl CacheMap {
    pub(super) fn new(further_max: usize) -> Self {
        Self {
            words_per_row: 1,
            first: Vec::new(),
            further: Map::default(),
            further_rows: Vec::new(),
            further_free: Vec::new(),
            further_max,
            refused: 0,
        }
    }

    /// The nodes that hold a segment, ascending.
    pub fn holders(&self, segment: SegmentId) -> impl Iterator<Item = NodeIndex> {
        let words = self.row(segment).unwrap_or_default();
        words.iter().enumerate().flat_map(|(word_index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                u16::try_from(word_index * WORD_BITS + bit).ok().map(NodeIndex)
            })
        })
    }

    /// Whether a node holds a segment.
    pub fn holds(&self, node: NodeIndex, segment: SegmentId) -> bool {
        let (word, bit) = position(node);
        self.row(segment).and_then(|row| row.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// What one node holds, the first segments of objects first.
    pub(super) fn held(&self, node: NodeIndex) -> Vec<SegmentId> {
        let (word, bit) = position(node);
        let first =
            self.first.chunks(self.words_per_row).zip(0..).filter(|(row, _)| row[word.min(row.len() - 1)] & bit != 0);
        let first = first.map(|(_, number)| SegmentId { key: KeyId(number), index: 0 });
        let further = self.further.keys().copied().filter(|segment| self.holds(node, *segment));
        if word < self.words_per_row { first.chain(further).collect() } else { Vec::new() }
    }

    /// Segments past the first of an object that are in the map.
    pub fn further_segments(&self) -> usize {
        self.further.len()
    }

    /// How often a segment was left out because the map was full.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn insert(&mut self, node: NodeIndex, segment: SegmentId) {
        let (word, bit) = position(node);
        self.widen(word + 1);
        let Some(start) = self.row_start_or_insert(segment) else {
            self.refused += 1;
            return;
        };
        self.rows_mut(segment)[start + word] |= bit;
    }

    pub(super) fn remove(&mut self, node: NodeIndex, segment: SegmentId) {
        let (word, bit) = position(node);
        let (Some(start), true) = (self.row_start(segment), word < self.words_per_row) else { return };
        let width = self.words_per_row;
        let rows = self.rows_mut(segment);
        rows[start + word] &= !bit;
        if segment.index > 0 && rows[start..start + width].iter().all(|word| *word == 0) {
            self.release(segment);
        }
    }

    /// Forgets what one node holds.
    pub(super) fn clear_node(&mut self, node: NodeIndex) {
        let (word, bit) = position(node);
        if word >= self.words_per_row {
            return;
        }
        for rows in [&mut self.first, &mut self.further_rows] {
            rows.iter_mut().skip(word).step_by(self.words_per_row).for_each(|word| *word &= !bit);
        }
        let empty: Vec<SegmentId> =
            self.further.keys().copied().filter(|id| self.holders(*id).next().is_none()).collect();
        empty.into_iter().for_each(|segment| self.release(segment));
    }

    /// Forgets who holds a key, whose number is about to be given to another.
    pub(super) fn clear_key(&mut self, key: KeyId) {
        let start = key.0 as usize * self.words_per_row;
        if let Some(row) = self.first.get_mut(start..start + self.words_per_row) {
            row.fill(0);
        }
        if !self.further.is_empty() {
            let further: Vec<SegmentId> = self.further.keys().copied().filter(|id| id.key == key).collect();
            further.into_iter().for_each(|segment| self.release(segment));
        }
    }

    fn release(&mut self, segment: SegmentId) {
        if let Some(row) = self.further.remove(&segment) {
            let start = row as usize * self.words_per_row;
            self.further_rows[start..start + self.words_per_row].fill(0);
            self.further_free.push(row);
        }
    }

    fn row(&self, segment: SegmentId) -> Option<&[u64]> {
        let rows = if segment.index == 0 { &self.first } else { &self.further_rows };
        let start = self.row_start(segment)?;
        rows.get(start..start + self.words_per_row)
    }

    fn row_start(&self, segment: SegmentId) -> Option<usize> {
        let row = if segment.index == 0 { segment.key.0 } else { *self.further.get(&segment)? };
        let start = row as usize * self.words_per_row;
        let rows = if segment.index == 0 { &self.first } else { &self.further_rows };
        (start < rows.len()).then_some(start)
    }

    fn row_start_or_insert(&mut self, segment: SegmentId) -> Option<usize> {
        if let Some(start) = self.row_start(segment) {
            return Some(start);
        }
        let row = if segment.index == 0 {
            segment.key.0
        } else if self.further.len() >= self.further_max {
            return None;
        } else {
            let next = self.further_rows.len() / self.words_per_row;
            let row = self.further_free.pop().map_or_else(|| u32::try_from(next).ok(), Some)?;
            self.further.insert(segment, row);
            row
        };
        let start = row as usize * self.words_per_row;
        let end = start + self.words_per_row;
        let rows = self.rows_mut(segment);
        if rows.len() < end {
            rows.resize(end, 0);
        }
        Some(start)
    }

    fn rows_mut(&mut self, segment: SegmentId) -> &mut Vec<u64> {
        if segment.index == 0 { &mut self.first } else { &mut self.further_rows }
    }

    /// Makes rows wide enough, which happens once per 64 nodes that join.
    fn widen(&mut self, words: usize) {
        if words <= self.words_per_row {
            return;
        }
        for rows in [&mut self.first, &mut self.further_rows] {
            let wider = rows
                .chunks(self.words_per_row)
                .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0, words - row.len())));
            *rows = wider.collect();
        }
        self.words_per_row = words;
    }
}

fn position(node: NodeIndex) -> (usize, u64) {
    let index = usize::from(node.0);
    (index / WORD_BITS, 1 << (index % WORD_BITS))
}

const WORD_BITS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(key: u32, index: u32) -> SegmentId {
        SegmentId { key: KeyId(key), index }
    }

    fn holders(map: &CacheMap, of: SegmentId) -> Vec<u16> {
        map.holders(of).map(|node| node.0).collect()
    }

    #[test]
    fn finds_holders_across_widths_and_forgets_nodes_and_keys() {
        let mut map = CacheMap::new(2);
        for node in [3, 70, 130] {
            map.insert(NodeIndex(node), segment(7, 0));
            map.insert(NodeIndex(node), segment(7, 4));
        }
        assert_eq!(holders(&map, segment(7, 0)), [3, 70, 130]);
        assert_eq!(holders(&map, segment(7, 4)), [3, 70, 130]);
        map.clear_node(NodeIndex(70));
        map.remove(NodeIndex(3), segment(7, 4));
        assert_eq!(holders(&map, segment(7, 0)), [3, 130]);
        assert_eq!(holders(&map, segment(7, 4)), [130]);
        map.clear_key(KeyId(7));
        assert!(holders(&map, segment(7, 0)).is_empty() && holders(&map, segment(7, 4)).is_empty());
    }

    #[test]
    fn further_segments_are_bounded_and_their_rows_reused() {
        let mut map = CacheMap::new(2);
        let node = NodeIndex(0);
        for index in 1..=3 {
            map.insert(node, segment(1, index));
        }
        assert_eq!((map.further_segments(), map.refused()), (2, 1));
        map.remove(node, segment(1, 1));
        map.insert(node, segment(1, 3));
        assert!(map.holds(node, segment(1, 3)) && !map.holds(node, segment(1, 1)));
        assert_eq!(map.further_rows.len(), 2);
    }
}
