//! The access log: a line of text for each request, as other tools read it, written in the background.
//!
//! The file is opened anew when told to, and when somebody has moved or removed it, so that it can be rotated.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;

use crate::{
    clock,
    config::{AccessLogConfig, AccessLogFormat},
    error::{Error, Result},
    metrics::Metrics,
    watch::Seen,
};

/// The sending end of the access log. Pushing never waits.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sender: SyncSender<Message>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Message {
    Request(Arc<Seen>),
    Reopen,
    Close,
}

impl AccessLog {
    /// Starts writing to the configured file; `node` and `region` go into lines that name them.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn start(config: &AccessLogConfig, node: &str, region: &str, metrics: &Metrics) -> Result<Self> {
        let failed = |source| Error::AccessLog { path: config.path.clone(), source };
        let file = open(&config.path).map_err(failed)?;
        let (sender, receiver) = sync_channel(config.queue_max);
        let writer = Writer {
            config: config.clone(),
            node: node.to_owned(),
            region: region.to_owned(),
            file: Some(file),
            buffer: Vec::new(),
            buffered_count: 0,
            is_torn: false,
            failed: metrics.access_log_failed.clone(),
        };
        let thread = std::thread::Builder::new().name("nearcast-access".to_owned());
        let writer = thread.spawn(move || writer.run(&receiver)).map_err(failed)?;
        Ok(Self { sender, writer: Mutex::new(Some(writer)) })
    }

    /// Queues a line; drops and counts it when the queue is full.
    pub(crate) fn push(&self, seen: Arc<Seen>, metrics: &Metrics) {
        if self.sender.try_send(Message::Request(seen)).is_err() {
            metrics.access_log_dropped.inc();
        }
    }

    /// Opens the file anew, once what is queued is written: for whoever has just moved it. Without being told, it happens
    /// within a second or so.
    pub(crate) fn reopen(&self) {
        // A full queue is being written, and the file looked at meanwhile.
        let _ = self.sender.try_send(Message::Reopen);
    }

    /// Writes what is queued and ends. Blocks for as long as that takes.
    pub(crate) fn close(&self) {
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // A writer that is gone has nothing left to close.
        let _ = self.sender.send(Message::Close);
        if writer.join().is_err() {
            tracing::error!("the access log's writer panicked; the lines that it had not written are lost");
        }
    }
}

