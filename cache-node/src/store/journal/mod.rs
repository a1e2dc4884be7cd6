//! The index on disk: a log of changes to what the node holds, written in the background and folded at start.
//!
//! Losing the end of it is harmless. A segment whose `held` record is missing is fetched again; one whose `gone` record
//! is missing turns out to have no payload and is a miss that repairs the index. So appending never waits: when the
//! queue is full the change is dropped and counted.

mod compaction;
mod file;
mod fold;
mod live;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

pub(crate) use self::fold::{Restored, RestoredObject, RestoredSegment};
use self::{compaction::Compaction, file::JournalFile};
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
        fold::cut_off(path, &restored).map_err(failed)?;
        let mut writer = Writer::open(path).map_err(failed)?;
        if restored.is_mostly_garbage() {
            writer.start_compaction();
        }
        let (sender, receiver) = sync_channel(queue_max);
        let writer = std::thread::Builder::new()
            .name("nearcast-journal".to_owned())
            .spawn(move || write_all(writer, &receiver))
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
fn write_all(mut writer: Writer, receiver: &Receiver<Message>) {
    while let Ok(Message::Append(change)) = receiver.recv() {
        match writer.write_batch(&change, receiver) {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => {
                let path = writer.path.display();
                tracing::error!(%error, %path, "the journal cannot be written; a restart will forget what is stored from now on");
                return;
            }
        }
    }
}

/// The open journal, and its compaction while there is one.
#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: JournalFile,
    compaction: Option<Compaction>,
    /// From which length on the journal is compacted.
    compact_at_bytes: u64,
}

impl Writer {
    fn open(path: &Path) -> io::Result<Self> {
        let file = JournalFile::append_to(path)?;
        let compact_at_bytes = compact_at_bytes(&file);
        Ok(Self { path: path.to_path_buf(), file, compaction: None, compact_at_bytes })
    }

    /// Writes what is waiting, sees to the compaction, and says whether to close.
    fn write_batch(&mut self, first: &Change, receiver: &Receiver<Message>) -> io::Result<bool> {
        self.file.append(first)?;
        let is_closing = loop {
            match receiver.try_recv() {
                Ok(Message::Append(change)) => self.file.append(&change)?,
                Ok(Message::Close) => break true,
                Err(_) => break false,
            }
        };
        self.file.flush()?;
        if is_closing {
            return Ok(true);
        }
        if let Some(compaction) = self.compaction.take_if(|compaction| compaction.is_finished()) {
            match compaction.finish(&self.path, self.file.len_bytes()) {
                Ok(file) => self.file = file,
                Err(error) => self.note_failed(&error),
            }
            self.compact_at_bytes = compact_at_bytes(&self.file);
        } else if self.compaction.is_none() && self.file.len_bytes() >= self.compact_at_bytes {
            self.start_compaction();
        }
        Ok(false)
    }

    fn start_compaction(&mut self) {
        match Compaction::start(&self.path, self.file.len_bytes()) {
            Ok(compaction) => self.compaction = Some(compaction),
            Err(error) => {
                self.note_failed(&error);
                self.compact_at_bytes = compact_at_bytes(&self.file);
            }
        }
    }

    fn note_failed(&self, error: &io::Error) {
        let path = self.path.display();
        tracing::warn!(%error, %path, "the journal could not be compacted; it grows on, and the next start takes longer");
    }
}

/// A journal is compacted when it has doubled, and not while it is small.
fn compact_at_bytes(file: &JournalFile) -> u64 {
    let length = file.len_bytes();
    length + length.max(COMPACT_BYTES_MIN)
}

const COMPACT_BYTES_MIN: u64 = 16 << 20;

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
            let indexes: Vec<_> = object.segments.iter().map(|(index, _)| index.to_string()).collect();
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
