//! The domain types of the contract: what a predictor commands and what a node reports.

mod placement;

use std::{fmt, sync::Arc, time::Duration};

use nearcast_datasets::{ByteRange, ServedFrom, Timestamp};

pub use self::placement::{PlacementPosition, PlacementUpdate};

/// A command's number, unique within one predictor's life; outcomes refer to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// The version of the cache map and of placement; a command of an older epoch than the node's is stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// A node's name, unique in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeName(pub Arc<str>);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for NodeName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

/// Where a node may pull a segment from. A node resolves it itself, so a command cannot name an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The origin that the node is configured with.
    Origin,
    /// A member of the cache map.
    Peer(NodeName),
}

/// What a command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Drop the segments.
    Evict,
    /// Hold the segments until told otherwise.
    Pin,
    /// Pull the segments and store them on probation.
    Replicate,
    /// Leave pinned segments to eviction again.
    Unpin,
}

/// What a node is and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDescriptor {
    /// Its name.
    pub name: NodeName,
    /// Its region.
    pub region: Arc<str>,
    /// Where peers and clients reach it.
    pub url: Arc<str>,
    /// Bytes that it can hold.
    pub capacity_bytes: u64,
    /// Bytes per segment.
    pub segment_bytes: u64,
}

/// Some segments of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSet {
    /// The object's key.
    pub key: Arc<str>,
    /// Bytes of the whole object.
    pub size_bytes: u64,
    /// Segment positions, ascending.
    pub segments: Vec<u32>,
}

/// An order of the predictor to one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Identifies the command in results and outcomes.
    pub id: CommandId,
    /// The cache map under which it was decided.
    pub epoch: Epoch,
    /// What to do.
    pub action: Action,
    /// To which segments.
    pub target: SegmentSet,
    /// Where from, tried in order; empty unless it is [`Action::Replicate`].
    pub sources: Vec<Source>,
    /// When it stops being worth doing.
    pub deadline: Timestamp,
    /// P(used at this node before it would be evicted).
    pub probability: f32,
    /// Expected seconds of latency saved, less the price of the bytes.
    pub expected_value_seconds: f64,
    /// The A/B arm that issued it.
    pub arm: Arc<str>,
    /// The model version that issued it.
    pub model_version: Arc<str>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandStatus {
    /// The node held it already.
    AlreadyPresent,
    /// Carried out.
    Done,
    /// Its deadline passed before the transfer started or ended.
    Expired,
    /// Every source failed.
    Failed,
    /// The node refused: stale epoch, unknown source, or a full queue.
    Rejected,
}

/// A node's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandResult {
    /// Which command.
    pub id: CommandId,
    /// How it ended.
    pub status: CommandStatus,
    /// Bytes that were transferred.
    pub bytes: u64,
    /// Why, when it was not done.
    pub detail: String,
}

/// What became of a prefetched segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutcomeKind {
    /// It left the cache before anyone asked for it.
    EvictedUnused,
    /// It went stale before anyone asked for it.
    Expired,
    /// Demand asked for it while its transfer was under way.
    Late,
    /// Somebody asked for it.
    Used,
}

/// The outcome of one prefetched segment: a label of online learning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The command that fetched it.
    pub command: CommandId,
    /// The object's key.
    pub key: Arc<str>,
    /// The segment's position.
    pub segment: u32,
    /// What became of it.
    pub kind: OutcomeKind,
    /// When.
    pub at: Timestamp,
    /// From storing to first use or end.
    pub residence: Duration,
}

/// The members of the cluster as one epoch knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheMap {
    /// The version.
    pub epoch: Epoch,
    /// The members, ascending by name.
    pub members: Vec<Member>,
}

/// A member of the cache map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub node: NodeDescriptor,
    /// Whether it is connected.
    pub alive: bool,
}

/// One request event, as a node reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it arrived.
    pub timestamp: Timestamp,
    /// The client's pseudonym.
    pub client: Arc<str>,
    /// The client's region.
    pub region: Arc<str>,
    /// The key asked for.
    pub key: Arc<str>,
    /// Bytes of the whole object.
    pub size_bytes: u64,
    /// The part asked for, when not the whole object.
    pub range: Option<ByteRange>,
    /// Who answered.
    pub served: ServedFrom,
    /// Time to the last byte.
    pub latency: Duration,
}

