//! Requests that are malformed, or that two servers could understand differently: refused, and never a second request.

use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    origin::{Behaviour, Origin},
    raw::{RawOrigin, Reply, send, statuses},
    running::{Node, config, pair},
};

/// What must hold after any bad input: the node serves, what it serves is right, and the origin saw no `/smuggled`.
async fn check_unharmed(origin: &Origin, node: &Node, after: &str) {
    for target in ["/x", "/victim"] {
        let answer = node.get(target).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &origin.content(target)), "after {after:?}");
    }
    assert!(origin.seen().iter().all(|seen| !seen.target.contains("smuggled")), "{after:?}: {:?}", origin.seen());
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_ends_its_connection() {
    let (origin, node, _dir) = pair(Behaviour { size: 100, ..Behaviour::default() }).await;
    let hidden = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let long = "a".repeat(3_000);
    for (expected, request) in [
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 5, 6\r\n\r\nhello"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: +5\r\n\r\nhello"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 0x5\r\n\r\nhello"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 5 5\r\n\r\nhello"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: \r\n\r\nhello"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\nhello"),
        (431, "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 18446744073709551615\r\n\r\nhello"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        (501, "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (501, "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        (501, "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, "POST /x HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n"),
        (400, "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length : 5\r\n\r\nhello"),
        (400, "GET /x HTTP/1.1\r\nhost: x\r\na: b\r\n folded\r\n\r\n"),
        (400, "GET /x HTTP/1.1\r\n host: x\r\n\r\n"),
        (400, "GET /x HTTP/1.1\r\nhost: x\r\na: b\rc: d\r\n\r\n"),
        (400, "GET /x HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n"),
        (400, "GET /x HTTP/1.1\r\nhost: x\r\na\0b: c\r\n\r\n"),
        (400, "GET /x HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n"),
        (400, "GET /x HTTP/1.1\r\nhost: x\r\n: no name\r\n\r\n"),
        (400, "GET /x HTTP/1.1\r\n\r\n"),
        (400, "GET /x HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n"),
        (400, "GET /x HTTP/1.1\r\nhost: x y\r\n\r\n"),
        (400, "GET /x HTTP/1.1\r\nhost: x/../y\r\n\r\n"),
        (400, "GET x HTTP/1.1\r\nhost: x\r\n\r\n"),
        (400, "GET * HTTP/1.1\r\nhost: x\r\n\r\n"),
        (400, "GET  /x HTTP/1.1\r\nhost: x\r\n\r\n"),
        (400, "GET /x y HTTP/1.1\r\nhost: x\r\n\r\n"),
        (400, "GET /x\0y HTTP/1.1\r\nhost: x\r\n\r\n"),
        (400, "GET /x HTTP/1.2\r\nhost: x\r\n\r\n"),
        (400, "GET /x HTTP/2.0\r\nhost: x\r\n\r\n"),
        (400, "GET /x http/1.1\r\nhost: x\r\n\r\n"),
        (400, "GET /x\r\n\r\n"),
        (400, "G(T /x HTTP/1.1\r\nhost: x\r\n\r\n"),
        (400, "\0\x01\x02\x03\r\n\r\n"),
        (400, "GET /%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (400, "GET /%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (400, "GET /a%00b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (400, "GET /a%0d%0ab HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (400, "GET /../x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (400, "GET /a/.%2e/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (400, "GET /a\\..\\x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (400, "GET /a%5c..%5cx HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (400, "GET /x%3fy HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (400, &format!("GET /{long} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")),
        (400, &format!("GET /?{long} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")),
        (404, "POST /%5fnearcast/clear HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        (405, "TRACE /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (405, "CONNECT x:80 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    ] {
        let answers = send(node.address, format!("{request}{hidden}")).await;
        assert_eq!(statuses(&answers), [expected], "{request:?}: {answers:?}");
        check_unharmed(&origin, &node, request).await;
    }
    assert!(origin.seen().iter().all(|seen| seen.method == "GET"), "{:?}", origin.seen());
}

#[tokio::test]
async fn a_body_is_never_taken_for_a_request() {
    let (origin, node, _dir) = pair(Behaviour { size: 100, ..Behaviour::default() }).await;
    let hidden = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let length = hidden.len();
    let end = "GET /victim HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let expect = |statuses: &[u16]| statuses.to_vec();
    for (expected, request) in [
        (expect(&[200, 200]), format!("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{hidden}")),
        (expect(&[200, 200]), format!("GET /x HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{hidden}")),
        (expect(&[400]), format!("GET /x\0 HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{hidden}")),
        (
            expect(&[200, 200]),
            format!("POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        ),
        (
            expect(&[200, 200]),
            format!("POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{length:x};a=b\r\n{hidden}\r\n0\r\n\r\n"),
        ),
        // Both: the coding counts, and the connection ends.
        (
            expect(&[200]),
            format!("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            expect(&[200]),
            format!("POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        // Trailers end with the body.
        (
            expect(&[200, 200]),
            "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nhost: y\r\ncontent-length: 9\r\n\r\n".into(),
        ),
    ] {
        let answers = send(node.address, format!("{request}{end}")).await;
        assert_eq!(statuses(&answers), expected, "{request:?}: {answers:?}");
        check_unharmed(&origin, &node, &request).await;
    }
    let lengths: Vec<_> =
        origin.seen().iter().filter(|seen| seen.method == "POST").map(|seen| seen.headers.clone()).collect();
    assert!(lengths.iter().all(|headers| headers.get_all("content-length").iter().count() <= 1), "{lengths:?}");
}

#[tokio::test]
async fn a_body_with_broken_chunks_is_the_clients_fault_and_ends_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    // It answers only what has no body, so that what the node makes of a body is what the client gets.
    let origin = RawOrigin::start(|head| match head.starts_with("POST") {
        true => Reply::Bytes(Vec::new()),
        false => Reply::proper("sound"),
    })
    .await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "[front]\nrequest_body_max = \"1KiB\"")).await;
    let long = format!("400\r\n{0}\r\n400\r\n{0}\r\n", "a".repeat(1_024));
    for (expected, chunks) in [
        (400, "5\r\nhelloworld\r\n0\r\n\r\n"),
        (400, "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        (400, "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        (400, "-5\r\nhello\r\n0\r\n\r\n"),
        (400, "0x5\r\nhello\r\n0\r\n\r\n"),
        (400, "5;a=b\nc\r\nhello\r\n0\r\n\r\n"),
        (400, "5\rhello\r\n0\r\n\r\n"),
        (400, "\r\nhello\r\n"),
        (413, &long),
    ] {
        let hidden = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
        let request = format!("POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{hidden}");
        let answers = send(node.address, &request).await;
        assert_eq!(statuses(&answers), [expected], "{chunks:?}: {answers:?}");
        assert_eq!(&node.get("/x").await.body[..], b"sound");
    }
    assert!(origin.heads().iter().all(|head| !head.contains("smuggled")), "{:?}", origin.heads());
}

#[tokio::test]
async fn heads_without_end_are_refused_while_they_are_read() {
    let (origin, node, _dir) = pair(Behaviour { size: 100, ..Behaviour::default() }).await;
    let headers = |count: usize| (0..count).map(|number| format!("h{number}: v\r\n")).collect::<String>();
    for request in [
        format!("GET /x HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "a".repeat(1 << 20)),
        format!("GET /x HTTP/1.1\r\nhost: x\r\n{}\r\n", headers(1_000)),
        format!("GET /x HTTP/1.1\r\nhost: x\r\n{}\r\n", headers(200_000)),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20)),
    ] {
        let answers = send(node.address, &request).await;
        // Who is still sending may find the connection reset before the answer is read.
        assert!(matches!(statuses(&answers)[..], [431 | 414 | 400] | []), "{}: {answers:?}", &request[..60]);
        check_unharmed(&origin, &node, &request[..60]).await;
    }
    let few = send(node.address, format!("GET /x HTTP/1.1\r\nhost: x\r\n{}\r\n", headers(150))).await;
    assert_eq!(statuses(&few), [431], "{few:?}");
}

#[tokio::test]
async fn old_and_odd_but_sound_requests_are_answered() {
    let (origin, node, _dir) = pair(Behaviour { size: 100, ..Behaviour::default() }).await;
    for (expected, request) in [
        (200, "GET /x HTTP/1.0\r\n\r\n"),
        (200, "GET http://elsewhere/x HTTP/1.1\r\nhost: y\r\nconnection: close\r\n\r\n"),
        (200, "GET /x HTTP/1.1\nhost: x\nconnection: close\n\n"),
        (200, "\r\n\r\nGET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (204, "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (200, "BREW /pot HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (200, "GET /%252e%252e/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (200, "GET /a//b/./c HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        (200, "GET /?a=/../b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    ] {
        let answers = send(node.address, request).await;
        assert_eq!(statuses(&answers), [expected], "{request:?}: {answers:?}");
    }
    let targets: Vec<String> = origin.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/x", "/pot", "/%252e%252e/x", "/a//b/./c", "/?a=/../b"], "what is asked for is passed on");
    check_unharmed(&origin, &node, "all of it").await;
}

#[tokio::test]
async fn what_selects_no_variant_cannot_spoil_what_others_get() {
    let behaviour =
        Behaviour { size: 100, headers: &[("vary", "x-lang")], varies_by: Some("x-lang"), ..Behaviour::default() };
    let (origin, node, _dir) = pair(behaviour).await;
    // The origin does not see a header that ends here, so its answer is not that header's variant.
    node.send(Method::GET, "/x", &[("x-lang", "de"), ("connection", "x-lang")]).await;
    assert_eq!(node.send(Method::GET, "/x", &[("x-lang", "de")]).await.body, origin.content("/xde"));
    assert_eq!(node.get("/x").await.body, origin.content("/x"));
    // Nor does it see what claims another host, path or method.
    for name in
        ["x-forwarded-host", "x-forwarded-proto", "forwarded", "x-original-url", "x-http-method-override", "host"]
    {
        let target = format!("/by/{name}");
        node.send(Method::GET, &target, &[(name, "evil.example")]).await;
        let seen = origin.seen().pop().expect("it was asked");
        assert_eq!(seen.target, target);
        assert!(seen.headers.get(name).is_none_or(|value| value != "evil.example"), "{seen:?}");
    }
    // A body of a GET is no part of what it asks for.
    send(node.address, "GET /fat HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nevil").await;
    let seen = origin.seen().pop().expect("it was asked");
    assert!(seen.target == "/fat" && !seen.headers.contains_key("content-length"), "{seen:?}");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literal fields without Huffman coding.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("below 127")], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

#[tokio::test]
async fn http2_heads_that_contradict_themselves_are_refused() {
    let (origin, node, _dir) = pair(Behaviour { size: 100, ..Behaviour::default() }).await;
    let base = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/smuggled")];
    let with = |more: &[(&'static str, &'static str)]| [&base[..], more].concat();
    for fields in [
        with(&[("transfer-encoding", "chunked")]),
        with(&[("connection", "close")]),
        with(&[("host", "y")]),
        with(&[("host", "x"), ("host", "x")]),
        with(&[(":path", "/y")]),
        with(&[("x", "y"), (":path", "/y")]),
        with(&[(":unknown", "y")]),
        with(&[("Upper", "case")]),
        with(&[("x", "a\r\nb: c")]),
        with(&[("x", "a\0b")]),
        with(&[("a b", "c")]),
        with(&[("content-length", "5")]),
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/smuggled HTTP/1.1\r\nx: y")],
        vec![(":method", "GET /smuggled HTTP/1.1\r\n"), (":scheme", "http"), (":authority", "x"), (":path", "/x")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "x y"), (":path", "/smuggled")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "smuggled")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "x")],
        vec![(":scheme", "http"), (":authority", "x"), (":path", "/smuggled")],
    ] {
        let mut stream = tokio::net::TcpStream::connect(node.address).await.expect("it listens");
        // The head ends its stream, and a ping follows: whoever answers that has dealt with the head.
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
        let bytes = [preface, frame(1, 5, 1, &block(&fields)), frame(6, 0, 0, b"whatever")].concat();
        stream.write_all(&bytes).await.expect("it reads");
        let (mut read, mut chunk) = (Vec::<u8>::new(), [0; 4_096]);
        while !read.windows(17).any(|window| window == frame(6, 1, 0, b"whatever")) {
            let reading = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut chunk)).await;
            match reading.expect("it answers or closes") {
                Ok(0) | Err(_) => break,
                Ok(count) => read.extend(&chunk[..count]),
            }
        }
        check_unharmed(&origin, &node, &format!("{fields:?}")).await;
    }
}
