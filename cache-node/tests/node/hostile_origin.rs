//! Origins that answer nonsense, lie about what they send, or never end: an honest 502 or 504, and nothing of it is kept.

use std::time::Duration;

use hyper::{Method, StatusCode};

use crate::{
    raw::{RawOrigin, Reply, send, statuses},
    running::{Answer, Node, config},
};

/// Answers `/victim` properly and everything else with `reply`.
async fn behind(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> (RawOrigin, Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let origin =
        RawOrigin::start(
            move |head| {
                if head.starts_with("GET /victim") { Reply::proper("the victim's") } else { reply(head) }
            },
        )
        .await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "")).await;
    (origin, node, dir)
}

/// What must hold after any bad answer: another object is right, and nothing but it is held.
async fn check_unharmed(node: &Node, after: &str) {
    for _ in 0..3 {
        let victim = node.get("/victim").await;
        assert_eq!((victim.status, &victim.body[..]), (StatusCode::OK, &b"the victim's"[..]), "after {after:?}");
    }
    assert_eq!(node.status().await["held"]["segments"], 1, "something was kept of {after:?}");
}

/// A status, or that the answer broke off.
fn status(answer: &Result<Answer, Box<dyn std::error::Error>>) -> u16 {
    answer.as_ref().map_or(0, |answer| answer.status.as_u16())
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_502() {
    let nul = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 2\r\na: b\0c\r\n\r\nhi";
    let many: String = (0..1_000).map(|number| format!("h{number}: v\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\n{many}content-length: 2\r\n\r\nhi");
    let huge = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nlong: {}\r\n\r\nhi", "a".repeat(2 << 20));
    let ok = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\n";
    for text in [
        "",
        "\0\0\0\0",
        "SSH-2.0-OpenSSH\r\n",
        "<html>hi</html>",
        "HTTP/1.1 200 OK\r\ncache-control: max",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/3.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        nul,
        &many,
        &huge,
        &format!("{ok}content-length: 2\r\na: b\r\n folded\r\n\r\nhi"),
        &format!("{ok}content-length : 2\r\n\r\nhi"),
        &format!("{ok}content-length: 2\r\ncontent-length: 3\r\n\r\nhi!"),
        &format!("{ok}content-length: 2, 3\r\n\r\nhi!"),
        &format!("{ok}content-length: +2\r\n\r\nhi"),
        &format!("{ok}content-length: -2\r\n\r\nhi"),
        &format!("{ok}content-length: 99999999999999999999\r\n\r\nhi"),
        &format!("{ok}content-length: 18446744073709551615\r\n\r\nhi"),
        &format!("{ok}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        &format!("{ok}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        &format!("{ok}transfer-encoding: gzip\r\n\r\nhi"),
        &format!("{ok}transfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        &format!("{ok}transfer-encoding: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\ncache-control: max-age=600\r\n\r\nhi",
        "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncache-control: max-age=600\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
    ] {
        let (shown, text) = (text[..text.len().min(120)].to_owned(), text.to_owned());
        let (_origin, node, _dir) = behind(move |_| Reply::last(&text)).await;
        for _ in 0..2 {
            let answer = node.get("/x").await;
            assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{shown:?}: {answer:?}");
        }
        check_unharmed(&node, &shown).await;
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_was_announced_is_never_taken_for_whole() {
    let ok = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\netag: \"a\"\r\n";
    for text in [
        &format!("{ok}content-length: 10\r\n\r\nhello")[..],
        &format!("{ok}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        &format!("{ok}transfer-encoding: chunked\r\n\r\n9\r\nhello"),
        &format!("{ok}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello"),
        &format!("{ok}transfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"),
        &format!("{ok}transfer-encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n"),
        &format!("{ok}transfer-encoding: chunked\r\n\r\nhello"),
        &format!("{ok}content-length: 20000000\r\n\r\nhello"),
        &format!("{ok}content-length: 20000000\r\naccept-ranges: bytes\r\n\r\nhello"),
        // Not to be kept, so it is passed on as it comes.
        "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let (shown, text) = (text.to_owned(), text.to_owned());
        let (_origin, node, _dir) = behind(move |_| Reply::last(&text)).await;
        for _ in 0..2 {
            let answer = node.try_send(Method::GET, "/x", &[]).await;
            assert!(matches!(status(&answer), 0 | 502), "{shown:?}: {answer:?}");
        }
        check_unharmed(&node, &shown).await;
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_never_taken_for_another() {
    let poison = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 6\r\n\r\npoison";
    let ok = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\n";
    for (body, first) in [
        ("hello", format!("{ok}content-length: 5\r\n\r\nhello{poison}")),
        ("hello", format!("{ok}content-length: 5\r\ncontent-length: 5\r\n\r\nhello{poison}")),
        ("hello", format!("{ok}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{poison}")),
        // It ends with the connection, and so does what follows.
        ("hi", format!("{ok}transfer-encoding: xchunked\r\n\r\nhi")),
        ("", format!("HTTP/1.1 204 No Content\r\ncontent-length: 99\r\n\r\n{poison}")),
        ("", format!("{ok}content-length: 0\r\n\r\n{poison}{poison}{poison}")),
    ] {
        let reply = first.clone();
        let ends = first.contains("xchunked");
        let (_origin, node, _dir) = behind(move |_| match ends {
            true => Reply::last(&reply),
            false => Reply::Bytes(reply.clone().into()),
        })
        .await;
        for number in 0..20 {
            let answer = node.get(&format!("/x{number}")).await;
            assert!(answer.status.is_success() && answer.body == body, "{first:?}: {answer:?}");
            let victim = node.get(&format!("/victim{number}")).await;
            assert_eq!(&victim.body[..], b"the victim's", "{first:?}");
        }
    }
}

#[tokio::test]
async fn a_part_other_than_was_asked_for_is_not_kept_as_that_part() {
    let part = |range: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 206 Partial Content\r\ncache-control: max-age=600\r\netag: \"a\"\r\n\
             content-range: {range}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    for text in [
        part("bytes 1-5/10", "hello"),
        part("bytes 0-4/3", "hello"),
        part("bytes 4-0/10", "hello"),
        part("bytes 0-3/10", "hello"),
        part("bytes 0-9/10", "hello"),
        part("bytes 0-4/99999999999999999999", "hello"),
        part("bytes 0-18446744073709551614/18446744073709551615", "hello"),
        part("bytes 0-4/18446744073709551615", "hello"),
        part("bytes */10", "hello"),
        part("lines 0-4/5", "hello"),
        part("", "hello"),
        part("bytes 0-4/5, 0-4/5", "hello"),
        "HTTP/1.1 206 Partial Content\r\ncache-control: max-age=600\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 416 Range Not Satisfiable\r\ncache-control: max-age=600\r\ncontent-range: bytes */0\r\ncontent-length: 0\r\n\r\n"
            .to_owned(),
    ] {
        let reply = text.clone();
        let (_origin, node, _dir) = behind(move |_| Reply::Bytes(reply.clone().into())).await;
        // What makes no sense to the node is refused, or handed to the client that asked, who can judge it.
        let answer = node.try_send(Method::GET, "/x", &[("range", "bytes=0-4")]).await;
        assert!(matches!(status(&answer), 206 | 416 | 502), "{text:?}: {answer:?}");
        check_unharmed(&node, &text).await;
    }
}

#[tokio::test]
async fn answers_that_never_come_or_never_end_are_given_up() {
    let pause = Duration::from_millis(1);
    let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_vec();
    let ok = b"HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\n".to_vec();
    let sized = [&ok[..], b"content-length: 1000\r\n\r\nhello"].concat();
    for (expected, reply) in [
        // No answer, or none but interim ones.
        (504, Reply::Bytes(Vec::new())),
        (504, Reply::Forever(Vec::new(), hints, pause)),
        // A head without end: too long before it is too late, or too late.
        (502, Reply::Forever(ok.clone(), b"a: b\r\n".repeat(1_000), pause)),
        (504, Reply::Forever(ok.clone(), b"a".to_vec(), Duration::from_millis(200))),
        // A body that stops.
        (504, Reply::Bytes(sized)),
    ] {
        let shown = format!("{reply:?}");
        let shown = &shown[..shown.len().min(120)];
        let (_origin, node, _dir) = behind(move |_| reply.clone()).await;
        let answer = node.get("/x").await;
        assert_eq!(answer.status, expected, "{shown}: {answer:?}");
        check_unharmed(&node, shown).await;
    }
}

#[tokio::test]
async fn a_body_without_end_is_passed_on_and_not_held() {
    let head = b"HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\n\r\n".to_vec();
    let reply = Reply::Forever(head, vec![b'x'; 64 << 10], Duration::from_micros(100));
    let dir = tempfile::tempdir().expect("a folder");
    let origin =
        RawOrigin::start(
            move |head| {
                if head.starts_with("GET /victim") { Reply::proper("the victim's") } else { reply.clone() }
            },
        )
        .await;
    let text = crate::running::config_text("n1", dir.path(), &origin.url(), "unsized_body_max = \"1MiB\"");
    let config = nearcast_cache_node::NodeConfig::parse(&text, std::path::Path::new("node.toml")).expect("valid");
    let node = Node::start(config).await;
    let mut stream = tokio::net::TcpStream::connect(node.address).await.expect("it listens");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let (mut read, mut chunk) = (0, vec![0; 64 << 10]);
    while read < 8 << 20 {
        let reading = tokio::io::AsyncReadExt::read(&mut stream, &mut chunk);
        let count =
            tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it goes on").expect("it reads");
        assert!(count > 0, "ended after {read}");
        read += count;
    }
    drop(stream);
    check_unharmed(&node, "an endless body").await;
}

#[tokio::test]
async fn a_head_that_is_too_long_to_hold_is_passed_on() {
    let long = "a".repeat(50_000);
    let reply = move |_: &str| {
        Reply::Bytes(
            format!("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\nlong: {long}\r\ncontent-length: 2\r\n\r\nhi")
                .into(),
        )
    };
    let (_origin, node, _dir) = behind(reply).await;
    let answer = node.get("/x").await;
    assert_eq!((answer.status, answer.header("long").len(), &answer.body[..]), (StatusCode::OK, 50_000, &b"hi"[..]));
    check_unharmed(&node, "a long head").await;
}

#[tokio::test]
async fn a_redirect_is_the_clients_to_follow() {
    let reply = |_: &str| {
        Reply::Bytes(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/evil\r\ncontent-length: 0\r\n\r\n".to_vec())
    };
    let (origin, node, _dir) = behind(reply).await;
    let answer = node.get("/x").await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::FOUND, "http://127.0.0.1:1/evil"));
    assert_eq!(origin.heads().len(), 1);
    check_unharmed(&node, "a redirect").await;
}

#[tokio::test]
async fn interim_answers_are_not_the_answer() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\ncache-control: max-age=9\r\n\r\n";
    let reply = move |_: &str| {
        let last = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 5\r\n\r\nfinal";
        Reply::Bytes([interim, interim, last].concat().into())
    };
    let (origin, node, _dir) = behind(reply).await;
    for cache in ["fwd=miss; detail=origin; cause=first", "hit; detail=memory"] {
        let answer = node.get("/x").await;
        assert_eq!((answer.status, &answer.body[..], answer.cache()), (StatusCode::OK, &b"final"[..], cache));
        assert_eq!((answer.header("link"), answer.header("cache-control")), ("", "max-age=600"));
    }
    let posted = node.post("/x", &[], "hello").await;
    assert_eq!((posted.status, &posted.body[..]), (StatusCode::OK, &b"final"[..]));
    assert_eq!(origin.heads().len(), 2);
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let origin = crate::origin::Origin::start(crate::origin::Behaviour { size: 10, ..Default::default() }).await;
    let node = Node::start(config("n1", dir.path(), &origin.url(), "[front]\nrequest_body_max = \"1KiB\"")).await;
    let ask = |length: usize| {
        format!(
            "POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut stream = tokio::net::TcpStream::connect(node.address).await.expect("it listens");
    tokio::io::AsyncWriteExt::write_all(&mut stream, ask(5).as_bytes()).await.expect("sent");
    let mut line = [0; 25];
    let reading = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut line);
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it is told").expect("25 bytes");
    assert_eq!(String::from_utf8_lossy(&line), "HTTP/1.1 100 Continue\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello").await.expect("sent");
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    assert_eq!(statuses(&answer), [200], "{answer}");
    assert_eq!(origin.seen().len(), 1);
    // Who would send too much is told so instead, and sends nothing.
    let refused = send(node.address, ask(2_000)).await;
    assert_eq!(statuses(&refused), [413], "{refused}");
}
