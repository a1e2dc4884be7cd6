//! Writes a request log as an oracleGeneral trace, so that libCacheSim can be compared with.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{RECORD_BYTES, decode, encode};
use crate::{Dictionaries, EventChunk, LogReader, LogSource, Result, Timestamp, import::ImportError, rfc3339};

/// How a log is exported.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Export only the requests of this region: libCacheSim simulates one cache.
    pub region: Option<String>,
    /// Shuffles the objects' numbers. They must not follow the order of first appearance: prefetchers that guess the
    /// next number would then foresee objects that were never seen.
    pub seed: u64,
}

/// The result of an export.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    /// Names this document's shape.
    pub schema: &'static str,
    /// The trace.
    pub output: PathBuf,
    /// Requests written.
    pub requests: u64,
    /// Distinct objects; they are numbered from 1 to this.
    pub objects: u32,
    /// The instant of time 0, RFC 3339: `--start` for a way back.
    pub start: String,
    /// Requests whose size did not fit into 32 bits and was cut to the largest that does.
    pub sizes_cut: u64,
    /// Requests of size 0, written as 1 because libCacheSim leaves out requests without a size.
    pub sizes_raised: u64,
}

/// Writes the log as an oracleGeneral trace at `path`, whole or not at all.
///
/// Memory is bounded by the number of distinct keys. The links to each object's next request are filled in by a second
/// pass over the trace, from its end.
///
/// # Errors
/// Those of reading the log; [`ImportError::Output`], [`ImportError::SpanTooLong`], [`ImportError::UnknownRegion`].
pub fn export_oracle_general(source: &LogSource, path: &Path, options: &ExportOptions) -> Result<ExportReport> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let failed = |source| ImportError::output(path, source);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut report = write_rows(source, file.as_file_mut(), options, &failed)?;
    link_rows(file.as_file_mut(), report.requests, report.objects, options.seed).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    report.output = path.to_owned();
    Ok(report)
}

/// Writes every row with its key's number of first appearance and without a link.
fn write_rows(
    source: &LogSource,
    file: &mut File,
    options: &ExportOptions,
    failed: &dyn Fn(io::Error) -> ImportError,
) -> Result<ExportReport> {
    let mut reader = LogReader::open(source)?;
    let mut dictionaries = Dictionaries::default();
    let mut rows = Rows::new(BufWriter::new(file));
    while let Some(chunk) = reader.next_chunk(&mut dictionaries)? {
        // Regions may appear late, so the name is looked up in every chunk.
        let region = options.region.as_ref().map(|name| dictionaries.regions.find(name));
        for index in 0..chunk.len() {
            if region.is_none_or(|region| region == Some(u32::from(chunk.regions[index].0))) {
                rows.push(&chunk, index, failed)?;
            }
        }
    }
    if rows.report.requests == 0
        && let Some(region) = options.region.clone()
    {
        let found: Vec<_> = dictionaries.regions.iter().map(|(_, name)| &**name).collect();
        return Err(ImportError::UnknownRegion { region, found: found.join(", ") }.into());
    }
    rows.file.flush().map_err(failed)?;
    rows.report.start = rows.start.map(rfc3339).unwrap_or_default();
    Ok(rows.report)
}

struct Rows<'f> {
    file: BufWriter<&'f mut File>,
    /// Number of each key among the keys written, by key number in the log.
    numbers: Vec<Option<u32>>,
    start: Option<Timestamp>,
    report: ExportReport,
}

impl<'f> Rows<'f> {
    fn new(file: BufWriter<&'f mut File>) -> Self {
        let report = ExportReport {
            schema: "nearcast.export-oracle-general/1",
            output: PathBuf::new(),
            requests: 0,
            objects: 0,
            start: String::new(),
            sizes_cut: 0,
            sizes_raised: 0,
        };
        Self { file, numbers: Vec::new(), start: None, report }
    }

    fn push(&mut self, chunk: &EventChunk, index: usize, failed: &dyn Fn(io::Error) -> ImportError) -> Result<()> {
        let report = &mut self.report;
        let start = *self.start.get_or_insert(chunk.timestamps[index]);
        let seconds = chunk.timestamps[index].since(start).as_secs();
        let seconds = u32::try_from(seconds).map_err(|_| ImportError::SpanTooLong { seconds })?;
        let size_bytes = u32::try_from(chunk.sizes_bytes[index]).unwrap_or_else(|_| {
            report.sizes_cut += 1;
            u32::MAX
        });
        report.sizes_raised += u64::from(size_bytes == 0);
        let key = chunk.keys[index].0 as usize;
        if self.numbers.len() <= key {
            self.numbers.resize(key + 1, None);
        }
        let number = *self.numbers[key].get_or_insert_with(|| {
            report.objects += 1;
            report.objects - 1
        });
        report.requests += 1;
        Ok(self.file.write_all(&encode(seconds, u64::from(number), size_bytes.max(1), -1)).map_err(failed)?)
    }
}

/// Gives objects their shuffled numbers and rows their links, from the last row to the first.
fn link_rows(file: &mut File, row_count: u64, object_count: u32, seed: u64) -> io::Result<()> {
    let mut numbers: Vec<u32> = (1..=object_count).collect();
    numbers.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut next_rows = vec![-1_i64; numbers.len()];
    let mut block = vec![0; BLOCK_ROWS as usize * RECORD_BYTES];
    let mut end = row_count;
    while end > 0 {
        let start = end.saturating_sub(BLOCK_ROWS);
        let position = SeekFrom::Start(start * RECORD_BYTES as u64);
        let bytes = &mut block[..(end - start) as usize * RECORD_BYTES];
        file.seek(position)?;
        file.read_exact(bytes)?;
        for (record, row) in bytes.as_chunks_mut().0.iter_mut().rev().zip((start..end).rev()) {
            let (seconds, object, size_bytes, _) = decode(record);
            let next = std::mem::replace(&mut next_rows[object as usize], row as i64);
            *record = encode(seconds, u64::from(numbers[object as usize]), size_bytes, next);
        }
        file.seek(position)?;
        file.write_all(bytes)?;
        end = start;
    }
    Ok(())
}

/// Rows that the second pass holds at once.
const BLOCK_ROWS: u64 = 65_536;
