//! Every kind of bad log ends in a message that names the file, the place and the reason.

use std::{fs, sync::Arc};

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampSecondArray, UInt64Array,
};
use nearcast_datasets::{Error, LogSource, WriteOptions, read_events};

use crate::support::{columns, columns_with, event, lines, write, write_foreign};

/// The message of the error that reading ends in, the same for coded and for plain reading, without the folder.
fn message(columns: &[(&str, ArrayRef)]) -> String {
    let folder = tempfile::tempdir().expect("temporary folder");
    let source = write_foreign(&folder.path().join("log.parquet"), columns);
    let coded = lines(&source).expect_err("a bad log").to_string();
    let plain = read_events(&source).and_then(|mut rows| rows.find_map(Result::err).map_or(Ok(()), Err));
    assert_eq!(plain.expect_err("a bad log").to_string(), coded);
    coded.replace(&format!("{}/", folder.path().display()), "")
}

fn check(columns: &[(&str, ArrayRef)], expected: &str) {
    assert_eq!(message(columns), expected);
}

#[test]
fn a_missing_column_is_named_with_the_nearest_name() {
    let rename = |old: &str, new: &'static str| -> Vec<(&'static str, ArrayRef)> {
        columns().into_iter().map(|(name, array)| (if name == old { new } else { name }, array)).collect()
    };
    check(
        &rename("size", "sise"),
        "log.parquet: column \"size\" is missing; did you mean column \"sise\"?; \
         columns found: timestamp, client, region, key, sise",
    );
    check(
        &rename("timestamp", "Timestamps"),
        "log.parquet: column \"timestamp\" is missing; did you mean column \"Timestamps\"?; \
         columns found: Timestamps, client, region, key, size",
    );
    check(
        &rename("key", "url"),
        "log.parquet: column \"key\" is missing; columns found: timestamp, client, region, url, size",
    );
}

#[test]
fn a_mistyped_column_is_named_with_both_types() {
    check(
        &columns_with("timestamp", Arc::new(Int64Array::from(vec![0, 1, 2, 3]))),
        "log.parquet: column \"timestamp\" has type Int64, expected a timestamp, best in microseconds, UTC",
    );
    check(
        &columns_with("size", Arc::new(Float64Array::from(vec![0.0, 1.0, 2.0, 3.0]))),
        "log.parquet: column \"size\" has type Float64, expected an integer, best uint64",
    );
    let mut two = columns_with("key", Arc::new(Int64Array::from(vec![1, 2, 3, 4])));
    two.push(("key_path", Arc::new(StringArray::from(vec!["/a"; 4]))));
    check(
        &two,
        "log.parquet: column \"key\" has type Int64, expected utf8 text, plain or dictionary; \
         did you mean column \"key_path\"?",
    );
}

#[test]
fn unsorted_time_is_named_with_row_and_both_instants() {
    check(
        &columns_with("timestamp", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_000_000, 2_000_000, 1_500_000]))),
        "log.parquet: not sorted by time: row 3 is at 1970-01-01T00:00:01.500Z, \
         but the row before it is at 1970-01-01T00:00:02Z",
    );
}

#[test]
fn nulls_in_required_columns_are_named_with_their_row() {
    let nulls: [(&'static str, ArrayRef); 3] = [
        ("timestamp", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(1), None, Some(3)]))),
        ("key", Arc::new(StringArray::from(vec![Some("/a"), Some("/b"), None, Some("/c")]))),
        ("size", Arc::new(UInt64Array::from(vec![Some(0), Some(1), None, Some(3)]))),
    ];
    for (column, array) in nulls {
        check(&columns_with(column, array), &format!("log.parquet: row 2: required column \"{column}\" is null"));
    }
}

#[test]
fn values_out_of_bounds_are_named_with_their_row() {
    let long = "k".repeat(2_049);
    check(
        &columns_with("key", Arc::new(StringArray::from(vec!["/a", &long[..2_048], "/b", &long]))),
        "log.parquet: row 3: key of 2049 bytes is longer than the 2048 allowed",
    );
    check(
        &columns_with("key", Arc::new(StringArray::from(vec!["/a", "", "/b", "/c"]))),
        "log.parquet: row 1, column \"key\": empty, but a key names an object",
    );
    check(
        &columns_with("size", Arc::new(Int64Array::from(vec![1, 2, 3, -4]))),
        "log.parquet: row 3, column \"size\": negative, but this column counts bytes or time",
    );
    check(
        &columns_with("timestamp", Arc::new(TimestampSecondArray::from(vec![0, 1, 2, i64::MAX]))),
        "log.parquet: row 3, column \"timestamp\": 9223372036854775807 does not fit microseconds",
    );
    let mut ranges = columns();
    ranges.push(("range_start", Arc::new(UInt64Array::from(vec![Some(1), None, None, Some(9)]))));
    ranges.push(("range_end", Arc::new(UInt64Array::from(vec![Some(2), None, None, Some(9)]))));
    check(&ranges, "log.parquet: row 3, column \"range_start\": the range 9..9 holds no byte; ends are exclusive");
}

#[test]
fn foreign_and_truncated_files_are_no_parquet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    let rows: Vec<_> = (0..5_000).map(|row| event(row, "c", "eu", &format!("/{row}"), 1)).collect();
    let source = write(&path, &rows, WriteOptions::default());
    let whole = fs::read(&path).unwrap();
    for content in [&whole[..whole.len() / 2], &whole[..whole.len() - 1], b"10.0.0.1 - - [10/Oct/2000]", b""] {
        fs::write(&path, content).unwrap();
        let error = lines(&source).unwrap_err();
        assert!(matches!(error, Error::NotParquet { .. }), "{error}");
        assert!(error.to_string().contains("log.parquet is not a complete Parquet file"));
    }
}

#[test]
fn a_damaged_page_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    let rows: Vec<_> = (0..5_000).map(|row| event(row, "c", "eu", &format!("/{row}"), 1)).collect();
    let source = write(&path, &rows, WriteOptions::default());
    let mut content = fs::read(&path).unwrap();
    content[4..68].fill(0xA5);
    fs::write(&path, content).unwrap();
    assert!(matches!(lines(&source), Err(Error::Parquet { action: "read", .. })));
}

#[test]
fn logs_without_rows_or_files_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let empty: Vec<(&str, ArrayRef)> = columns().into_iter().map(|(name, array)| (name, array.slice(0, 0))).collect();
    check(&empty, "log.parquet holds no request; a log needs at least one row");
    let error = lines(&LogSource::from(folder.path())).unwrap_err();
    assert!(matches!(error, Error::NoFiles { .. }), "{error}");
    let error = lines(&LogSource::from(folder.path().join("gone.parquet").as_path())).unwrap_err();
    assert!(matches!(error, Error::Io { action: "read", .. }), "{error}");
}

#[test]
fn locations_that_are_none_are_refused() {
    for text in ["ftp://host/log", "s3://", "http://[", "file://elsewhere/log"] {
        assert!(matches!(LogSource::parse(text), Err(Error::Store(_))), "{text}");
    }
    for text in ["log.parquet", "/logs", "s3://bucket/logs/", "gs://b/l", "az://c/l", "http://h/l.parquet"] {
        assert_eq!(LogSource::parse(text).unwrap().to_string(), text);
    }
}
