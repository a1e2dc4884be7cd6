//! Following a bucket on NATS.

use std::{fmt, time::Duration};

use async_nats::jetstream::kv::{self, Operation, Store};
use async_trait::async_trait;
use futures::StreamExt;
use tokio::{sync::watch::Receiver, time::timeout};

use crate::{Change, Error, Result, Revision, Watch};

/// Follows through an ordered consumer, which it replaces whenever it might have missed something.
pub(super) struct NatsWatch {
    store: Store,
    entries: Option<kv::Watch>,
    /// The last revision that was told of.
    seen: u64,
    connections: Receiver<u64>,
}

impl NatsWatch {
    pub(super) fn new(store: Store, connections: Receiver<u64>) -> Self {
        Self { store, entries: None, seen: 0, connections }
    }
}

#[async_trait]
impl Watch for NatsWatch {
    async fn next(&mut self) -> Result<Change> {
        loop {
            if self.connections.has_changed().unwrap_or(false) {
                self.connections.mark_unchanged();
                self.entries = None;
            }
            let entries = match &mut self.entries {
                Some(entries) => entries,
                none => {
                    let entries = self.store.watch_all_from_revision(self.seen + 1).await;
                    none.insert(entries.map_err(Error::away("following a bucket"))?)
                }
            };
            let received = tokio::select! {
                received = timeout(IDLE, entries.next()) => received,
                Ok(()) = self.connections.changed() => {
                    self.entries = None;
                    continue;
                }
            };
            match received {
                Ok(Some(Ok(entry))) if entry.revision > self.seen => {
                    self.seen = entry.revision;
                    let value = (entry.operation == Operation::Put).then_some(entry.value);
                    return Ok(Change { key: entry.key, revision: Revision(entry.revision), value });
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => {
                    self.entries = None;
                    return Err(Error::away("following a bucket")(error));
                }
                Ok(None) => self.entries = None,
                Err(_idle) => {
                    let info = self.store.stream.get_info().await.map_err(Error::away("asking about a bucket"))?;
                    if info.state.last_sequence > self.seen {
                        self.entries = None;
                    }
                }
            }
        }
    }
}

impl fmt::Debug for NatsWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsWatch").field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// After so long without anything new it is asked whether there is something.
const IDLE: Duration = Duration::from_secs(2);
