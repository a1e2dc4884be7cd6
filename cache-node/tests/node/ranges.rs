//! Ranges (RFC 9110, section 14): what clients get, and what the origin is asked for it.

use std::path::Path;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use nearcast_cache_node::NodeConfig;

use crate::{
    origin::{Behaviour, Origin},
    running::{Answer, Node, config_text, pair},
};

/// The parts of a multipart answer: what its `Content-Range` says, and its bytes.
fn parts(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{answer:?}");
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    let boundary = answer.header("content-type").strip_prefix("multipart/byteranges; boundary=").expect("multipart");
    assert_eq!(answer.header("content-range"), "", "it belongs to the parts");
    let body: &[u8] = &answer.body;
    let (mut rest, mut parts) = (body.strip_prefix(format!("--{boundary}").as_bytes()).expect("a boundary"), vec![]);
    let between = format!("\r\n--{boundary}");
    while rest != b"--\r\n" {
        let end = rest.windows(between.len()).position(|window| window == between.as_bytes()).expect("a boundary");
        let part = rest[..end].strip_prefix(b"\r\n").expect("a line's end");
        let head_end = part.windows(4).position(|window| window == b"\r\n\r\n").expect("an empty line");
        let head = String::from_utf8(part[..head_end].to_vec()).expect("text");
        assert!(head.contains("content-type: application/x-test\r\n"), "{head}");
        let range = head.lines().find_map(|line| line.strip_prefix("content-range: ")).expect("a range").to_owned();
        parts.push((range, part[head_end + 4..].to_vec()));
        rest = &rest[end + between.len()..];
    }
    parts
}

/// What [`parts`] finds for these ranges of `content`.
fn cut(content: &Bytes, ranges: &[(usize, usize)]) -> Vec<(String, Vec<u8>)> {
    let size = content.len();
    let of =
        |&(start, end): &(usize, usize)| (format!("bytes {start}-{}/{size}", end - 1), content[start..end].to_vec());
    ranges.iter().map(of).collect()
}

/// The ranges that the origin was asked for, in order.
fn asked(origin: &Origin) -> Vec<String> {
    origin.seen().into_iter().filter_map(|seen| seen.range).collect()
}

#[tokio::test]
async fn several_ranges_are_parts_of_one_answer_and_cost_the_segments_they_lie_in() {
    let (origin, node, _dir) = pair(Behaviour { size: 100_000, ..Behaviour::default() }).await;
    let content = origin.content("/x");
    let ask = async |range: &str| node.send(Method::GET, "/x", &[("range", range)]).await;
    let cold = ask("bytes=50000-50009,4000-9000,99990-").await;
    assert_eq!(parts(&cold), cut(&content, &[(50_000, 50_010), (4_000, 9_001), (99_990, 100_000)]));
    let mut of_origin = asked(&origin);
    of_origin.sort();
    // Segments of 4 KiB: 0 to 2, 12 and 24.
    let segments = ["bytes=0-4095", "bytes=4096-8191", "bytes=49152-53247", "bytes=8192-12287", "bytes=98304-102399"];
    assert_eq!(of_origin, segments);
    assert_eq!(node.status().await["bytes"]["from_origin"], 4 * 4_096 + (100_000 - 98_304));
    let warm = ask("bytes=50000-50009,4000-9000,99990-").await;
    assert_eq!((&warm.body, warm.cache()), (&cold.body, "hit; detail=memory"));
    assert_eq!(origin.seen().len(), segments.len());
    // Parts of one segment, and one part that reaches into the next.
    assert_eq!(parts(&ask("bytes=0-0,200-209,4090-4100").await), cut(&content, &[(0, 1), (200, 210), (4_090, 4_101)]));
    assert_eq!(origin.seen().len(), segments.len());
}

#[tokio::test]
async fn ranges_that_come_down_to_one_are_a_single_part() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    let content = origin.content("/x");
    for (range, from, to) in [
        ("bytes=0-9,10-19", 0, 20),
        ("bytes=5000-,5010-6000,9000-", 5_000, 10_000),
        ("bytes=10-19,99999-", 10, 20),
        ("bytes=99999-,-10", 9_990, 10_000),
    ] {
        let answer = node.send(Method::GET, "/x", &[("range", range)]).await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {from}-{}/10000", to - 1), "{range}");
        assert_eq!((answer.header("content-type"), &answer.body), ("application/x-test", &content.slice(from..to)));
    }
}

