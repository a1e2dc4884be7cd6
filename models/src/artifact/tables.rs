//! `vocabulary.parquet` and `coaccess.parquet`: what is known by key name.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, StringArray, UInt64Array},
    datatypes::{DataType, Field, Float32Type, Schema, UInt64Type},
};
use bytes::Bytes;
use nearcast_datasets::{Interner, KeyId, Timestamp};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::{metadata::KeyValue, properties::WriterProperties},
};

use crate::{
    CoAccessRow, Error, Result, TrainedCoAccess, Vocabulary,
    artifact::{COACCESS, VOCABULARY},
};

/// Footer entry with the instant that co-access counts were read off, in microseconds since the Unix epoch.
pub(super) const AT: &str = "nearcast.at_micros";
const SCOPES: [&str; 2] = ["client", "region"];

/// Columns `key` (utf8) and `requests` (uint64); a key's row is its place in the file.
pub(super) fn write_vocabulary(vocabulary: &Vocabulary) -> Result<Vec<u8>> {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(vocabulary.iter().map(|(key, _)| key)));
    let counts: ArrayRef = Arc::new(UInt64Array::from_iter_values(vocabulary.iter().map(|(_, count)| count)));
    write(VOCABULARY, [("key", keys, false), ("requests", counts, false)], None)
}

/// The vocabulary that [`write_vocabulary`] wrote.
pub(super) fn read_vocabulary(bytes: Vec<u8>, token_buckets: u32) -> Result<Vocabulary> {
    let (batches, _) = read(VOCABULARY, bytes)?;
    let mut rows: Vec<(Arc<str>, u64)> = Vec::new();
    for batch in &batches {
        let keys = strings(VOCABULARY, batch, "key")?;
        let counts = column(VOCABULARY, batch, "requests", &DataType::UInt64)?.as_primitive::<UInt64Type>();
        rows.extend(keys.iter().zip(counts.values()).map(|(key, count)| (Arc::from(key.unwrap_or("")), *count)));
    }
    let row_count = rows.len();
    let vocabulary = Vocabulary::from_rows(rows, token_buckets);
    match vocabulary.distinct_count() == row_count {
        true => Ok(vocabulary),
        false => Err(Error::content(VOCABULARY, "a key has two rows")),
    }
}

/// Columns `scope`, `key`, `occurrences`, and `successor`, `count`, one row per pair; keys of which no successor is
/// known have one row without.
pub(super) fn write_coaccess(trained: &TrainedCoAccess) -> Result<Vec<u8>> {
    let name = |key: KeyId| trained.keys.name(key.0).map(|name| &**name);
    let (mut scopes, mut keys, mut occurrences) = (Vec::new(), Vec::new(), Vec::new());
    let (mut successors, mut counts) = (Vec::new(), Vec::new());
    for (scope, rows) in SCOPES.into_iter().zip([&trained.client, &trained.region]) {
        for row in rows {
            let Some(key) = name(row.key) else { continue };
            let known = row.successors.iter().filter_map(|(to, count)| Some((Some(name(*to)?), Some(*count))));
            let mut known: Vec<_> = known.collect();
            if known.is_empty() {
                known.push((None, None));
            }
            for (to, count) in known {
                scopes.push(scope);
                keys.push(key);
                occurrences.push(row.occurrences);
                successors.push(to);
                counts.push(count);
            }
        }
    }
    let columns: [(&str, ArrayRef, bool); 5] = [
        ("scope", Arc::new(StringArray::from(scopes)), false),
        ("key", Arc::new(StringArray::from(keys)), false),
        ("occurrences", Arc::new(Float32Array::from(occurrences)), false),
        ("successor", Arc::new(StringArray::from(successors)), true),
        ("count", Arc::new(Float32Array::from(counts)), true),
    ];
    let at = KeyValue::new(AT.to_owned(), trained.at.micros().to_string());
    write(COACCESS, columns, Some(vec![at]))
}

/// The co-access that [`write_coaccess`] wrote.
pub(super) fn read_coaccess(bytes: Vec<u8>) -> Result<TrainedCoAccess> {
    let (batches, metadata) = read(COACCESS, bytes)?;
    let at = metadata.into_iter().find(|entry| entry.key == AT).and_then(|entry| entry.value?.parse().ok());
    let at = at.ok_or_else(|| Error::content(COACCESS, format!("its footer has no {AT}")))?;
    let mut trained = TrainedCoAccess { at: Timestamp::from_micros(at), ..TrainedCoAccess::default() };
    for batch in &batches {
        read_coaccess_batch(batch, &mut trained)?;
    }
    Ok(trained)
}

fn read_coaccess_batch(batch: &RecordBatch, trained: &mut TrainedCoAccess) -> Result<()> {
    let scopes = strings(COACCESS, batch, "scope")?;
    let keys = strings(COACCESS, batch, "key")?;
    let successors = strings(COACCESS, batch, "successor")?;
    let occurrences = column(COACCESS, batch, "occurrences", &DataType::Float32)?.as_primitive::<Float32Type>();
    let counts = column(COACCESS, batch, "count", &DataType::Float32)?.as_primitive::<Float32Type>();
    for place in 0..batch.num_rows() {
        let (occurrences, count) = (occurrences.value(place), counts.value(place));
        if !(occurrences.is_finite() && occurrences >= 0.0 && count.is_finite() && count >= 0.0) {
            return Err(Error::content(COACCESS, "a count is negative or not finite"));
        }
        let key = number(&mut trained.keys, keys.value(place));
        let rows = if scopes.value(place) == SCOPES[0] { &mut trained.client } else { &mut trained.region };
        if rows.last().is_none_or(|row| row.key != key) {
            rows.push(CoAccessRow { key, occurrences, successors: Vec::new() });
        }
        if let Some((row, successor)) = rows.last_mut().zip(successors.is_valid(place).then(|| successors.value(place)))
        {
            row.successors.push((number(&mut trained.keys, successor), count));
        }
    }
    Ok(())
}

pub(super) fn number(keys: &mut Interner, name: &str) -> KeyId {
    KeyId(keys.insert(name))
}

pub(super) fn write<const N: usize>(
    file: &'static str,
    columns: [(&str, ArrayRef, bool); N],
    metadata: Option<Vec<KeyValue>>,
) -> Result<Vec<u8>> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array, nullable)| Field::new(*name, array.data_type().clone(), *nullable)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, array, _)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(Error::learn(file))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(metadata)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).map_err(Error::learn(file))?;
    writer.write(&batch).map_err(Error::learn(file))?;
    writer.close().map_err(Error::learn(file))?;
    Ok(bytes)
}

pub(super) fn read(file: &'static str, bytes: Vec<u8>) -> Result<(Vec<RecordBatch>, Vec<KeyValue>)> {
    let broken = |error: &dyn std::fmt::Display| Error::content(file, error.to_string());
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).map_err(|error| broken(&error))?;
    let metadata = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let batches = builder.build().map_err(|error| broken(&error))?.collect::<Result<_, _>>();
    Ok((batches.map_err(|error| broken(&error))?, metadata))
}

pub(super) fn column<'a>(file: &str, batch: &'a RecordBatch, name: &str, data_type: &DataType) -> Result<&'a ArrayRef> {
    let column = batch.column_by_name(name).filter(|column| column.data_type() == data_type);
    column.ok_or_else(|| Error::content(file, format!("it has no column {name} of type {data_type}")))
}

pub(super) fn strings<'a>(file: &str, batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    column(file, batch, name, &DataType::Utf8).map(|column| column.as_string::<i32>())
}
