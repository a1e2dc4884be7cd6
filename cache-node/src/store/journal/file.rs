//! The journal's file: a header, then records with length and checksum.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    ops::Range,
    path::Path,
};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use twox_hash::XxHash64;

use crate::record::Change;

/// A journal open for appending.
#[derive(Debug)]
pub(super) struct JournalFile {
    writer: BufWriter<File>,
    len_bytes: u64,
    buffer: Vec<u8>,
}

impl JournalFile {
    /// Opens the file at `path` to append to it, making it when it is not there.
    pub(super) fn append_to(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let len_bytes = file.metadata()?.len();
        let mut journal = Self::new(file, len_bytes);
        if len_bytes == 0 {
            journal.append_raw(&MAGIC)?;
        }
        Ok(journal)
    }

    /// Makes an empty file at `path`, replacing what is there.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut journal = Self::new(File::create(path)?, 0);
        journal.append_raw(&MAGIC)?;
        Ok(journal)
    }

    fn new(file: File, len_bytes: u64) -> Self {
        Self { writer: BufWriter::with_capacity(BUFFER_BYTES, file), len_bytes, buffer: Vec::new() }
    }

    /// Adds a change.
    pub(super) fn append(&mut self, change: &Change) -> io::Result<()> {
        self.buffer.clear();
        change.encode(&mut self.buffer).map_err(io::Error::other)?;
        let length = u32::try_from(self.buffer.len()).map_err(io::Error::other)?;
        assert!(length <= RECORD_BYTES_MAX, "a record is bounded by the largest key and response head");
        self.writer.write_all(&length.to_le_bytes())?;
        self.writer.write_all(&checksum(&self.buffer))?;
        self.writer.write_all(&self.buffer)?;
        self.len_bytes += (HEADER_BYTES + self.buffer.len()) as u64;
        Ok(())
    }

    /// Adds records as they stand in another journal.
    pub(super) fn append_raw(&mut self, records: &[u8]) -> io::Result<()> {
        self.len_bytes += records.len() as u64;
        self.writer.write_all(records)
    }

    /// Hands what was appended to the system.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Makes what was appended survive a loss of power.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().sync_all()
    }

    /// Bytes of the file, with what was appended and not yet handed to the system.
    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
}

/// How far a journal could be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Visited {
    /// Whether it ended with a whole record.
    pub(super) is_sound: bool,
    /// Bytes up to the end of the last sound record.
    pub(super) bytes: u64,
    /// Sound records.
    pub(super) records: u64,
}

/// Calls `visit` with each sound record within the first `limit` bytes, and with where it is in the file, in order. A
/// missing file and one of another format hold no record.
pub(super) fn visit(path: &Path, limit: u64, mut visit: impl FnMut(Change, Range<u64>)) -> io::Result<Visited> {
    let mut file = match File::open(path) {
        Ok(file) => file.take(limit),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Visited { is_sound: true, ..Visited::default() });
        }
        Err(error) => return Err(error),
    };
    let mut buffer = BytesMut::new();
    let mut visited = Visited::default();
    if !fill(&mut file, &mut buffer, MAGIC.len())? || buffer.split_to(MAGIC.len()) != MAGIC[..] {
        return Ok(visited);
    }
    visited.bytes = MAGIC.len() as u64;
    loop {
        if !fill(&mut file, &mut buffer, HEADER_BYTES)? {
            visited.is_sound = buffer.is_empty();
            return Ok(visited);
        }
        let length = (&buffer[..size_of::<u32>()]).get_u32_le();
        let whole = HEADER_BYTES + length as usize;
        if length > RECORD_BYTES_MAX || !fill(&mut file, &mut buffer, whole)? {
            return Ok(visited);
        }
        // Records share the buffer that they were read into; whoever keeps anything of one copies it.
        let record: Bytes = buffer.split_to(whole).freeze();
        let (head, record) = (record.slice(size_of::<u32>()..HEADER_BYTES), record.slice(HEADER_BYTES..));
        if checksum(&record) != head[..] {
            return Ok(visited);
        }
        let Ok(change) = Change::decode(record) else { return Ok(visited) };
        let start = visited.bytes;
        visited.bytes += whole as u64;
        visit(change, start..visited.bytes);
        visited.records += 1;
    }
}

/// Reads until the buffer holds at least so many bytes; false when the file ends before.
fn fill(file: &mut impl Read, buffer: &mut BytesMut, bytes: usize) -> io::Result<bool> {
    while buffer.len() < bytes {
        let held = buffer.len();
        buffer.resize(held + BUFFER_BYTES.max(bytes - held), 0);
        let read = file.read(&mut buffer[held..]);
        buffer.truncate(held + read.as_ref().map_or(0, |count| *count));
        match read {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn checksum(record: &[u8]) -> [u8; CHECKSUM_BYTES] {
    XxHash64::oneshot(0, record).to_le_bytes()
}

const MAGIC: [u8; 8] = *b"nearcj02";
const CHECKSUM_BYTES: usize = 8;
const HEADER_BYTES: usize = size_of::<u32>() + CHECKSUM_BYTES;
const RECORD_BYTES_MAX: u32 = 1 << 20;
const BUFFER_BYTES: usize = 256 << 10;