#[tokio::test]
async fn a_range_beyond_the_end_is_416_however_it_is_found_out_and_spoils_nothing() {
    for honours_ranges in [true, false] {
        let (origin, node, _dir) = pair(Behaviour { honours_ranges, ..Behaviour::default() }).await;
        let content = origin.content("/x");
        for range in ["bytes=20000-", "bytes=10000-10001", "bytes=99999999999999999999-", "bytes=20000-,30000-"] {
            for _cold_then_known in 0..2 {
                let beyond = node.send(Method::GET, "/x", &[("range", range)]).await;
                let said = (beyond.status, beyond.header("content-range"), beyond.body.len());
                assert_eq!(said, (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */10000", 0), "{range} {honours_ranges}");
                assert_eq!(beyond.header("cache-control"), "", "nobody may keep it as the object");
            }
        }
        let whole = node.get("/x").await;
        assert_eq!((whole.status, &whole.body), (StatusCode::OK, &content));
        // A suffix beside it can be satisfied all the same.
        let target = "/y";
        let suffix = node.send(Method::GET, target, &[("range", "bytes=20000-,-10")]).await;
        assert_eq!(
            (suffix.status, &suffix.body),
            (StatusCode::PARTIAL_CONTENT, &origin.content(target).slice(9_990..))
        );
    }
}

#[tokio::test]
async fn what_is_no_range_of_bytes_gets_the_whole() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    let content = origin.content("/x");
    let many = format!("bytes={}", (0..65).map(|at| format!("{0}-{0}", at * 100)).collect::<Vec<_>>().join(","));
    for range in ["bytes=9-5", "bytes=-", "bytes=1-2,x", "lines=1-2", "bytes", "", "bytes=0-1;2-3", &many] {
        let answer = node.send(Method::GET, "/x", &[("range", range)]).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &content), "{range}");
    }
    let twice = node.send(Method::GET, "/x", &[("range", "bytes=0-1"), ("range", "bytes=2-3")]).await;
    assert_eq!((twice.status, &twice.body), (StatusCode::OK, &content));
    let head = node.send(Method::HEAD, "/x", &[("range", "bytes=0-9")]).await;
    assert_eq!(
        (head.status, head.header("content-length"), head.header("content-range")),
        (StatusCode::OK, "10000", "")
    );
    let unknown = node.send(Method::HEAD, "/unknown", &[("range", "bytes=0-9")]).await;
    assert_eq!((unknown.status, origin.seen().last().unwrap().range.clone()), (StatusCode::OK, None));
}

#[tokio::test]
async fn a_condition_on_a_range_is_a_strong_tag_or_a_date_that_is_strong() {
    let headers = &[("last-modified", "Thu, 01 Jan 1998 00:00:00 GMT")];
    let (origin, node, _dir) = pair(Behaviour { headers, ..Behaviour::default() }).await;
    let content = origin.content("/x");
    for (condition, holds) in [
        ("\"v1\"", true),
        ("\"v0\"", false),
        ("W/\"v1\"", false),
        ("Thu, 01 Jan 1998 00:00:00 GMT", true),
        ("Thu, 01 Jan 1998 00:00:01 GMT", false),
    ] {
        for range in ["bytes=5000-5009", "bytes=5000-5009,9000-"] {
            let answer = node.send(Method::GET, "/x", &[("range", range), ("if-range", condition)]).await;
            let expected = if holds { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
            assert_eq!(answer.status, expected, "{condition} {range}");
            assert!(holds || answer.body == content, "{condition} {range}");
        }
    }
}

#[tokio::test]
async fn overlapping_and_scattered_ranges_cost_at_most_the_object() {
    let (origin, node, _dir) = pair(Behaviour { size: 200_000, ..Behaviour::default() }).await;
    let content = origin.content("/x");
    let overlapping = format!("bytes={}", (0..64).map(|at| format!("{at}-")).collect::<Vec<_>>().join(","));
    let answer = node.send(Method::GET, "/x", &[("range", &overlapping)]).await;
    assert_eq!((answer.status, &answer.body), (StatusCode::PARTIAL_CONTENT, &content));
    // Back and forth between segments.
    let scattered = (0..64).map(|at| if at % 2 == 0 { at * 200 } else { 190_000 - at * 200 });
    let scattered = format!("bytes={}", scattered.map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(","));
    let answer = node.send(Method::GET, "/y", &[("range", &scattered)]).await;
    assert_eq!(parts(&answer).len(), 64);
    let fetched = node.status().await["bytes"]["from_origin"].as_u64().expect("a number");
    assert!(fetched <= 200_000 + 10 * 4_096, "{fetched}");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_transfers_of_its_parts_back() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start(Behaviour { size: 12 << 20, ..Behaviour::default() }).await;
    let text = config_text("n1", dir.path(), &origin.url(), "[front]\nread_ahead_max = 2");
    // With room for all of it: the store can hang when its runtime ends while it is making room (foyer 0.22).
    let text = text.replace("4MiB", "64MiB");
    let node = Node::start(NodeConfig::parse(&text, Path::new("node.toml")).expect("a valid configuration")).await;
    let mut stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let request = "GET /x HTTP/1.1\r\nhost: x\r\nrange: bytes=0-5999999,7000000-\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    // Until nothing more is fetched: what fits into the sockets' buffers, and two segments.
    let fetched = async || node.status().await["bytes"]["from_origin"].as_u64().expect("a number");
    let mut before = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let now = fetched().await;
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(before < 8 << 20, "{before}");
}
