//! The coded log: the request log with its strings replaced by numbers, as a scratch Parquet file.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, UInt32Array},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use nearcast_datasets::{
    ClientId, Dictionaries, EventChunk, Interner, KeyId, LogReader, LogSource, RegionId, Timestamp,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding},
    file::properties::WriterProperties,
    schema::types::ColumnPath,
};
use tempfile::TempDir;

use crate::{
    Error, Result,
    config::CodingLimits,
    progress::{OnProgress, Progress},
};

/// A request log coded into numbers: one sequential pass through the one log reader, which also checks it.
///
/// Columns: `at` (microseconds), `client`, `region`, `key` (codes) and `position`, the row's place in the input, which
/// orders requests of the same instant. [`Features`](super::Features) puts the rows in the order of time before any
/// other reads them.
#[derive(Debug)]
pub(crate) struct CodedLog {
    scratch: TempDir,
    /// Where the rows came from.
    pub(crate) name: String,
    /// The names of the key codes.
    pub(crate) keys: Interner,
    /// The names of the region codes.
    pub(crate) regions: Interner,
    /// Number of distinct clients.
    pub(crate) clients: usize,
    /// Whether the rows lie in the order of time, as those of a single source do.
    pub(super) sorted: bool,
    /// Number of rows.
    pub(crate) rows: u64,
    /// When the first request arrived.
    pub(crate) first: Timestamp,
    /// When the last request arrived.
    pub(crate) last: Timestamp,
}

impl CodedLog {
    /// Reads every row of `sources`, which may overlap in time.
    pub(crate) fn read(sources: &[LogSource], limits: &CodingLimits, progress: OnProgress<'_>) -> Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("nearcast-features-")
            .tempdir_in(&limits.scratch)
            .map_err(|source| Error::Scratch { path: limits.scratch.clone(), source })?;
        let mut dictionaries = Dictionaries::default();
        let mut writer = CodedWriter::create(&scratch.path().join(FILE_NAME))?;
        let mut readers = sources.iter().map(LogReader::open).collect::<Result<Vec<_>, _>>()?;
        let total = readers.iter().map(LogReader::row_count).sum();
        for reader in &mut readers {
            while let Some(chunk) = reader.next_chunk(&mut dictionaries)? {
                limits.check(&dictionaries)?;
                writer.push(&chunk)?;
                progress(Progress::Reading { rows: writer.rows, total });
            }
        }
        let Written { rows, span, sorted } = writer.finish()?;
        let name = sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let Some((first, last)) = span else { return Err(Error::EmptyLog { log: name }) };
        let Dictionaries { clients, regions, keys } = dictionaries;
        Ok(Self { scratch, name, keys, regions, clients: clients.len(), sorted, rows, first, last })
    }

    /// The name of a key.
    ///
    /// # Panics
    /// When the log has no such key.
    pub(crate) fn key(&self, key: KeyId) -> &str {
        self.keys.name(key.0).expect("key codes come from this log")
    }

    /// The Parquet file.
    pub(crate) fn file(&self) -> PathBuf {
        self.scratch.path().join(FILE_NAME)
    }

    /// The folder that is removed with this log.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }
}

/// What a [`CodedWriter`] wrote.
pub(super) struct Written {
    rows: u64,
    span: Option<(Timestamp, Timestamp)>,
    sorted: bool,
}

/// Writes chunks to the scratch file and keeps the span.
struct CodedWriter {
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    path: PathBuf,
    rows: u64,
    span: Option<(Timestamp, Timestamp)>,
    sorted: bool,
}

impl CodedWriter {
    fn create(path: &Path) -> Result<Self> {
        let schema = coded_schema();
        let writer = create(path, &schema)?;
        Ok(Self { writer, schema, path: path.to_path_buf(), rows: 0, span: None, sorted: true })
    }

    fn push(&mut self, chunk: &EventChunk) -> Result<()> {
        let (Some(first), Some(last)) = (chunk.timestamps.iter().min(), chunk.timestamps.iter().max()) else {
            return Ok(());
        };
        let (start, end) = self.span.unwrap_or((*first, *last));
        self.sorted &= chunk.timestamps.is_sorted() && *first >= self.span.map_or(*first, |(_, end)| end);
        self.span = Some((start.min(*first), end.max(*last)));
        let codes =
            |codes: &mut dyn Iterator<Item = u32>| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(codes)) };
        let position = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(chunk.timestamps.iter().map(|at| at.micros()))),
            codes(&mut chunk.clients.iter().map(|ClientId(code)| *code)),
            codes(&mut chunk.regions.iter().map(|RegionId(code)| u32::from(*code))),
            codes(&mut chunk.keys.iter().map(|KeyId(code)| *code)),
            Arc::new(Int64Array::from_iter_values((position..).take(chunk.len()))),
        ];
        self.writer.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(parquet_error)?)?;
        self.rows += chunk.len() as u64;
        Ok(())
    }

    fn finish(self) -> Result<Written> {
        self.writer.close()?;
        tracing::debug!(rows = self.rows, path = %self.path.display(), "coded log written");
        Ok(Written { rows: self.rows, span: self.span, sorted: self.sorted })
    }
}

/// The columns that coding writes.
pub(super) fn coded_schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, false);
    Arc::new(Schema::new(vec![
        field("at", DataType::Int64),
        field("client", DataType::UInt32),
        field("region", DataType::UInt32),
        field("key", DataType::UInt32),
        field("position", DataType::Int64),
    ]))
}

/// A writer of coded rows.
pub(super) fn create(path: &Path, schema: &SchemaRef) -> Result<ArrowWriter<File>> {
    let file = File::create(path).map_err(|source| Error::Scratch { path: path.to_path_buf(), source })?;
    // Read many times and gone soon: eleven bytes a row that cost nothing to decode.
    let column = |name: &str| ColumnPath::from(name);
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled(column("region"), true)
        .set_column_encoding(column("at"), Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(column("position"), Encoding::DELTA_BINARY_PACKED)
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .build();
    Ok(ArrowWriter::try_new(file, Arc::clone(schema), Some(properties))?)
}

pub(super) fn parquet_error(error: arrow::error::ArrowError) -> parquet::errors::ParquetError {
    error.into()
}

/// The first columns: all but the position, which only sorting needs.
pub(super) const COLUMNS_READ: [&str; 4] = ["at", "client", "region", "key"];
/// The scratch file's name.
const FILE_NAME: &str = "requests.parquet";
/// Rows per row group: small enough that a time range prunes, large enough to scan fast.
const ROWS_PER_GROUP: usize = 131_072;
