//! Converts the logs of other systems into request logs, and back for libCacheSim.
//!
//! Lines are parsed one at a time, checked, stripped of addresses, sorted by time in bounded memory and written whole or
//! not at all. A line that cannot be read is kept in a rejects file with its reason; too many of them fail the import.

mod access_log;
mod catalog;
mod columns;
mod delimited;
mod detect;
mod error;
mod fields;
mod input;
mod json_lines;
mod options;
mod oracle_general;
mod record;
mod region;
mod rejects;
mod report;
mod run;
mod sizes;
mod sorter;
mod target;
#[cfg(test)]
mod tests;
mod time;

pub use columns::{Column, ColumnMap};
pub use error::ImportError;
pub use input::Input;
pub use options::{Format, ImportBounds, ImportOptions};
pub use oracle_general::{ExportOptions, ExportReport, export_oracle_general};
pub use record::Filter;
pub use region::{NetworkMap, RegionRule};
pub use report::{ImportReport, InputReport, Progress, SizeReport};
pub use run::import;
pub use target::KeyRule;
pub use time::TimeFormat;
