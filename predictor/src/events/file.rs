//! The event log: JSON lines in a file that is rotated and never grows beyond its bounds.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;

use super::Event;
use crate::{Error, Result, config::EventSettings};

/// Writes `events.jsonl`, and keeps `events.1.jsonl` (newer) to `events.N.jsonl` (older) of what was before.
#[derive(Debug)]
pub(crate) struct EventFile {
    folder: PathBuf,
    settings: EventSettings,
    writer: BufWriter<File>,
    bytes: usize,
}

impl EventFile {
    /// Opens the log in a folder, to append.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be opened.
    pub(crate) fn open(folder: &Path, settings: EventSettings) -> Result<Self> {
        let (writer, bytes) = append(&path(folder, 0)).map_err(Error::file("open", path(folder, 0)))?;
        Ok(Self { folder: folder.to_owned(), settings, writer, bytes })
    }

    /// Writes what arrives until the bus is gone; blocks its thread. Flushes whenever nothing waits.
    pub(crate) fn write_all(mut self, queue: &mut mpsc::Receiver<Event>) {
        let mut is_failing = false;
        while let Some(event) = queue.blocking_recv() {
            let written = self.write(&event).and_then(|()| if queue.is_empty() { self.writer.flush() } else { Ok(()) });
            if let (Err(error), false) = (&written, is_failing) {
                tracing::error!(%error, folder = %self.folder.display(), "the event log cannot be written");
            }
            is_failing = written.is_err();
        }
        if let Err(error) = self.writer.flush() {
            tracing::error!(%error, "the end of the event log is lost");
        }
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        if self.bytes > 0 && self.bytes + line.len() > self.settings.file_bytes_max {
            self.rotate()?;
        }
        self.bytes += line.len();
        self.writer.write_all(&line)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        let oldest = self.settings.files_max - 1;
        if oldest == 0 {
            fs::remove_file(path(&self.folder, 0))?;
        }
        for age in (0..oldest).rev() {
            match fs::rename(path(&self.folder, age), path(&self.folder, age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        (self.writer, self.bytes) = append(&path(&self.folder, 0))?;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<(BufWriter<File>, usize)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    Ok((BufWriter::new(file), bytes))
}

fn path(folder: &Path, age: usize) -> PathBuf {
    folder.join(if age == 0 { "events.jsonl".to_owned() } else { format!("events.{age}.jsonl") })
}

#[cfg(test)]
mod tests {
    use nearcast_datasets::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::events::{EventBus, kind};

    #[tokio::test]
    async fn rotates_at_its_size_keeps_the_newest_and_appends_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let settings = EventSettings { queue_max: 100, file_bytes_max: 600, files_max: 3 };
        for life in 0..2 {
            let (mut bus, mut queue) = EventBus::new(life.to_string(), settings.queue_max, Default::default());
            let file = EventFile::open(folder.path(), settings).unwrap();
            let writer = tokio::task::spawn_blocking(move || file.write_all(&mut queue));
            for event in 0..20 {
                bus.publish(Timestamp::MIN, kind::NODE_LEFT, &event.to_string(), Value::Null);
            }
            drop(bus);
            writer.await.unwrap();
        }
        let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let names: Vec<_> = files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
        assert_eq!(names, ["events.1.jsonl", "events.2.jsonl", "events.jsonl"]);
        let last = fs::read_to_string(&files[2]).unwrap();
        assert!(last.contains("\"id\":\"1-20\""), "{last}");
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            assert!(text.len() <= settings.file_bytes_max, "{} bytes", text.len());
            assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
        }
    }
}
