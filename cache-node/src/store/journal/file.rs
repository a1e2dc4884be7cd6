//! The journal's file: a header, then records with length and checksum.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
};

use prost::Message;

use crate::record::Change;

/// A journal open for appending.
#[derive(Debug)]
pub(super) struct JournalFile {
    writer: BufWriter<File>,
    initial_bytes: u64,
    appended_bytes: u64,
    buffer: Vec<u8>,
}

impl JournalFile {
    /// Opens the file at `path` to append to it, making it when it is not there.
    pub(super) fn append_to(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let initial_bytes = file.metadata()?.len();
        let mut journal = Self::new(file, initial_bytes);
        if initial_bytes == 0 {
            journal.writer.write_all(&MAGIC)?;
        }
        Ok(journal)
    }

    /// Makes an empty file at `path`, replacing what is there.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut journal = Self::new(File::create(path)?, 0);
        journal.writer.write_all(&MAGIC)?;
        Ok(journal)
    }

    fn new(file: File, initial_bytes: u64) -> Self {
        Self {
            writer: BufWriter::with_capacity(BUFFER_BYTES, file),
            initial_bytes,
            appended_bytes: 0,
            buffer: Vec::new(),
        }
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
        self.appended_bytes += (HEADER_BYTES + self.buffer.len()) as u64;
        Ok(())
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

    /// Bytes of the file when it was opened.
    pub(super) fn initial_bytes(&self) -> u64 {
        self.initial_bytes
    }

    /// Bytes added since.
    pub(super) fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }
}

/// Calls `visit` for each sound record in order; returns whether the file ended soundly.
/// A missing file and one of another format hold no record.
pub(super) fn visit(path: &Path, mut visit: impl FnMut(Change)) -> io::Result<bool> {
    let mut reader = match File::open(path) {
        Ok(file) => BufReader::with_capacity(BUFFER_BYTES, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let mut magic = [0; MAGIC.len()];
    if !read_whole(&mut reader, &mut magic)? || magic != MAGIC {
        return Ok(false);
    }
    let mut header = [0; HEADER_BYTES];
    let mut buffer = Vec::new();
    loop {
        match read_up_to(&mut reader, &mut header)? {
            0 => return Ok(true),
            HEADER_BYTES => {}
            _ => return Ok(false),
        }
        let (length, expected) = header.split_at(size_of::<u32>());
        let length = length.iter().rev().fold(0, |length, byte| length << 8 | u32::from(*byte));
        if length > RECORD_BYTES_MAX {
            return Ok(false);
        }
        buffer.resize(length as usize, 0);
        if !read_whole(&mut reader, &mut buffer)? || checksum(&buffer) != expected {
            return Ok(false);
        }
        match Change::decode(&*buffer) {
            Ok(change) => visit(change),
            Err(_) => return Ok(false),
        }
    }
}

fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    Ok(read_up_to(reader, buffer)? == buffer.len())
}

/// Reads until the buffer is full or the file ends; returns how many bytes were read.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn checksum(record: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&blake3::hash(record).as_bytes()[..CHECKSUM_BYTES]);
    checksum
}

const MAGIC: [u8; 8] = *b"nearcj01";
const CHECKSUM_BYTES: usize = 8;
const HEADER_BYTES: usize = size_of::<u32>() + CHECKSUM_BYTES;
const RECORD_BYTES_MAX: u32 = 1 << 20;
const BUFFER_BYTES: usize = 256 << 10;
