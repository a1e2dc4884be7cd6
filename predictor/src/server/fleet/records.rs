//! What members tell each other: what their nodes say, and commands for nodes of others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use nearcast_bus::{Partition, Token, claims::Resource};
use nearcast_proto::{
    message::{Command, NodeName, NodeReport, PredictorNotice},
    wire,
};
use prost::Message;
use serde::{Deserialize, Serialize};

/// A session of a node at one of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::server) struct Home {
    /// The member, by its generation, which no other start of a member has.
    pub(in crate::server) generation: u32,
    /// That member's number of the session.
    pub(in crate::server) session: u64,
}

/// One record of the stream of what nodes say.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::server) struct NodeRecord {
    pub(in crate::server) home: Home,
    pub(in crate::server) said: Said,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::server) enum Said {
    /// A node has connected, or is told of once more: a hello, and which start of the node it is.
    Joined { stream: u64, hello: Box<NodeReport> },
    /// A node has said something else.
    Told(NodeReport),
    /// The session has ended.
    Left,
    /// Somebody wants to hear anew of every node that is connected to a member.
    Ask { of: u32 },
    /// A node is to be drained, or used again, wherever it is connected.
    Drain { node: NodeName, undo: bool },
    /// A node has confirmed that it serves an arm, and by how much its clock is ahead, unless that was long ago.
    Serves { arm: Arc<str>, skew_micros: Option<i64> },
    /// A node could not log so many requests.
    Dropped { count: u64 },
    /// Bytes that a node fetched ahead, as the member had ordered, left it unused.
    Wasted { node: NodeName, bytes: u64 },
    /// The challengers that the member has, and why it lacks others.
    Arms { ready: BTreeSet<Arc<str>>, refused: BTreeMap<Arc<str>, String> },
    /// An operator wants something that the member of this generation does.
    Asked { of: u32, number: u64, action: String, json: String },
    /// What became of that, as a status code and a document or message.
    Answered { of: u32, number: u64, code: i32, text: String },
}

/// A command for a node of whatever member.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::server) struct OrderRecord {
    /// What its author owns and gives the order for.
    pub(in crate::server) resource: Resource,
    /// Under which token.
    pub(in crate::server) token: Token,
    pub(in crate::server) node: NodeName,
    pub(in crate::server) command: Command,
}

/// What was read is no record, or one of a kind that this version does not know.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum RecordUnreadable {
    #[error("a record's envelope cannot be read")]
    Envelope(#[from] postcard::Error),
    #[error("a record's message cannot be read")]
    Message(#[from] prost::DecodeError),
    #[error("a record's message is not valid")]
    Contract(#[from] nearcast_proto::Error),
    #[error("a record says something that does not belong there")]
    Misplaced,
}

#[derive(Serialize, Deserialize)]
struct StoredNode<'a> {
    home: Home,
    #[serde(borrow)]
    said: StoredSaid<'a>,
}

#[derive(Serialize, Deserialize)]
enum StoredSaid<'a> {
    Joined {
        stream: u64,
        #[serde(borrow)]
        hello: std::borrow::Cow<'a, [u8]>,
    },
    Told(#[serde(borrow)] std::borrow::Cow<'a, [u8]>),
    Left,
    Ask {
        of: u32,
    },
    Drain {
        node: &'a str,
        undo: bool,
    },
    Serves {
        arm: &'a str,
        skew_micros: Option<i64>,
    },
    Dropped {
        count: u64,
    },
    Wasted {
        node: &'a str,
        bytes: u64,
    },
    Arms {
        ready: BTreeSet<Arc<str>>,
        refused: BTreeMap<Arc<str>, String>,
    },
    Asked {
        of: u32,
        number: u64,
        action: &'a str,
        json: &'a str,
    },
    Answered {
        of: u32,
        number: u64,
        code: i32,
        text: &'a str,
    },
}

#[derive(Serialize, Deserialize)]
struct StoredOrder<'a> {
    /// `None` for a partition.
    office: Option<&'a str>,
    partition: u32,
    token: u64,
    node: &'a str,
    command: &'a [u8],
}

