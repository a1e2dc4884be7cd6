//! The node's request log: Parquet in the schema that the trainer reads, written in the background.
//!
//! Rows arrive when requests end but are stamped with their arrival, so they wait in a short window that puts them in
//! order. A file is written under a temporary name and renamed when it is complete: what is there is readable.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use chrono::DateTime;
use nearcast_datasets::{LogWriter, RequestEvent, Timestamp, WriteOptions, store::Objects};
use prometheus_client::metrics::counter::Counter;

use crate::{clock, config::LogConfig, error::Error, log_upload::LogUpload, metrics::Metrics};

/// The sending end of the log. Pushing never waits.
#[derive(Debug)]
pub(crate) struct RequestLog {
    sender: SyncSender<Message>,
    writer: Mutex<Option<JoinHandle<()>>>,
    upload: Mutex<Option<LogUpload>>,
    config: Arc<ArcSwap<LogConfig>>,
}

#[derive(Debug)]
enum Message {
    Row(Box<RequestEvent>),
    Close,
}

impl RequestLog {
    /// Starts writing below the configured folder; `node` goes into the files' names.
    ///
    /// # Errors
    /// When the folder cannot be made, or the environment has no credentials for where files are to be sent.
    pub(crate) fn start(config: &LogConfig, node: &str, metrics: &Metrics) -> Result<Self, Error> {
        let failed = |source| Error::DataDir { path: config.dir.clone(), source };
        std::fs::create_dir_all(&config.dir).map_err(failed)?;
        let objects = config.upload.as_ref().map(Objects::open).transpose();
        let objects = objects.map_err(|error| Error::LogUpload(Box::new(error)))?;
        let (sender, receiver) = sync_channel(config.queue_max);
        let shared = Arc::new(ArcSwap::from_pointee(config.clone()));
        let writer = Writer {
            config: Arc::clone(&shared),
            node: node.to_owned(),
            waiting: BinaryHeap::new(),
            file: None,
            last: Timestamp::MIN,
            failed: metrics.log_failed.clone(),
        };
        let thread = std::thread::Builder::new().name("nearcast-log".to_owned());
        let writer = thread.spawn(move || writer.run(&receiver)).map_err(failed)?;
        let counter = metrics.log_upload_failed.clone();
        let upload = objects.map(|objects| LogUpload::start(config.dir.clone(), objects, counter)).transpose();
        let upload = Mutex::new(upload.map_err(failed)?);
        Ok(Self { sender, writer: Mutex::new(Some(writer)), upload, config: shared })
    }

    /// Ends files by other bounds from now on.
    pub(crate) fn set_config(&self, config: &LogConfig) {
        self.config.store(Arc::new(config.clone()));
    }

    /// Queues a row; drops and counts it when the queue is full.
    pub(crate) fn push(&self, event: RequestEvent, metrics: &Metrics) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.sender.try_send(Message::Row(Box::new(event)))
        {
            metrics.log_dropped.inc();
        }
    }

    /// Writes what is queued and finishes the file. Blocks for as long as that takes.
    pub(crate) fn close(&self) {
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // A writer that is gone has nothing left to close.
        let _ = self.sender.send(Message::Close);
        if writer.join().is_err() {
            tracing::error!("the log's writer panicked; the rows that it had not written are lost");
        }
        if let Some(upload) = self.upload.lock().unwrap_or_else(PoisonError::into_inner).take() {
            upload.close();
        }
    }
}

/// A row in the window, ordered by its arrival.
struct Waiting(Box<RequestEvent>);

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.timestamp.cmp(&other.0.timestamp)
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

/// The file being written.
struct OpenFile {
    writer: LogWriter,
    date: String,
    rows: u64,
    opened_at: Timestamp,
}

struct Writer {
    config: Arc<ArcSwap<LogConfig>>,
    node: String,
    waiting: BinaryHeap<Reverse<Waiting>>,
    file: Option<OpenFile>,
    /// The instant of the last row written.
    last: Timestamp,
    failed: Counter,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(Message::Row(row)) => self.waiting.push(Reverse(Waiting(row))),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = clock::now();
            self.write_until(now.before(WINDOW));
            let is_old = |file: &OpenFile| now.since(file.opened_at) >= self.config.load().age_max;
            if self.file.as_ref().is_some_and(is_old) {
                self.finish();
            }
        }
        self.write_until(Timestamp::MAX);
        self.finish();
    }

    /// Writes the rows that arrived before `end`.
    fn write_until(&mut self, end: Timestamp) {
        while self.waiting.peek().is_some_and(|Reverse(row)| row.0.timestamp < end) {
            let Some(Reverse(Waiting(mut row))) = self.waiting.pop() else { return };
            // A row that took longer than the window would break the order; it moves up to the one before it.
            row.timestamp = row.timestamp.max(self.last);
            if let Err(error) = self.write(&row) {
                tracing::warn!(%error, "a part of the request log could not be written");
                let lost = 1 + self.file.take().map_or(0, |file| file.rows);
                self.failed.inc_by(lost);
            }
        }
    }

    fn write(&mut self, row: &RequestEvent) -> nearcast_datasets::Result<()> {
        let date = date(row.timestamp);
        if self.file.as_ref().is_some_and(|file| file.date != date || file.rows >= self.config.load().rows_max) {
            self.finish();
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let writer = LogWriter::create(&self.path(row.timestamp, &date), OPTIONS)?;
                self.file.insert(OpenFile { writer, date, rows: 0, opened_at: clock::now() })
            }
        };
        file.writer.push(row)?;
        file.rows += 1;
        self.last = row.timestamp;
        Ok(())
    }

    fn finish(&mut self) {
        let Some(file) = self.file.take() else { return };
        if let Err(error) = file.writer.finish() {
            tracing::warn!(%error, rows = file.rows, "a part of the request log could not be finished");
            self.failed.inc_by(file.rows);
        }
    }

    fn path(&self, first: Timestamp, date: &str) -> PathBuf {
        let name = format!("{:020}-{}.parquet", first.micros().max(0), self.node);
        self.config.load().dir.join(format!("date={date}")).join(name)
    }
}

fn date(at: Timestamp) -> String {
    DateTime::from_timestamp_micros(at.micros()).unwrap_or_default().format("%Y-%m-%d").to_string()
}

const OPTIONS: WriteOptions =
    WriteOptions { partition_by_date: false, optional_columns: true, rows_per_group: 131_072 };
/// How long a row waits for rows that arrived before it.
const WINDOW: Duration = Duration::from_secs(1);
/// The longest that a row waits beyond the window, and a file beyond its age.
const TICK: Duration = Duration::from_millis(200);
