//! Writes a log so that it is there whole or not at all.

use std::{
    fs::{self, File},
    mem,
    path::{Path, PathBuf},
};

use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{metadata::SortingColumn, properties::WriterProperties},
};
use tempfile::{NamedTempFile, TempDir};

use self::columns::Builders;
use crate::{
    Error, RequestEvent, Timestamp,
    error::Result,
    schema,
    time::{day, day_number, rfc3339},
};

mod columns;

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

/// Writes a log in time order under a temporary name and renames it into place when finished.
///
/// Dropped unfinished, or after an error, it leaves nothing behind. Memory is bounded by one row group.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    options: WriteOptions,
    target: Target,
    part: Option<Part>,
    row_count: u64,
    bytes: u64,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Debug)]
enum Target {
    File(NamedTempFile),
    /// The folder, and the day folders in it that are done, by name.
    Folder(TempDir, Vec<String>),
}

/// The Parquet file being written.
#[derive(Debug)]
struct Part {
    writer: ArrowWriter<File>,
    rows: Builders,
    day_number: i64,
}

impl LogWriter {
    /// Starts a log at `path`: a file, which replaces an old one when finished, or a folder when partitioned by date.
    /// Missing parent folders are made.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::OutputExists`] for a partitioned log when the folder holds something.
    pub fn create(path: &Path, options: WriteOptions) -> Result<Self> {
        let io = |action, source| Error::Io { action, path: path.display().to_string(), source };
        let parent = folder_of(path);
        fs::create_dir_all(parent).map_err(|error| io("create the folder of", error))?;
        let target = if options.partition_by_date {
            if path.exists() && fs::read_dir(path).map_err(|error| io("list", error))?.next().is_some() {
                return Err(Error::OutputExists { path: path.display().to_string() });
            }
            let folder = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(parent);
            Target::Folder(folder.map_err(|error| io("create", error))?, Vec::new())
        } else {
            let file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(parent);
            Target::File(file.map_err(|error| io("create", error))?)
        };
        let (first, last) = (Timestamp::MAX, Timestamp::MIN);
        Ok(Self { path: path.to_owned(), options, target, part: None, row_count: 0, bytes: 0, first, last })
    }

    /// Adds a row, which must not be earlier than the one before.
    ///
    /// # Errors
    /// [`Error::Unsorted`], [`Error::KeyTooLong`], [`Error::BadValue`], [`Error::Io`], [`Error::Parquet`].
    pub fn push(&mut self, event: &RequestEvent) -> Result<()> {
        self.check(event)?;
        let day_number = day_number(event.timestamp);
        if self.options.partition_by_date && self.part.as_ref().is_some_and(|part| part.day_number != day_number) {
            self.close_part()?;
        }
        if self.part.is_none() {
            let file = self.start_file(event.timestamp)?;
            let schema = schema::request_log(self.options.optional_columns);
            let writer = ArrowWriter::try_new(file, schema, Some(properties(self.options.rows_per_group)));
            let writer = writer.map_err(|source| self.parquet(source))?;
            self.part = Some(Part { writer, rows: Builders::new(self.options.optional_columns), day_number });
        }
        let Some(part) = self.part.as_mut() else { return Ok(()) };
        part.rows.push(event);
        let written = if part.rows.len() >= BATCH_ROWS { part.flush() } else { Ok(()) };
        written.map_err(|source| self.parquet(source))?;
        self.first = self.first.min(event.timestamp);
        self.last = event.timestamp;
        self.row_count += 1;
        Ok(())
    }

