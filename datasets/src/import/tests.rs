//! Whole imports, from files to the log that is read back.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use super::*;
use crate::{Error, LogSource, PseudonymKey, RequestEvent, read_events, schema::DEFAULT_REGION};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Input {
        fs::write(self.path(name), content).unwrap();
        Input::File(self.path(name))
    }

    fn options(&self) -> ImportOptions {
        ImportOptions::new(PseudonymKey::from_secret(b"secret of the tests"), self.path("rejects.jsonl"))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn rows(path: &Path) -> Vec<RequestEvent> {
    read_events(&LogSource::from(path)).unwrap().map(Result::unwrap).collect()
}

/// A line of a combined log, `second` seconds after ten o'clock.
fn line(client: &str, second: u32, path: &str, status: u16, bytes: &str) -> String {
    let (minute, second) = (second / 60, second % 60);
    format!(
        "{client} - - [05/Mar/2024:10:{minute:02}:{second:02} +0000] \"GET {path} HTTP/1.1\" {status} {bytes} \"-\" \"test\"\n"
    )
}

#[test]
fn an_access_log_becomes_a_sorted_log_with_settled_sizes_and_pseudonyms() {
    let place = Place::new();
    let log = [
        line("192.0.2.1", 9, "/page", 304, "-"),
        line("192.0.2.1", 3, "/page", 200, "400"),
        line("192.0.2.2", 5, "/page", 200, "90"),
        line("192.0.2.2", 4, "/video", 206, "1000"),
        line("192.0.2.2", 6, "/gone", 404, "10"),
        line("192.0.2.3", 3, "/page", 200, "400"),
    ];
    let report = import(&[place.write("a.log", log.concat())], &place.path("out"), &place.options(), |_| {}).unwrap();
    let rows = rows(&place.path("out"));
    let seconds: Vec<_> = rows.iter().map(|row| row.timestamp.micros() / 1_000_000 % 60).collect();
    assert_eq!(seconds, [3, 3, 4, 5, 9]);
    let sizes: Vec<_> = rows.iter().map(|row| (&*row.key, row.size_bytes)).collect();
    assert_eq!(sizes, [("/page", 400), ("/page", 400), ("/video", 1_000), ("/page", 400), ("/page", 400)]);
    assert!(rows.iter().all(|row| row.client.len() == 16 && row.region == DEFAULT_REGION));
    assert_eq!(rows[0].client, rows[4].client);
    assert_ne!(rows[0].client, rows[1].client);
    assert_eq!((report.requests, report.lines, report.rejected, report.reordered), (5, 6, 0, 4));
    assert_eq!(report.skipped, [("status 404".to_owned(), 1)].into());
    assert_eq!((report.keys, report.clients, report.sizes.partial_keys), (2, 3, 1));
    assert!(place.path("out/date=2024-03-05").is_dir() && report.rejects_file.is_none());
}

#[test]
fn spilling_to_disk_changes_nothing() {
    let place = Place::new();
    let log: String =
        (0..500).map(|index| line("192.0.2.1", index * 7 % 600, &format!("/{index}"), 200, "8")).collect();
    let input = place.write("a.log", log);
    let mut options = place.options();
    import(std::slice::from_ref(&input), &place.path("whole.parquet"), &options, |_| {}).unwrap();
    options.bounds.rows_in_memory = 37;
    let report = import(&[input], &place.path("spilled.parquet"), &options, |_| {}).unwrap();
    assert_eq!(report.spilled_runs, 500 / 37);
    assert_eq!(fs::read(place.path("whole.parquet")).unwrap(), fs::read(place.path("spilled.parquet")).unwrap());
    assert_eq!(place.names(), ["a.log", "spilled.parquet", "whole.parquet"]);
}

#[test]
fn compressed_and_empty_inputs_of_several_formats_become_one_log() {
    let place = Place::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(line("192.0.2.1", 1, "/a", 200, "5").as_bytes()).unwrap();
    let json = r#"{"time":"2024-03-05T10:00:02Z","uri":"/b","remote_addr":"192.0.2.1","bytes":6,"status":200}"#;
    let inputs = [
        place.write("c.json", json),
        place.write("a.log.1.gz", gzip.finish().unwrap()),
        place.write("empty.log", ""),
        place.write(
            "d.csv.zst",
            zstd::encode_all(&b"ts,url,ip,size,region\n1709632803,/c,192.0.2.1,7,eu\n"[..], 1).unwrap(),
        ),
    ];
    let mut chosen = Vec::new();
    let report = import(&inputs, &place.path("out.parquet"), &place.options(), |progress| {
        if let Progress::Chosen { format, .. } = progress {
            chosen.push(format);
        }
    })
    .unwrap();
    assert_eq!(chosen, [Format::Jsonl, Format::Combined, Format::Delimited]);
    let found = rows(&place.path("out.parquet"));
    let found: Vec<_> = found.iter().map(|row| (&*row.key, row.size_bytes, &*row.region)).collect();
    assert_eq!(found, [("/a", 5, DEFAULT_REGION), ("/b", 6, DEFAULT_REGION), ("/c", 7, "eu")]);
    assert_eq!((report.clients, report.inputs.len(), report.inputs[2].format), (1, 4, None));
}

#[test]
fn ranges_of_delimited_text_are_kept() {
    let place = Place::new();
    let input =
        place.write("a.csv", "timestamp,key,size,range_start,range_end\n1,a,100,10,20\n2,a,100,,\n3,a,100,9,9\n");
    let mut options = place.options();
    options.format = Some(Format::Delimited);
    options.max_reject_share = 0.5;
    let report = import(&[input], &place.path("out.parquet"), &options, |_| {}).unwrap();
    let ranges: Vec<_> = rows(&place.path("out.parquet")).iter().map(|row| row.range).collect();
    assert_eq!(ranges, [Some(crate::ByteRange { start: 10, end: 20 }), None]);
    assert_eq!(report.reject_reasons, [("bad_range".to_owned(), 1)].into());
}

#[test]
fn too_many_bad_lines_leave_only_the_rejects() {
    let place = Place::new();
    let good = line("192.0.2.1", 1, "/a", 200, "5").repeat(98);
    let input = place.write("a.log", format!("{good}192.0.2.77 - - [broken\n192.0.2.78 nonsense\n"));
    let mut options = place.options();
    let error = import(std::slice::from_ref(&input), &place.path("out"), &options, |_| {}).unwrap_err();
    assert!(matches!(&error, Error::Import(ImportError::TooManyRejects { rejected: 2, lines: 100, .. })), "{error}");
    assert!(error.to_string().contains("bad_timestamp: 1, missing_field: 1"), "{error}");
    assert_eq!(place.names(), ["a.log", "rejects.jsonl"]);
    let rejects = fs::read_to_string(place.path("rejects.jsonl")).unwrap();
    assert!(rejects.contains("\"line\":99,\"reason\":\"bad_timestamp\",\"raw\":\"<client> - - [broken\""), "{rejects}");
    assert!(!rejects.contains("192.0.2"), "{rejects}");
    // At the bound itself the import goes through.
    options.max_reject_share = 0.02;
    assert_eq!(import(&[input], &place.path("out"), &options, |_| {}).unwrap().rejected, 2);
}

#[test]
fn a_line_beyond_the_bound_is_rejected_and_the_next_one_read() {
    let place = Place::new();
    let long = line("192.0.2.1", 1, &format!("/{}", "x".repeat(3 << 20)), 200, "5");
    let input = place.write(
        "a.log",
        format!("{}{long}{}", line("192.0.2.1", 1, "/a", 200, "5"), line("192.0.2.1", 2, "/b", 200, "5")),
    );
    let mut options = place.options();
    options.max_reject_share = 0.5;
    let report = import(&[input], &place.path("out.parquet"), &options, |_| {}).unwrap();
    assert_eq!((report.requests, report.reject_reasons), (2, [("line_too_long".to_owned(), 1)].into()));
    assert!(fs::metadata(place.path("rejects.jsonl")).unwrap().len() < 4_096);
}

#[test]
fn inputs_without_a_request_and_unreadable_ones_are_refused() {
    let place = Place::new();
    let refused = |input: Input, out: &str| {
        let error = import(&[input], &place.path(out), &place.options(), |_| {}).unwrap_err();
        assert!(!place.path(out).exists());
        error
    };
    let empty = refused(place.write("empty.log", ""), "out");
    assert!(matches!(empty, Error::Import(ImportError::NothingKept { lines: 0, .. })), "{empty}");
    let prose = refused(place.write("prose.txt", "once upon a time\n"), "out");
    assert!(matches!(prose, Error::Import(ImportError::Unrecognised { .. })), "{prose}");
    let missing = refused(Input::File(place.path("missing.log")), "out");
    assert!(matches!(missing, Error::Import(ImportError::Input { .. })), "{missing}");
    let mut cut = zstd::encode_all(line("192.0.2.1", 1, "/a", 200, "5").repeat(9_999).as_bytes(), 1).unwrap();
    cut.truncate(cut.len() / 2);
    let cut = refused(place.write("cut.zst", cut), "out");
    assert!(matches!(cut, Error::Import(ImportError::Input { .. })), "{cut}");
}

#[test]
fn a_log_exported_and_imported_again_is_the_same_but_for_names() {
    let place = Place::new();
    let keys = ["/a", "/b", "/a", "/c", "/a", "/b"];
    let lines: String = keys.iter().zip(0..).map(|(key, at)| format!("{},{key},{}\n", 1_000 + at, at % 3)).collect();
    let mut options = place.options();
    options.columns = "timestamp=1,key=2,size=3".parse().unwrap();
    import(&[place.write("a.csv", lines)], &place.path("log.parquet"), &options, |_| {}).unwrap();

    let trace = place.path("trace.bin");
    let export = ExportOptions { region: None, seed: 1 };
    let exported = export_oracle_general(&LogSource::from(&*place.path("log.parquet")), &trace, &export).unwrap();
    assert_eq!((exported.requests, exported.objects, exported.sizes_raised), (6, 3, 2));
    let bytes = fs::read(&trace).unwrap();
    let records: Vec<_> = bytes
        .chunks_exact(24)
        .map(|record| {
            let id = u64::from_le_bytes(record[4..12].try_into().unwrap());
            (id, i64::from_le_bytes(record[16..].try_into().unwrap()))
        })
        .collect();
    assert_eq!(records.iter().map(|(_, next)| *next).collect::<Vec<_>>(), [2, 5, 4, -1, -1, -1]);
    let mut ids: Vec<_> = records.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, [1, 2, 3]);

    let mut options = place.options();
    options.start = crate::Timestamp::from_micros(1_000_000_000);
    let report = import(&[Input::File(trace)], &place.path("again.parquet"), &options, |_| {}).unwrap();
    assert_eq!(report.inputs[0].format, Some(Format::OracleGeneral));
    let (before, after) = (rows(&place.path("log.parquet")), rows(&place.path("again.parquet")));
    assert_eq!(after.len(), 6);
    for (one, two) in before.iter().zip(&after) {
        assert_eq!((one.timestamp, one.size_bytes.max(1)), (two.timestamp, two.size_bytes));
        let same = |rows: &[RequestEvent], key: &str| rows.iter().map(|row| row.key == key).collect::<Vec<_>>();
        assert_eq!(same(&before, &one.key), same(&after, &two.key));
    }
}

