//! What can go wrong with a request log.

use std::io;

use crate::{schema, store::StoreError};

/// Why a log could not be read, written, split or described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The share of training rows is not strictly between 0 and 1.
    #[error("training share {share} is not between 0 and 1 (both excluded)")]
    BadShare {
        /// The share that was asked for.
        share: f64,
    },
    /// A cell holds something that its column does not allow.
    #[error("{file}: row {row}, column \"{column}\": {problem}")]
    BadValue {
        /// The file.
        file: String,
        /// The column.
        column: &'static str,
        /// The row, counted from 0 within the file.
        row: u64,
        /// What is wrong with the value.
        problem: String,
    },
    /// A log without a single row.
    #[error("{log} holds no request; a log needs at least one row")]
    Empty {
        /// The log.
        log: String,
    },
    /// An import or export could not be done.
    #[error(transparent)]
    Import(#[from] crate::import::ImportError),
    /// A local file or folder could not be used.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Settings that make no synthetic workload.
    #[error("setting {setting}: {problem}")]
    BadWorkload {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A key longer than [`schema::KEY_BYTES_MAX`].
    #[error("{file}: row {row}: key of {bytes} bytes is longer than the {} allowed", schema::KEY_BYTES_MAX)]
    KeyTooLong {
        /// The file.
        file: String,
        /// The row, counted from 0 within the file.
        row: u64,
        /// The key's length.
        bytes: usize,
    },
    /// A required column is absent.
    #[error("{file}: column \"{column}\" is missing{}; columns found: {}", suggestion(nearest.as_deref()), found.join(", "))]
    MissingColumn {
        /// The file.
        file: String,
        /// The column that is needed.
        column: &'static str,
        /// The column present whose name is most alike, when one is.
        nearest: Option<String>,
        /// Every column present.
        found: Vec<String>,
    },
    /// A column has a type that cannot be read as the canonical one.
    #[error("{file}: column \"{column}\" has type {found}, expected {expected}{}", suggestion(nearest.as_deref()))]
    MistypedColumn {
        /// The file.
        file: String,
        /// The column.
        column: &'static str,
        /// The type in the file.
        found: String,
        /// What would be accepted.
        expected: &'static str,
        /// Another column whose name is alike and whose type would do, when there is one.
        nearest: Option<String>,
    },
    /// A folder or prefix without any Parquet file.
    #[error("no file ending in .parquet under {log}")]
    NoFiles {
        /// The log.
        log: String,
    },
    /// A file is not Parquet at all, or its end is missing.
    #[error("{file} is not a complete Parquet file; it may be truncated or of another format (try `nearcast import`)")]
    NotParquet {
        /// The file.
        file: String,
        /// What the Parquet reader said.
        source: parquet::errors::ParquetError,
    },
    /// A required cell is null.
    #[error("{file}: row {row}: required column \"{column}\" is null")]
    NullValue {
        /// The file.
        file: String,
        /// The column.
        column: &'static str,
        /// The row, counted from 0 within the file.
        row: u64,
    },
    /// The place to write to is taken.
    #[error("{path} exists and is not empty; remove it or choose another place")]
    OutputExists {
        /// The place.
        path: String,
    },
    /// Reading or writing the inside of a Parquet file failed.
    #[error("cannot {action} {file}; the file may be damaged")]
    Parquet {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: String,
        /// What the Parquet library said.
        source: parquet::errors::ParquetError,
    },
    /// A place could not be understood, or its object store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More files overlap in time than are merged at once.
    #[error("{log}: more than {max} files overlap in time; merge some of them first")]
    TooManyOverlapping {
        /// The log.
        log: String,
        /// The bound, [`MERGED_FILES_MAX`](crate::MERGED_FILES_MAX).
        max: usize,
    },
    /// More distinct regions than a [`RegionId`](crate::RegionId) can number.
    #[error("{file}: row {row}: more than 65536 distinct regions; does column \"region\" hold clients?")]
    TooManyRegions {
        /// The file.
        file: String,
        /// The row, counted from 0 within the file.
        row: u64,
    },
    /// Time runs backwards.
    #[error("{file}: not sorted by time: row {row} is at {at}, but the row before it is at {before}")]
    Unsorted {
        /// The file.
        file: String,
        /// The row, counted from 0 within the file.
        row: u64,
        /// The instant of the row before.
        before: String,
        /// The instant of the row.
        at: String,
    },
    /// All rows share one instant, so no split by time exists.
    #[error("{log} cannot be split by time: every request is at {at}")]
    ZeroSpan {
        /// The log.
        log: String,
        /// The one instant.
        at: String,
    },
}

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean column \"{name}\"?")).unwrap_or_default()
}
