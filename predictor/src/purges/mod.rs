//! The log of purges: what every node must have forgotten before it serves again what it held.
//!
//! A purge is written down and synced before anyone hears of it. Each node says with its hello how far it is, and gets
//! what it missed before anything else; what the log no longer has, or never had, is told as a gap, and the node asks
//! the origin about everything that it held from before.

mod file;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nearcast_proto::{
    convert::BATCH_ENTRIES_MAX,
    message::{NodeName, Purge, PurgePosition, PurgeUpdate},
};
use tokio::sync::watch;

use self::file::PurgeFile;
use crate::{Error, Result};

/// Every purge that nodes may still have to carry out, and how far each of them is.
#[derive(Debug)]
pub(crate) struct PurgeLog {
    file: Mutex<PurgeFile>,
    held: Mutex<Held>,
    id: Arc<str>,
    latest: watch::Sender<u64>,
    /// Counts what nodes say, for those who wait for it.
    done: watch::Sender<u64>,
}

/// What is in memory.
#[derive(Debug, Default)]
struct Held {
    /// Consecutive epochs, the oldest first.
    purges: VecDeque<Arc<Purge>>,
    bytes: usize,
    nodes: BTreeMap<NodeName, Progress>,
}

/// How far a node is.
#[derive(Debug, Default)]
struct Progress {
    epoch: u64,
    /// The latest purges that it carried out, and how many objects each of them concerned.
    objects: VecDeque<(u64, u64)>,
}

impl PurgeLog {
    /// Opens the log in a folder, or begins one. A damaged one is put aside and another begun, which nodes notice.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("purges.jsonl");
        let (file, purges) = PurgeFile::open(&path).map_err(Error::file("open", &path))?;
        let mut held = Held::default();
        for purge in purges {
            held.push(Arc::new(purge));
        }
        let (latest, done) = (watch::channel(file.latest()).0, watch::channel(0).0);
        Ok(Self { id: file.id(), file: Mutex::new(file), held: Mutex::new(held), latest, done })
    }

    /// Opens this machine's copy of a log that several predictors have. A copy of another log is begun anew.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn open_copy(folder: &Path, id: &Arc<str>) -> Result<Self> {
        let log = Self::open(folder)?;
        if log.id == *id {
            return Ok(log);
        }
        drop(log);
        let path = folder.join("purges.jsonl");
        let file = PurgeFile::begin(&path, Arc::clone(id)).map_err(Error::file("write", &path))?;
        let (latest, done) = (watch::channel(0).0, watch::channel(0).0);
        Ok(Self { id: file.id(), file: Mutex::new(file), held: Mutex::new(Held::default()), latest, done })
    }

    /// Writes down a purge that was ordered elsewhere, unless it is known: it must be the next one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn take(&self, purge: Purge) -> io::Result<()> {
        if purge.epoch <= self.latest() {
            return Ok(());
        }
        if purge.epoch > self.latest() + 1 {
            self.skip_to(purge.epoch - 1)?;
        }
        self.append(purge).map(drop)
    }

    /// Purges up to this one are lost: whoever has not carried them out has to ask the origin about everything.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub(crate) fn skip_to(&self, epoch: u64) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.skip_to(epoch)?;
        let mut held = self.held();
        held.purges.clear();
        held.bytes = 0;
        drop(held);
        self.latest.send_replace(epoch);
        Ok(())
    }

    /// The latest epoch as it changes.
    pub(crate) fn watch_latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// How far a node that is connected elsewhere was when it joined there.
    pub(crate) fn know(&self, node: NodeName, position: Option<&PurgePosition>) {
        let epoch = position.filter(|position| position.log == self.id).map_or(0, |position| position.epoch);
        let mut held = self.held();
        let progress = held.nodes.entry(node).or_default();
        progress.epoch = progress.epoch.max(epoch);
    }

    /// Where a node is.
    pub(crate) fn position(&self, node: &NodeName) -> Option<PurgePosition> {
        self.progress(node).map(|epoch| PurgePosition { log: Arc::clone(&self.id), epoch })
    }

    /// Whether a position is in this log.
    pub(crate) fn is_of_log(&self, position: &PurgePosition) -> bool {
        position.log == self.id
    }

    /// Writes a purge down, so that it survives a loss of power, and returns its epoch. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn append(&self, mut purge: Purge) -> io::Result<u64> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        purge.epoch = file.latest() + 1;
        file.append(&purge)?;
        let epoch = purge.epoch;
        let mut held = self.held();
        held.push(Arc::new(purge));
        if file.is_long() {
            // What is written is durable either way; only the file stays longer than it need be.
            if let Err(error) = file.rewrite(held.purges.iter().map(Arc::as_ref)) {
                tracing::warn!(%error, "the log of purges cannot be shortened");
            }
        }
        drop(held);
        self.latest.send_replace(epoch);
        Ok(epoch)
    }

    /// The latest epoch.
    pub(crate) fn latest(&self) -> u64 {
        *self.latest.borrow()
    }

    /// Notes how far a node is when it joins, and begins its feed.
    pub(crate) fn join(self: &Arc<Self>, node: NodeName, position: Option<&PurgePosition>) -> PurgeFeed {
        let same = position.filter(|position| position.log == self.id && position.epoch <= self.latest());
        let epoch = same.map_or(0, |position| position.epoch);
        self.held().nodes.insert(node, Progress { epoch, ..Progress::default() });
        let mut latest = self.latest.subscribe();
        // The first update comes even if it holds nothing: it says that there is nothing.
        latest.mark_changed();
        // A node that followed another log may have missed purges that this one never had.
        PurgeFeed { log: Arc::clone(self), epoch, has_gap: position.is_some() && same.is_none(), latest }
    }

    /// A node carried out a purge.
    pub(crate) fn note(&self, node: &NodeName, epoch: u64, objects: u64) {
        {
            let mut held = self.held();
            let Some(progress) = held.nodes.get_mut(node) else { return };
            progress.epoch = progress.epoch.max(epoch);
            progress.objects.push_back((epoch, objects));
            if progress.objects.len() > OBJECTS_MAX {
                progress.objects.pop_front();
            }
        }
        self.done.send_modify(|count| *count += 1);
    }

    /// How far a node is, if it is known.
    pub(crate) fn progress(&self, node: &NodeName) -> Option<u64> {
        self.held().nodes.get(node).map(|progress| progress.epoch)
    }

    /// The objects that a purge concerned at a node, once it is carried out there.
    pub(crate) fn objects(&self, node: &NodeName, epoch: u64) -> Option<u64> {
        let held = self.held();
        let progress = held.nodes.get(node).filter(|progress| progress.epoch >= epoch)?;
        let counted = progress.objects.iter().find(|(counted, _)| *counted == epoch);
        Some(counted.map_or(0, |(_, objects)| *objects))
    }

    /// Changes whenever a node has carried out a purge.
    pub(crate) fn watch_done(&self) -> watch::Receiver<u64> {
        self.done.subscribe()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn push(&mut self, purge: Arc<Purge>) {
        self.bytes += weight(&purge);
        self.purges.push_back(purge);
        while self.purges.len() > PURGES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.purges.pop_front() else { return };
            self.bytes -= weight(&oldest);
        }
    }
}

