//! What is known about one key, for whoever asks.

use nearcast_datasets::{SegmentId, Timestamp};

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
    /// The nodes that hold some of it, and how many of its first [`SEGMENTS_TOLD_MAX`] segments.
    pub holders: Vec<(NodeIndex, u32)>,
}

/// Segments of a key that are looked for at each node.
pub const SEGMENTS_TOLD_MAX: u32 = 1_024;

impl Engine {
    /// What is known about a key. Asking teaches nothing: a key that is not known stays so.
    pub fn key_facts(&self, name: &str) -> Option<KeyFacts> {
        let key = self.keys.find(name)?;
        let info = self.keys.info(key)?;
        let mut holders: Vec<(NodeIndex, u32)> = Vec::new();
        let least = self.nodes.iter().map(|node| node.segment_bytes).min().unwrap_or(1);
        let segments = info.size_bytes.div_ceil(least).clamp(1, u64::from(SEGMENTS_TOLD_MAX)) as u32;
        for index in 0..segments {
            for node in self.cache_map.holders(SegmentId { key, index }) {
                match holders.iter_mut().find(|(holder, _)| *holder == node) {
                    Some((_, held)) => *held += 1,
                    None => holders.push((node, 1)),
                }
            }
        }
        holders.sort_by_key(|(node, _)| *node);
        Some(KeyFacts {
            size_bytes: (info.size_bytes > 0).then_some(info.size_bytes),
            requests: info.requests,
            asked: info.asked_at().map(|last: Timestamp| (info.first_at, last)),
            holders,
        })
    }
}
