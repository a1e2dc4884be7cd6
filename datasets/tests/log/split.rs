//! Splits by time.

use nearcast_datasets::{Dictionaries, Error, LogReader, LogSource, TimeSplit, WriteOptions};

use crate::support::{columns_with, event, write, write_foreign};

fn keys(reader: LogReader) -> usize {
    let mut reader = reader;
    let mut dictionaries = Dictionaries::default();
    let mut rows = 0;
    while let Some(chunk) = reader.next_chunk(&mut dictionaries).expect("readable") {
        rows += chunk.len();
    }
    rows
}

#[test]
fn parts_are_disjoint_complete_and_never_share_an_instant() {
    let folder = tempfile::tempdir().unwrap();
    // Many rows at the very instant where the boundary falls.
    let seconds = [0, 1, 2, 5, 5, 5, 5, 8, 10];
    let rows: Vec<_> = seconds.iter().map(|second| event(*second, "c", "eu", "/a", 1)).collect();
    let source = write(&folder.path().join("log.parquet"), &rows, WriteOptions::default());
    for share in [0.001, 0.3, 0.5, 0.7, 0.999] {
        let split = TimeSplit::by_share(&source, share).unwrap();
        let train = rows.iter().filter(|row| split.contains_train(row.timestamp)).count();
        let open = || LogReader::open(&source).unwrap();
        assert_eq!(keys(open().within(split.train())), train);
        assert_eq!(keys(open().within(split.test())), rows.len() - train);
        assert!(train > 0 && train < rows.len(), "share {share} leaves a part empty");
        let last_train = rows.iter().rev().find(|row| split.contains_train(row.timestamp)).unwrap().timestamp;
        let first_test = rows.iter().find(|row| !split.contains_train(row.timestamp)).unwrap().timestamp;
        assert!(last_train < split.boundary && split.boundary <= first_test);
    }
    assert_eq!(TimeSplit::by_share(&source, 0.5).unwrap().boundary.micros(), 5_000_000);
}

#[test]
fn the_span_is_found_without_statistics_too() {
    let folder = tempfile::tempdir().unwrap();
    let times = arrow::array::TimestampSecondArray::from(vec![100, 101, 102, 110]);
    let source =
        write_foreign(&folder.path().join("log.parquet"), &columns_with("timestamp", std::sync::Arc::new(times)));
    assert_eq!(TimeSplit::by_share(&source, 0.5).unwrap().boundary.micros(), 105_000_000);
}

#[test]
fn what_cannot_be_split_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [event(7, "c", "eu", "/a", 1), event(7, "c", "eu", "/b", 1)];
    let source = write(&folder.path().join("log.parquet"), &rows, WriteOptions::default());
    assert!(matches!(TimeSplit::by_share(&source, 0.5), Err(Error::ZeroSpan { .. })));
    for share in [0.0, 1.0, -1.0, f64::NAN] {
        assert!(matches!(TimeSplit::by_share(&source, share), Err(Error::BadShare { .. })));
    }
    let nowhere = LogSource::from(folder.path().join("none").as_path());
    assert!(matches!(TimeSplit::by_share(&nowhere, 0.5), Err(Error::Io { .. })));
}