/// Request events in the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestBatch {
    /// Rises by one per batch of one start of the node.
    pub sequence: u64,
    /// The events.
    pub requests: Vec<Request>,
    /// Events that the node dropped since its last batch because its queue was full.
    pub dropped_count: u64,
}

/// What a node says on its stream.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeReport {
    /// Who it is; the first message, and only that.
    Hello {
        /// What it is.
        node: NodeDescriptor,
        /// The version of its code.
        code_version: String,
        /// How far in the log of purges it is; `None` before it ever joined.
        purges: Option<PurgePosition>,
        /// The placement that it routes by; `None` while it has none.
        placement: Option<PlacementPosition>,
        /// Which start of the node it is, greater for every later one; zero where batches are numbered per stream.
        stream: u64,
    },
    /// Part of what it holds.
    Inventory {
        /// Segments held.
        held: Vec<SegmentSet>,
        /// Whether this was the last page.
        last: bool,
    },
    /// What it gained and lost since its last report of this kind.
    Delta {
        /// Segments gained.
        gained: Vec<SegmentSet>,
        /// Segments lost.
        lost: Vec<SegmentSet>,
    },
    /// What clients asked for.
    Requests(RequestBatch),
    /// What became of prefetched segments.
    Outcomes(Vec<Outcome>),
    /// How commands ended.
    Results(Vec<CommandResult>),
    /// It carried out a purge.
    Purged {
        /// [`Purge::epoch`].
        epoch: u64,
        /// Objects of which it held something.
        objects: u64,
    },
    /// The placement that it routes by now.
    Placement {
        /// `None` when it has none or only a part of one.
        position: Option<PlacementPosition>,
        /// Whether an update did not lead on from there.
        has_gap: bool,
    },
    /// It is about to end, and will not be back soon.
    Leaving,
    /// How long it waits for small answers, as measured lately; replaces what it said before.
    RoundTrips(Vec<RoundTrip>),
    /// It serves the arm that it was told.
    Assigned {
        /// The number that [`PredictorNotice::Welcome`] gave.
        assignment: u64,
        /// The arm.
        arm: Arc<str>,
        /// What its clock said.
        clock: Timestamp,
    },
}

/// How long a node waits for the beginning of a small answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// Whose answer; the origin's without a name.
    pub to: Option<NodeName>,
    /// The least of what was seen lately.
    pub round_trip: Duration,
}

/// A place in a predictor's log of purges.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PurgePosition {
    /// Which log: a predictor that lost its data folder begins another one.
    pub log: Arc<str>,
    /// Every purge up to this one is carried out.
    pub epoch: u64,
}

/// What must not be served any longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Purge {
    /// Rises by one per purge of a log.
    pub epoch: u64,
    /// Objects, with all their variants.
    pub keys: Vec<String>,
    /// Everything whose key begins so.
    pub prefixes: Vec<String>,
    /// Everything that the origin tagged so.
    pub tags: Vec<String>,
    /// Whether it may still be served while the origin is asked, or cannot be.
    pub soft: bool,
}

/// Purges in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeUpdate {
    /// Of which log.
    pub log: Arc<str>,
    /// The purges.
    pub purges: Vec<Arc<Purge>>,
    /// Once these are carried out, every purge up to this one is.
    pub upto: u64,
    /// Whether purges between these and the node's position are no longer known.
    pub has_gap: bool,
    /// The latest purge of the log; more follow while it is above `upto`.
    pub latest: u64,
}

/// What the predictor says on a node's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum PredictorNotice {
    /// The first answer.
    Welcome {
        /// The cache map in force.
        epoch: Epoch,
        /// The arm in force.
        arm: Arc<str>,
        /// The model version in force; empty before the first.
        model_version: Arc<str>,
        /// Rises with every assignment of a stream; the node confirms it.
        assignment: u64,
    },
    /// Orders, best value per byte first.
    Commands(Vec<Command>),
    /// Explicit replicas.
    Placement(PlacementUpdate),
    /// The members of the cluster.
    Map(CacheMap),
    /// Every batch up to this one has reached the predictor's state.
    Ack {
        /// [`RequestBatch::sequence`].
        sequence: u64,
    },
    /// What must not be served any longer; the first one comes before the first map.
    Purges(PurgeUpdate),
}
