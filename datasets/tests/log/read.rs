//! What readers accept and how files become one stream.

use std::{fs, path::Path, sync::Arc};

use arrow::{
    array::{
        ArrayRef, DictionaryArray, Int32Array, Int64Array, LargeStringArray, StringViewArray,
        TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt16Array,
    },
    datatypes::UInt16Type,
};
use nearcast_datasets::{
    ByteRange, CHUNK_ROWS_MAX, Error, LogReader, LogSource, MERGED_FILES_MAX, RequestEvent, Timestamp, WriteOptions,
    read_events,
};

use crate::support::{columns, columns_with, event, lines, read_all, write, write_foreign};

const FOUR_ROWS: [&str; 4] = ["0 c0 eu /a 10", "1 c1 us /b 20", "2 c0 eu /a 10", "3 c2 us /c 30"];

#[test]
fn every_common_column_type_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let keys = ["/a", "/b", "/a", "/c"];
    let dictionary = DictionaryArray::<UInt16Type>::new(
        UInt16Array::from(vec![0, 1, 0, 2]),
        Arc::new(LargeStringArray::from(vec!["/a", "/b", "/c"])),
    );
    let second = 1_000_000_000;
    let variants: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(LargeStringArray::from(keys.to_vec()))),
        ("key", Arc::new(StringViewArray::from(keys.to_vec()))),
        ("key", Arc::new(dictionary)),
        ("size", Arc::new(Int32Array::from(vec![10, 20, 10, 30]))),
        ("size", Arc::new(Int64Array::from(vec![10, 20, 10, 30]))),
        ("timestamp", Arc::new(TimestampSecondArray::from(vec![0, 1, 2, 3]))),
        ("timestamp", Arc::new(TimestampMillisecondArray::from(vec![0, 1_000, 2_000, 3_999]))),
        ("timestamp", Arc::new(TimestampNanosecondArray::from(vec![0, second, 2 * second, 3 * second + 1]))),
        (
            "timestamp",
            Arc::new(
                TimestampNanosecondArray::from(vec![0, second, 2 * second, 3 * second])
                    .with_timezone("America/Sao_Paulo"),
            ),
        ),
    ];
    for (index, (column, array)) in variants.into_iter().enumerate() {
        let kind = array.data_type().clone();
        let source = write_foreign(&folder.path().join(format!("{index}.parquet")), &columns_with(column, array));
        assert_eq!(lines(&source).unwrap(), FOUR_ROWS, "{column} as {kind}");
        let events: Vec<RequestEvent> = read_events(&source).unwrap().map(Result::unwrap).collect();
        assert_eq!((events.len(), events[3].key.as_str(), events[1].size_bytes), (4, "/c", 20));
    }
}

#[test]
fn unknown_columns_and_any_column_order_are_fine() {
    let folder = tempfile::tempdir().unwrap();
    let mut columns = columns();
    columns.reverse();
    columns.push(("referer", Arc::new(Int32Array::from(vec![1, 2, 3, 4]))));
    let source = write_foreign(&folder.path().join("log.parquet"), &columns);
    assert_eq!(lines(&source).unwrap(), FOUR_ROWS);
}

#[test]
fn text_too_varied_for_a_dictionary_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<RequestEvent> =
        (0..3_000).map(|row| event(row, "c", "eu", &format!("/{row}/{}", "x".repeat(900)), 1)).collect();
    // Parquet gives up a dictionary of more than 1 MiB halfway unless told otherwise.
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let times =
        arrow::array::TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.timestamp.micros()));
    let constant = |text: &str| Arc::new(arrow::array::StringArray::from(vec![text; rows.len()])) as ArrayRef;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("timestamp", Arc::new(times)),
        ("client", constant("c")),
        ("region", constant("eu")),
        ("key", Arc::new(arrow::array::StringArray::from(keys.clone()))),
        ("size", Arc::new(Int32Array::from(vec![1; rows.len()]))),
    ];
    let path = folder.path().join("log.parquet");
    let file = fs::File::create(&path).unwrap();
    let batch = arrow::array::RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let read: Vec<RequestEvent> = read_events(&LogSource::from(path.as_path())).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, rows);
    let (chunks, dictionaries) = read_all(&LogSource::from(path.as_path())).unwrap();
    assert_eq!(dictionaries.keys.name(chunks[0].keys[2_999].0).map(|key| &**key), Some(keys[2_999]));
}

#[test]
fn chunks_are_bounded_and_hold_every_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<RequestEvent> =
        (0..20_000).map(|row| event(row, &format!("c{}", row % 7), "eu", &format!("/{}", row % 999), 1)).collect();
    let options = WriteOptions { rows_per_group: 5_000, ..WriteOptions::default() };
    let source = write(&folder.path().join("log.parquet"), &rows, options);
    let (chunks, _) = read_all(&source).unwrap();
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_ROWS_MAX));
    assert_eq!(LogReader::open(&source).unwrap().row_count(), Some(20_000));
    let read: Vec<RequestEvent> = read_events(&source).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, rows);
    assert_eq!(lines(&source).unwrap()[19_999], "19999 c0 eu /19 1");
}

