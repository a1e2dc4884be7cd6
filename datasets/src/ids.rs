//! Newtypes for what cores work on instead of strings and clocks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A key's number in some [`Interner`](crate::Interner).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyId(pub u32);

/// A client's number in some [`Interner`](crate::Interner).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientId(pub u32);

/// A region's number in some [`Interner`](crate::Interner).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RegionId(pub u16);

/// One segment of an object: the unit that is held, fetched, replicated and evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SegmentId {
    /// The object's key.
    pub key: KeyId,
    /// The segment's position in the object, from zero.
    pub index: u32,
}

/// How many segments an object has; an empty one has one, of no bytes.
pub fn segment_count(size_bytes: u64, segment_bytes: u64) -> u32 {
    u32::try_from(size_bytes.div_ceil(segment_bytes.max(1)).max(1)).unwrap_or(u32::MAX)
}

/// Bytes of one segment of an object: the last one is shorter, and beyond the end there is nothing.
pub fn segment_len(size_bytes: u64, segment_bytes: u64, index: u32) -> u64 {
    size_bytes.saturating_sub(u64::from(index).saturating_mul(segment_bytes)).min(segment_bytes)
}

/// Microseconds since the Unix epoch, UTC. Cores receive it as an argument and never read a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest representable instant.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest representable instant.
    pub const MAX: Self = Self(i64::MAX);

    /// The instant `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This instant moved later by `duration`, saturating.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This instant moved earlier by `duration`, saturating.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}
