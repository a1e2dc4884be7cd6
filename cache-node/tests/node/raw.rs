//! Clients and origins that write what they like: bytes, not messages.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Sends bytes to whoever listens at `address` and returns everything that comes back until they close the connection.
/// A connection that is reset while there is more to send than is read counts as closed.
pub(crate) async fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let stream = TcpStream::connect(address).await.expect("somebody listens");
    let (mut reader, mut writer) = stream.into_split();
    let bytes = bytes.as_ref().to_vec();
    let writing = tokio::spawn(async move {
        let _ = writer.write_all(&bytes).await;
        // Dropped, it would be shut down, which some servers take for the end.
        writer
    });
    let mut answer = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let read = tokio::time::timeout(Duration::from_secs(60), reader.read(&mut chunk)).await;
        match read.expect("the connection ends or goes on") {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend(&chunk[..count]),
        }
    }
    writing.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of the answers in what [`send`] returned.
pub(crate) fn statuses(answers: &str) -> Vec<u16> {
    let heads = answers.split("HTTP/1.").skip(1);
    heads.filter_map(|head| head.get(2..5)?.parse().ok()).collect()
}

/// What a raw origin does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Sends this and goes on with the connection.
    Bytes(Vec<u8>),
    /// Sends this and closes the connection.
    Last(Vec<u8>),
    /// Sends the first and then the second again and again, with a pause before each.
    Forever(Vec<u8>, Vec<u8>, Duration),
}

impl Reply {
    /// Sends this text and closes the connection.
    pub(crate) fn last(text: &str) -> Self {
        Self::Last(text.into())
    }

    /// A proper answer.
    pub(crate) fn proper(body: &str) -> Self {
        let length = body.len();
        Self::Bytes(
            format!("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: {length}\r\n\r\n{body}").into(),
        )
    }
}

/// An origin that replies to heads with bytes; gone when dropped.
#[derive(Debug)]
pub(crate) struct RawOrigin {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl RawOrigin {
    pub(crate) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (reply, kept) = (Arc::new(reply), Arc::clone(&heads));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (reply, kept) = (Arc::clone(&reply), Arc::clone(&kept));
                connections.spawn(async move { converse(stream, &*reply, &kept).await });
            }
        });
        Self { address, heads, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

impl Drop for RawOrigin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: TcpStream, reply: &(dyn Fn(&str) -> Reply + Send + Sync), kept: &Mutex<Vec<String>>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let mut chunk = [0; 4_096];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(count) => buffer.extend(&chunk[..count]),
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        kept.lock().expect("no panic").push(head.clone());
        match reply(&head) {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Last(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Forever(first, again, pause) => {
                let mut sent = stream.write_all(&first).await;
                while sent.is_ok() {
                    tokio::time::sleep(pause).await;
                    sent = stream.write_all(&again).await;
                }
                return;
            }
        }
    }
}