    /// Writes what is buffered, syncs, and gives the log its final name.
    ///
    /// # Errors
    /// [`Error::Empty`] without a row, [`Error::Io`], [`Error::Parquet`]; nothing is left behind then.
    pub fn finish(mut self) -> Result<Summary> {
        if self.row_count == 0 {
            return Err(Error::Empty { log: self.path.display().to_string() });
        }
        self.close_part()?;
        let files = match &self.target {
            Target::File(_) => vec![self.path.clone()],
            Target::Folder(_, days) => days.iter().map(|day| self.path.join(day).join(PART_NAME)).collect(),
        };
        let io = |action, source| Error::Io { action, path: self.path.display().to_string(), source };
        match self.target {
            Target::File(file) => {
                allow_reading(file.path()).map_err(|error| io("set the permissions of", error))?;
                file.persist(&self.path).map_err(|error| io("rename into place", error.error))?;
            }
            Target::Folder(folder, _) => {
                allow_entering(folder.path()).map_err(|error| io("set the permissions of", error))?;
                sync_folder(folder.path()).map_err(|error| io("sync", error))?;
                // An empty folder in the way is replaced by the rename.
                fs::rename(folder.path(), &self.path).map_err(|error| io("rename into place", error))?;
                let _ = folder.keep();
            }
        }
        sync_folder(folder_of(&self.path)).map_err(|error| io("sync the folder of", error))?;
        Ok(Summary { row_count: self.row_count, files, bytes: self.bytes, first: self.first, last: self.last })
    }

    fn check(&self, event: &RequestEvent) -> Result<()> {
        let (file, row) = (self.path.display().to_string(), self.row_count);
        if event.timestamp < self.last {
            let (before, at) = (rfc3339(self.last), rfc3339(event.timestamp));
            return Err(Error::Unsorted { file, row, before, at });
        }
        match event.key.len() {
            0 => Err(Error::BadValue { file, column: schema::KEY, row, problem: "empty".into() }),
            bytes if bytes > schema::KEY_BYTES_MAX => Err(Error::KeyTooLong { file, row, bytes }),
            _ => Ok(()),
        }
    }

    /// The file that rows from `first` on go to.
    fn start_file(&mut self, first: Timestamp) -> Result<File> {
        let io = |source| Error::Io { action: "create", path: self.path.display().to_string(), source };
        match &mut self.target {
            Target::File(file) => file.as_file().try_clone().map_err(io),
            Target::Folder(folder, days) => {
                let name = format!("date={}", day(first));
                let day = folder.path().join(&name);
                fs::create_dir(&day).map_err(io)?;
                days.push(name);
                File::create(day.join(PART_NAME)).map_err(io)
            }
        }
    }

    /// Completes and syncs the file being written.
    fn close_part(&mut self) -> Result<()> {
        let Some(mut part) = self.part.take() else { return Ok(()) };
        part.flush().map_err(|source| self.parquet(source))?;
        let file = part.writer.into_inner().map_err(|source| self.parquet(source))?;
        let io = |source| Error::Io { action: "sync", path: self.path.display().to_string(), source };
        self.bytes += file.metadata().map_err(io)?.len();
        file.sync_all().map_err(io)?;
        if let Target::Folder(folder, days) = &self.target
            && let Some(day) = days.last()
        {
            sync_folder(&folder.path().join(day)).map_err(io)?;
        }
        Ok(())
    }

    fn parquet(&self, source: ParquetError) -> Error {
        Error::Parquet { action: "write", file: self.path.display().to_string(), source }
    }
}

impl Part {
    /// Hands the collected rows to the Parquet writer.
    fn flush(&mut self) -> std::result::Result<(), ParquetError> {
        if self.rows.len() == 0 {
            return Ok(());
        }
        let optional = self.rows.has_optional();
        let rows = mem::replace(&mut self.rows, Builders::new(optional));
        self.writer.write(&rows.finish()?)
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn properties(rows_per_group: usize) -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(rows_per_group.max(1)))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_sorting_columns(Some(vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }]))
        .set_created_by(concat!("nearcast ", env!("CARGO_PKG_VERSION")).into())
        .build()
}

#[cfg(unix)]
fn allow_reading(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // Temporary files are private; a log is not.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(unix)]
fn allow_entering(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn allow_reading(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn allow_entering(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Rows handed to the Parquet writer at once.
const BATCH_ROWS: usize = 8_192;
/// The largest dictionary of a column in a row group; past it the column is written plain, which reads slower.
const DICTIONARY_BYTES_MAX: usize = 16 << 20;
/// What names of unfinished logs begin with; readers pass over them.
const TEMPORARY: &str = ".nearcast-log-";
/// The one file of a day.
const PART_NAME: &str = "part-0.parquet";
