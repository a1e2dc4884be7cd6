//! What a node says about itself: the parts of `nearcast.node-status/1` that matter to operators.

use std::collections::BTreeMap;

use nearcast_cache_node::latency::LatencySnapshot;
use serde::Deserialize;

/// Counts by a word.
pub(super) type Counts = BTreeMap<String, u64>;

/// A node's status. Counts are since it started.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NodeStatus {
    pub(super) node: String,
    pub(super) region: String,
    pub(super) requests: u64,
    pub(super) hits: u64,
    pub(super) served: Counts,
    pub(super) misses: Counts,
    pub(super) responses: Counts,
    pub(super) latency: BTreeMap<String, LatencySnapshot>,
    pub(super) uptime_seconds: f64,
    pub(super) bytes: Bytes,
    pub(super) segments: Segments,
    pub(super) held: Held,
    pub(super) origin: Origin,
    pub(super) peers: Peers,
    pub(super) purges: Purges,
    pub(super) warmed: Warmed,
    pub(super) front: Front,
    pub(super) repairs: Repairs,
    pub(super) link: Link,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Bytes {
    pub(super) sent: u64,
    pub(super) sent_by: Counts,
    pub(super) from_origin: u64,
    pub(super) from_peers: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Segments {
    pub(super) evicted: u64,
    pub(super) prefetch: Prefetch,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Prefetch {
    pub(super) ordered: u64,
    pub(super) landed: u64,
    pub(super) landed_bytes: u64,
    pub(super) used: u64,
    pub(super) used_bytes: u64,
    pub(super) late: u64,
    pub(super) evicted_unused: u64,
    pub(super) evicted_unused_bytes: u64,
    pub(super) expired_unused: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Held {
    pub(super) segments: u64,
    pub(super) entries_max: u64,
    pub(super) bytes: u64,
    pub(super) capacity_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) memory_capacity_bytes: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Origin {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) under_way: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Peers {
    pub(super) known: u64,
    pub(super) skipped: u64,
    pub(super) failures: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Purges {
    pub(super) count: u64,
    pub(super) objects: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Warmed {
    pub(super) bytes: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Front {
    pub(super) connections: u64,
    pub(super) bad_requests: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Repairs {
    pub(super) payloads_damaged: u64,
    pub(super) payloads_gone: u64,
    pub(super) journal_dropped: u64,
    pub(super) log_dropped: u64,
    pub(super) log_failed: u64,
    pub(super) access_log_dropped: u64,
    pub(super) access_log_failed: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Link {
    pub(super) connected: bool,
    pub(super) reports_dropped: u64,
}

impl NodeStatus {
    /// Payload bytes that the node may hold.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.held.capacity_bytes
    }

    /// How it calls itself, and where it is.
    pub(crate) fn name(&self) -> (&str, &str) {
        (&self.node, &self.region)
    }
}