#[test]
fn files_that_overlap_in_time_are_merged_in_time_order() {
    let folder = tempfile::tempdir().unwrap();
    let node = |name: &str, seconds: &[i64]| {
        let rows: Vec<RequestEvent> = seconds.iter().map(|second| event(*second, name, "eu", "/a", 1)).collect();
        let day = folder.path().join("date=1970-01-01");
        write(&day.join(format!("{name}.parquet")), &rows, WriteOptions::default());
    };
    node("n1", &[1, 4, 4, 9]);
    node("n2", &[2, 3, 4, 12]);
    node("n3", &[10, 11]);
    let source = LogSource::from(folder.path());
    let merged: Vec<String> = lines(&source).unwrap().iter().map(|line| line.replace(" eu /a 1", "")).collect();
    let expected = ["1 n1", "2 n2", "3 n2", "4 n1", "4 n1", "4 n2", "9 n1", "10 n3", "11 n3", "12 n2"];
    assert_eq!(merged, expected);
    let events: Vec<String> = read_events(&source).unwrap().map(|event| event.unwrap().client).collect();
    assert_eq!(events, ["n1", "n2", "n2", "n1", "n1", "n2", "n1", "n3", "n3", "n2"]);
}

#[test]
fn any_number_of_days_is_read_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let days = MERGED_FILES_MAX as i64 + 10;
    let rows: Vec<RequestEvent> = (0..2 * days).map(|half| event(half * 43_200, "c", "eu", "/a", 1)).collect();
    let source = write(&log, &rows, WriteOptions { partition_by_date: true, ..WriteOptions::default() });
    fs::write(log.join("_SUCCESS.parquet"), "not a log").unwrap();
    fs::write(log.join(".hidden.parquet"), "not a log").unwrap();
    assert!(log.join("date=1970-01-02/part-0.parquet").is_file());
    let read: Vec<RequestEvent> = read_events(&source).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, rows);
}

#[test]
fn more_overlapping_files_than_the_bound_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let add = |number: usize| {
        let rows = [event(0, "c", "eu", "/a", 1), event(10, "c", "eu", "/a", 1)];
        write(&folder.path().join(format!("{number}.parquet")), &rows, WriteOptions::default());
    };
    (0..MERGED_FILES_MAX).for_each(add);
    let source = LogSource::from(folder.path());
    assert_eq!(lines(&source).unwrap().len(), 2 * MERGED_FILES_MAX);
    add(MERGED_FILES_MAX);
    assert!(matches!(lines(&source), Err(Error::TooManyOverlapping { max: MERGED_FILES_MAX, .. })));
}

#[test]
fn a_window_yields_exactly_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<RequestEvent> = (0..100).map(|row| event(row, "c", "eu", &format!("/{row}"), 1)).collect();
    let options = WriteOptions { rows_per_group: 10, ..WriteOptions::default() };
    let source = write(&folder.path().join("log.parquet"), &rows, options);
    let second = |second: i64| Timestamp::from_micros(second * 1_000_000);
    let mut reader = LogReader::open(&source).unwrap().within(second(25)..second(61));
    let mut dictionaries = nearcast_datasets::Dictionaries::default();
    let mut seconds = Vec::new();
    while let Some(chunk) = reader.next_chunk(&mut dictionaries).unwrap() {
        seconds.extend(chunk.timestamps.iter().map(|time| time.micros() / 1_000_000));
    }
    assert_eq!(seconds, (25..61).collect::<Vec<i64>>());
    assert_eq!((reader.row_count(), dictionaries.keys.len()), (None, 36));
}

#[test]
fn ranges_are_read_half_open_and_may_lack_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut columns = columns();
    let cells = |cells: [Option<u64>; 4]| Arc::new(arrow::array::UInt64Array::from(cells.to_vec())) as ArrayRef;
    columns.push(("range_start", cells([None, Some(5), Some(2), None])));
    columns.push(("range_end", cells([None, Some(15), None, Some(7)])));
    let source = write_foreign(&folder.path().join("log.parquet"), &columns);
    let (chunks, _) = read_all(&source).unwrap();
    let range = |start, end| Some(ByteRange { start, end });
    assert_eq!(chunks[0].ranges, [None, range(5, 15), range(2, 10), range(0, 7)]);
}

#[test]
fn the_bundled_sample_reads_whole_from_path_and_file_url() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/web-1995.parquet");
    let url = LogSource::parse(&format!("file://{}", path.display())).unwrap();
    let (chunks, dictionaries) = read_all(&url).unwrap();
    assert_eq!(chunks.iter().map(nearcast_datasets::EventChunk::len).sum::<usize>(), 27_824);
    let counts = (dictionaries.clients.len(), dictionaries.keys.len(), dictionaries.regions.len());
    assert_eq!(counts, (2_295, 1_731, 9));
}
