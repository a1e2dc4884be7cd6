//! What nodes measured, kept: the next plan need not wait for a history after a restart, or after another has taken over.
//!
//! Lines, one per slot that has ended. On disk they are in a file, the first line saying how long slots are. One that is
//! full is put aside in place of the one before it, so that nothing is ever rewritten. It is not synced: a crash costs
//! the last few slots.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::slots::{SLOTS_MAX, Slot, Slots};
use crate::{Error, Result};

/// Takes lines up, one after the other.
pub(crate) trait Shelf: Debug + Send {
    /// Keeps a line, if it can; what was measured before a plan may have a gap.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put(&mut self, line: &str) -> io::Result<()>;
}

/// Where slots go as they end.
#[derive(Debug)]
pub(crate) struct History {
    shelf: Box<dyn Shelf>,
    slot_micros: i64,
    /// Slots before this one are kept, or had nothing in them.
    next: Option<i64>,
    is_failing: bool,
}

/// The file that they go into on disk.
#[derive(Debug)]
struct FileShelf {
    folder: PathBuf,
    head: Head,
    file: File,
    lines: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    schema: String,
    slot_micros: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// How long slots are.
    #[serde(default)]
    slot_micros: Option<i64>,
    /// Slots since the epoch.
    slot: i64,
    nodes: BTreeMap<Arc<str>, Slot>,
}

impl History {
    /// Goes on with a folder's file, and says what it and the one before it hold. Slots of another length are left
    /// aside.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn open(folder: &Path, length: Duration) -> Result<(Self, Slots)> {
        let slot_micros = micros(length);
        let head = Head { schema: SCHEMA.to_owned(), slot_micros };
        let mut slots = Slots::new(length);
        let read = |name: &str, slots: &mut Slots| {
            let path = folder.join(name);
            read(&path, &head, slots).map_err(Error::file("read", &path))
        };
        read(FORMER, &mut slots)?;
        let lines = read(CURRENT, &mut slots)?;
        let path = folder.join(CURRENT);
        if lines.is_none() && path.exists() {
            tracing::warn!(path = %path.display(), "it holds no slots of the configured length and is put aside");
            fs::rename(&path, folder.join(FORMER)).map_err(Error::file("put aside", &path))?;
        }
        let file = begin(folder, &head).map_err(Error::file("write", &path))?;
        let shelf = FileShelf { folder: folder.to_owned(), head, file, lines: lines.unwrap_or(0) };
        Ok((Self::with(Box::new(shelf), slot_micros, &slots), slots))
    }

    /// Goes on with lines that are kept elsewhere. Those of slots of another length are left aside.
    pub(crate) fn resume(shelf: Box<dyn Shelf>, length: Duration, lines: &[String]) -> (Self, Slots) {
        let (slot_micros, mut slots) = (micros(length), Slots::new(length));
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        for line in lines.filter(|line| line.slot_micros == Some(slot_micros)) {
            line.nodes.iter().for_each(|(node, counts)| slots.take_in(line.slot, node, counts));
        }
        (Self::with(shelf, slot_micros, &slots), slots)
    }

    fn with(shelf: Box<dyn Shelf>, slot_micros: i64, slots: &Slots) -> Self {
        Self { shelf, slot_micros, next: slots.newest().map(|newest| newest + 1), is_failing: false }
    }

    /// Whether there is something to write down.
    pub(super) fn is_due(&self, slots: &Slots) -> bool {
        slots.newest().is_some_and(|newest| self.next.is_none_or(|next| next <= newest - LATE))
    }

    /// Writes down every slot that has ended and to which nothing is added any more. All of them `at_end`.
    pub(super) fn write(&mut self, slots: &Slots, at_end: bool) {
        let Some(newest) = slots.newest() else { return };
        let end = if at_end { newest + 1 } else { newest - LATE + 1 };
        let next = self.next.unwrap_or(i64::MIN);
        let slot_micros = Some(self.slot_micros);
        let written = slots.between(next, end).try_for_each(|(slot, nodes)| {
            let line = serde_json::to_string(&Line { slot_micros, slot, nodes })?;
            self.shelf.put(&line)
        });
        if let (Err(error), false) = (&written, self.is_failing) {
            tracing::error!(%error, "the history of nodes cannot be written");
        }
        self.is_failing = written.is_err();
        self.next = Some(end.max(next));
    }
}

impl Shelf for FileShelf {
    fn put(&mut self, line: &str) -> io::Result<()> {
        if self.lines >= SLOTS_MAX {
            fs::rename(self.folder.join(CURRENT), self.folder.join(FORMER))?;
            self.file = begin(&self.folder, &self.head)?;
            self.lines = 0;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.lines += 1;
        Ok(())
    }
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1)
}

