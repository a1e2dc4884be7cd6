//! From a log of changes to what they leave, and back.

use std::{collections::BTreeMap, fs::File, io, path::Path};

use nearcast_datasets::Map;

use super::file::{self, JournalFile};
use crate::record::{Change, ChangeKind, ObjectRecord, SegmentRecord};

/// What a former run held.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// Objects of which at least one segment was held, the least recently stored first.
    pub(crate) objects: Vec<RestoredObject>,
    /// Whether the journal ended in the middle of a record, or was damaged.
    pub(crate) is_torn: bool,
}

/// An object that a former run held.
#[derive(Debug)]
pub(crate) struct RestoredObject {
    /// Its metadata.
    pub(crate) record: ObjectRecord,
    /// Its segments.
    pub(crate) segments: Vec<SegmentRecord>,
}

#[derive(Debug, Default)]
struct Folded {
    object: Option<ObjectRecord>,
    segments: BTreeMap<u32, SegmentRecord>,
    stored: u64,
}

/// Reads and folds the journal at `path`.
pub(super) fn read(path: &Path) -> io::Result<Restored> {
    let mut folded: Map<String, Folded> = Map::default();
    let mut position = 0;
    let ended_soundly = file::visit(path, |change| {
        position += 1;
        apply(&mut folded, change, position);
    })?;
    let mut kept: Vec<Folded> = folded.into_values().filter(|folded| !folded.segments.is_empty()).collect();
    kept.sort_by_key(|folded| folded.stored);
    let objects = kept.into_iter().filter_map(|folded| {
        Some(RestoredObject { record: folded.object?, segments: folded.segments.into_values().collect() })
    });
    Ok(Restored { objects: objects.collect(), is_torn: !ended_soundly })
}

/// Replaces the journal at `path` by the shortest one that says the same. A crash leaves the old or the new one.
pub(super) fn rewrite(path: &Path, restored: &Restored) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut journal = JournalFile::create(&temporary)?;
    for object in &restored.objects {
        journal.append(&ChangeKind::Object(object.record.clone()).into())?;
        for segment in &object.segments {
            journal.append(&ChangeKind::Held(segment.clone()).into())?;
        }
    }
    journal.sync()?;
    std::fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn apply(folded: &mut Map<String, Folded>, change: Change, position: u64) {
    match change.kind {
        Some(ChangeKind::Object(object)) => {
            let entry = folded.entry(object.key.clone()).or_default();
            if entry.object.as_ref().is_none_or(|known| known.version != object.version) {
                entry.segments.clear();
            }
            entry.object = Some(object);
        }
        Some(ChangeKind::Held(segment)) => {
            let Some(entry) = folded.get_mut(&segment.key) else { return };
            if entry.object.as_ref().is_some_and(|object| object.version == segment.version) {
                entry.stored = position;
                entry.segments.insert(segment.index, segment);
            }
        }
        Some(ChangeKind::Gone(gone)) => {
            let Some(entry) = folded.get_mut(&gone.key) else { return };
            entry.segments.remove(&gone.index);
            if entry.segments.is_empty() {
                folded.remove(&gone.key);
            }
        }
        Some(ChangeKind::Cleared(_)) => folded.clear(),
        // A later version's change: what it means is unknown, so what it touches will be found out when it is used.
        None => {}
    }
}
