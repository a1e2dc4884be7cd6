//! What goes into a node core and what comes out of it.

use std::time::Duration;

use nearcast_datasets::{SegmentId, Timestamp};
use nearcast_proto::message::{CommandId, CommandStatus, OutcomeKind};
use serde::Serialize;

use super::routing::FetchSource;

/// What a request finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The node holds the segment.
    Hit {
        /// Whether a prefetch brought it and this is its first use.
        first_use: bool,
    },
    /// A transfer of it is under way: wait for that one.
    Join {
        /// Why it was not there.
        cause: MissCause,
    },
    /// The caller must fetch it and then call [`NodeCore::handle_fetched`](super::NodeCore::handle_fetched).
    Miss {
        /// Why it was not there.
        cause: MissCause,
    },
}

/// Why a segment was not there when it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MissCause {
    /// It was held and made room for others, or its payload was damaged.
    Capacity,
    /// Never held here, but another node held it and served it.
    Elsewhere,
    /// It was held and went stale, or was ordered away.
    Expired,
    /// Nobody asked here before, as far as the bounded memory of departed segments tells.
    First,
    /// A prefetch of it was queued or under way.
    LatePrefetch,
    /// It was refused: too large, or its prefetch was turned away.
    Rejected,
    /// Its last answer could not be kept.
    Uncacheable,
}

impl MissCause {
    /// Every cause, in the order of the enum.
    pub const ALL: [Self; 7] = [
        Self::Capacity,
        Self::Elsewhere,
        Self::Expired,
        Self::First,
        Self::LatePrefetch,
        Self::Rejected,
        Self::Uncacheable,
    ];

    /// The word in headers, metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Elsewhere => "elsewhere",
            Self::Expired => "expired",
            Self::First => "first",
            Self::LatePrefetch => "late_prefetch",
            Self::Rejected => "rejected",
            Self::Uncacheable => "uncacheable",
        }
    }
}

/// Who answered a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchedFrom {
    /// The origin, directly or through the key's home node.
    Origin,
    /// A node that held it.
    Peer,
}

/// A fetch that brought the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes of the segment as received.
    pub bytes: u64,
    /// Who answered.
    pub from: FetchedFrom,
    /// Whether the answer may be kept.
    pub is_cacheable: bool,
}

/// A fetch that brought nothing: every source failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchFailed;

/// How a transfer ended for the segment and for those who waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landed {
    /// Whether the segment is held now: keep the payload only then.
    pub is_held: bool,
    /// What the misses that waited for it are put down to, now that it is known who answered.
    pub cause: Option<MissCause>,
    /// Whether a prefetch failed for which demand waits: fetch for it.
    pub demand_waits: bool,
}

/// A command to hold one segment before anyone asks.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefetchOrder {
    /// The command; results and outcomes refer to it.
    pub command: CommandId,
    /// What to fetch.
    pub segment: SegmentId,
    /// Bytes that it will take.
    pub bytes: u64,
    /// Where from, tried in order.
    pub sources: Vec<FetchSource>,
    /// When it stops being worth doing.
    pub deadline: Timestamp,
    /// Expected seconds of latency saved, less the price of the bytes.
    pub value_seconds: f64,
}

/// What the shell must hear of. In the order in which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// The segment is no longer held: drop the payload and report the loss.
    Evicted {
        /// Which one.
        segment: SegmentId,
        /// Its bytes.
        bytes: u64,
    },
    /// The segment is held now: report the gain.
    Gained {
        /// Which one.
        segment: SegmentId,
        /// Its bytes.
        bytes: u64,
    },
    /// What became of a prefetched segment.
    Outcome {
        /// The command that fetched it.
        command: CommandId,
        /// The segment.
        segment: SegmentId,
        /// What became of it.
        kind: OutcomeKind,
        /// When.
        at: Timestamp,
        /// From landing to first use or end; zero when it was late.
        residence: Duration,
    },
    /// How a command ended.
    Result {
        /// Which command.
        command: CommandId,
        /// The segment.
        segment: SegmentId,
        /// How it ended.
        status: CommandStatus,
        /// Bytes transferred for it.
        bytes: u64,
    },
}
