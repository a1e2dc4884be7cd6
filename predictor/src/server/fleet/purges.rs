//! Purges in one order for all members: a purge's epoch is its place on the bus.

use std::{sync::Arc, time::Duration};

use nearcast_bus::{Error, Partition, Read, Record, Result, Sequence, SharedBucket, SharedStream, Tail};
use nearcast_proto::{message::Purge, wire};
use prost::Message;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::purges::{PURGES_MAX, PurgeLog};

/// Orders purges for all members.
#[derive(Clone, Debug)]
pub(in crate::server) struct SharedPurges {
    stream: SharedStream,
    log: Arc<PurgeLog>,
}

/// Why a purge is not ordered.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum PurgeRefused {
    /// The bus did not take it.
    #[error("nothing is known to be purged: {0}; try again")]
    Bus(#[from] Error),
    /// The bus has it, and this predictor has not read it in time.
    #[error("the purge is ordered, and this predictor has not heard of it yet; its nodes will")]
    Unheard,
}

/// What all members call the log of purges, or the placement map.
///
/// # Errors
/// A bus that is away.
pub(super) async fn shared_id(bucket: &SharedBucket, key: &str) -> Result<Arc<str>> {
    loop {
        if let Some(entry) = bucket.get(key).await? {
            let id = std::str::from_utf8(&entry.value).ok().filter(|id| !id.is_empty());
            let damaged = || Error::Damaged { what: "entry", name: key.to_owned() };
            return Ok(Arc::from(id.ok_or_else(damaged)?));
        }
        let fresh = format!("{:016x}", rand::random::<u64>());
        match bucket.create(key, fresh.into()).await {
            Err(error) if error.is_conflict() => {}
            created => drop(created?),
        }
    }
}

impl SharedPurges {
    /// Reads all purges that the log does not have, and goes on reading as there are more.
    ///
    /// # Errors
    /// A bus that is away, or one that has lost purges.
    pub(super) async fn begin(stream: SharedStream, log: Arc<PurgeLog>) -> Result<(Self, Box<dyn Tail>)> {
        let end = stream.extent(PARTITION).await?.next;
        if log.latest() >= end.0 {
            // The bus was set up anew, and epochs of purges that are carried out would be given out again.
            return Err(Error::Damaged {
                what: "stream (it ends before the purges that this predictor knows: use another `bus.prefix`)",
                name: stream.spec().name.clone(),
            });
        }
        let mut tail = stream.tail(PARTITION, Sequence(log.latest() + 1)).await?;
        let shared = Self { stream, log };
        while tail.position() < end {
            shared.read(&mut *tail).await?;
        }
        Ok((shared, tail))
    }

    /// Goes on reading.
    pub(super) async fn follow(self, mut tail: Box<dyn Tail>) {
        loop {
            if let Err(error) = self.read(&mut *tail).await {
                tracing::debug!(%error, "purges cannot be read now");
                sleep(RETRY).await;
            }
        }
    }

    /// Orders a purge and waits until this member has it; its epoch.
    ///
    /// # Errors
    /// [`PurgeRefused`].
    pub(in crate::server) async fn order(&self, purge: &Purge) -> Result<u64, PurgeRefused> {
        let id = format!("{:032x}", rand::random::<u128>());
        let payload = wire::Purge::from(purge).encode_to_vec();
        let epoch = self.stream.append(PARTITION, &id, payload.into()).await?.sequence.0;
        let mut latest = self.log.watch_latest();
        let heard = timeout(PATIENCE, latest.wait_for(|latest| *latest >= epoch)).await;
        heard.map_err(|_| PurgeRefused::Unheard)?.map_err(|_| PurgeRefused::Unheard)?;
        Ok(epoch)
    }

    async fn read(&self, tail: &mut dyn Tail) -> Result<()> {
        match tail.next(RECORDS_MAX).await? {
            Read::Records(records) => {
                for record in records {
                    self.take(record).await;
                }
            }
            Read::Gap { to, .. } => {
                // Nodes that are not past it ask the origin about all that they hold.
                let log = Arc::clone(&self.log);
                self.insist(move || log.skip_to(to.0 - 1)).await;
            }
        }
        Ok(())
    }

    async fn take(&self, record: Record) {
        let epoch = record.sequence.0;
        let purge = wire::Purge::decode(record.payload).map_err(|error| error.to_string());
        let purge = purge.and_then(|purge| Purge::try_from(purge).map_err(|error| error.to_string()));
        let log = Arc::clone(&self.log);
        match purge {
            Ok(mut purge) => {
                purge.epoch = epoch;
                self.insist(move || log.take(purge.clone())).await;
            }
            Err(error) => {
                tracing::error!(epoch, error, "a purge cannot be read; nodes ask the origin about all that they hold");
                self.insist(move || log.skip_to(epoch)).await;
            }
        }
        if epoch.is_multiple_of(TRIM_EVERY) && epoch > 2 * PURGES_MAX as u64 {
            // Another does it, or this one the next time.
            let _ = self.stream.trim(PARTITION, Sequence(epoch - PURGES_MAX as u64)).await;
        }
    }

    /// Writes to the disk, again and again if need be: a purge that is passed over would be served.
    async fn insist(&self, write: impl Fn() -> std::io::Result<()> + Clone + Send + 'static) {
        loop {
            let write = write.clone();
            match spawn_blocking(write).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::error!(%error, "a purge cannot be written down; it is tried again"),
                // It panicked, or the runtime ends.
                Err(_) => {}
            }
            sleep(RETRY).await;
        }
    }
}

/// Waits a moment until this member knows a purge that a node has from another.
pub(in crate::server) async fn catch_up(log: &PurgeLog, epoch: u64) {
    let mut latest: watch::Receiver<u64> = log.watch_latest();
    // One that is really behind asks the node to check what it holds.
    let _ = timeout(PATIENCE, latest.wait_for(|latest| *latest >= epoch)).await;
}

const PARTITION: Partition = Partition(0);
pub(super) const LOG_KEY: &str = "purge-log";
const RECORDS_MAX: usize = 64;
const RETRY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(5);
const TRIM_EVERY: u64 = 4_096;
