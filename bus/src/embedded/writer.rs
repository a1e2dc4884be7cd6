//! The one thread that writes. What is waiting is written and synced together, so that syncing is paid once for many.

use std::{fmt, sync::Arc, thread};

use redb::Database;
use tokio::sync::{mpsc, oneshot};

use super::schema::{META_CLOCK, Tables};
use crate::{Error, Result, SharedClock};

/// The way to the thread that writes.
#[derive(Clone)]
pub(super) struct Writer(mpsc::Sender<Message>);

enum Message {
    Job(Job),
    /// Ends the thread; resolves when it has let go of the database.
    Close(oneshot::Sender<()>),
}

/// Changes the tables and returns what is to be done once that is kept, or is not.
type Job = Box<dyn FnOnce(&mut Tables<'_>) -> Written + Send>;

/// What a job came to.
struct Written {
    /// Whether the tables may be half changed.
    is_broken: bool,
    deliver: Box<dyn FnOnce(bool) + Send>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(super) fn start(database: Arc<Database>, clock: SharedClock) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let run = move || write_all(database, &clock, receiver);
        let thread = thread::Builder::new().name("nearcast-bus".to_owned());
        thread.spawn(run).map_err(|source| Error::Store { action: "start the writer of", source: Box::new(source) })?;
        Ok(Self(sender))
    }

    /// Has the tables changed; returns once that is kept. `then` is called before, even if nobody waits any more.
    /// A change that fails must not have changed anything, unless with [`Error::Store`].
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job = move |tables: &mut Tables<'_>| {
            let outcome = change(tables);
            let is_broken = matches!(outcome, Err(Error::Store { .. }));
            let deliver = move |is_kept: bool| {
                let outcome = if is_kept || outcome.is_err() { outcome } else { Err(not_kept()) };
                if let Ok(value) = &outcome {
                    then(value);
                }
                // Whoever asked may have gone.
                let _ = reply.send(outcome);
            };
            Written { is_broken, deliver: Box::new(deliver) }
        };
        self.0.send(Message::Job(Box::new(job))).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Waits until what was asked for is written, and ends the thread.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.0.send(Message::Close(done)).await.is_ok() {
            // An error says that it had ended already.
            let _ = closed.await;
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

fn write_all(database: Arc<Database>, clock: &SharedClock, mut messages: mpsc::Receiver<Message>) {
    let mut closing = None;
    while closing.is_none()
        && let Some(first) = messages.blocking_recv()
    {
        let mut jobs = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Job(job) => jobs.push(job),
                Message::Close(done) => closing = Some(done),
            }
            let goes_on = closing.is_none() && jobs.len() < TOGETHER_MAX;
            next = goes_on.then(|| messages.try_recv().ok()).flatten();
        }
        write(&database, clock, jobs);
    }
    drop(database);
    if let Some(done) = closing {
        // Whoever closes may have gone.
        let _ = done.send(());
    }
}

/// Writes some jobs in one transaction; all of them are kept, or none.
fn write(database: &Database, clock: &SharedClock, jobs: Vec<Job>) {
    let mut delivers = Vec::with_capacity(jobs.len());
    let outcome = transact(database, clock, jobs, &mut delivers);
    if let Err(error) = &outcome {
        tracing::error!(%error, source = ?std::error::Error::source(error), "the embedded bus cannot write");
    }
    for deliver in delivers {
        deliver(outcome.is_ok());
    }
}

fn transact(
    database: &Database,
    clock: &SharedClock,
    jobs: Vec<Job>,
    delivers: &mut Vec<Box<dyn FnOnce(bool) + Send>>,
) -> Result<()> {
    let transaction = database.begin_write().map_err(Error::store("write"))?;
    let mut is_broken = false;
    {
        let mut tables = Tables::open(&transaction).map_err(Error::store("write"))?;
        for job in jobs {
            let written = job(&mut tables);
            is_broken |= written.is_broken;
            delivers.push(written.deliver);
        }
        let now = u64::try_from(clock.unix().as_micros()).unwrap_or(u64::MAX);
        tables.meta.insert(META_CLOCK, now).map_err(Error::store("write"))?;
    }
    if is_broken {
        transaction.abort().map_err(Error::store("take back what was half written to"))?;
        return Err(not_kept());
    }
    transaction.commit().map_err(Error::store("write"))
}

fn not_kept() -> Error {
    Error::Store { action: "keep what was written to", source: "the transaction was not committed; see the log".into() }
}

/// Jobs that may wait; who asks for more waits to ask.
const WAITING_MAX: usize = 1_024;
/// Jobs that are written together at most.
const TOGETHER_MAX: usize = 256;