impl NodeRecord {
    pub(in crate::server) fn encode(self) -> Bytes {
        let bytes = |report: NodeReport| wire::NodeMessage::from(report).encode_to_vec().into();
        let said = match self.said {
            Said::Serves { ref arm, skew_micros } => StoredSaid::Serves { arm, skew_micros },
            Said::Dropped { count } => StoredSaid::Dropped { count },
            Said::Wasted { ref node, bytes } => StoredSaid::Wasted { node: &node.0, bytes },
            Said::Arms { ready, refused } => StoredSaid::Arms { ready, refused },
            Said::Asked { of, number, ref action, ref json } => StoredSaid::Asked { of, number, action, json },
            Said::Answered { of, number, code, ref text } => StoredSaid::Answered { of, number, code, text },
            Said::Joined { stream, hello } => StoredSaid::Joined { stream, hello: bytes(*hello) },
            Said::Told(report) => StoredSaid::Told(bytes(report)),
            Said::Left => StoredSaid::Left,
            Said::Ask { of } => StoredSaid::Ask { of },
            Said::Drain { ref node, undo } => StoredSaid::Drain { node: &node.0, undo },
        };
        stored(&StoredNode { home: self.home, said })
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordUnreadable`].
    pub(in crate::server) fn decode(bytes: &[u8]) -> Result<Self, RecordUnreadable> {
        let StoredNode { home, said } = postcard::from_bytes(bytes)?;
        let report = |bytes: &[u8]| -> Result<NodeReport, RecordUnreadable> {
            Ok(NodeReport::try_from(wire::NodeMessage::decode(bytes)?)?)
        };
        let said = match said {
            StoredSaid::Joined { stream, hello } => match report(&hello)? {
                hello @ NodeReport::Hello { .. } => Said::Joined { stream, hello: Box::new(hello) },
                _ => return Err(RecordUnreadable::Misplaced),
            },
            StoredSaid::Told(told) => Said::Told(report(&told)?),
            StoredSaid::Left => Said::Left,
            StoredSaid::Ask { of } => Said::Ask { of },
            StoredSaid::Drain { node, undo } => Said::Drain { node: NodeName::from(node), undo },
            StoredSaid::Serves { arm, skew_micros } => Said::Serves { arm: arm.into(), skew_micros },
            StoredSaid::Dropped { count } => Said::Dropped { count },
            StoredSaid::Wasted { node, bytes } => Said::Wasted { node: NodeName::from(node), bytes },
            StoredSaid::Arms { ready, refused } => Said::Arms { ready, refused },
            StoredSaid::Asked { of, number, action, json } => {
                Said::Asked { of, number, action: action.to_owned(), json: json.to_owned() }
            }
            StoredSaid::Answered { of, number, code, text } => {
                Said::Answered { of, number, code, text: text.to_owned() }
            }
        };
        Ok(Self { home, said })
    }
}

impl OrderRecord {
    pub(in crate::server) fn encode(self) -> Bytes {
        let notice = PredictorNotice::Commands(vec![self.command]);
        let command = wire::PredictorMessage::from(notice).encode_to_vec();
        let (office, partition) = match &self.resource {
            Resource::Office(name) => (Some(name.as_str()), 0),
            Resource::Partition(partition) => (None, *partition),
        };
        stored(&StoredOrder { office, partition, token: self.token.0, node: &self.node.0, command: &command })
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordUnreadable`].
    pub(in crate::server) fn decode(bytes: &[u8]) -> Result<Self, RecordUnreadable> {
        let stored: StoredOrder<'_> = postcard::from_bytes(bytes)?;
        let message = wire::PredictorMessage::decode(stored.command)?;
        let PredictorNotice::Commands(mut commands) = PredictorNotice::try_from(message)? else {
            return Err(RecordUnreadable::Misplaced);
        };
        let command = commands.pop().ok_or(RecordUnreadable::Misplaced)?;
        let resource = match stored.office {
            Some(name) => Resource::Office(name.to_owned()),
            None => Resource::Partition(stored.partition),
        };
        Ok(Self { resource, token: Token(stored.token), node: NodeName::from(stored.node), command })
    }
}

