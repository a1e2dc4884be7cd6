//! Durable, partitioned streams.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Partition, Result, Sequence, StreamSpec};

/// A stream of records in partitions, each in an order of its own, kept within a bound.
#[async_trait]
pub trait DurableStream: Debug + Send + Sync {
    /// What it was opened as.
    fn spec(&self) -> &StreamSpec;

    /// Appends a record; it is kept once this returns. A record whose id was appended to the same partition within
    /// [`StreamSpec::duplicates_within`] is not appended again. Cancelling leaves it open whether it was.
    ///
    /// # Errors
    /// [`Error::StreamFull`](crate::Error::StreamFull), [`Error::TooLarge`](crate::Error::TooLarge), an id or partition
    /// that is not valid, a bus that is away.
    async fn append(&self, partition: Partition, id: &str, payload: Bytes) -> Result<Appended>;

    /// Reads a partition from a record on, and goes on as there are more.
    ///
    /// # Errors
    /// A partition that is not there, a bus that is away.
    async fn tail(&self, partition: Partition, from: Sequence) -> Result<Box<dyn Tail>>;

    /// What a partition holds.
    ///
    /// # Errors
    /// A partition that is not there, a bus that is away.
    async fn extent(&self, partition: Partition) -> Result<Extent>;

    /// Lets go of the records before one, which nobody will read again. They do not count as discarded by this stream
    /// to readers that are past them.
    ///
    /// # Errors
    /// A partition that is not there, a bus that is away.
    async fn trim(&self, partition: Partition, before: Sequence) -> Result<()>;

    /// How many records were refused through this handle because their partition was full.
    fn refused(&self) -> u64;
}

/// Reads one partition in order.
#[async_trait]
pub trait Tail: Debug + Send {
    /// Waits for records and returns at least one and at most `max`, or tells of a gap. May be cancelled: nothing is
    /// lost then.
    ///
    /// # Errors
    /// A bus that is away: asking again goes on where it was.
    async fn next(&mut self, max: usize) -> Result<Read>;

    /// The record that is read next.
    fn position(&self) -> Sequence;
}

/// What a [`Tail`] meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Records, in order, without gaps.
    Records(Vec<Record>),
    /// Records that are there no more: the stream was full, or trimmed. The tail stands at the first that is.
    Gap {
        /// The first that is missing.
        from: Sequence,
        /// The first that is not.
        to: Sequence,
    },
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub sequence: Sequence,
    /// What it was appended under.
    pub id: String,
    /// What it holds.
    pub payload: Bytes,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The record's place, or that of the one with the same id.
    pub sequence: Sequence,
    /// Whether there was one with the same id.
    pub is_duplicate: bool,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The oldest record, or where the next one will be.
    pub first: Sequence,
    /// Where the next record will be.
    pub next: Sequence,
    /// How large it is, with what the bus writes beside each record.
    pub bytes: u64,
}

impl Extent {
    /// How many records are there no more, discarded or trimmed.
    pub fn discarded(&self) -> u64 {
        self.first.0.saturating_sub(Sequence::FIRST.0)
    }
}
