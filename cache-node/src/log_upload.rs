//! Sends finished files of the request log to an object store, and removes here what is there.
//!
//! The folder is the queue: what could not be sent stays, is tried again, and outlives a restart. A file is sent whole
//! or not at all, under the name it has here, so that sending it twice does no harm.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::Duration,
};

use nearcast_datasets::store::{Objects, StoreError};
use prometheus_client::metrics::counter::Counter;

/// The thread that sends.
#[derive(Debug)]
pub(crate) struct LogUpload {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl LogUpload {
    /// Sends what is finished below `dir`, now and from time to time; counts in `failed` what has to be tried again.
    pub(crate) fn start(dir: PathBuf, objects: Objects, failed: Counter) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("nearcast-upload".to_owned());
        let thread = thread.spawn(move || run(&dir, &objects, &failed, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Sends what was finished last, as far as the store takes it, and ends.
    pub(crate) fn close(self) {
        // A thread that is gone hears nothing.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the log's upload panicked; what it has not sent is still in its folder");
        }
    }
}

fn run(dir: &Path, objects: &Objects, failed: &Counter, stopped: &Receiver<()>) {
    let mut is_failing = false;
    loop {
        // Before the last look, so that nothing finished by then is left out.
        let is_last = !matches!(stopped.recv_timeout(PAUSE), Err(RecvTimeoutError::Timeout));
        match sweep(dir, objects) {
            Ok(()) => is_failing = false,
            Err(error) => {
                failed.inc();
                if !is_failing {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, ?cause, "the request log stays here until the store takes it");
                }
                is_failing = true;
            }
        }
        if is_last {
            return;
        }
    }
}

/// Sends every finished file, oldest first, up to the first that fails.
fn sweep(dir: &Path, objects: &Objects) -> Result<(), StoreError> {
    let dates = visible(dir);
    for date in &dates {
        for path in visible(date).into_iter().filter(|path| path.extension().is_some_and(|it| it == "parquet")) {
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            objects.send(&name, &path)?;
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "sent, but not removed here");
            }
        }
        // The newest may be written to next. Refused while the day has other files, as it should be.
        if Some(date) != dates.last() {
            let _ = fs::remove_dir(date);
        }
    }
    Ok(())
}

/// What is in a folder, by name; unfinished files are hidden.
fn visible(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let shown = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let mut paths: Vec<PathBuf> = shown.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

/// Between two looks at the folder.
const PAUSE: Duration = Duration::from_secs(5);
