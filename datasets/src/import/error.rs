//! What can stop an import.

use std::io;

/// Why an import did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A map of regions that cannot be used.
    #[error("{path}: {problem}")]
    BadRegionMap {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An input could not be opened or read to its end.
    #[error("cannot read {input}")]
    Input {
        /// The input.
        input: String,
        /// What the system or the decompressor said.
        source: io::Error,
    },
    /// A format that needs to be told where its columns are, and was not.
    #[error(
        "column {column} is not mapped to a field; give --columns, such as --columns timestamp=time,key=url,client=ip"
    )]
    MissingColumn {
        /// The column.
        column: super::Column,
    },
    /// The inputs hold no request that is kept.
    #[error("no request to keep in {lines} lines ({skipped} left out by status or method, {rejected} rejected)")]
    NothingKept {
        /// Lines read.
        lines: u64,
        /// Lines left out.
        skipped: u64,
        /// Lines rejected.
        rejected: u64,
    },
    /// The file of rejected lines, a sorted run or the output of an export could not be written.
    #[error("cannot write {path}")]
    Output {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// More distinct clients and keys than may be held in memory.
    #[error("more than {max} distinct clients and keys; import the log in parts")]
    TooManyDistinct {
        /// The bound.
        max: usize,
    },
    /// More regions than the log can number.
    #[error("more than {max} distinct regions; does the region column hold clients?")]
    TooManyRegions {
        /// The bound.
        max: usize,
    },
    /// More bad lines than the options allow.
    #[error(
        "{rejected} of {lines} lines were rejected, more than --max-reject-share {max_share} allows ({reasons}); they are in {rejects}"
    )]
    TooManyRejects {
        /// Lines rejected.
        rejected: u64,
        /// Lines read.
        lines: u64,
        /// The share allowed.
        max_share: f64,
        /// Reasons with their counts.
        reasons: String,
        /// The file that holds them.
        rejects: String,
    },
    /// No format fits the beginning of an input.
    #[error(
        "{input} is in no format that is known; tried:\n{tried}\nName the format with --format, or the fields with --columns"
    )]
    Unrecognised {
        /// The input.
        input: String,
        /// One line per format: its name and why not.
        tried: String,
    },
    /// No line says how large any object is.
    #[error("no line says how large any object is; give --default-size")]
    SizeUnknown,
    /// The log spans more seconds than an oracleGeneral file can count.
    #[error("the log spans {seconds} s, more than an oracleGeneral file can count")]
    SpanTooLong {
        /// The span, in seconds.
        seconds: u64,
    },
    /// The region asked for does not occur.
    #[error("no request of region \"{region}\"; the log has {found}")]
    UnknownRegion {
        /// The region asked for.
        region: String,
        /// The regions of the log.
        found: String,
    },
}

impl ImportError {
    pub(crate) fn output(path: &std::path::Path, source: io::Error) -> Self {
        Self::Output { path: path.display().to_string(), source }
    }
}
