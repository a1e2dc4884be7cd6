//! Writing the journal anew, without what no longer says anything, while it is being appended to.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use super::{
    file::{self, JournalFile},
    live::{Known, Live},
};
use crate::{
    digest::Digest,
    record::{Change, ChangeKind},
};

/// A thread that copies what still matters of the journal's first bytes; what is appended meanwhile is added at the
/// end. Dropping it has the thread give up.
#[derive(Debug)]
pub(super) struct Compaction {
    /// Bytes of the journal that are looked at.
    upto: u64,
    temporary: PathBuf,
    thread: Option<JoinHandle<io::Result<JournalFile>>>,
    is_abandoned: Arc<AtomicBool>,
}

impl Compaction {
    /// Starts with the journal's first `upto` bytes, which must have been handed to the system.
    pub(super) fn start(path: &Path, upto: u64) -> io::Result<Self> {
        let temporary = path.with_extension("tmp");
        let is_abandoned = Arc::new(AtomicBool::default());
        let (from, to, abandoned) = (path.to_path_buf(), temporary.clone(), Arc::clone(&is_abandoned));
        let thread = std::thread::Builder::new()
            .name("nearcast-compact".to_owned())
            .spawn(move || copy(&from, upto, &to, &abandoned))?;
        Ok(Self { upto, temporary, thread: Some(thread), is_abandoned })
    }

