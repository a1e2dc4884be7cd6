//! Reads the coded log in time order, several columns at a time, without the engine.

use std::{fs::File, path::Path};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, UInt32Type},
};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    file::{metadata::RowGroupMetaData, statistics::Statistics},
};

use super::{Features, TimeRange, coded};
use crate::{Error, Result};

/// Rows of the coded log, in time order; all columns have the same length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// Microseconds.
    pub(crate) at: &'a [i64],
    /// Client codes.
    pub(crate) client: &'a [u32],
    /// Region codes.
    pub(crate) region: &'a [u32],
    /// Key codes.
    pub(crate) key: &'a [u32],
}

impl Features {
    /// Calls `each` with the rows of `range` in time order, rows of one instant in the input's order.
    pub(crate) fn scan(&self, range: TimeRange, each: impl FnMut(Rows<'_>) -> Result<()>) -> Result<()> {
        scan(&self.log.file(), range, each)
    }
}

/// As [`Features::scan`], for threads that hold only the file's place.
pub(super) fn scan(path: &Path, range: TimeRange, mut each: impl FnMut(Rows<'_>) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|source| Error::Scratch { path: path.to_path_buf(), source })?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default())?;
    let groups = metadata.metadata().row_groups().iter().enumerate();
    let wanted = groups.filter(|(_, group)| may_hold(group, range)).map(|(index, _)| index).collect();
    let columns = ProjectionMask::columns(metadata.parquet_schema(), coded::COLUMNS_READ);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_row_groups(wanted)
        .with_projection(columns)
        .with_batch_size(BATCH_ROWS)
        .build()?;
    for batch in reader {
        let batch = batch.map_err(coded::parquet_error)?;
        let rows = columns_of(&batch);
        let start = rows.at.partition_point(|at| *at < range.start.micros());
        let end = rows.at.partition_point(|at| *at < range.end.micros());
        if start < end {
            each(rows.slice(start, end))?;
        }
    }
    Ok(())
}

impl<'a> Rows<'a> {
    fn slice(self, start: usize, end: usize) -> Self {
        let Self { at, client, region, key } = self;
        Self { at: &at[start..end], client: &client[start..end], region: &region[start..end], key: &key[start..end] }
    }
}

/// The columns of a batch that [`coded`] wrote.
fn columns_of(batch: &RecordBatch) -> Rows<'_> {
    let [at, client, region, key] = [0, 1, 2, 3].map(|column| batch.column(column));
    Rows {
        at: at.as_primitive::<Int64Type>().values(),
        client: client.as_primitive::<UInt32Type>().values(),
        region: region.as_primitive::<UInt32Type>().values(),
        key: key.as_primitive::<UInt32Type>().values(),
    }
}

/// Whether the statistics of the first column, the time, allow rows of `range`.
fn may_hold(group: &RowGroupMetaData, range: TimeRange) -> bool {
    let Some(Statistics::Int64(times)) = group.column(0).statistics() else { return true };
    let after = times.min_opt().is_some_and(|min| *min >= range.end.micros());
    let before = times.max_opt().is_some_and(|max| *max < range.start.micros());
    !(after || before)
}

/// Rows decoded at a time.
const BATCH_ROWS: usize = 65_536;
