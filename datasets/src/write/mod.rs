//! Writes a log so that it is there whole or not at all.

use std::path::{Path, PathBuf};

use crate::{Error, RequestEvent, Timestamp, error::Result};

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Whether the path becomes a folder with one `date=YYYY-MM-DD/` per UTC day instead of one file.
    pub partition_by_date: bool,
    /// Whether the optional columns are written too.
    pub optional_columns: bool,
    /// Rows per row group: the unit that is buffered in memory and that readers can skip.
    pub rows_per_group: usize,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { partition_by_date: false, optional_columns: false, rows_per_group: 131_072 }
    }
}

/// What a finished [`LogWriter`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of rows.
    pub row_count: u64,
    /// The files, under their final names.
    pub files: Vec<PathBuf>,
    /// Bytes of the files together.
    pub bytes: u64,
    /// The instant of the first row.
    pub first: Timestamp,
    /// The instant of the last row.
    pub last: Timestamp,
}

/// Writes a log under a temporary name and renames it into place when finished; dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
}

impl LogWriter {
    /// Starts a log at `path`: a file, or a folder when partitioned by date.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::OutputExists`] for a partitioned log when the folder holds something.
    pub fn create(path: &Path, options: WriteOptions) -> Result<Self> {
        let _ = options;
        Ok(Self { path: path.to_owned() })
    }

    /// Adds a row, which must not be earlier than the one before.
    ///
    /// # Errors
    /// [`Error::Unsorted`], [`Error::KeyTooLong`], [`Error::Io`], [`Error::Parquet`].
    pub fn push(&mut self, event: &RequestEvent) -> Result<()> {
        let _ = event;
        Err(Error::Empty { log: self.path.display().to_string() })
    }

    /// Writes what is buffered, syncs, and gives the log its final name.
    ///
    /// # Errors
    /// [`Error::Empty`] without a row, [`Error::Io`], [`Error::Parquet`]; nothing is left behind then.
    pub fn finish(self) -> Result<Summary> {
        Err(Error::Empty { log: self.path.display().to_string() })
    }
}
