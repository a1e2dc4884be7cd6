//! Logs behind HTTP: the one store that a test can bring along.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use nearcast_datasets::{Error, LogSource, RequestEvent, WriteOptions, read_events};

use crate::support::{event, lines, write};

/// Serves `content` at `/log.parquet`, ranges included, for as long as the test runs; returns the server's address.
fn serve(content: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let content = content.clone();
            thread::spawn(move || answer(stream, &content));
        }
    });
    format!("http://{address}")
}

/// Answers the requests of one connection.
fn answer(mut stream: TcpStream, content: &[u8]) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    loop {
        let first = lines.next()?;
        let mut range = None;
        for header in lines.by_ref().take_while(|line| !line.is_empty()) {
            if let Some(bytes) = header.to_lowercase().strip_prefix("range: bytes=") {
                let (start, last) = bytes.split_once('-')?;
                range = Some(start.parse::<usize>().ok()?..last.parse::<usize>().ok()? + 1);
            }
        }
        let dated = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let total = content.len();
        let (head, body) = match range {
            _ if !first.contains(" /log.parquet ") => {
                ("HTTP/1.1 404 Not Found\r\nContent-Length: 0".to_owned(), &[][..])
            }
            _ if first.starts_with("HEAD") => (format!("HTTP/1.1 200 OK\r\n{dated}Content-Length: {total}"), &[][..]),
            None => (format!("HTTP/1.1 200 OK\r\n{dated}Content-Length: {total}"), content),
            Some(range) => {
                let (first, last) = (range.start, range.end - 1);
                let body = &content[range];
                let length = body.len();
                let range = format!("Content-Range: bytes {first}-{last}/{total}\r\nContent-Length: {length}");
                (format!("HTTP/1.1 206 Partial Content\r\n{dated}{range}"), body)
            }
        };
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).ok()?;
        stream.write_all(body).ok()?;
    }
}

fn rows() -> Vec<RequestEvent> {
    (0..20_000).map(|row| event(row, &format!("c{}", row % 9), "eu", &format!("/{}", row % 700), 1)).collect()
}

#[test]
fn a_log_behind_http_reads_like_a_local_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    let options = WriteOptions { rows_per_group: 6_000, ..WriteOptions::default() };
    let local = write(&path, &rows(), options);
    let source = LogSource::parse(&format!("{}/log.parquet", serve(std::fs::read(&path).unwrap()))).unwrap();
    assert_eq!(lines(&source).unwrap(), lines(&local).unwrap());
    let read: Vec<RequestEvent> = read_events(&source).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, rows());
}

#[test]
fn an_absent_or_foreign_remote_file_is_named() {
    let server = serve(b"<html>not a log, but long enough for a footer</html>".to_vec());
    let read = |name: &str| lines(&LogSource::parse(&format!("{server}/{name}")).unwrap()).unwrap_err();
    let absent = read("gone.parquet");
    assert!(matches!(absent, Error::Store(_)) && absent.to_string().contains("/gone.parquet"), "{absent}");
    let foreign = read("log.parquet");
    assert!(matches!(foreign, Error::NotParquet { .. }) && foreign.to_string().contains("/log.parquet"), "{foreign}");
}
