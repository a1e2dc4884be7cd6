//! What an eviction policy is.

use std::fmt::Debug;

use nearcast_datasets::{SegmentId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    adaptive::AdaptivePolicy, arc::ArcPolicy, queue::QueuePolicy, s3_fifo::S3FifoPolicy, sieve::SievePolicy,
    w_tiny_lfu::WTinyLfuPolicy,
};

/// Decides which segment leaves next. One file per kind of policy; each owns its entries, so that a touch costs one look-up.
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
    /// Least worth by a model learned online.
    #[default]
    Adaptive,
    /// Adaptive replacement: recency and frequency, balanced by what was evicted too early.
    Arc,
    /// First in, first out.
    Fifo,
    /// Least recently used.
    Lru,
    /// Least latency to be saved, by the same model.
    Predicted,
    /// Three queues: small, main and ghost.
    S3Fifo,
    /// A queue with a hand that forgives one visit.
    Sieve,
    /// A window of newcomers before what is asked for more often.
    WTinylfu,
}

impl PolicyKind {
    /// Every policy.
    pub const ALL: [Self; 8] =
        [Self::Adaptive, Self::Arc, Self::Fifo, Self::Lru, Self::Predicted, Self::S3Fifo, Self::Sieve, Self::WTinylfu];

    /// The name in flags, config files and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Arc => "arc",
            Self::Fifo => "fifo",
            Self::Lru => "lru",
            Self::Predicted => "predicted",
            Self::S3Fifo => "s3-fifo",
            Self::Sieve => "sieve",
            Self::WTinylfu => "w-tinylfu",
        }
    }

    /// The policy called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// An empty policy for a cache of so many bytes.
    pub(super) fn build(self, capacity_bytes: u64) -> Box<dyn Policy> {
        match self {
            Self::Adaptive => Box::new(AdaptivePolicy::balanced(capacity_bytes)),
            Self::Arc => Box::new(ArcPolicy::new(capacity_bytes)),
            Self::Fifo => Box::new(QueuePolicy::fifo()),
            Self::Lru => Box::new(QueuePolicy::lru()),
            Self::Predicted => Box::new(AdaptivePolicy::for_latency(capacity_bytes)),
            Self::S3Fifo => Box::new(S3FifoPolicy::new(capacity_bytes)),
            Self::Sieve => Box::<SievePolicy>::default(),
            Self::WTinylfu => Box::new(WTinyLfuPolicy::new(capacity_bytes)),
        }
    }
}

/// Segments that a ghost list of any policy remembers at most, whatever their bytes.
pub(super) const GHOSTS_MAX: usize = 4_000_000;
