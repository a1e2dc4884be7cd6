//! One request of the log, with its strings and in coded form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{ClientId, Interner, KeyId, RegionId, Timestamp};

/// A half-open range of bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// Who answered a request, as live nodes log it in the `outcome` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServedFrom {
    /// The node's own memory.
    Memory,
    /// The node's own disk.
    Disk,
    /// The node itself, and this was the first use of a prefetched segment.
    Prefetched,
    /// Another node.
    Peer,
    /// The origin.
    Origin,
    /// Nobody: the request failed.
    Error,
}

impl ServedFrom {
    /// Every value, in the order of the enum.
    pub const ALL: [Self; 6] = [Self::Memory, Self::Disk, Self::Prefetched, Self::Peer, Self::Origin, Self::Error];

    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Prefetched => "prefetched",
            Self::Peer => "peer",
            Self::Origin => "origin",
            Self::Error => "error",
        }
    }

    /// Whether the region's own node answered from what it held.
    pub const fn is_hit(self) -> bool {
        matches!(self, Self::Memory | Self::Disk | Self::Prefetched)
    }
}

impl fmt::Display for ServedFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ServedFrom {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|served| served.as_str() == word).ok_or(())
    }
}

/// One row of the request log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEvent {
    /// When the request arrived.
    pub timestamp: Timestamp,
    /// The client's pseudonym.
    pub client: String,
    /// The client's region; `default` where the source has none.
    pub region: String,
    /// The key asked for.
    pub key: String,
    /// Bytes of the whole object.
    pub size_bytes: u64,
    /// The part asked for, when not the whole object.
    pub range: Option<ByteRange>,
    /// The node that answered.
    pub node: Option<String>,
    /// Who answered.
    pub outcome: Option<ServedFrom>,
    /// Time to the last byte, in microseconds.
    pub latency_us: Option<u64>,
    /// The A/B arm in force.
    pub arm: Option<String>,
    /// The model version in force.
    pub model_version: Option<String>,
}

/// The dictionaries that give [`EventChunk`]'s numbers their names.
#[derive(Clone, Debug, Default)]
pub struct Dictionaries {
    /// Client pseudonyms.
    pub clients: Interner,
    /// Region names.
    pub regions: Interner,
    /// Keys.
    pub keys: Interner,
}

/// A run of rows in time order, column by column, strings coded by [`Dictionaries`]. All columns have equal length.
#[derive(Clone, Debug, Default)]
pub struct EventChunk {
    /// When each request arrived.
    pub timestamps: Vec<Timestamp>,
    /// Who asked.
    pub clients: Vec<ClientId>,
    /// From where.
    pub regions: Vec<RegionId>,
    /// For what.
    pub keys: Vec<KeyId>,
    /// Bytes of the whole object.
    pub sizes_bytes: Vec<u64>,
    /// The part asked for, where not the whole object.
    pub ranges: Vec<Option<ByteRange>>,
}

impl EventChunk {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }
}
