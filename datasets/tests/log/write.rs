//! What writers leave behind, and what they never do.

use std::fs;

use nearcast_datasets::{
    ByteRange, Error, LogSource, LogWriter, RequestEvent, ServedFrom, Timestamp, WriteOptions, read_events, schema,
};
use parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, basic::Compression};

use crate::support::{event, write};

#[test]
fn all_columns_survive_a_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let live = RequestEvent {
        range: Some(ByteRange { start: 3, end: 9 }),
        node: Some("eu-1".into()),
        outcome: Some(ServedFrom::Prefetched),
        latency_us: Some(1_234),
        arm: Some("nearcast".into()),
        model_version: Some("v0001".into()),
        ..event(5, "ann", "eu", "/é/ü", u64::MAX)
    };
    let rows = [event(-3, "ann", "eu", "/a", 0), live];
    let options = WriteOptions { optional_columns: true, ..WriteOptions::default() };
    let source = write(&folder.path().join("deep/er/log.parquet"), &rows, options);
    let read: Vec<RequestEvent> = read_events(&source).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, rows);
}

#[test]
fn files_are_zstd_in_the_canonical_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    write(&path, &[event(0, "c", "eu", "/a", 1)], WriteOptions::default());
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(reader.schema().fields(), schema::request_log(false).fields());
    let group = reader.metadata().row_group(0);
    assert!(group.columns().iter().all(|chunk| matches!(chunk.compression(), Compression::ZSTD(_))));
    assert_eq!(group.sorting_columns().map(|columns| columns[0].column_idx), Some(0));
}

#[test]
fn a_dropped_or_failed_writer_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let left = || fs::read_dir(folder.path()).unwrap().count();
    for partition_by_date in [false, true] {
        let options = WriteOptions { partition_by_date, rows_per_group: 2, ..WriteOptions::default() };
        let path = folder.path().join("log.parquet");
        let mut writer = LogWriter::create(&path, options).unwrap();
        for second in 0..9 {
            writer.push(&event(second * 40_000, "c", "eu", "/a", 1)).unwrap();
        }
        let early = writer.push(&event(0, "c", "eu", "/a", 1));
        assert!(matches!(early, Err(Error::Unsorted { row: 9, .. })));
        assert!(!path.exists() && left() == 1, "only the temporary log is there while writing");
        drop(writer);
        assert_eq!(left(), 0);
        let empty = LogWriter::create(&path, options).unwrap().finish();
        assert!(matches!(empty, Err(Error::Empty { .. })));
        assert_eq!(left(), 0);
    }
}

#[test]
fn an_old_file_stays_whole_until_the_new_one_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    let source = write(&path, &[event(0, "c", "eu", "/old", 1)], WriteOptions::default());
    let key = || read_events(&source).unwrap().next().unwrap().unwrap().key;
    let mut writer = LogWriter::create(&path, WriteOptions::default()).unwrap();
    writer.push(&event(0, "c", "eu", "/new", 1)).unwrap();
    assert_eq!(key(), "/old");
    let summary = writer.finish().unwrap();
    assert_eq!(key(), "/new");
    assert_eq!((summary.row_count, summary.bytes), (1, fs::metadata(&path).unwrap().len()));
}

#[test]
fn a_folder_that_holds_something_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let options = WriteOptions { partition_by_date: true, ..WriteOptions::default() };
    let error = LogWriter::create(folder.path(), options).unwrap_err();
    assert!(matches!(error, Error::OutputExists { .. }), "{error}");
    assert_eq!(fs::read_to_string(folder.path().join("notes.txt")).unwrap(), "mine");
}

#[test]
fn keys_are_accepted_up_to_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let push = |bytes: usize| {
        let mut writer = LogWriter::create(&folder.path().join("log.parquet"), WriteOptions::default()).unwrap();
        writer.push(&event(0, "c", "eu", &"k".repeat(bytes), 1))
    };
    assert!(push(1).is_ok() && push(2_048).is_ok());
    assert!(matches!(push(2_049), Err(Error::KeyTooLong { bytes: 2_049, .. })));
    assert!(matches!(push(0), Err(Error::BadValue { .. })));
}

#[test]
fn days_are_cut_at_midnight_utc() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let options = WriteOptions { partition_by_date: true, ..WriteOptions::default() };
    let mut writer = LogWriter::create(&log, options).unwrap();
    for micros in [-1, 0, 86_399_999_999, 86_400_000_000] {
        let row = RequestEvent { timestamp: Timestamp::from_micros(micros), ..event(0, "c", "eu", "/a", 1) };
        writer.push(&row).unwrap();
    }
    let summary = writer.finish().unwrap();
    let days = ["date=1969-12-31", "date=1970-01-01", "date=1970-01-02"];
    assert_eq!(summary.files, days.map(|day| log.join(day).join("part-0.parquet")));
    let rows = |day: &str| read_events(&LogSource::from(log.join(day).as_path())).unwrap().count();
    assert_eq!(days.map(rows), [1, 2, 1]);
}
