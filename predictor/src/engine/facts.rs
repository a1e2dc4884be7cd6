//! What is known about one key, for whoever asks.

use nearcast_datasets::{SegmentId, Timestamp, segment_count};

use super::{Engine, NodeIndex};

/// One key as the engine knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyFacts {
    /// Bytes of the whole object; `None` when nobody has asked for it yet.
    pub size_bytes: Option<u64>,
    /// How often it was asked for since it is known.
    pub requests: u32,
    /// The first and the last time.
    pub asked: Option<(Timestamp, Timestamp)>,
}

/// Segments of a key that are looked for at a node.
pub const SEGMENTS_TOLD_MAX: u32 = 1_024;

impl Engine {
    /// What is known about a key. Asking teaches nothing: a key that is not known stays so.
    pub fn key_facts(&self, name: &str) -> Option<KeyFacts> {
        let key = self.keys.find(name)?;
        let info = self.keys.info(key)?;
        Some(KeyFacts {
            size_bytes: (info.size_bytes > 0).then_some(info.size_bytes),
            requests: info.requests,
            asked: info.asked_at().map(|last: Timestamp| (info.first_at, last)),
        })
    }

    /// How many of a key's first [`SEGMENTS_TOLD_MAX`] segments a node holds, as far as is known. Asking teaches nothing.
    pub fn segments_held(&self, name: &str, node: NodeIndex) -> u32 {
        let known = self.keys.find(name).and_then(|key| Some((key, self.keys.info(key)?.size_bytes)));
        let (Some((key, size_bytes)), Some(there)) = (known, self.nodes.get(node)) else { return 0 };
        let segments = segment_count(size_bytes, there.segment_bytes).clamp(1, SEGMENTS_TOLD_MAX);
        let held = (0..segments).filter(|index| self.cache_map.holds(node, SegmentId { key, index: *index }));
        u32::try_from(held.count()).unwrap_or(SEGMENTS_TOLD_MAX)
    }
}
