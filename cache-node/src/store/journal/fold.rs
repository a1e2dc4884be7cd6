//! From a log of changes to what they leave, and back.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
};

use bytes::Bytes;

use super::{
    file::{self, Visited},
    live::{Known, Live},
};
use crate::{
    digest::Digest,
    object::Object,
    record::{Change, ChangeKind, GoneRecord, SegmentRecord},
};

/// What a former run held.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// Objects of which at least one segment was held, the least recently stored first.
    pub(crate) objects: Vec<RestoredObject>,
    /// Whether the journal ended in the middle of a record, or was damaged.
    pub(crate) is_torn: bool,
    /// How much of the file is sound.
    pub(super) visited: Visited,
}

/// An object that a former run held.
#[derive(Debug)]
pub(crate) struct RestoredObject {
    /// Its metadata.
    pub(crate) object: Object,
    /// Its segments, by position, ascending.
    pub(crate) segments: Vec<(u32, RestoredSegment)>,
}

/// A segment that a former run held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestoredSegment {
    /// Its bytes.
    pub(crate) bytes: u64,
    /// The digest of its payload.
    pub(crate) digest: Digest,
}

/// A change, checked.
#[derive(Debug)]
enum Checked {
    Cleared,
    Gone {
        key: Bytes,
        index: u32,
    },
    Held {
        key: Bytes,
        version: u64,
        index: u32,
        segment: RestoredSegment,
    },
    Object(Object),
    /// It makes no sense, or is one of a later version: what it touches will be found out when it is used.
    Unknown,
}

/// Reads and folds the journal at `path`: one thread reads and checks, another folds.
pub(super) fn read(path: &Path) -> io::Result<Restored> {
    let (sender, batches) = sync_channel(BATCHES_MAX);
    let (visited, live) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || read_batches(path, &sender));
        let mut live = Live::default();
        batches.into_iter().flatten().for_each(|change| apply(change, &mut live));
        let visited = reading.join().map_err(|_| io::Error::other("reading the journal panicked"))?;
        Ok::<_, io::Error>((visited?, live))
    })?;
    let kept = live.into_known().into_iter().filter(|known| !known.segments.is_empty());
    let objects = kept.map(|Known { object, segments, .. }| RestoredObject { object, segments }).collect();
    Ok(Restored { objects, is_torn: !visited.is_sound, visited })
}

fn read_batches(path: &Path, sender: &SyncSender<Vec<Checked>>) -> io::Result<Visited> {
    let mut batch = Vec::with_capacity(BATCH_RECORDS);
    let visited = file::visit(path, u64::MAX, |change, _| {
        batch.push(Checked::of(change));
        if batch.len() == BATCH_RECORDS {
            // Nobody receives any more only when folding has panicked, which ends the start anyway.
            let _ = sender.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH_RECORDS)));
        }
    })?;
    let _ = sender.send(batch);
    Ok(visited)
}

/// Leaves at `path` what is sound of a journal: nothing when it is of another format.
pub(super) fn cut_off(path: &Path, restored: &Restored) -> io::Result<()> {
    if restored.is_torn {
        let file = File::options().write(true).open(path)?;
        file.set_len(restored.visited.bytes)?;
        file.sync_all()?;
    }
    Ok(())
}

impl Restored {
    /// Whether most of the journal's records say nothing any more, and they are many.
    pub(super) fn is_mostly_garbage(&self) -> bool {
        let needed: u64 = self.objects.iter().map(|object| 1 + object.segments.len() as u64).sum();
        self.visited.records > 2 * needed + RECORDS_SLACK
    }
}

impl RestoredSegment {
    fn of(record: &SegmentRecord) -> Option<Self> {
        let digest = Digest::from_slice(&record.digest)?;
        Some(Self { bytes: record.bytes, digest })
    }
}

impl Checked {
    fn of(change: Change) -> Self {
        let checked = match change.kind {
            Some(ChangeKind::Object(record)) => Object::from_record(&record).map(Self::Object),
            Some(ChangeKind::Held(record)) => RestoredSegment::of(&record).map(|segment| Self::Held {
                key: record.key,
                version: record.version,
                index: record.index,
                segment,
            }),
            Some(ChangeKind::Gone(GoneRecord { key, index })) => Some(Self::Gone { key, index }),
            Some(ChangeKind::Cleared(_)) => Some(Self::Cleared),
            None => None,
        };
        checked.unwrap_or(Self::Unknown)
    }
}

fn apply(change: Checked, live: &mut Live<Arc<str>, Object, RestoredSegment>) {
    match change {
        Checked::Object(object) => live.handle_object(object.key.shared(), object.version, object),
        Checked::Held { key, version, index, segment } => {
            if let Ok(key) = str::from_utf8(&key) {
                live.handle_held(key, version, index, segment);
            }
        }
        Checked::Gone { key, index } => {
            if let Ok(key) = str::from_utf8(&key) {
                live.handle_gone(key, index);
            }
        }
        Checked::Cleared => live.handle_cleared(),
        Checked::Unknown => {}
    }
}

/// Records that are handed over at a time, and batches of them that may wait.
const BATCH_RECORDS: usize = 1_024;
const BATCHES_MAX: usize = 16;
/// Records that nobody needs, and that are not worth writing the journal anew.
const RECORDS_SLACK: u64 = 10_000;
