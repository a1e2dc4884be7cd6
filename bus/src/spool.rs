//! Publishing to a bus that may be away for a while.
//!
//! A [`Spool`] takes records at once, in memory and within a bound, and appends them in the order in which each
//! partition got them, one at a time and again until each is kept. Ids make that happen once: what was kept although
//! nobody heard so is recognised when it is sent again.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::sleep,
};

use crate::{Appended, Error, Partition, Result, SharedStream};

/// The bounds of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The most bytes of payloads that wait, all partitions together.
    pub bytes_max: usize,
    /// The pause after a failure; it doubles up to `retry_max`.
    pub retry_min: Duration,
    /// The longest pause.
    pub retry_max: Duration,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self { bytes_max: 256 << 20, retry_min: Duration::from_millis(50), retry_max: Duration::from_secs(1) }
    }
}

/// What a spool has met since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolCounts {
    /// Records that wait.
    pub waiting: u64,
    /// Bytes of their payloads.
    pub waiting_bytes: u64,
    /// Records that were kept by the bus.
    pub appended: u64,
    /// Of those, ones that were kept before, and are there once.
    pub duplicates: u64,
    /// Records that there was no room for here.
    pub refused: u64,
    /// Attempts that failed and were made again.
    pub retries: u64,
    /// Records that can never be kept.
    pub dropped: u64,
}

/// There is no room for a record: the bus is away, or slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting_bytes} bytes wait for the bus already, and {bytes_max} are allowed")]
pub struct SpoolFull {
    /// What waits.
    pub waiting_bytes: u64,
    /// The bound.
    pub bytes_max: usize,
}

/// Resolves when a record is kept, or can never be.
pub type Ticket = oneshot::Receiver<Result<Appended>>;

/// A bounded queue of records in front of a stream. Dropping it lets go of what waits.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    stream: SharedStream,
    settings: SpoolSettings,
    queues: Vec<Queue>,
    waiting: AtomicU64,
    waiting_bytes: AtomicU64,
    appended: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    retries: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    records: Mutex<VecDeque<Waiting>>,
    more: Notify,
}

#[derive(Debug)]
struct Waiting {
    id: String,
    payload: Bytes,
    kept: oneshot::Sender<Result<Appended>>,
}

impl Spool {
    /// A spool in front of a stream, with one task for each of its partitions.
    pub fn start(stream: SharedStream, settings: SpoolSettings) -> Self {
        let queues = (0..stream.spec().partitions).map(|_| Queue::default()).collect();
        let shared = Arc::new(Shared {
            stream,
            settings,
            queues,
            waiting: AtomicU64::default(),
            waiting_bytes: AtomicU64::default(),
            appended: AtomicU64::default(),
            duplicates: AtomicU64::default(),
            refused: AtomicU64::default(),
            retries: AtomicU64::default(),
            dropped: AtomicU64::default(),
        });
        let mut tasks = JoinSet::new();
        for partition in 0..shared.stream.spec().partitions {
            let shared = Arc::clone(&shared);
            tasks.spawn(async move { shared.drain(Partition(partition)).await });
        }
        Self { shared, _tasks: tasks }
    }

    /// Takes a record. The ticket need not be waited for.
    ///
    /// # Errors
    /// [`SpoolFull`], which is counted.
    pub fn offer(&self, partition: Partition, id: String, payload: Bytes) -> Result<Ticket, SpoolFull> {
        let shared = &self.shared;
        let (kept, ticket) = oneshot::channel();
        let Some(queue) = shared.queues.get(partition.0 as usize) else {
            let error = shared.stream.spec().check_partition(partition).err().unwrap_or(Error::Closed);
            // The ticket's other end is right here.
            let _ = kept.send(Err(error));
            return Ok(ticket);
        };
        let bytes = payload.len() as u64;
        let bytes_max = shared.settings.bytes_max;
        let fits = |waiting: u64| (waiting + bytes <= bytes_max as u64).then_some(waiting + bytes);
        if let Err(waiting_bytes) = shared.waiting_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(SpoolFull { waiting_bytes, bytes_max });
        }
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        lock(queue).push_back(Waiting { id, payload, kept });
        queue.more.notify_one();
        Ok(ticket)
    }

    /// What it has met.
    pub fn counts(&self) -> SpoolCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let shared = &self.shared;
        SpoolCounts {
            waiting: read(&shared.waiting),
            waiting_bytes: read(&shared.waiting_bytes),
            appended: read(&shared.appended),
            duplicates: read(&shared.duplicates),
            refused: read(&shared.refused),
            retries: read(&shared.retries),
            dropped: read(&shared.dropped),
        }
    }
}

impl Shared {
    async fn drain(&self, partition: Partition) {
        let Some(queue) = self.queues.get(partition.0 as usize) else { return };
        loop {
            let next = lock(queue).pop_front();
            let Some(waiting) = next else {
                queue.more.notified().await;
                continue;
            };
            let outcome = self.append(partition, &waiting).await;
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.waiting_bytes.fetch_sub(waiting.payload.len() as u64, Ordering::Relaxed);
            match &outcome {
                Ok(appended) => {
                    self.appended.fetch_add(1, Ordering::Relaxed);
                    self.duplicates.fetch_add(u64::from(appended.is_duplicate), Ordering::Relaxed);
                }
                Err(error) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%partition, id = waiting.id, %error, "a record cannot be published");
                }
            }
            // Nobody may be waiting.
            let _ = waiting.kept.send(outcome);
        }
    }

    /// Appends until it is done or can never be.
    async fn append(&self, partition: Partition, waiting: &Waiting) -> Result<Appended> {
        let mut pause = self.settings.retry_min;
        loop {
            match self.stream.append(partition, &waiting.id, waiting.payload.clone()).await {
                Err(error) if error.is_transient() => {
                    self.retries.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%partition, %error, "publishing again");
                    sleep(pause).await;
                    pause = (pause * 2).min(self.settings.retry_max);
                }
                outcome => return outcome,
            }
        }
    }
}

fn lock(queue: &Queue) -> std::sync::MutexGuard<'_, VecDeque<Waiting>> {
    queue.records.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
