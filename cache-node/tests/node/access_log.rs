//! The access log: what it says, that importing reads it back, and that it can be rotated.

use std::{path::Path, time::Duration};

use hyper::Method;
use nearcast_datasets::{
    LogSource, PseudonymKey, RequestEvent,
    import::{Format, ImportOptions, Input, import},
    read_events,
};
use percent_encoding::percent_decode_str;

use crate::{
    origin::{Behaviour, Origin},
    running::{Node, config},
};

async fn start(dir: &Path, origin: &Origin, more: &str) -> Node {
    let section = format!("[access_log]\npath = \"{}\"\n{more}", dir.join("access.log").display());
    Node::start(config("n1", dir, &origin.url(), &section)).await
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}

async fn wait_for_lines(path: &Path, count: usize) -> Vec<String> {
    for _ in 0..2_000 {
        if lines(path).len() >= count {
            return lines(path);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {count} lines: {:#?}", lines(path));
}

#[tokio::test]
async fn each_request_is_a_combined_line_whatever_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let node = start(dir.path(), &origin, "client = \"address\"\nextra_fields = true").await;
    let agent = [("user-agent", "a \"quoted\" \\"), ("referer", "http://x/\ty")];
    node.send(Method::GET, "/a?b=%22", &agent).await;
    node.send(Method::GET, "/a?b=%22", &[("range", "bytes=10-19"), ("nearcast-client", "alice")]).await;
    node.send(Method::HEAD, "/a?b=%22", &[]).await;
    node.get("/x/../../y").await;
    node.get("/_nearcast/status").await;
    origin.stop().await;
    node.get("/c").await;
    node.stop().await;

    let lines = lines(&dir.path().join("access.log"));
    let without = |line: &str| {
        // What differs from run to run.
        let (before, rest) = line.split_once(" [").expect("a time");
        let (_, rest) = rest.split_once("] ").expect("its end");
        let (rest, _) = rest.split_once(" time=").expect("extra fields");
        format!("{before} {rest}")
    };
    let told: Vec<String> = lines.iter().map(|line| without(line)).collect();
    assert_eq!(
        told,
        [
            "127.0.0.1 - - \"GET /a?b=%22 HTTP/1.1\" 200 10000 \"http://x/\\x09y\" \
             \"a \\x22quoted\\x22 \\x5C\" cache=origin cause=first",
            "127.0.0.1 - - \"GET /a?b=%22 HTTP/1.1\" 206 10 \"-\" \"-\" cache=memory cause=-",
            "127.0.0.1 - - \"HEAD /a?b=%22 HTTP/1.1\" 200 0 \"-\" \"-\" cache=memory cause=-",
            "127.0.0.1 - - \"GET /x/../../y HTTP/1.1\" 400 0 \"-\" \"-\" cache=error cause=-",
            &told[4],
        ]
    );
    assert!(told[4].starts_with("127.0.0.1 - - \"GET /c HTTP/1.1\" 502 "), "{}", told[4]);
}

#[tokio::test]
async fn importing_reads_back_what_a_node_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let node = start(dir.path(), &origin, "").await;
    for (target, client) in [("/a", "alice"), ("/b%20c", "bob builder"), ("/a", "alice"), ("/caf%C3%A9?q=%22", "x")] {
        node.send(Method::GET, target, &[("nearcast-client", client), ("user-agent", "it's \"me\"")]).await;
    }
    node.stop().await;

    let out = dir.path().join("imported.parquet");
    let mut options = ImportOptions::new(PseudonymKey::from_secret(b"one"), dir.path().join("rejects"));
    options.format = Some(Format::Combined);
    let input = Input::File(dir.path().join("access.log"));
    let report = import(&[input], &out, &options, |_| {}).expect("it imports");
    assert_eq!((report.lines, report.requests, report.clients), (4, 4, 3), "{report:?}");
    let source = LogSource::parse(&out.display().to_string()).expect("a file");
    let read: Vec<_> = read_events(&source).expect("a log").map(|event| event.expect("a row")).collect();
    let logged = LogSource::parse(&dir.path().join("logs").display().to_string()).expect("a folder");
    let logged: Vec<_> = read_events(&logged).expect("a log").map(|event| event.expect("a row")).collect();
    let facts = |events: &[RequestEvent]| -> Vec<(i64, String, u64)> {
        // The access log knows whole seconds, and targets as they were sent.
        let second = |event: &RequestEvent| event.timestamp.micros().div_euclid(1_000_000);
        let key = |event: &RequestEvent| percent_decode_str(&event.key).decode_utf8_lossy().into_owned();
        let mut facts: Vec<_> = events.iter().map(|event| (second(event), key(event), event.size_bytes)).collect();
        facts.sort();
        facts
    };
    assert_eq!(facts(&read).len(), 4);
    assert_eq!(facts(&read), facts(&logged), "the same as in the node's own request log");
}

#[tokio::test]
async fn a_rotated_log_goes_on_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour::default()).await;
    let node = start(dir.path(), &origin, "format = \"json\"").await;
    let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    node.get("/before").await;
    let line: serde_json::Value = serde_json::from_str(&wait_for_lines(&path, 1).await[0]).expect("JSON");
    assert_eq!((&line["key"], &line["outcome"], &line["status"]), (&"/before".into(), &"origin".into(), &200.into()));
    assert_eq!(line["client"].as_str().map(str::len), Some(16), "a pseudonym");
    std::fs::rename(&path, &old).unwrap();
    // Without a word, it is noticed.
    for _ in 0..2_000 {
        if path.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.get("/after").await;
    assert!(wait_for_lines(&path, 1).await[0].contains("\"/after\""));
    assert_eq!(lines(&old).len(), 1);
    let status = node.status().await;
    assert_eq!(status["repairs"]["access_log_dropped"], 0);
    node.stop().await;
}
