//! No request can make the node connect to an address that is not a configured origin or peer.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    origin::Behaviour,
    running::{Node, pair},
};

/// Sends bytes as they are and returns the first line of the answer.
async fn speak(node: &Node, request: &str) -> String {
    let mut stream = TcpStream::connect(node.address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut answer));
    reading.await.expect("the node ends the connection").expect("no reset");
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn nothing_in_a_request_names_where_the_node_connects() {
    let (origin, node, _dir) = pair(Behaviour::default()).await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let evil = trap.local_addr().unwrap();
    let head = format!("host: {evil}\r\nx-forwarded-host: {evil}\r\nforwarded: host={evil}\r\nconnection: close");
    for (line, expected) in [
        (format!("GET http://{evil}/a HTTP/1.1"), "200"),
        (format!("GET https://user@{evil}/b HTTP/1.1"), "200"),
        (format!("POST http://{evil}/c HTTP/1.1\r\ncontent-length: 0"), "200"),
        (format!("GET //{evil}/d HTTP/1.1"), "200"),
        (format!("GET /http://{evil}/e HTTP/1.1"), "200"),
        (format!("GET /@{evil}/f HTTP/1.1"), "200"),
        (format!("GET /\\{evil}/g HTTP/1.1"), ""),
        (format!("CONNECT {evil} HTTP/1.1"), "40"),
        (format!("GET /x?url=http://{evil}/ HTTP/1.1"), "200"),
        ("GET /h HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket".to_owned(), "200"),
        ("GET /_nearcast/segment?key=http%3A%2F%2Fevil%2F&index=0&segment_bytes=4096 HTTP/1.1".to_owned(), ""),
    ] {
        let answer = speak(&node, &format!("{line}\r\n{head}\r\n\r\n")).await;
        assert!(answer.split(' ').nth(1).unwrap_or_default().starts_with(expected), "{line}: {answer}");
    }
    // Everything went to the origin, under its own name.
    let seen = origin.seen();
    assert!(seen.len() >= 8, "{seen:?}");
    for request in &seen {
        let host = request.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
        assert_eq!(host, Some(origin.address.to_string()), "{request:?}");
    }
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(100), trap.accept()).await;
    assert!(nobody.is_err(), "the node connected to an address that a request named");
}