/// Opens the file to be added to, and begins it where there is none. What a crash left of a last line is ended.
fn begin(folder: &Path, head: &Head) -> io::Result<File> {
    let path = folder.join(CURRENT);
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
    if is_new {
        file.write_all(format!("{}\n", serde_json::to_string(head)?).as_bytes())?;
    } else if !ends_a_line(&mut file)? {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Takes a file's slots in; how many there are, or none if it is not there or not of this kind.
fn read(path: &Path, head: &Head, slots: &mut Slots) -> io::Result<Option<usize>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    if serde_json::from_str::<Head>(&first).ok().as_ref() != Some(head) {
        return Ok(None);
    }
    let (mut count, mut unreadable) = (0, 0_usize);
    for line in reader.lines() {
        match serde_json::from_str::<Line>(&line?) {
            Ok(Line { slot, nodes, .. }) => {
                nodes.into_iter().for_each(|(node, counts)| slots.take_in(slot, &node, &counts));
                count += 1;
            }
            // Cut short by a crash, or damaged: the others are good.
            Err(_) => unreadable += 1,
        }
    }
    if unreadable > 0 {
        tracing::warn!(path = %path.display(), unreadable, "lines of the history cannot be read and are left out");
    }
    Ok(Some(count))
}

const CURRENT: &str = "history.jsonl";
const FORMER: &str = "history.1.jsonl";
const SCHEMA: &str = "nearcast.history/1";
/// Slots that requests may still be added to.
const LATE: i64 = 2;

#[cfg(test)]
mod tests {
    use nearcast_datasets::{ServedFrom, Timestamp};

    use super::*;

    const SLOT: Duration = Duration::from_secs(10);

    fn play(file: &mut History, slots: &mut Slots, seconds: std::ops::Range<i64>) {
        let node = Arc::from("eu");
        for second in seconds {
            let slot = slots.at(&node, Timestamp::from_micros(second * 1_000_000)).unwrap();
            slot.add(ServedFrom::Memory, 10, Duration::from_millis(3));
            if file.is_due(slots) {
                file.write(slots, false);
            }
        }
    }

    fn requests(slots: &Slots) -> Vec<u64> {
        slots.history("eu").unwrap().slots.iter().map(|slot| slot.requests).collect()
    }

    #[test]
    fn what_was_measured_outlives_a_restart_and_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, mut slots) = History::open(folder.path(), SLOT).unwrap();
        play(&mut file, &mut slots, 0..100);
        file.write(&slots, true);
        drop(file);
        let path = folder.path().join(CURRENT);
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"slot\":10,\"no");
        fs::write(&path, text).unwrap();
        let (mut file, mut slots) = History::open(folder.path(), SLOT).unwrap();
        // Away from 100 to 130.
        play(&mut file, &mut slots, 130..160);
        file.write(&slots, true);
        let (_, slots) = History::open(folder.path(), SLOT).unwrap();
        let expected = [[10; 10].as_slice(), &[0; 3], &[10; 2]].concat();
        assert_eq!(requests(&slots), expected, "the newest slot has not ended");
    }

    #[test]
    fn slots_of_another_length_are_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, mut slots) = History::open(folder.path(), SLOT).unwrap();
        play(&mut file, &mut slots, 0..100);
        file.write(&slots, true);
        let (_, slots) = History::open(folder.path(), SLOT * 2).unwrap();
        assert!(slots.history("eu").is_none());
        assert!(folder.path().join(FORMER).exists());
    }

    #[test]
    fn a_full_file_makes_room_and_both_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let head = Head { schema: SCHEMA.to_owned(), slot_micros: micros(SLOT) };
        let kept = begin(folder.path(), &head).unwrap();
        let shelf = FileShelf { folder: folder.path().to_owned(), head, file: kept, lines: SLOTS_MAX - 5 };
        let (mut file, mut slots) = History::resume(Box::new(shelf), SLOT, &[]);
        play(&mut file, &mut slots, 0..200);
        file.write(&slots, true);
        assert!(folder.path().join(FORMER).exists());
        let (_, again) = History::open(folder.path(), SLOT).unwrap();
        assert_eq!(requests(&again), [10; 19]);
    }

    #[derive(Clone, Debug, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<String>>>);

    impl Shelf for Lines {
        fn put(&mut self, line: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(line.to_owned());
            Ok(())
        }
    }

    #[test]
    fn a_successor_goes_on_with_what_was_kept_elsewhere() {
        let lines = Lines::default();
        let resume = || {
            let kept = lines.0.lock().unwrap().clone();
            History::resume(Box::new(lines.clone()), SLOT, &kept)
        };
        let (mut file, mut slots) = resume();
        play(&mut file, &mut slots, 0..105);
        file.write(&slots, true);
        let (mut file, mut slots) = resume();
        // Of the slot in which it ended it had written down what it knew.
        play(&mut file, &mut slots, 105..130);
        file.write(&slots, true);
        let (_, slots) = resume();
        assert_eq!(requests(&slots), [[10; 10].as_slice(), &[5, 10]].concat());
        let kept = lines.0.lock().unwrap().clone();
        let (_, other) = History::resume(Box::new(lines.clone()), SLOT * 2, &kept);
        assert!(other.history("eu").is_none(), "slots of another length are left aside");
    }
}
