//! Merging, against sorting everything.

use nearcast_datasets::{LogSource, RequestEvent, WriteOptions, read_events};
use proptest::prelude::*;

use crate::support::{event, lines, write};

/// Files of a log as the seconds of their rows, and the row-group size each is written with.
fn files() -> impl Strategy<Value = Vec<(Vec<i64>, usize)>> {
    let file = (prop::collection::vec(0_i64..40, 1..60), 1_usize..20);
    prop::collection::vec(file, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However rows are cut into files and row groups, they come out in time order, each once, and rows of one file
    /// stay in their order.
    #[test]
    fn any_cut_into_files_reads_as_one_sorted_log(files in files()) {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for (number, (mut seconds, rows_per_group)) in files.into_iter().enumerate() {
            seconds.sort_unstable();
            let row = |(index, second): (usize, &i64)| event(*second, &format!("f{number}"), "eu", &format!("/{index}"), 1);
            let rows: Vec<RequestEvent> = seconds.iter().enumerate().map(row).collect();
            let options = WriteOptions { rows_per_group, ..WriteOptions::default() };
            write(&folder.path().join(format!("{number}.parquet")), &rows, options);
            expected.extend(rows);
        }
        let source = LogSource::from(folder.path());
        let read: Vec<RequestEvent> = read_events(&source).unwrap().map(Result::unwrap).collect();
        prop_assert!(read.is_sorted_by_key(|row| row.timestamp));
        for file in 0..6 {
            let of_file = |rows: &[RequestEvent]| -> Vec<RequestEvent> {
                rows.iter().filter(|row| row.client == format!("f{file}")).cloned().collect()
            };
            prop_assert_eq!(of_file(&read), of_file(&expected));
        }
        let coded = lines(&source).unwrap();
        let plain: Vec<String> = read
            .iter()
            .map(|row| format!("{} {} eu {} 1", row.timestamp.micros() / 1_000_000, row.client, row.key))
            .collect();
        prop_assert_eq!(coded, plain);
    }
}
