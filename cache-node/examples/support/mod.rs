//! What the measurements of a node have in common: an origin, a way to ask, and the node in a process of its own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
};

use nearcast_cache_node::NodeConfig;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// The node: to be run in a process of its own, until SIGTERM.
pub(crate) fn serve(config: &Path, mut runtime: Builder) {
    let config = NodeConfig::load(config).expect("a sound configuration");
    let runtime = runtime.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = nearcast_cache_node::bind(&config).await.expect("a free port");
        let mut term = signal(SignalKind::terminate()).expect("a signal");
        nearcast_cache_node::run(listener, config, term.recv()).await.expect("it runs");
    });
}

/// What a node says about itself.
pub(crate) fn status(node: SocketAddr) -> serde_json::Value {
    let mut stream = TcpStream::connect(node).expect("it listens");
    let request = "GET /_nearcast/status HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("writable");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let body = answer.split_once("\r\n\r\n").expect("an answer").1;
    serde_json::from_str(body).expect("JSON")
}

/// Reads an answer to its end; returns its length.
pub(crate) fn read_answer(stream: &mut BufReader<TcpStream>) -> usize {
    let mut line = String::new();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).expect("text");
        assert!(!line.is_empty(), "the node closed the connection");
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a whole body");
    length
}

/// Starts an origin that answers a request, by its first line, with what `answer` makes of it; one thread per connection.
pub(crate) fn origin(answer: fn(&str) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_all(stream, answer));
        }
    });
    address
}

fn answer_all(stream: TcpStream, answer: fn(&str) -> Vec<u8>) {
    stream.set_nodelay(true).expect("a socket");
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let answer = answer(&line);
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
        }
        if stream.get_mut().write_all(&answer).is_err() {
            return;
        }
    }
}
