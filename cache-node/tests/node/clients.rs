//! Clients that are in use: curl, a player that seeks, and tools that read Parquet over HTTP. Each gets the origin's bytes,
//! and the origin sends no more than it needs.

use std::{path::Path, process::Command};

use bytes::Bytes;
use hyper::StatusCode;
use nearcast_cache_node::NodeConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    origin::{Behaviour, Origin},
    python::{self, SKIPPED, run_python},
    running::{Node, config_text, pair},
};

/// A node with segments of 64 KiB before an origin whose every object is `file`.
async fn before(file: Bytes) -> (Origin, Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let headers = &[("last-modified", "Thu, 01 Jan 1998 00:00:00 GMT")];
    let behaviour = Behaviour { size: file.len(), file: Some(file), headers, ..Behaviour::default() };
    let origin = Origin::start(behaviour).await;
    let text = config_text("n1", dir.path(), &origin.url(), "").replace("4KiB", "64KiB").replace("4MiB", "64MiB");
    let config = NodeConfig::parse(&text, Path::new("node.toml")).expect("a valid configuration");
    (origin, Node::start(config).await, dir)
}

async fn fetched(node: &Node) -> u64 {
    node.status().await["bytes"]["from_origin"].as_u64().expect("a number")
}

/// What curl says on stdout; `None` where there is no curl.
async fn curl(arguments: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60"]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").ok()?;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_fetches_resumes_and_asks_conditionally() {
    let (origin, node, dir) = pair(Behaviour { size: 50_000, ..Behaviour::default() }).await;
    let (content, url) = (origin.content("/x"), format!("{}/x", node.url()));
    let Some(part) = curl(&["--range", "5000-5009", &url]).await else { return eprintln!("skipped: no curl") };
    assert_eq!(part, content[5_000..5_010]);
    assert_eq!(fetched(&node).await, 4_096, "one segment");
    assert_eq!(curl(&["--range", "-7", &url]).await.unwrap(), content[49_993..]);
    let parts = curl(&["--include", "--range", "0-9,20000-20009", &url]).await.unwrap();
    let head = String::from_utf8_lossy(&parts).to_ascii_lowercase();
    assert!(head.contains("206 partial content") && head.contains("multipart/byteranges"), "{head}");
    for piece in [&content[..10], &content[20_000..20_010]] {
        assert!(parts.windows(10).any(|window| window == piece));
    }
    let file = dir.path().join("resumed");
    std::fs::write(&file, &content[..30_000]).unwrap();
    curl(&["--continue-at", "-", "--output", file.to_str().unwrap(), &url]).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), content);
    let head = String::from_utf8(curl(&["--head", &url]).await.unwrap()).unwrap().to_ascii_lowercase();
    assert!(head.contains("200 ok") && head.contains("content-length: 50000") && head.contains("accept-ranges: bytes"));
    let again = curl(&["--write-out", "%{http_code}", "--header", "if-none-match: \"v1\"", &url]).await.unwrap();
    assert_eq!(again, b"304");
    let http2 = curl(&["--http2-prior-knowledge", "--write-out", "%{http_version}", "--range", "0-0", &url]).await;
    assert_eq!(http2.unwrap(), [&content[..1], b"2"].concat());
}

#[tokio::test]
async fn a_player_that_seeks_costs_what_it_plays_and_a_little_ahead() {
    let content: Vec<u8> = (0..8_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let content = Bytes::from(content);
    let (_origin, node, _dir) = before(content.clone()).await;
    // It asks for all the rest, plays some, and goes elsewhere: to the index at the end, back, and forth.
    let mut played = 0;
    for (start, length) in
        [(0, 300_000), (31_900_000, 100_000), (300_000, 400_000), (16_000_000, 500_000), (0, 300_000)]
    {
        let mut stream = tokio::net::TcpStream::connect(node.address).await.expect("it listens");
        let request = format!("GET /film HTTP/1.1\r\nhost: x\r\nrange: bytes={start}-\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let body = loop {
            let body = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
            if let Some(body) = body.filter(|body| answer.len() >= body + length) {
                break body;
            }
            let reading = stream.read_buf(&mut answer);
            let count = tokio::time::timeout(std::time::Duration::from_secs(60), reading).await.expect("in time");
            assert!(count.expect("it goes on") > 0);
        };
        assert!(answer.starts_with(b"HTTP/1.1 206 "));
        assert_eq!(&answer[body..body + length], &content[start..start + length]);
        played += length as u64;
    }
    let fetched = fetched(&node).await;
    assert!(fetched < played + (16 << 20), "{fetched} for {played}: half of the film is never asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_read_parquet_through_a_node_and_only_what_they_need_of_it() {
    let packages = ["aiohttp", "duckdb", "duckdb_extension_httpfs", "fsspec", "pyarrow"];
    let Some(python) = python::with(&packages) else { return eprintln!("{SKIPPED}") };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet").display().to_string();
    let script = |arguments: Vec<String>| {
        let python = python.clone();
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run_python(&python, "http_clients.py", &arguments, "")
        })
    };
    script(vec!["write".to_owned(), path.clone()]).await.expect("it writes");
    let file = Bytes::from(std::fs::read(&path).expect("a file"));
    let size = file.len() as u64;
    let (_origin, node, _dir) = before(file).await;
    for (tool, share) in [("pyarrow", 8), ("duckdb", 4)] {
        let before = fetched(&node).await;
        let url = format!("{}/{tool}.parquet", node.url());
        script(vec![tool.to_owned(), url.clone(), path.clone()]).await.expect("it reads the same as from the file");
        let cost = fetched(&node).await - before;
        assert!(cost > 0 && cost < size / share, "{tool}: {cost} of {size} bytes");
        // What is held already costs nothing when it is asked for again, and the rest makes it whole.
        script(vec![tool.to_owned(), url.clone(), path.clone()]).await.expect("again");
        assert_eq!(fetched(&node).await - before, cost, "{tool}");
        script(vec!["whole".to_owned(), url, path.clone()]).await.expect("byte for byte");
        assert_eq!(fetched(&node).await - before, size, "{tool}: each byte once");
    }
    assert_eq!(node.get("/pyarrow.parquet").await.status, StatusCode::OK);
}
