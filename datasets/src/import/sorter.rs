//! Sorts rows by time in bounded memory: what does not fit is spilled in sorted runs and merged.
//!
//! Rows of equal time keep the order in which they were read.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    path::PathBuf,
};

use crate::{ByteRange, ClientId, KeyId, RegionId, Timestamp};

/// One request with its strings replaced by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) timestamp: Timestamp,
    pub(crate) client: ClientId,
    pub(crate) region: RegionId,
    pub(crate) key: KeyId,
    /// The object's size where its line gave it exactly.
    pub(crate) size_bytes: Option<u64>,
    pub(crate) range: Option<ByteRange>,
}

/// Takes rows in any order and gives them back in order of time.
#[derive(Debug)]
pub(crate) struct Sorter {
    rows: Vec<Row>,
    rows_max: usize,
    folder: PathBuf,
    runs: Vec<File>,
    latest: Timestamp,
    late_count: u64,
}

impl Sorter {
    /// A sorter that holds `rows_max` rows in memory and spills into unnamed files in `folder`.
    pub(crate) fn new(rows_max: usize, folder: PathBuf) -> Self {
        Self {
            rows: Vec::new(),
            rows_max: rows_max.max(1),
            folder,
            runs: Vec::new(),
            latest: Timestamp::MIN,
            late_count: 0,
        }
    }

    pub(crate) fn push(&mut self, row: Row) -> io::Result<()> {
        self.late_count += u64::from(row.timestamp < self.latest);
        self.latest = self.latest.max(row.timestamp);
        self.rows.push(row);
        if self.rows.len() >= self.rows_max { self.spill() } else { Ok(()) }
    }

    /// Rows that came after a later one.
    pub(crate) fn late_count(&self) -> u64 {
        self.late_count
    }

    /// Runs spilled so far.
    pub(crate) fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// All rows in order of time.
    pub(crate) fn into_sorted(mut self) -> io::Result<Sorted> {
        self.rows.sort_by_key(|row| row.timestamp);
        let mut runs: Vec<Run> = Vec::with_capacity(self.runs.len() + 1);
        for mut file in self.runs {
            file.rewind()?;
            runs.push(Run::File(BufReader::with_capacity(RUN_BUFFER_BYTES, file)));
        }
        // Read last, so last among equals: the index of a run breaks ties.
        runs.push(Run::Memory(self.rows.into_iter()));
        let mut sorted = Sorted { heads: BinaryHeap::with_capacity(runs.len()), rows: vec![None; runs.len()], runs };
        for index in 0..sorted.runs.len() {
            sorted.advance(index)?;
        }
        Ok(sorted)
    }

    fn spill(&mut self) -> io::Result<()> {
        self.rows.sort_by_key(|row| row.timestamp);
        let mut file = BufWriter::with_capacity(RUN_BUFFER_BYTES, tempfile::tempfile_in(&self.folder)?);
        for row in self.rows.drain(..) {
            file.write_all(&encode(row))?;
        }
        self.runs.push(file.into_inner().map_err(io::IntoInnerError::into_error)?);
        Ok(())
    }
}

/// Rows in order of time.
#[derive(Debug)]
pub(crate) struct Sorted {
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    rows: Vec<Option<Row>>,
    runs: Vec<Run>,
}

#[derive(Debug)]
enum Run {
    File(BufReader<File>),
    Memory(std::vec::IntoIter<Row>),
}

impl Sorted {
    /// The next row, or `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Row>> {
        let Some(Reverse((_, index))) = self.heads.pop() else { return Ok(None) };
        let row = self.rows[index].take();
        self.advance(index)?;
        Ok(row)
    }

    fn advance(&mut self, index: usize) -> io::Result<()> {
        let row = match &mut self.runs[index] {
            Run::File(file) => read(file)?,
            Run::Memory(rows) => rows.next(),
        };
        if let Some(row) = row {
            self.heads.push(Reverse((row.timestamp, index)));
        }
        self.rows[index] = row;
        Ok(())
    }
}

const ROW_BYTES: usize = 42;

/// Stands for no number.
const NONE: u64 = u64::MAX;

/// Each open run keeps this much in memory.
const RUN_BUFFER_BYTES: usize = 64 * 1_024;

fn encode(row: Row) -> [u8; ROW_BYTES] {
    let mut bytes = [0; ROW_BYTES];
    let (start, end) = row.range.map_or((NONE, NONE), |range| (range.start, range.end));
    bytes[..8].copy_from_slice(&row.timestamp.micros().to_le_bytes());
    bytes[8..12].copy_from_slice(&row.client.0.to_le_bytes());
    bytes[12..14].copy_from_slice(&row.region.0.to_le_bytes());
    bytes[14..18].copy_from_slice(&row.key.0.to_le_bytes());
    bytes[18..26].copy_from_slice(&row.size_bytes.unwrap_or(NONE).to_le_bytes());
    bytes[26..34].copy_from_slice(&start.to_le_bytes());
    bytes[34..].copy_from_slice(&end.to_le_bytes());
    bytes
}

fn read(file: &mut impl Read) -> io::Result<Option<Row>> {
    let row = Row {
        timestamp: match read_bytes(file) {
            Ok(bytes) => Timestamp::from_micros(i64::from_le_bytes(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        },
        client: ClientId(u32::from_le_bytes(read_bytes(file)?)),
        region: RegionId(u16::from_le_bytes(read_bytes(file)?)),
        key: KeyId(u32::from_le_bytes(read_bytes(file)?)),
        size_bytes: number(u64::from_le_bytes(read_bytes(file)?)),
        range: {
            let (start, end) = (u64::from_le_bytes(read_bytes(file)?), u64::from_le_bytes(read_bytes(file)?));
            number(start).map(|start| ByteRange { start, end })
        },
    };
    Ok(Some(row))
}

fn read_bytes<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(value: u64) -> Option<u64> {
    (value != NONE).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(second: i64, index: u32) -> Row {
        let range = index.is_multiple_of(3).then_some(ByteRange { start: u64::from(index), end: u64::from(index) + 9 });
        let size_bytes = index.is_multiple_of(2).then_some(u64::from(index));
        let timestamp = Timestamp::from_micros(second * 1_000_000);
        Row { timestamp, client: ClientId(index + 1), region: RegionId(7), key: KeyId(index), size_bytes, range }
    }

    proptest! {
        #[test]
        fn spilled_rows_come_back_as_a_stable_sort_would_have_them(
            seconds in proptest::collection::vec(-5i64..5, 0..60),
            rows_max in 1usize..20,
        ) {
            let mut rows: Vec<Row> = seconds.iter().zip(0..).map(|(second, index)| row(*second, index)).collect();
            let mut sorter = Sorter::new(rows_max, std::env::temp_dir());
            rows.iter().for_each(|row| sorter.push(*row).unwrap());
            prop_assert_eq!(sorter.run_count(), rows.len() / rows_max);
            let mut sorted = sorter.into_sorted().unwrap();
            let found: Vec<Row> = std::iter::from_fn(|| sorted.next().unwrap()).collect();
            rows.sort_by_key(|row| row.timestamp);
            prop_assert_eq!(found, rows);
        }
    }
}
