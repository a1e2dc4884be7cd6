//! What an eviction policy is.

use std::fmt::Debug;

use nearcast_datasets::{SegmentId, Timestamp};
use serde::{Deserialize, Serialize};

use super::lru::LruPolicy;

/// Decides which segment leaves next. One file per policy; each owns its entries, so that a touch costs one look-up.
///
/// A policy sees only segments in main. It may remember segments it no longer holds, within a bound that it states.
pub trait Policy: Debug + Send {
    /// Records a request; the segment's bytes, or `None` when it is not held.
    fn touch(&mut self, now: Timestamp, segment: SegmentId) -> Option<u64>;

    /// Holds a segment. The caller guarantees that it is not held yet and that there is room.
    fn insert(&mut self, now: Timestamp, segment: SegmentId, bytes: u64);

    /// Drops a segment because it is gone, not because of pressure: it must leave no trace as a victim would.
    fn remove(&mut self, segment: SegmentId) -> Option<u64>;

    /// Chooses the next victim and drops it. Must succeed while anything is held.
    fn evict(&mut self, now: Timestamp) -> Option<(SegmentId, u64)>;

    /// Bytes of a segment without counting as a request.
    fn bytes(&self, segment: SegmentId) -> Option<u64>;

    /// Every held segment with its bytes, the one to evict next first.
    fn iter(&self) -> Box<dyn Iterator<Item = (SegmentId, u64)> + '_>;

    /// Bytes held.
    fn used_bytes(&self) -> u64;

    /// Segments held.
    fn len(&self) -> usize;

    /// Whether nothing is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The policies by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PolicyKind {
    /// Least recently used.
    #[default]
    Lru,
}

impl PolicyKind {
    /// Every policy.
    pub const ALL: [Self; 1] = [Self::Lru];

    /// The name in flags, config files and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lru => "lru",
        }
    }

    /// The policy called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// An empty policy for a cache of so many bytes.
    pub(super) fn build(self, _capacity_bytes: u64) -> Box<dyn Policy> {
        match self {
            Self::Lru => Box::<LruPolicy>::default(),
        }
    }
}
