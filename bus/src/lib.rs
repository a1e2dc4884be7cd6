//! What predictors share: durable streams, buckets of entries with revisions, and leases.
//!
//! A [`Bus`] is embedded in one process and kept in one file, or is NATS JetStream; both pass the same tests
//! (`tests/contract`). On it there are
//!
//! - [`DurableStream`]s: partitioned, appended to under ids so that nothing is there twice, read in order from any
//!   record on, bounded. [`Spool`] publishes to one that may be away for a while;
//! - [`Bucket`]s: entries are created, replaced and removed only by who has seen what is there, and can be followed;
//! - [`LeaseKeeper`]s: of many processes one holds a lease, and every later holder has a greater [`Token`];
//! - [`claims`]: who of many members owns which partition or office; [`fleet`] works on what is owned.
//!
//! ```
//! use nearcast_bus::{Bus, BusSettings, Discard, Partition, Read, Sequence, StreamSpec};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = std::env::temp_dir().join(format!("nearcast-bus-doc-{}", std::process::id()));
//! let bus = Bus::open(BusSettings::embedded(&folder)).await?;
//! let stream = bus
//!     .stream(StreamSpec {
//!         name: "log".to_owned(),
//!         version: 1,
//!         partitions: 4,
//!         bytes_max: 64 << 20,
//!         discard: Discard::Oldest,
//!         duplicates_within: std::time::Duration::from_secs(120),
//!     })
//!     .await?;
//! stream.append(Partition(2), "eu-1/1", "batch".into()).await?;
//! assert!(stream.append(Partition(2), "eu-1/1", "batch".into()).await?.is_duplicate);
//! let mut tail = stream.tail(Partition(2), Sequence::FIRST).await?;
//! let Read::Records(records) = tail.next(10).await? else { panic!("there is no gap") };
//! assert_eq!(records[0].payload, "batch");
//! # drop((tail, stream));
//! # bus.close().await;
//! # std::fs::remove_dir_all(folder)?;
//! # Ok(())
//! # }
//! ```

mod bucket;
pub mod claims;
mod clock;
mod embedded;
mod error;
pub mod fleet;
mod lease;
mod nats;
mod settings;
mod spec;
mod spool;
mod stream;

use std::sync::Arc;

pub use self::{
    bucket::{Bucket, Change, Entry, Watch},
    clock::{Clock, SharedClock, SkewedClock, SystemClock},
    error::{Error, Result},
    lease::{
        Held, Holder, Lease, LeaseKeeper, LeaseRecord, LeaseSettings, LeaseStep, Sighting, Token, decode_lease,
        encode_lease,
    },
    nats::SERVER_VERSION_MIN,
    settings::{BusPlace, BusSettings, Credentials, NatsSettings},
    spec::{BucketSpec, Discard, PARTITIONS_MAX, PAYLOAD_BYTES_MAX, Partition, Revision, Sequence, StreamSpec},
    spool::{Spool, SpoolCounts, SpoolFull, SpoolSettings, Ticket},
    stream::{Appended, DurableStream, Extent, Read, Record, Tail},
};
use self::{embedded::EmbeddedBus, nats::NatsBus};

/// A stream that is shared.
pub type SharedStream = Arc<dyn DurableStream>;

/// A bucket that is shared.
pub type SharedBucket = Arc<dyn Bucket>;

/// Where streams and buckets are.
#[derive(Debug)]
pub struct Bus(Kind);

#[derive(Debug)]
enum Kind {
    Embedded(EmbeddedBus),
    Nats(NatsBus),
}

impl Bus {
    /// Opens a bus by this machine's clock.
    ///
    /// # Errors
    /// A database that is in use or newer, a server that cannot be reached, is too old, keeps nothing or does not know
    /// us, a clock that is wrong: each says so.
    pub async fn open(settings: BusSettings) -> Result<Self> {
        Self::open_by(settings, Arc::new(SystemClock)).await
    }

    /// Opens a bus by a clock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_by(settings: BusSettings, clock: SharedClock) -> Result<Self> {
        let BusSettings { place, create, clock_skew_max } = settings;
        let kind = match place {
            BusPlace::Embedded { folder } => Kind::Embedded(EmbeddedBus::open(&folder, create, clock_skew_max, clock)?),
            BusPlace::Nats(nats) => Kind::Nats(NatsBus::connect(nats, create, clock_skew_max, clock).await?),
        };
        Ok(Self(kind))
    }

    /// Opens a stream, and makes it where it may be made.
    ///
    /// # Errors
    /// One that is not there, newer, or has another number of partitions; on NATS also a clock that is wrong.
    pub async fn stream(&self, spec: StreamSpec) -> Result<SharedStream> {
        match &self.0 {
            Kind::Embedded(bus) => bus.stream(spec).await,
            Kind::Nats(bus) => bus.stream(spec).await,
        }
    }

    /// Opens a bucket, and makes it where it may be made.
    ///
    /// # Errors
    /// One that is not there or newer; on NATS also a clock that is wrong.
    pub async fn bucket(&self, spec: BucketSpec) -> Result<SharedBucket> {
        match &self.0 {
            Kind::Embedded(bus) => bus.bucket(spec).await,
            Kind::Nats(bus) => bus.bucket(spec).await,
        }
    }

    /// Writes what is on its way and lets go of the database, once its streams and buckets are dropped.
    pub async fn close(self) {
        if let Kind::Embedded(bus) = self.0 {
            bus.close().await;
        }
    }
}
