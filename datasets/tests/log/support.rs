//! Rows, files of foreign making, and what a reader makes of them.

use std::{fs::File, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array},
    datatypes::{Field, Schema},
};
use nearcast_datasets::{
    Dictionaries, Error, EventChunk, LogReader, LogSource, LogWriter, RequestEvent, Timestamp, WriteOptions,
};
use parquet::arrow::ArrowWriter;

/// A row without optional columns at a second since the epoch.
pub(crate) fn event(second: i64, client: &str, region: &str, key: &str, size_bytes: u64) -> RequestEvent {
    RequestEvent {
        timestamp: Timestamp::from_micros(second * 1_000_000),
        client: client.into(),
        region: region.into(),
        key: key.into(),
        size_bytes,
        range: None,
        node: None,
        outcome: None,
        latency_us: None,
        arm: None,
        model_version: None,
    }
}

/// Writes rows with this crate's writer.
pub(crate) fn write(path: &Path, rows: &[RequestEvent], options: WriteOptions) -> LogSource {
    let mut writer = LogWriter::create(path, options).expect("the folder is writable");
    for row in rows {
        writer.push(row).expect("rows are valid");
    }
    writer.finish().expect("the disk is not full");
    LogSource::from(path)
}

/// Writes columns as they are, with any Parquet settings, in row groups of three rows.
pub(crate) fn write_foreign(path: &Path, columns: &[(&str, ArrayRef)]) -> LogSource {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(3)).build();
    let file = File::create(path).expect("the folder is writable");
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).expect("schema");
    let arrays = columns.iter().map(|(_, array)| Arc::clone(array)).collect();
    writer.write(&RecordBatch::try_new(schema, arrays).expect("equal lengths")).expect("written");
    writer.close().expect("closed");
    LogSource::from(path)
}

/// Valid columns for four rows at seconds 0, 1, 2 and 3.
pub(crate) fn columns() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("timestamp", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_000_000, 2_000_000, 3_000_000]))),
        ("client", Arc::new(StringArray::from(vec!["c0", "c1", "c0", "c2"]))),
        ("region", Arc::new(StringArray::from(vec!["eu", "us", "eu", "us"]))),
        ("key", Arc::new(StringArray::from(vec!["/a", "/b", "/a", "/c"]))),
        ("size", Arc::new(UInt64Array::from(vec![10, 20, 10, 30]))),
    ]
}

/// The valid columns with one replaced.
pub(crate) fn columns_with(name: &'static str, array: ArrayRef) -> Vec<(&'static str, ArrayRef)> {
    let mut columns = columns();
    columns.retain(|(column, _)| *column != name);
    columns.push((name, array));
    columns
}

/// Reads a whole log in coded form.
pub(crate) fn read_all(source: &LogSource) -> Result<(Vec<EventChunk>, Dictionaries), Error> {
    let mut reader = LogReader::open(source)?;
    let mut dictionaries = Dictionaries::default();
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk(&mut dictionaries)? {
        chunks.push(chunk);
    }
    Ok((chunks, dictionaries))
}

/// Every row as `second client region key size`, from the coded form.
pub(crate) fn lines(source: &LogSource) -> Result<Vec<String>, Error> {
    let (chunks, dictionaries) = read_all(source)?;
    let mut lines = Vec::new();
    for chunk in chunks {
        for row in 0..chunk.len() {
            let second = chunk.timestamps[row].micros() / 1_000_000;
            let client = dictionaries.clients.name(chunk.clients[row].0).expect("known");
            let region = dictionaries.regions.name(u32::from(chunk.regions[row].0)).expect("known");
            let key = dictionaries.keys.name(chunk.keys[row].0).expect("known");
            lines.push(format!("{second} {client} {region} {key} {}", chunk.sizes_bytes[row]));
        }
    }
    Ok(lines)
}
