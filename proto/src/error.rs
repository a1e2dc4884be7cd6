//! What can be wrong with a message, a topology or a configuration file.

use std::path::PathBuf;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something that came from outside was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message lacks a field without which it means nothing.
    #[error("{message} lacks `{field}`")]
    MissingField {
        /// The message.
        message: &'static str,
        /// The absent field.
        field: &'static str,
    },
    /// An enumeration carries a number that this version does not know, or none.
    #[error("`{field}` has the unknown value {value}; is the other side of another version?")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// What it carried.
        value: i32,
    },
    /// A key or name is empty.
    #[error("`{field}` is empty")]
    EmptyText {
        /// The field.
        field: &'static str,
    },
    /// A text holds a NUL character.
    #[error("`{field}` holds a NUL character")]
    NulInText {
        /// The field.
        field: &'static str,
    },
    /// A text is longer than the contract allows.
    #[error("`{field}` has {bytes} bytes; at most {bytes_max} are allowed")]
    TextTooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A list is longer than the contract allows.
    #[error("`{field}` has {count} entries; at most {count_max} are allowed in one message")]
    TooMany {
        /// The field.
        field: &'static str,
        /// Its length.
        count: usize,
        /// The limit.
        count_max: usize,
    },
    /// A number is outside of what it can mean.
    #[error("`{field}` is {value}, which is not {expected}")]
    BadNumber {
        /// The field.
        field: &'static str,
        /// What it carried.
        value: f64,
        /// What it should be.
        expected: &'static str,
    },
    /// A byte range is empty, reversed, or only half given.
    #[error("the byte range {start:?}..{end:?} is not a range")]
    BadRange {
        /// First byte.
        start: Option<u64>,
        /// One past the last byte.
        end: Option<u64>,
    },
    /// A configuration file could not be read.
    #[error("cannot read `{}`", path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file with the admin token cannot be used.
    #[error("cannot use the admin token in {}: {problem}", path.display())]
    AdminToken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A configuration file is not valid.
    #[error("`{}` is not a valid configuration: {reason}", path.display())]
    ParseConfig {
        /// The file.
        path: PathBuf,
        /// Which line and what about it, with the nearest known name of an unknown one.
        reason: String,
    },
    /// A value in a topology makes no sense.
    #[error("topology: {what} is {value}, which is not {expected}")]
    BadTopology {
        /// Which value.
        what: String,
        /// What it is.
        value: f64,
        /// What it should be.
        expected: &'static str,
    },
    /// A region that a log or a node names is not part of the topology.
    #[error("region `{name}` is not in the topology{}; add `[regions.{name}]` or a `[default]` section", did_you_mean(nearest.as_deref()))]
    UnknownRegion {
        /// The name.
        name: String,
        /// The known name that is closest to it.
        nearest: Option<String>,
    },
}

/// `" (did you mean …?)"`, or nothing.
pub(crate) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}
