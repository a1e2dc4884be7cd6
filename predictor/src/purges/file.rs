//! The log on disk: a head and one purge a line, JSON.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use nearcast_proto::message::Purge;
use serde::{Deserialize, Serialize};

use crate::whole::replace_file;

/// The open file.
#[derive(Debug)]
pub(super) struct PurgeFile {
    path: PathBuf,
    file: File,
    head: Head,
    latest: u64,
    bytes: u64,
    /// Bytes when it was last written anew.
    bytes_kept: u64,
}

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    schema: String,
    /// Tells this log from any other.
    log: Arc<str>,
    /// The epoch before the first line.
    before: u64,
}

/// What a file held.
enum Content {
    Damaged,
    Sound { head: Head, purges: Vec<Purge> },
}

impl PurgeFile {
    /// Opens or makes the log and returns what it held.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Purge>)> {
        let content = match File::open(path) {
            Ok(file) => Some(read(BufReader::new(file))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (head, purges) = match content {
            Some(Content::Sound { head, purges }) => (head, purges),
            Some(Content::Damaged) => {
                let aside = path.with_extension("damaged.jsonl");
                tracing::error!(aside = %aside.display(), "the log of purges is damaged and put aside; nodes will ask the origin about all that they hold");
                fs::rename(path, aside)?;
                (Head::new(), Vec::new())
            }
            None => (Head::new(), Vec::new()),
        };
        let latest = purges.last().map_or(head.before, |purge| purge.epoch);
        let (file, bytes) = write_anew(path, &head, &purges)?;
        Ok((Self { path: path.to_owned(), file, head, latest, bytes, bytes_kept: bytes }, purges))
    }

    /// Begins a log that has this name elsewhere.
    pub(super) fn begin(path: &Path, id: Arc<str>) -> io::Result<Self> {
        let head = Head { log: id, ..Head::new() };
        let (file, bytes) = write_anew(path, &head, [])?;
        Ok(Self { path: path.to_owned(), file, head, latest: 0, bytes, bytes_kept: bytes })
    }

    /// Lets go of everything and goes on after an epoch.
    pub(super) fn skip_to(&mut self, epoch: u64) -> io::Result<()> {
        let head = Head { before: epoch, ..self.head.clone() };
        (self.file, self.bytes) = write_anew(&self.path, &head, [])?;
        (self.head, self.bytes_kept, self.latest) = (head, self.bytes, epoch);
        Ok(())
    }

    /// What tells this log from any other.
    pub(super) fn id(&self) -> Arc<str> {
        Arc::clone(&self.head.log)
    }

    /// The latest epoch.
    pub(super) fn latest(&self) -> u64 {
        self.latest
    }

    /// Adds a purge and syncs it. One that could not be written leaves nothing behind.
    pub(super) fn append(&mut self, purge: &Purge) -> io::Result<()> {
        let mut line = serde_json::to_vec(purge)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            self.file.set_len(self.bytes)?;
            self.file.seek(io::SeekFrom::Start(self.bytes))?;
            return Err(error);
        }
        self.bytes += line.len() as u64;
        self.latest = purge.epoch;
        Ok(())
    }

    /// Whether most of it may be purges that are no longer held.
    pub(super) fn is_long(&self) -> bool {
        self.bytes > 2 * self.bytes_kept + BYTES_SLACK
    }

    /// Writes it anew with these purges, the latest of which it has already.
    pub(super) fn rewrite<'a>(&mut self, purges: impl Iterator<Item = &'a Purge> + Clone) -> io::Result<()> {
        let before = purges.clone().next().map_or(self.latest, |first| first.epoch - 1);
        let head = Head { before, ..self.head.clone() };
        (self.file, self.bytes) = write_anew(&self.path, &head, purges)?;
        (self.head, self.bytes_kept) = (head, self.bytes);
        Ok(())
    }
}

impl Head {
    fn new() -> Self {
        let log = format!("{:016x}", rand::random::<u64>());
        Self { schema: SCHEMA.to_owned(), log: Arc::from(log), before: 0 }
    }
}

/// Reads a log. A last line without an end was never answered, so nobody relies on it.
fn read(mut reader: impl BufRead) -> io::Result<Content> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    let Some(head) = serde_json::from_slice::<Head>(&line).ok().filter(|head| head.schema == SCHEMA) else {
        return Ok(Content::Damaged);
    };
    let mut purges: Vec<Purge> = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 || !line.ends_with(b"\n") {
            return Ok(Content::Sound { head, purges });
        }
        let expected = purges.last().map_or(head.before, |purge| purge.epoch) + 1;
        match serde_json::from_slice::<Purge>(&line) {
            Ok(purge) if purge.epoch == expected => purges.push(purge),
            Ok(_) | Err(_) => return Ok(Content::Damaged),
        }
    }
}

fn write_anew<'a>(path: &Path, head: &Head, purges: impl IntoIterator<Item = &'a Purge>) -> io::Result<(File, u64)> {
    replace_file(path, |writer| {
        serde_json::to_writer(&mut *writer, head)?;
        writer.write_all(b"\n")?;
        for purge in purges {
            serde_json::to_writer(&mut *writer, purge)?;
            writer.write_all(b"\n")?;
        }
        Ok(())
    })?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    let bytes = file.seek(io::SeekFrom::End(0))?;
    Ok((file, bytes))
}

const SCHEMA: &str = "nearcast.purges/1";
const BYTES_SLACK: u64 = 16 << 20;