#[test]
fn object_numbers_of_an_export_are_no_order_of_first_appearance() {
    let place = Place::new();
    let lines: String = (0..200).map(|at| format!("{at},/{at},1,{}\n", if at < 150 { "eu" } else { "us" })).collect();
    let mut options = place.options();
    options.columns = "timestamp=1,key=2,size=3,region=4".parse().unwrap();
    import(&[place.write("a.csv", lines)], &place.path("log.parquet"), &options, |_| {}).unwrap();
    let source = LogSource::from(&*place.path("log.parquet"));
    let ids = |region: Option<&str>, seed| {
        let options = ExportOptions { region: region.map(str::to_owned), seed };
        export_oracle_general(&source, &place.path("trace.bin"), &options)?;
        let bytes = fs::read(place.path("trace.bin")).unwrap();
        Ok::<_, Error>(bytes.chunks_exact(24).map(|record| record[4]).collect::<Vec<u8>>())
    };
    let all = ids(None, 1).unwrap();
    let successors = all.windows(2).filter(|pair| pair[0].checked_add(1) == Some(pair[1])).count();
    assert!(all.len() == 200 && successors < 10, "{successors} numbers follow the one before");
    assert_ne!(all, ids(None, 2).unwrap());
    assert_eq!(all, ids(None, 1).unwrap());
    assert_eq!(ids(Some("us"), 1).unwrap().len(), 50);
    let error = ids(Some("asia"), 1).unwrap_err().to_string();
    assert!(error.contains("the log has eu, us"), "{error}");
}
