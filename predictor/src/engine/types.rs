//! What goes into the engine and what comes out of it.

use nearcast_datasets::{ByteRange, KeyId, RegionId, ServedFrom, Timestamp};
use nearcast_proto::message::{Action, CommandId, Epoch};
use serde::{Deserialize, Serialize};

/// A node's number in one engine; a node that comes back under its old name keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeIndex(pub u16);

/// One request that a node answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The node that answered.
    pub node: NodeIndex,
    /// Hash of the client's pseudonym.
    pub client: u64,
    /// The client's region.
    pub region: RegionId,
    /// What was asked for.
    pub key: KeyId,
    /// Bytes of the whole object.
    pub size_bytes: u64,
    /// The part asked for, when not the whole object.
    pub range: Option<ByteRange>,
    /// Who answered.
    pub served: ServedFrom,
}

/// Where a node may pull a segment from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderSource {
    /// The origin.
    Origin,
    /// A node that is believed to hold every segment of the order.
    Peer(NodeIndex),
}

/// A decision: what one node should do. The shell turns it into a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Identifies the order in results and outcomes.
    pub id: CommandId,
    /// The membership under which it was decided.
    pub epoch: Epoch,
    /// What to do.
    pub action: Action,
    /// Where.
    pub node: NodeIndex,
    /// Which object.
    pub key: KeyId,
    /// Bytes of the whole object.
    pub size_bytes: u64,
    /// Which of its segments, ascending.
    pub segments: Vec<u32>,
    /// Where from, cheapest first; the origin is always last.
    pub sources: Vec<OrderSource>,
    /// When it stops being worth doing.
    pub deadline: Timestamp,
    /// P(used at this node in time and before it would be evicted).
    pub probability: f32,
    /// Expected seconds of latency saved, less the price of the bytes and the cost of what they displace.
    pub expected_value_seconds: f64,
}

/// Whether the engine issues orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// Learns from the stream and issues nothing.
    None,
    /// Predicts and issues orders.
    #[default]
    Nearcast,
}

impl Arm {
    /// The word that logs, commands and configurations use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nearcast => "nearcast",
        }
    }
}