/// The partition of what concerns a node, so that it stays in order.
pub(in crate::server) fn partition_of(node: &NodeName, partitions: u32) -> Partition {
    let hash = blake3::hash(node.0.as_bytes());
    let word = hash.as_bytes().first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    Partition(word % partitions.max(1))
}

fn stored(record: &impl Serialize) -> Bytes {
    postcard::to_allocvec(record).expect("memory is all that it takes").into()
}

/// The version of these bytes.
pub(in crate::server) const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use nearcast_datasets::Timestamp;
    use nearcast_proto::message::{Action, CommandId, Epoch, NodeDescriptor, SegmentSet, Source};

    use super::*;

    fn node_records() -> Vec<NodeRecord> {
        let node = NodeDescriptor {
            name: "ü 1".into(),
            region: "eu".into(),
            url: "http://n".into(),
            capacity_bytes: 1,
            segment_bytes: 2,
        };
        let hello = NodeReport::Hello { node, code_version: String::new(), purges: None, placement: None, stream: 0 };
        let set = SegmentSet { key: "/a".into(), size_bytes: 10, segments: vec![0, 4] };
        [
            Said::Joined { stream: 7, hello: Box::new(hello) },
            Said::Told(NodeReport::Inventory { held: vec![set], last: true }),
            Said::Left,
            Said::Ask { of: 3 },
            Said::Drain { node: "ü 1".into(), undo: true },
            Said::Serves { arm: "v0002".into(), skew_micros: Some(-3) },
            Said::Dropped { count: 1 << 40 },
            Said::Wasted { node: "eu-1".into(), bytes: 7 },
            Said::Arms { ready: ["none".into()].into(), refused: [("v9".into(), "it is gone".to_owned())].into() },
            Said::Asked { of: 3, number: 9, action: "start".to_owned(), json: "{}".to_owned() },
            Said::Answered { of: 3, number: 9, code: 5, text: "no".to_owned() },
        ]
        .map(|said| NodeRecord { home: Home { generation: 1, session: 9 }, said })
        .into()
    }

    fn order() -> OrderRecord {
        let command = Command {
            id: CommandId(1 << 41),
            epoch: Epoch(3),
            action: Action::Replicate,
            target: SegmentSet { key: "/a".into(), size_bytes: 10, segments: vec![0] },
            sources: vec![Source::Peer("us-1".into()), Source::Origin],
            deadline: Timestamp::from_micros(5),
            probability: 0.5,
            expected_value_seconds: 1.0,
            arm: "nearcast".into(),
            model_version: "v1".into(),
        };
        OrderRecord { resource: Resource::Partition(3), token: Token(8), node: "eu-1".into(), command }
    }

    #[test]
    fn records_say_again_what_was_put_in_and_cut_ones_are_refused() {
        for record in node_records() {
            let bytes = record.clone().encode();
            assert_eq!(NodeRecord::decode(&bytes).unwrap(), record);
            assert!((0..bytes.len()).all(|length| NodeRecord::decode(&bytes[..length]).is_err()), "{record:?}");
        }
        for resource in [Resource::Partition(3), Resource::Office("placement".to_owned())] {
            let record = OrderRecord { resource, ..order() };
            let bytes = record.clone().encode();
            assert_eq!(OrderRecord::decode(&bytes).unwrap(), record);
            assert!((0..bytes.len()).all(|length| OrderRecord::decode(&bytes[..length]).is_err()));
        }
    }

    #[test]
    fn what_concerns_a_node_is_of_one_partition_everywhere() {
        let partitions: Vec<u32> = (0..8).map(|node| partition_of(&format!("n{node}").as_str().into(), 4).0).collect();
        assert!(partitions.iter().all(|partition| *partition < 4));
        assert!(partitions.iter().any(|partition| *partition != partitions[0]), "{partitions:?}");
    }
}
