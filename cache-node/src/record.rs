//! What the node writes down about objects and segments, in its journal and in answers to peers.
//!
//! Protobuf, so that a later version can add fields and still read what an earlier one wrote.

use bytes::Bytes;

/// An object's metadata.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ObjectRecord {
    /// Its key.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    /// Which state of the object this is.
    #[prost(fixed64, tag = "2")]
    pub(crate) version: u64,
    /// Bytes of the whole object.
    #[prost(uint64, tag = "3")]
    pub(crate) size_bytes: u64,
    /// Bytes per segment.
    #[prost(uint64, tag = "4")]
    pub(crate) segment_bytes: u64,
    /// When it was received, in microseconds since the epoch.
    #[prost(int64, tag = "6")]
    pub(crate) received_at_us: i64,
    /// How old it was then, in microseconds.
    #[prost(uint64, tag = "7")]
    pub(crate) age_us: u64,
    /// Until when it may be served without asking the origin, in microseconds since the epoch.
    #[prost(int64, tag = "8")]
    pub(crate) fresh_until_us: i64,
    /// The status that it came with; 0 stands for 200.
    #[prost(uint32, tag = "9")]
    pub(crate) status: u32,
    /// Until when it may be served while the origin is being asked, in microseconds since the epoch.
    #[prost(int64, tag = "10")]
    pub(crate) while_revalidate_until_us: i64,
    /// Until when it may be served although the origin answers with an error, in microseconds since the epoch.
    #[prost(int64, tag = "11")]
    pub(crate) if_error_until_us: i64,
    /// Until when it may be served although the origin cannot be reached, in microseconds since the epoch.
    #[prost(int64, tag = "12")]
    pub(crate) if_unreachable_until_us: i64,
    /// The response headers that are served with it, in the form that the object keeps them in.
    #[prost(bytes = "bytes", tag = "13")]
    pub(crate) head: Bytes,
}

/// A segment that is held.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct SegmentRecord {
    /// The object's key.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    /// The object's version.
    #[prost(fixed64, tag = "2")]
    pub(crate) version: u64,
    /// The segment's position.
    #[prost(uint32, tag = "3")]
    pub(crate) index: u32,
    /// Its bytes.
    #[prost(uint64, tag = "4")]
    pub(crate) bytes: u64,
    /// The digest of its payload.
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) digest: Bytes,
}

/// A segment that is no longer held.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct GoneRecord {
    /// The object's key.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    /// The segment's position.
    #[prost(uint32, tag = "2")]
    pub(crate) index: u32,
}

/// One change of what the node holds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Change {
    /// What changed.
    #[prost(oneof = "ChangeKind", tags = "1, 2, 3, 4")]
    pub(crate) kind: Option<ChangeKind>,
}

/// The kinds of [`Change`].
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(crate) enum ChangeKind {
    /// An object is known, or known better; another version drops the segments of the last.
    #[prost(message, tag = "1")]
    Object(ObjectRecord),
    /// A segment is held.
    #[prost(message, tag = "2")]
    Held(SegmentRecord),
    /// A segment is no longer held.
    #[prost(message, tag = "3")]
    Gone(GoneRecord),
    /// Nothing is held.
    #[prost(bool, tag = "4")]
    Cleared(bool),
}

impl From<ChangeKind> for Change {
    fn from(kind: ChangeKind) -> Self {
        Self { kind: Some(kind) }
    }
}

/// What stands before the payload when a node hands a segment to a peer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PeerSegment {
    /// The object.
    #[prost(message, optional, tag = "1")]
    pub(crate) object: Option<ObjectRecord>,
    /// The digest of the payload that follows.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) digest: Vec<u8>,
    /// Whether the node held it, or fetched it from the origin for this request.
    #[prost(bool, tag = "3")]
    pub(crate) was_held: bool,
}
