//! What a node core counts.

use serde::Serialize;

use super::MissCause;

/// Misses by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MissCauses([u64; MissCause::ALL.len()]);

impl MissCauses {
    /// How often this was the cause.
    pub fn count(&self, cause: MissCause) -> u64 {
        self.0[cause as usize]
    }

    /// The sum over all causes.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Counts one more.
    pub fn record(&mut self, cause: MissCause) {
        self.0[cause as usize] += 1;
    }

    /// Takes `count` back from one cause and gives them to another.
    pub(super) fn recount(&mut self, from: MissCause, to: MissCause, count: u64) {
        self.0[from as usize] -= count;
        self.0[to as usize] += count;
    }
}

impl Serialize for MissCauses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(MissCause::ALL.iter().map(|cause| (cause, self.count(*cause))))
    }
}

/// Running totals since the core was made. Fields ending in `_bytes` are bytes, all others are counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeCounters {
    /// Requests for segments.
    pub requests: u64,
    /// Answered from what was held.
    pub hits: u64,
    /// Bytes of the hits.
    pub hit_bytes: u64,
    /// Not answered from what was held, by cause.
    pub misses: MissCauses,
    /// Bytes of the misses, as asked for.
    pub miss_bytes: u64,
    /// Misses that joined a transfer under way.
    pub joins: u64,
    /// Misses that could not be joined because the flight table was full.
    pub flights_full: u64,
    /// Demand transfers that failed.
    pub fetches_failed: u64,
    /// Bytes that demand transfers brought.
    pub demand_bytes: u64,
    /// Hits whose payload turned out to be gone or damaged.
    pub repaired: u64,
    /// Segments that made room for others.
    pub evicted: u64,
    /// Segments refused by the index: too large.
    pub refused: u64,
    /// Departed segments forgotten because the memory of them was full.
    pub departed_forgotten: u64,
    /// What happened to prefetch orders.
    pub prefetch: PrefetchCounters,
}

/// What happened to prefetch orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrefetchCounters {
    /// Orders received.
    pub ordered: u64,
    /// Orders for what was held or in flight already.
    pub already_present: u64,
    /// Orders turned away: a full queue with nothing worse in it, or larger than probation.
    pub rejected: u64,
    /// Orders dropped because their deadline passed.
    pub expired: u64,
    /// Transfers started.
    pub started: u64,
    /// Transfers that failed at every source.
    pub failed: u64,
    /// Transfers that landed.
    pub landed: u64,
    /// Bytes that prefetch transfers brought.
    pub landed_bytes: u64,
    /// Prefetched segments that somebody asked for in time.
    pub used: u64,
    /// Bytes of those.
    pub used_bytes: u64,
    /// Prefetches that demand overtook, queued or in flight.
    pub late: u64,
    /// Prefetched segments evicted before anyone asked.
    pub evicted_unused: u64,
    /// Bytes of those.
    pub evicted_unused_bytes: u64,
    /// Prefetched segments that went stale before anyone asked.
    pub expired_unused: u64,
}
