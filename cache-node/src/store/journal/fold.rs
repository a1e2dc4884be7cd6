//! From a log of changes to what they leave, and back.

use std::{fs::File, io, path::Path, sync::Arc};

use nearcast_datasets::Map;

use super::file::{self, Visited};
use crate::{
    digest::Digest,
    object::Object,
    record::{Change, ChangeKind, SegmentRecord},
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
    by_key: Map<Arc<str>, RestoredObject>,
    position: u64,
}

/// Reads and folds the journal at `path`.
pub(super) fn read(path: &Path) -> io::Result<Restored> {
    let mut folded = Folded::default();
    let visited = file::visit(path, u64::MAX, |change, _| folded.apply(change))?;
    let kept = folded.by_key.into_values().filter(|object| !object.segments.is_empty());
    let mut objects: Vec<RestoredObject> = kept.collect();
    objects.sort_unstable_by_key(|object| object.stored);
    Ok(Restored { objects, is_torn: !visited.is_sound, visited })
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

impl Folded {
    fn apply(&mut self, change: Change) {
        self.position += 1;
        match change.kind {
            Some(ChangeKind::Object(record)) => {
                let Some(object) = Object::from_record(&record) else { return };
                match self.by_key.get_mut(object.key.as_str()) {
                    Some(known) => {
                        if known.object.version != object.version {
                            known.segments.clear();
                        }
                        known.object = object;
                    }
                    None => {
                        let restored = RestoredObject { object, segments: Vec::new(), stored: 0 };
                        self.by_key.insert(restored.object.key.shared(), restored);
                    }
                }
            }
            Some(ChangeKind::Held(record)) => {
                let Some(known) = found(&mut self.by_key, &record.key) else { return };
                if known.object.version == record.version
                    && let Some(segment) = RestoredSegment::of(&record)
                {
                    known.stored = self.position;
                    match known.segments.binary_search_by_key(&segment.index, |other| other.index) {
                        Ok(at) => known.segments[at] = segment,
                        Err(at) => {
                            // Most objects have one.
                            known.segments.reserve_exact(1);
                            known.segments.insert(at, segment);
                        }
                    }
                }
            }
            Some(ChangeKind::Gone(record)) => {
                let Some(known) = found(&mut self.by_key, &record.key) else { return };
                known.segments.retain(|segment| segment.index != record.index);
                if known.segments.is_empty() {
                    let key = known.object.key.shared();
                    self.by_key.remove(&key);
                }
            }
            Some(ChangeKind::Cleared(_)) => self.by_key.clear(),
            // A later version's change: what it means is unknown, so what it touches will be found out when it is used.
            None => {}
        }
    }
}

fn found<'a>(by_key: &'a mut Map<Arc<str>, RestoredObject>, key: &[u8]) -> Option<&'a mut RestoredObject> {
    by_key.get_mut(std::str::from_utf8(key).ok()?)
}

/// Records that nobody needs, and that are not worth writing the journal anew.
const RECORDS_SLACK: u64 = 10_000;
