//! TensorBoard event files: `tensorboard --logdir DIR` shows the run.
//!
//! A file is a sequence of TFRecords: length (u64, little-endian), masked CRC-32C of the length, a serialised `Event`,
//! masked CRC-32C of it. The messages are written by hand, because a handful of fields is all they take:
//! <https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto>.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use nearcast_datasets::Timestamp;
use nearcast_trainer::MetricRow;

use super::crc32c::masked_crc32c;

/// Writes one event file.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a new file in `dir`, which is made if there is none.
    pub(crate) fn create(dir: &Path, now: Timestamp) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        // The name that TensorBoard looks for: seconds, host, and what keeps two writers of one second apart.
        let (seconds, host) = (now.micros() / 1_000_000, std::env::var("HOSTNAME").unwrap_or_default());
        let host: String =
            host.chars().filter(|letter| letter.is_ascii_alphanumeric() || "-._".contains(*letter)).collect();
        let host = if host.is_empty() { "nearcast".to_owned() } else { host };
        let path = dir.join(format!("events.out.tfevents.{seconds:010}.{host}.{}.0", std::process::id()));
        let file = File::create_new(&path)?;
        let mut events = Self { path, file };
        events.write(&event(now, 0, |event| event.bytes(3, b"brain.Event:2")))?;
        Ok(events)
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the rows as scalars.
    pub(crate) fn scalars(&mut self, now: Timestamp, rows: &[MetricRow]) -> io::Result<()> {
        for row in rows {
            let event = event(now, row.step, |event| {
                event.message(5, |summary| {
                    summary.message(1, |value| {
                        value.bytes(1, row.name.as_bytes());
                        value.float(2, row.value as f32);
                    });
                });
            });
            self.write(&event)?;
        }
        self.file.flush()
    }

    /// Adds a text, which TensorBoard shows as Markdown.
    pub(crate) fn text(&mut self, now: Timestamp, name: &str, text: &str) -> io::Result<()> {
        let event = event(now, 0, |event| {
            event.message(5, |summary| {
                summary.message(1, |value| {
                    value.bytes(1, name.as_bytes());
                    value.message(8, |tensor| {
                        tensor.varint(1, DT_STRING);
                        // A scalar: the shape has no dimension.
                        tensor.bytes(2, &[]);
                        tensor.bytes(8, text.as_bytes());
                    });
                    value.message(9, |metadata| metadata.message(1, |plugin| plugin.bytes(1, b"text")));
                });
            });
        });
        self.write(&event)?;
        self.file.flush()
    }

    /// One record in one write, so that a reader never sees half of it.
    fn write(&mut self, event: &[u8]) -> io::Result<()> {
        let length = (event.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(event.len() + 16);
        record.extend(length);
        record.extend(masked_crc32c(&length).to_le_bytes());
        record.extend(event);
        record.extend(masked_crc32c(event).to_le_bytes());
        self.file.write_all(&record)
    }
}

/// An `Event` with its wall time (seconds) and step, and what `fill` adds.
fn event(now: Timestamp, step: u64, fill: impl FnOnce(&mut Proto)) -> Vec<u8> {
    let mut event = Proto::default();
    event.double(1, now.micros() as f64 / 1e6);
    event.varint(2, step);
    fill(&mut event);
    event.0
}

/// A protocol buffer message under construction.
#[derive(Debug, Default)]
struct Proto(Vec<u8>);

impl Proto {
    fn varint(&mut self, field: u8, value: u64) {
        self.0.push(field << 3);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u8, value: f64) {
        self.0.push(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u8, value: f32) {
        self.0.push(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, value: &[u8]) {
        self.0.push(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn message(&mut self, field: u8, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

/// `DataType.DT_STRING` of tensorflow's types.proto.
const DT_STRING: u64 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_carry_seven_bits_a_byte() {
        let mut proto = Proto::default();
        proto.varint(2, 300);
        assert_eq!(proto.0, [0x10, 0xac, 0x02]);
    }

    #[test]
    fn a_file_begins_with_its_version_and_every_record_checks() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let mut events = EventFile::create(folder.path(), now).unwrap();
        let row = MetricRow { epoch: 1, step: 7, name: "train/loss".to_owned(), value: 0.5 };
        events.scalars(now, &[row]).unwrap();
        let bytes = fs::read(events.path()).unwrap();
        let (mut at, mut records) = (0, Vec::new());
        while at < bytes.len() {
            let number = |from: usize| u32::from_le_bytes(bytes[from..from + 4].try_into().unwrap());
            let length = number(at) as usize;
            assert_eq!(number(at + 8), masked_crc32c(&bytes[at..at + 8]));
            let event = &bytes[at + 12..at + 12 + length];
            assert_eq!(number(at + 12 + length), masked_crc32c(event));
            records.push(event.to_vec());
            at += 16 + length;
        }
        assert_eq!(records.len(), 2);
        assert!(records[0].ends_with(b"brain.Event:2"));
        assert!(records[1].windows(10).any(|window| window == b"train/loss"));
    }
}