/// What one node has yet to hear.
#[derive(Debug)]
pub(crate) struct PurgeFeed {
    log: Arc<PurgeLog>,
    /// What it has heard.
    epoch: u64,
    has_gap: bool,
    latest: watch::Receiver<u64>,
}

impl PurgeFeed {
    /// Waits until there is something to hear; `None` when the log is gone. Nothing is lost when it is cancelled.
    pub(crate) async fn next(&mut self) -> Option<PurgeUpdate> {
        self.latest.changed().await.ok()?;
        let update = self.take();
        if update.upto < *self.latest.borrow() {
            self.latest.mark_changed();
        }
        Some(update)
    }

    fn take(&mut self) -> PurgeUpdate {
        let held = self.log.held();
        let latest = *self.latest.borrow_and_update();
        let oldest = held.purges.front().map_or(latest + 1, |purge| purge.epoch);
        let has_gap = self.has_gap || oldest > self.epoch + 1;
        let mut bytes = 0;
        let missed = held.purges.iter().filter(|purge| purge.epoch > self.epoch && purge.epoch <= latest);
        let fits = |purge: &&Arc<Purge>| {
            let before = bytes;
            bytes += weight(purge);
            before == 0 || bytes <= UPDATE_BYTES
        };
        let purges: Vec<_> = missed.take(BATCH_ENTRIES_MAX).take_while(fits).cloned().collect();
        drop(held);
        let upto = purges.last().map_or(latest, |purge| purge.epoch);
        self.epoch = upto;
        self.has_gap = false;
        PurgeUpdate { log: Arc::clone(&self.log.id), purges, upto, has_gap, latest }
    }
}

/// Bytes that a purge takes, in memory and in a message.
fn weight(purge: &Purge) -> usize {
    let texts = purge.keys.iter().chain(&purge.prefixes).chain(&purge.tags);
    texts.map(|text| text.len() + TEXT_OVERHEAD).sum::<usize>() + size_of::<Purge>()
}

const TEXT_OVERHEAD: usize = 32;
/// Purges remembered. A node that was away for more of them asks the origin about everything that it holds.
pub(crate) const PURGES_MAX: usize = 65_536;
const BYTES_MAX: usize = 64 << 20;
/// Bytes of purges in one message, unless a single one has more; far below gRPC's limit.
const UPDATE_BYTES: usize = 512 << 10;
/// Purges whose objects are remembered per node, for those who wait for them.
const OBJECTS_MAX: usize = 64;

#[cfg(test)]
mod tests;
