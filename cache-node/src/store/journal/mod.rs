//! The index on disk: a log of changes to what the node holds, written in the background and folded at start.
//!
//! Losing the end of it is harmless. A segment whose `held` record is missing is fetched again; one whose `gone` record
//! is missing turns out to have no payload and is a miss that repairs the index. So appending never waits: when the
//! queue is full the change is dropped and counted.

mod file;
mod fold;

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use self::file::JournalFile;
pub(crate) use self::fold::{Restored, RestoredObject, RestoredSegment};
use crate::{
    error::{Error, Result},
    record::{Change, ChangeKind},
};

/// Appends changes. Closing it writes everything that was accepted.
#[derive(Debug)]
pub(crate) struct Journal {
    sender: SyncSender<Message>,
    writer: Mutex<Option<JoinHandle<()>>>,
    dropped: AtomicU64,
}

/// What the writer is told.
#[derive(Debug)]
enum Message {
    Append(Change),
    Close,
}

impl Journal {
    /// Opens or makes the journal at `path`, says what it held, and starts writing.
    ///
    /// # Errors
    /// When the file cannot be read or written. A damaged end is no error: it is cut off.
    pub(crate) fn open(path: &Path, queue_max: usize) -> Result<(Self, Restored)> {
        let failed = |source| Error::DataDir { path: path.to_path_buf(), source };
        let restored = fold::read(path).map_err(failed)?;
        fold::tidy(path, &restored).map_err(failed)?;
        let file = JournalFile::append_to(path).map_err(failed)?;
        let (sender, receiver) = sync_channel(queue_max);
        let owned_path = path.to_path_buf();
        let writer = std::thread::Builder::new()
            .name("nearcast-journal".to_owned())
            .spawn(move || write_all(&owned_path, file, &receiver))
            .map_err(failed)?;
        Ok((Self { sender, writer: Mutex::new(Some(writer)), dropped: AtomicU64::default() }, restored))
    }

    /// Queues a change; drops and counts it when the queue is full.
    pub(crate) fn append(&self, kind: ChangeKind) {
        match self.sender.try_send(Message::Append(kind.into())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Changes dropped because the queue was full or the disk failed.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what is queued and ends. Blocks for as long as that takes.
    pub(crate) fn close(&self) {
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // A writer that has given up already has nothing left to close.
        let _ = self.sender.send(Message::Close);
        if writer.join().is_err() {
            tracing::error!("the journal's writer panicked; what it had not written will be fetched again");
        }
    }
}

/// Writes until it is told to close; flushes whenever nothing is waiting.
fn write_all(path: &Path, mut file: JournalFile, receiver: &Receiver<Message>) {
    while let Ok(Message::Append(change)) = receiver.recv() {
        match write_batch(path, &mut file, &change, receiver) {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the journal cannot be written; a restart will forget what is stored from now on");
                return;
            }
        }
    }
}

/// Writes what is waiting, folds the file when it has grown much, and says whether to close.
fn write_batch(
    path: &Path,
    file: &mut JournalFile,
    first: &Change,
    receiver: &Receiver<Message>,
) -> std::io::Result<bool> {
    file.append(first)?;
    let is_closing = loop {
        match receiver.try_recv() {
            Ok(Message::Append(change)) => file.append(&change)?,
            Ok(Message::Close) => break true,
            Err(_) => break false,
        }
    };
    file.flush()?;
    if file.appended_bytes() > REWRITE_BYTES_MIN.max(file.initial_bytes()) {
        let restored = fold::read(path)?;
        fold::rewrite(path, &restored)?;
        *file = JournalFile::append_to(path)?;
    }
    Ok(is_closing)
}

/// A journal is folded again once this much, and as much as it began with, was appended.
const REWRITE_BYTES_MIN: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;
    use crate::record::{GoneRecord, ObjectRecord, SegmentRecord};

    fn object(key: &str, version: u64) -> ChangeKind {
        ChangeKind::Object(ObjectRecord {
            key: key.to_owned().into(),
            version,
            size_bytes: 20,
            segment_bytes: 10,
            ..Default::default()
        })
    }

    fn held(key: &str, version: u64, index: u32) -> ChangeKind {
        ChangeKind::Held(SegmentRecord {
            key: key.to_owned().into(),
            version,
            index,
            bytes: 10,
            digest: vec![1; 16].into(),
        })
    }

    fn gone(key: &str, index: u32) -> ChangeKind {
        ChangeKind::Gone(GoneRecord { key: key.to_owned().into(), index })
    }

    /// Writes the changes, reopens and lists what is restored as `key@version:indexes`.
    fn check(changes: Vec<ChangeKind>, expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (journal, restored) = Journal::open(&path, 100).unwrap();
        assert!(restored.objects.is_empty());
        changes.into_iter().for_each(|change| journal.append(change));
        journal.close();
        assert_eq!(names(&path), expected);
        // Folding at open must not change what is restored.
        assert_eq!(names(&path), expected);
    }

    fn names(path: &Path) -> Vec<String> {
        let (journal, restored) = Journal::open(path, 100).unwrap();
        journal.close();
        let name = |object: &RestoredObject| {
            let indexes: Vec<_> = object.segments.iter().map(|segment| segment.index.to_string()).collect();
            format!("{}@{}:{}", object.object.key, object.object.version, indexes.join(","))
        };
        restored.objects.iter().map(name).collect()
    }

    #[test]
    fn restores_what_was_held_and_not_what_was_dropped() {
        check(vec![object("/a", 1), held("/a", 1, 0), held("/a", 1, 1), gone("/a", 0)], &["/a@1:1"]);
        check(vec![object("/a", 1), held("/a", 1, 0), gone("/a", 0)], &[]);
        check(
            vec![object("/a", 1), held("/a", 1, 0), ChangeKind::Cleared(true), object("/b", 1), held("/b", 1, 0)],
            &["/b@1:0"],
        );
    }

    #[test]
    fn a_new_version_drops_the_segments_of_the_last() {
        check(vec![object("/a", 1), held("/a", 1, 0), object("/a", 2), held("/a", 2, 1)], &["/a@2:1"]);
        check(vec![object("/a", 2), held("/a", 1, 0)], &[]);
    }

    #[test]
    fn a_torn_end_is_cut_off_and_the_rest_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (journal, _) = Journal::open(&path, 100).unwrap();
        for change in [object("/a", 1), held("/a", 1, 0), object("/b", 1), held("/b", 1, 0)] {
            journal.append(change);
        }
        journal.close();
        let written = fs::read(&path).unwrap();
        fs::write(&path, &written[..written.len() - 3]).unwrap();
        assert_eq!(names(&path), ["/a@1:0"]);
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"garbage garbage garbage").unwrap();
        assert_eq!(names(&path), ["/a@1:0"]);
    }
}
