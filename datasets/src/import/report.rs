//! What an import tells about itself.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;

use super::Format;

/// The result of an import.
#[derive(Clone, Debug, Serialize)]
pub struct ImportReport {
    /// Names this document's shape.
    pub schema: &'static str,
    /// What was read.
    pub inputs: Vec<InputReport>,
    /// The log that was written.
    pub output: PathBuf,
    /// Its files.
    pub files: Vec<PathBuf>,
    /// Lines or records read.
    pub lines: u64,
    /// Requests written.
    pub requests: u64,
    /// Well-formed requests left out, by cause.
    pub skipped: BTreeMap<String, u64>,
    /// Lines rejected.
    pub rejected: u64,
    /// Lines rejected, by reason.
    pub reject_reasons: BTreeMap<String, u64>,
    /// The file with the rejected lines, when there are any.
    pub rejects_file: Option<PathBuf>,
    /// Distinct clients.
    pub clients: usize,
    /// Distinct keys.
    pub keys: usize,
    /// The regions.
    pub regions: Vec<String>,
    /// The first request, RFC 3339.
    pub first: String,
    /// The last request, RFC 3339.
    pub last: String,
    /// How sizes were found.
    pub sizes: SizeReport,
    /// Requests that came after a later one and were moved.
    pub reordered: u64,
    /// Sorted runs spilled to disk because rows did not fit into memory.
    pub spilled_runs: usize,
}

impl ImportReport {
    /// The name of the document's shape.
    pub const SCHEMA: &'static str = "nearcast.import/1";
}

/// What was read from one input.
#[derive(Clone, Debug, Serialize)]
pub struct InputReport {
    /// The input.
    pub source: String,
    /// Its format; none when it is empty.
    pub format: Option<Format>,
    /// How it was read, and why so when the format was not named.
    pub decision: String,
    /// Lines or records read.
    pub lines: u64,
}

/// How the sizes of objects were found.
#[derive(Clone, Debug, Serialize)]
pub struct SizeReport {
    /// Keys whose size is a lower bound, from partial responses only.
    pub partial_keys: u64,
    /// Keys without any hint at their size, which took the default.
    pub unknown_keys: u64,
    /// The default, where it was needed.
    pub default_bytes: Option<u64>,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// An input is about to be read in this way.
    Chosen {
        /// The input.
        input: &'a str,
        /// Its format.
        format: Format,
        /// Why.
        decision: &'a str,
    },
    /// So many lines are read.
    Reading(u64),
    /// So many requests are written.
    Writing(u64),
}
