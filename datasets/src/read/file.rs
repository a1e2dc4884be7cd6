//! One Parquet file of a log: its footer, its rows.

use std::{fmt, fs::File, ops::Range, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Schema, TimeUnit},
    error::ArrowError,
};
use futures::StreamExt;
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    errors::ParquetError,
    file::{metadata::RowGroupMetaData, statistics::Statistics},
};

use super::{
    CHUNK_ROWS_MAX,
    columns::{Columns, Wanted},
    remote::{ReadAhead, RemoteFile},
};
use crate::{
    Error, Timestamp, blocking,
    error::Result,
    schema,
    source::{FileAt, FilePlace},
};

/// A file whose footer was read and whose columns were checked.
#[derive(Debug)]
pub(crate) struct LogFile {
    at: FileAt,
    metadata: ArrowReaderMetadata,
    columns: Columns,
    groups: Vec<Group>,
}

/// A row group: its size, and its time span where the file says it.
#[derive(Clone, Copy, Debug)]
struct Group {
    row_count: u64,
    span: Option<(Timestamp, Timestamp)>,
}

/// The rows of one file, batch by batch.
pub(crate) struct Batches(Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>> + Send>);

impl LogFile {
    /// Reads the footer and checks that the wanted columns are there with readable types.
    pub(crate) fn open(at: FileAt, wanted: Wanted) -> Result<Self> {
        let metadata = read_footer(&at)?;
        let columns = Columns::find(&at.name, metadata.schema(), metadata.metadata(), wanted)?;
        let groups = metadata.metadata().row_groups().iter().map(|group| Group::of(group, metadata.schema())).collect();
        let options = ArrowReaderOptions::new().with_schema(Arc::clone(&columns.schema));
        let retyped = ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options);
        let metadata = retyped.map_err(|source| unreadable(&at.name, source))?;
        Ok(Self { at, metadata, columns, groups })
    }

    /// How messages call the file.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.at.name
    }

    /// Number of rows.
    pub(crate) fn row_count(&self) -> u64 {
        self.groups.iter().map(|group| group.row_count).sum()
    }

    /// The first and last instant, where the file says it for all its rows.
    pub(crate) fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let spans = self.groups.iter().filter(|group| group.row_count > 0).map(|group| group.span);
        let (mut first, mut last) = (Timestamp::MAX, Timestamp::MIN);
        for span in spans {
            let (start, end) = span?;
            (first, last) = (first.min(start), last.max(end));
        }
        Some((first, last))
    }

    /// Starts reading the row groups that may hold rows of `window`; returns also the number of the first row read.
    pub(crate) fn rows(self, window: &Range<Timestamp>) -> Result<(Batches, u64)> {
        let outside =
            |group: &Group| group.span.is_some_and(|(first, last)| last < window.start || first >= window.end);
        let skipped = self.groups.iter().take_while(|group| outside(group)).count();
        let behind = self.groups[skipped..].iter().rev().take_while(|group| outside(group)).count();
        let first_row = self.groups[..skipped].iter().map(|group| group.row_count).sum();
        let chosen = (skipped..self.groups.len() - behind).collect();
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), self.columns.roots.iter().copied());
        let name = Arc::clone(&self.at.name);
        let failed = |source| unreadable(&name, source);
        let batches: Batches = match self.at.place {
            FilePlace::Local(path) => {
                let file = open_local(&name, &path)?;
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata);
                let builder = builder.with_batch_size(CHUNK_ROWS_MAX).with_projection(mask).with_row_groups(chosen);
                Batches(Box::new(builder.build().map_err(failed)?))
            }
            FilePlace::Remote { store, path, bytes } => {
                let reader = RemoteFile { store, path, bytes };
                let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.metadata);
                let builder = builder.with_batch_size(CHUNK_ROWS_MAX).with_projection(mask).with_row_groups(chosen);
                Batches(Box::new(ReadAhead::start(builder.build().map_err(failed)?.boxed())))
            }
        };
        Ok((batches, first_row))
    }
}

impl Iterator for Batches {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batches")
    }
}

impl Group {
    fn of(group: &RowGroupMetaData, schema: &Schema) -> Self {
        let row_count = u64::try_from(group.num_rows()).unwrap_or(0);
        let unit = schema.field_with_name(schema::TIMESTAMP).ok().and_then(|field| match field.data_type() {
            DataType::Timestamp(unit, _) => Some(*unit),
            _ => None,
        });
        let chunk = group.columns().iter().find(|chunk| chunk.column_path().parts() == [schema::TIMESTAMP]);
        let span = unit.zip(chunk.and_then(|chunk| chunk.statistics())).and_then(|(unit, statistics)| {
            let Statistics::Int64(values) = statistics else { return None };
            let instant = |value: Option<&i64>| to_micros(*value?, unit).map(Timestamp::from_micros);
            Some((instant(values.min_opt())?, instant(values.max_opt())?))
        });
        Self { row_count, span }
    }
}

/// An instant in microseconds, from any unit; `None` when it does not fit.
pub(crate) fn to_micros(value: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Millisecond => value.checked_mul(1_000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond => Some(value.div_euclid(1_000)),
    }
}

fn read_footer(at: &FileAt) -> Result<ArrowReaderMetadata> {
    let options = ArrowReaderOptions::new();
    let loaded = match &at.place {
        FilePlace::Local(path) => ArrowReaderMetadata::load(&open_local(&at.name, path)?, options),
        FilePlace::Remote { store, path, bytes } => {
            let mut reader = RemoteFile { store: Arc::clone(store), path: path.clone(), bytes: *bytes };
            blocking::wait(async move { ArrowReaderMetadata::load_async(&mut reader, options).await })
        }
    };
    loaded.map_err(|source| match source {
        ParquetError::External(_) => unreadable(&at.name, source),
        source => Error::NotParquet { file: at.name.to_string(), source },
    })
}

fn open_local(name: &str, path: &std::path::Path) -> Result<File> {
    File::open(path).map_err(|source| Error::Io { action: "open", path: name.to_owned(), source })
}

fn unreadable(name: &str, source: ParquetError) -> Error {
    Error::Parquet { action: "read", file: name.to_owned(), source }
}