struct Writer {
    config: AccessLogConfig,
    node: String,
    region: String,
    /// Absent while it cannot be opened.
    file: Option<File>,
    buffer: Vec<u8>,
    /// Lines in the buffer.
    buffered_count: u64,
    /// Whether the file ends within a line.
    is_torn: bool,
    failed: Counter,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        let mut looked_at = clock::Stopwatch::start();
        loop {
            // What is queued is written together; with nothing more queued, at once.
            let message = match receiver.try_recv() {
                Ok(message) => Ok(message),
                Err(_) => {
                    self.flush();
                    receiver.recv_timeout(LOOK_INTERVAL)
                }
            };
            match message {
                Ok(Message::Request(seen)) => self.add(&seen),
                Ok(Message::Reopen) => self.reopen(),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush();
            }
            if looked_at.elapsed() >= LOOK_INTERVAL {
                looked_at = clock::Stopwatch::start();
                if self.has_moved() {
                    self.reopen();
                }
            }
        }
        self.flush();
    }

    fn add(&mut self, seen: &Seen) {
        let Some(line) = seen.line(&self.node, &self.region, self.config.client) else { return };
        match self.config.format {
            AccessLogFormat::Combined => line.write_combined(self.config.extra_fields, &mut self.buffer),
            AccessLogFormat::Json => line.write_json(&mut self.buffer),
        }
        self.buffered_count += 1;
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = match &mut self.file {
            Some(file) => {
                let mending = if self.is_torn { file.write_all(b"\n") } else { Ok(()) };
                mending.and_then(|()| file.write_all(&self.buffer))
            }
            None => Err(io::ErrorKind::NotFound.into()),
        };
        match written {
            Ok(()) => self.is_torn = false,
            Err(error) => {
                if !self.is_torn {
                    let path = self.config.path.display();
                    tracing::warn!(%path, %error, "the access log cannot be written; lines are lost until it can");
                }
                // The next line shall not be taken for the rest of the one that broke off.
                self.is_torn = true;
                self.failed.inc_by(self.buffered_count);
            }
        }
        self.buffer.clear();
        self.buffered_count = 0;
    }

    fn reopen(&mut self) {
        self.flush();
        match open(&self.config.path) {
            Ok(file) => {
                self.file = Some(file);
                self.is_torn = false;
            }
            // The file before, wherever it is by now, is better than none.
            Err(error) => {
                let path = self.config.path.display();
                tracing::warn!(%path, %error, "the access log cannot be opened; lines go to the file before");
            }
        }
    }

    /// Whether the path no longer leads to the open file.
    fn has_moved(&self) -> bool {
        let Some(Ok(open)) = self.file.as_ref().map(File::metadata) else { return true };
        let found = std::fs::metadata(&self.config.path);
        found.map_or(true, |found| (found.dev(), found.ino()) != (open.dev(), open.ino()))
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent().filter(|folder| *folder != PathBuf::new()) {
        std::fs::create_dir_all(folder)?;
    }
    // Who asked for what is nothing for everybody.
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of lines that are written together.
const BUFFER_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::{Request, StatusCode};
    use nearcast_datasets::{ServedFrom, Timestamp};

    use super::*;
    use crate::{
        key::Key,
        watch::{ClientName, Head},
    };

    fn seen(target: &str) -> Arc<Seen> {
        let request = Request::get(target).header("user-agent", "a\"b\\").body(()).unwrap();
        Arc::new(Seen {
            at: Timestamp::from_micros(1_709_634_030_000_000),
            client: Arc::from("0123456789abcdef"),
            key: Some(Key::parse(target).unwrap()),
            size_bytes: 5,
            sent_bytes: 5,
            served: ServedFrom::Memory,
            cause: None,
            status: Some(StatusCode::OK),
            latency_us: 40,
            head: Some(Arc::new(Head::of(IpAddr::V4(Ipv4Addr::LOCALHOST), &request))),
        })
    }

    fn start(path: &Path, format: AccessLogFormat, client: ClientName) -> (AccessLog, Metrics) {
        let config = AccessLogConfig { path: path.to_path_buf(), format, client, extra_fields: false, queue_max: 100 };
        let metrics = Metrics::default();
        (AccessLog::start(&config, "n1", "eu", &metrics).unwrap(), metrics)
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
    }

    fn wait_for(path: &Path, count: usize) -> Vec<String> {
        for _ in 0..1_000 {
            if lines(path).len() >= count {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        lines(path)
    }

    #[test]
    fn it_names_clients_as_configured_and_escapes_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/access.log");
        let rest = r#" - - [05/Mar/2024:10:20:30 +0000] "GET /a HTTP/1.1" 200 5 "-" "a\x22b\x5C""#;
        for (client, name) in [(ClientName::Pseudonym, "0123456789abcdef"), (ClientName::Address, "127.0.0.1")] {
            let (log, metrics) = start(&path, AccessLogFormat::Combined, client);
            log.push(seen("/a"), &metrics);
            log.close();
            assert_eq!(lines(&path).last().unwrap(), &format!("{name}{rest}"));
        }
        assert_eq!(lines(&path).len(), 2, "a second start goes on where the first ended");
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let (log, metrics) = start(&path, AccessLogFormat::Json, ClientName::Pseudonym);
        log.push(seen("/before"), &metrics);
        assert!(wait_for(&path, 1)[0].contains("\"key\":\"/before\""));
        // Told.
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        log.push(seen("/told"), &metrics);
        assert!(wait_for(&path, 1)[0].contains("\"/told\""));
        // Not told: it is noticed, and the file is there again before there is anything to write.
        std::fs::remove_file(&path).unwrap();
        for _ in 0..1_000 {
            if path.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        log.push(seen("/noticed"), &metrics);
        log.close();
        assert!(lines(&path)[0].contains("\"/noticed\""));
        assert_eq!((lines(&path).len(), lines(&moved).len()), (1, 1));
        assert_eq!((metrics.access_log_dropped.get(), metrics.access_log_failed.get()), (0, 0));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        // Writing to it always fails: the disk is full.
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let (log, metrics) = start(full, AccessLogFormat::Combined, ClientName::Pseudonym);
        (0..3).for_each(|_| log.push(seen("/a"), &metrics));
        log.close();
        assert_eq!(metrics.access_log_failed.get(), 3);
    }

    #[test]
    fn a_file_that_cannot_be_opened_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let config = AccessLogConfig {
            path: dir.path().to_path_buf(),
            format: AccessLogFormat::Json,
            client: ClientName::Address,
            extra_fields: false,
            queue_max: 1,
        };
        let error = AccessLog::start(&config, "n1", "eu", &Metrics::default()).unwrap_err().to_string();
        assert!(error.contains("access log"), "{error}");
    }
}
