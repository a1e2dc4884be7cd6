//! A batch of one node's requests, as it lies on the bus.

use std::{collections::BTreeMap, hash::BuildHasher, sync::Arc, time::Duration};

use bytes::Bytes;
use nearcast_bus::Partition;
use nearcast_datasets::{ByteRange, Map, ServedFrom, Timestamp};
use nearcast_proto::message::{NodeDescriptor, NodeName, Request};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;

/// Some requests that a node reported in one batch: those of one partition's clients.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// When the batch was taken from the node; what is learnt is dated by this and not by whoever learns.
    pub at: Timestamp,
    /// The node.
    pub node: NodeDescriptor,
    /// Which of the node's streams: a later one has a greater number.
    pub stream: u64,
    /// The batch's number in that stream.
    pub sequence: u64,
    /// The requests, in the order in which the node reported them.
    pub requests: Vec<Request>,
}

/// What was read is no record.
#[derive(Debug, thiserror::Error)]
#[error("a record of the log cannot be read")]
pub struct RecordUnreadable(#[source] Option<postcard::Error>);

/// Divides a batch among partitions, keeping the order. What goes into each is under the same id whoever publishes it.
pub fn split(record: LogRecord, partitions: u32) -> Vec<(Partition, String, LogRecord)> {
    let mut parts: BTreeMap<u32, Vec<Request>> = BTreeMap::new();
    let LogRecord { at, node, stream, sequence, requests } = record;
    for request in requests {
        let part = Engine::part_of(client_number(&request.client), partitions);
        parts.entry(part).or_default().push(request);
    }
    // A name may hold what an id may not.
    let name = blake3::hash(node.name.0.as_bytes()).to_hex();
    let record = |(part, requests)| {
        let id = format!("{}/{stream}/{sequence}", &name[..NAME_HASH]);
        (Partition(part), id, LogRecord { at, node: node.clone(), stream, sequence, requests })
    };
    parts.into_iter().map(record).collect()
}

/// A number for a pseudonym that is the same in every process.
pub(crate) fn client_number(client: &str) -> u64 {
    Map::<(), ()>::default().hasher().hash_one(client)
}

impl LogRecord {
    /// The record as bytes.
    pub fn encode(&self) -> Bytes {
        let node = &self.node;
        let stored = Stored {
            at_us: self.at.micros(),
            name: &node.name.0,
            region: &node.region,
            url: &node.url,
            capacity_bytes: node.capacity_bytes,
            segment_bytes: node.segment_bytes,
            stream: self.stream,
            sequence: self.sequence,
            requests: self.requests.iter().map(StoredRequest::of).collect(),
        };
        postcard::to_allocvec(&stored).expect("memory is all that it takes").into()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordUnreadable`] when it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordUnreadable> {
        let stored: Stored<'_> = postcard::from_bytes(bytes).map_err(|error| RecordUnreadable(Some(error)))?;
        let node = NodeDescriptor {
            name: NodeName::from(stored.name),
            region: stored.region.into(),
            url: stored.url.into(),
            capacity_bytes: stored.capacity_bytes,
            segment_bytes: stored.segment_bytes,
        };
        let requests: Option<Vec<Request>> = stored.requests.into_iter().map(StoredRequest::request).collect();
        Ok(Self {
            at: Timestamp::from_micros(stored.at_us),
            node,
            stream: stored.stream,
            sequence: stored.sequence,
            requests: requests.ok_or(RecordUnreadable(None))?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    at_us: i64,
    name: &'a str,
    region: &'a str,
    url: &'a str,
    capacity_bytes: u64,
    segment_bytes: u64,
    stream: u64,
    sequence: u64,
    #[serde(borrow)]
    requests: Vec<StoredRequest<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StoredRequest<'a> {
    timestamp_us: i64,
    client: &'a str,
    region: &'a str,
    key: &'a str,
    size_bytes: u64,
    range: Option<(u64, u64)>,
    /// The place in [`ServedFrom::ALL`].
    served: u8,
    latency_us: u64,
}

impl<'a> StoredRequest<'a> {
    fn of(request: &'a Request) -> Self {
        let served = ServedFrom::ALL.iter().position(|served| *served == request.served);
        Self {
            timestamp_us: request.timestamp.micros(),
            client: &request.client,
            region: &request.region,
            key: &request.key,
            size_bytes: request.size_bytes,
            range: request.range.map(|range| (range.start, range.end)),
            served: served.and_then(|place| u8::try_from(place).ok()).unwrap_or_default(),
            latency_us: u64::try_from(request.latency.as_micros()).unwrap_or(u64::MAX),
        }
    }

    fn request(self) -> Option<Request> {
        Some(Request {
            timestamp: Timestamp::from_micros(self.timestamp_us),
            client: Arc::from(self.client),
            region: Arc::from(self.region),
            key: Arc::from(self.key),
            size_bytes: self.size_bytes,
            range: self.range.map(|(start, end)| ByteRange { start, end }),
            served: *ServedFrom::ALL.get(usize::from(self.served))?,
            latency: Duration::from_micros(self.latency_us),
        })
    }
}

/// The version of these bytes.
pub(super) const VERSION: u32 = 1;
/// Hexadecimal digits of a name's hash in ids.
const NAME_HASH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(client: usize) -> Request {
        Request {
            timestamp: Timestamp::from_micros(7),
            client: format!("c{client}").into(),
            region: "eu".into(),
            key: format!("/{client}").into(),
            size_bytes: 10,
            range: client.is_multiple_of(2).then_some(ByteRange { start: 1, end: 5 }),
            served: ServedFrom::ALL[client % 6],
            latency: Duration::from_millis(3),
        }
    }

    fn record() -> LogRecord {
        let node = NodeDescriptor {
            name: "ü 1".into(),
            region: "eu".into(),
            url: "http://n".into(),
            capacity_bytes: 1,
            segment_bytes: 2,
        };
        let requests = (0..40).map(|number| request(number % 13)).collect();
        LogRecord { at: Timestamp::from_micros(9), node, stream: 3, sequence: 4, requests }
    }

    #[test]
    fn a_record_says_again_what_was_put_in_and_cut_ones_are_refused() {
        let bytes = record().encode();
        assert_eq!(LogRecord::decode(&bytes).unwrap(), record());
        for length in 0..bytes.len() {
            assert!(LogRecord::decode(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn every_client_is_of_one_partition_and_keeps_its_order() {
        let parts = split(record(), 4);
        assert!(parts.len() > 1);
        let mut clients: BTreeMap<Arc<str>, Partition> = BTreeMap::new();
        for (partition, id, part) in &parts {
            assert!(id.is_ascii() && id.ends_with("/3/4"), "{id}");
            for request in &part.requests {
                assert_eq!(*clients.entry(Arc::clone(&request.client)).or_insert(*partition), *partition);
            }
            let of_part = |request: &&Request| clients.get(&request.client) == Some(partition);
            let expected: Vec<Request> = record().requests.iter().filter(of_part).cloned().collect();
            assert_eq!(part.requests, expected);
        }
        assert_eq!(parts.iter().map(|(.., part)| part.requests.len()).sum::<usize>(), 40);
    }
}