    /// Whether [`Self::finish`] need not wait.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Adds what the journal at `path`, of `len_bytes` by now, has gained since, puts the copy into its place and opens
    /// it. A crash leaves the old one or the new one.
    pub(super) fn finish(mut self, path: &Path, len_bytes: u64) -> io::Result<JournalFile> {
        let thread = self.thread.take().ok_or_else(|| io::Error::other("finished already"))?;
        let mut copy = thread.join().map_err(|_| io::Error::other("the compaction panicked"))??;
        let journal = File::open(path)?;
        let mut records = Vec::new();
        copy_raw(&journal, self.upto..len_bytes, &mut records, &mut copy)?;
        copy.sync()?;
        std::fs::rename(&self.temporary, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        JournalFile::append_to(path)
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it would have written is not wanted.
            let _ = thread.join();
        }
        // Not there any more when it has become the journal.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Which records still say something, by where they are: about 150 bytes per object of one segment.
type Survey = Live<u128, Range<u64>, Range<u64>>;

fn copy(path: &Path, upto: u64, to: &Path, abandoned: &AtomicBool) -> io::Result<JournalFile> {
    let give_up = || {
        let is_abandoned = abandoned.load(Ordering::Relaxed);
        if is_abandoned { Err(io::Error::other("the journal was closed")) } else { Ok(()) }
    };
    let mut survey = Survey::default();
    let mut kept_on = Ok(());
    let visited = file::visit(path, upto, |change, at| {
        if kept_on.is_ok() {
            kept_on = give_up();
            apply(&change, at, &mut survey);
        }
    })?;
    kept_on?;
    if visited.bytes != upto {
        let problem = format!("a record is damaged, {} bytes after its start", visited.bytes);
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let journal = File::open(path)?;
    let mut copy = JournalFile::create(to)?;
    let mut records = Vec::new();
    // Also objects without a segment: their first may follow.
    for Known { object, segments, .. } in survey.into_known() {
        give_up()?;
        copy_raw(&journal, object, &mut records, &mut copy)?;
        for (_, segment) in segments {
            copy_raw(&journal, segment, &mut records, &mut copy)?;
        }
    }
    copy.sync()?;
    Ok(copy)
}

/// Copies the records in `at` piece by piece; `buffer` is kept between calls for its capacity.
fn copy_raw(from: &File, at: Range<u64>, buffer: &mut Vec<u8>, to: &mut JournalFile) -> io::Result<()> {
    let mut start = at.start;
    while start < at.end {
        let length = (at.end - start).min(PIECE_BYTES);
        buffer.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        from.read_exact_at(buffer, start)?;
        to.append_raw(buffer)?;
        start += length;
    }
    Ok(())
}

fn apply(change: &Change, at: Range<u64>, survey: &mut Survey) {
    match &change.kind {
        Some(ChangeKind::Object(record)) => survey.handle_object(number(&record.key), record.version, at),
        Some(ChangeKind::Held(record)) => survey.handle_held(&number(&record.key), record.version, record.index, at),
        Some(ChangeKind::Gone(record)) => survey.handle_gone(&number(&record.key), record.index),
        Some(ChangeKind::Cleared(_)) => survey.handle_cleared(),
        None => {}
    }
}

/// Stands for a key. Clients choose keys, so no two must be made to have the same.
fn number(key: &[u8]) -> u128 {
    u128::from_le_bytes(Digest::of(key).to_bytes())
}

const PIECE_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{super::fold, *};
    use crate::record::{GoneRecord, ObjectRecord, SegmentRecord};

    fn change() -> impl Strategy<Value = ChangeKind> {
        let key = || (0..4_u8).prop_map(|number| format!("/{number}").into());
        prop_oneof![
            3 => (key(), 1..3_u64, 0..9_i64).prop_map(|(key, version, received_at_us)| {
                let (size_bytes, segment_bytes) = (30, 10);
                let record = ObjectRecord { key, version, size_bytes, segment_bytes, received_at_us, ..Default::default() };
                ChangeKind::Object(record)
            }),
            6 => (key(), 1..3_u64, 0..3_u32, 0..9_u8).prop_map(|(key, version, index, byte)| {
                ChangeKind::Held(SegmentRecord { key, version, index, bytes: 10, digest: vec![byte; 16].into() })
            }),
            3 => (key(), 0..3_u32).prop_map(|(key, index)| ChangeKind::Gone(GoneRecord { key, index })),
            1 => Just(ChangeKind::Cleared(true)),
        ]
    }

    /// What the journal leaves, in the order of keys.
    fn left(path: &Path) -> Vec<(ObjectRecord, Vec<(u32, Digest)>)> {
        let restored = fold::read(path).unwrap();
        assert!(!restored.is_torn);
        let segments = |object: &fold::RestoredObject| {
            object.segments.iter().map(|(index, segment)| (*index, segment.digest)).collect()
        };
        let mut left: Vec<_> =
            restored.objects.iter().map(|object| (object.object.to_record(), segments(object))).collect();
        left.sort_by(|(one, _), (other, _)| one.key.cmp(&other.key));
        left
    }

    fn append(journal: &mut JournalFile, changes: &[ChangeKind]) {
        changes.iter().for_each(|change| journal.append(&change.clone().into()).unwrap());
        journal.flush().unwrap();
    }

    proptest! {
        #[test]
        fn says_the_same_in_fewer_records(before in vec(change(), 0..60), meanwhile in vec(change(), 0..20)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal");
            let mut journal = JournalFile::append_to(&path).unwrap();
            append(&mut journal, &before);
            let compaction = Compaction::start(&path, journal.len_bytes()).unwrap();
            append(&mut journal, &meanwhile);
            let (expected, length) = (left(&path), journal.len_bytes());
            let mut journal = compaction.finish(&path, length).unwrap();
            prop_assert_eq!(left(&path), expected);
            prop_assert!(journal.len_bytes() <= length);
            prop_assert_eq!(journal.len_bytes(), std::fs::metadata(&path).unwrap().len());
            append(&mut journal, &[ChangeKind::Cleared(true)]);
            prop_assert_eq!(left(&path), vec![]);
        }
    }

    #[test]
    fn a_damaged_record_or_a_loss_of_interest_leaves_the_journal_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = JournalFile::append_to(&path).unwrap();
        append(&mut journal, &[ChangeKind::Cleared(true)]);
        let length = journal.len_bytes();
        drop(Compaction::start(&path, length).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
        let mut written = std::fs::read(&path).unwrap();
        *written.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &written).unwrap();
        let refused = Compaction::start(&path, length).unwrap().finish(&path, length).unwrap_err();
        assert!(refused.to_string().contains("damaged"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), written);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
