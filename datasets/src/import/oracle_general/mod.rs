//! libCacheSim's oracleGeneral traces: packed little-endian records of 24 bytes.
//!
//! `u32` seconds, `u64` object, `u32` bytes, `i64` index of the next request to the same object (-1 for none).

mod export;

use std::{
    borrow::Cow,
    io::{self, Read},
    time::Duration,
};

pub use export::{ExportOptions, ExportReport, export_oracle_general};

use super::record::{Record, SizeClue};
use crate::Timestamp;

/// Bytes of one record.
pub(crate) const RECORD_BYTES: usize = 24;

/// No trace has this many records; eight bytes of text, read as a number, are larger.
const LINK_MAX: i64 = 1 << 40;

/// Reads records one by one.
#[derive(Debug)]
pub(crate) struct Records<R> {
    reader: R,
    key_prefix: String,
    start: Timestamp,
    number: u64,
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A record and its number, from 1.
    Record(u64, Record<'a>),
    /// The file ends within a record of this number.
    Truncated(u64),
    /// The file ends.
    End,
}

impl<R: Read> Records<R> {
    /// Reads records whose time 0 is `start` and whose keys are `key_prefix` and the object's number.
    pub(crate) fn new(reader: R, key_prefix: &str, start: Timestamp) -> Self {
        Self { reader, key_prefix: key_prefix.to_owned(), start, number: 0 }
    }

    pub(crate) fn next(&mut self) -> io::Result<Next<'_>> {
        let mut bytes = Vec::with_capacity(RECORD_BYTES);
        self.reader.by_ref().take(RECORD_BYTES as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(Next::End);
        }
        self.number += 1;
        let Ok(bytes) = <[u8; RECORD_BYTES]>::try_from(bytes) else { return Ok(Next::Truncated(self.number)) };
        let (seconds, object, size_bytes, _) = decode(&bytes);
        Ok(Next::Record(
            self.number,
            Record {
                timestamp: self.start.after(Duration::from_secs(u64::from(seconds))),
                client: Cow::Borrowed(b""),
                region: None,
                key: Cow::Owned(format!("{}{object}", self.key_prefix)),
                size: SizeClue::Object(u64::from(size_bytes)),
                range: None,
            },
        ))
    }
}

/// Whether a sample can be such a trace: times ascend, and each link leads forward, to the same object where the
/// sample holds it. Returns the number of records that agree.
pub(crate) fn fits(sample: &[u8]) -> Result<usize, String> {
    let (chunks, _) = sample.as_chunks::<RECORD_BYTES>();
    let records: Vec<_> = chunks.iter().map(decode).collect();
    if records.is_empty() {
        return Err(format!("shorter than one record of {RECORD_BYTES} bytes"));
    }
    for (index, (seconds, object, _, next)) in records.iter().enumerate() {
        let number = index + 1;
        if records.get(index + 1).is_some_and(|(after, ..)| after < seconds) {
            return Err(format!("time runs backwards after record {number}"));
        }
        let forward = matches!(*next, -1 | i64::MAX) || (*next > index as i64 && *next < LINK_MAX);
        let linked = usize::try_from(*next).ok().and_then(|next| records.get(next));
        if !forward || linked.is_some_and(|(_, found, ..)| found != object) {
            return Err(format!("record {number} has no sound link to the next request of its object"));
        }
    }
    Ok(records.len())
}

fn decode(bytes: &[u8; RECORD_BYTES]) -> (u32, u64, u32, i64) {
    let mut rest = bytes.as_slice();
    (
        u32::from_le_bytes(take(&mut rest)),
        u64::from_le_bytes(take(&mut rest)),
        u32::from_le_bytes(take(&mut rest)),
        i64::from_le_bytes(take(&mut rest)),
    )
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, tail) = bytes.split_first_chunk().expect("a record has room for its four numbers");
    *bytes = tail;
    *head
}

/// The bytes of a record.
pub(crate) fn encode(seconds: u32, object: u64, size_bytes: u32, next: i64) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..4].copy_from_slice(&seconds.to_le_bytes());
    bytes[4..12].copy_from_slice(&object.to_le_bytes());
    bytes[12..16].copy_from_slice(&size_bytes.to_le_bytes());
    bytes[16..].copy_from_slice(&next.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_have_the_layout_of_the_format() {
        let bytes = encode(1, 2, 3, -1);
        assert_eq!(bytes, *b"\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(decode(&bytes), (1, 2, 3, -1));
    }

    #[test]
    fn a_cut_last_record_is_told_apart_from_the_end() {
        let bytes = [encode(1, 2, 3, -1).as_slice(), &[7; 5]].concat();
        let mut records = Records::new(&*bytes, "object/", Timestamp::from_micros(10));
        let Next::Record(1, record) = records.next().unwrap() else { panic!("no record") };
        assert_eq!(
            (&*record.key, record.timestamp.micros(), record.size),
            ("object/2", 1_000_010, SizeClue::Object(3))
        );
        assert_eq!(records.next().unwrap(), Next::Truncated(2));
        assert_eq!(records.next().unwrap(), Next::End);
    }

    #[test]
    fn links_that_lead_elsewhere_do_not_fit() {
        let trace = |records: &[[u8; RECORD_BYTES]]| fits(&records.concat()).map_err(|error| error.contains("link"));
        assert_eq!(trace(&[encode(1, 7, 1, 2), encode(1, 8, 1, i64::MAX), encode(2, 7, 1, -1)]), Ok(3));
        assert_eq!(trace(&[encode(1, 7, 1, 1), encode(1, 8, 1, -1)]), Err(true));
        assert_eq!(trace(&[encode(1, 7, 1, 0)]), Err(true));
        assert_eq!(trace(&[encode(2, 7, 1, -1), encode(1, 7, 1, -1)]), Err(false));
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = fits(&bytes);
            let mut records = Records::new(&*bytes, "", Timestamp::MAX);
            while records.next().unwrap() != Next::End {}
        }
    }
}
