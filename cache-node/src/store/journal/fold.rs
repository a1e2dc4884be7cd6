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
use nearcast_datasets::Map;

use super::file::{self, Visited};
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
    /// Its segments.
    pub(crate) segments: Vec<RestoredSegment>,
    /// When its latest segment was stored, in records of the journal.
    stored: u64,
}

/// A segment that a former run held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestoredSegment {
    /// Its position.
    pub(crate) index: u32,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// The digest of its payload.
    pub(crate) digest: Digest,
}

/// What the changes so far leave.
#[derive(Debug, Default)]
struct Folded {
    /// In the order in which they were first heard of, with holes where they have gone.
    objects: Vec<Option<RestoredObject>>,
    places: Map<Arc<str>, u32>,
    position: u64,
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
        segment: RestoredSegment,
    },
    // Most changes are about objects.
    Object(Object),
    /// It makes no sense, or is one of a later version: what it touches will be found out when it is used.
    Unknown,
}

/// Reads and folds the journal at `path`: one thread reads and checks, another folds.
pub(super) fn read(path: &Path) -> io::Result<Restored> {
    let (sender, batches) = sync_channel(BATCHES_MAX);
    let (visited, folded) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || read_batches(path, &sender));
        let mut folded = Folded::default();
        batches.into_iter().flatten().for_each(|change| folded.apply(change));
        let visited = reading.join().map_err(|_| io::Error::other("reading the journal panicked"))?;
        Ok::<_, io::Error>((visited?, folded))
    })?;
    let kept = folded.objects.into_iter().flatten().filter(|object| !object.segments.is_empty());
    let mut objects: Vec<RestoredObject> = kept.collect();
    // Which they nearly are: a sort that notices costs next to nothing.
    objects.sort_by_key(|object| object.stored);
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
        Some(Self { index: record.index, bytes: record.bytes, digest })
    }
}

impl Checked {
    fn of(change: Change) -> Self {
        let checked = match change.kind {
            Some(ChangeKind::Object(record)) => Object::from_record(&record).map(Self::Object),
            Some(ChangeKind::Held(record)) => RestoredSegment::of(&record).map(|segment| Self::Held {
                key: record.key,
                version: record.version,
                segment,
            }),
            Some(ChangeKind::Gone(GoneRecord { key, index })) => Some(Self::Gone { key, index }),
            Some(ChangeKind::Cleared(_)) => Some(Self::Cleared),
            None => None,
        };
        checked.unwrap_or(Self::Unknown)
    }
}

impl Folded {
    fn apply(&mut self, change: Checked) {
        self.position += 1;
        match change {
            Checked::Object(object) => match self.find(object.key.as_str().as_bytes()) {
                Some(known) => {
                    if known.object.version != object.version {
                        known.segments.clear();
                    }
                    known.object = object;
                }
                None => {
                    // Numbers run out after more objects than memory has room for.
                    let Ok(place) = u32::try_from(self.objects.len()) else { return };
                    self.places.insert(object.key.shared(), place);
                    self.objects.push(Some(RestoredObject { object, segments: Vec::new(), stored: 0 }));
                }
            },
            Checked::Held { key, version, segment } => {
                let position = self.position;
                let Some(known) = self.find(&key).filter(|known| known.object.version == version) else { return };
                known.stored = position;
                match known.segments.binary_search_by_key(&segment.index, |other| other.index) {
                    Ok(at) => known.segments[at] = segment,
                    Err(at) => {
                        // Most objects have one.
                        known.segments.reserve_exact(1);
                        known.segments.insert(at, segment);
                    }
                }
            }
            Checked::Gone { key, index } => {
                let Some(known) = self.find(&key) else { return };
                known.segments.retain(|segment| segment.index != index);
                if known.segments.is_empty() {
                    self.forget(&key);
                }
            }
            Checked::Cleared => {
                self.objects.clear();
                self.places.clear();
            }
            Checked::Unknown => {}
        }
    }

    fn find(&mut self, key: &[u8]) -> Option<&mut RestoredObject> {
        let place = *self.places.get(std::str::from_utf8(key).ok()?)?;
        self.objects.get_mut(place as usize)?.as_mut()
    }

    fn forget(&mut self, key: &[u8]) {
        let place = std::str::from_utf8(key).ok().and_then(|key| self.places.remove(key));
        if let Some(object) = place.and_then(|place| self.objects.get_mut(place as usize)) {
            *object = None;
        }
    }
}

/// Records that are handed over at a time, and batches of them that may wait.
const BATCH_RECORDS: usize = 1_024;
const BATCHES_MAX: usize = 16;
/// Records that nobody needs, and that are not worth writing the journal anew.
const RECORDS_SLACK: u64 = 10_000;
