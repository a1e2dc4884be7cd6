//! What the user may decide about an import.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::Serialize;

use super::{ColumnMap, KeyRule, RegionRule, TimeFormat, fields::FieldRules, record::Filter};
use crate::{PseudonymKey, Timestamp};

/// A format that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Access log with referer and user agent: nginx's `combined`, Apache's `combined` and `vhost_combined`.
    Combined,
    /// Access log without them: Common Log Format.
    Common,
    /// Delimited text.
    Delimited,
    /// One JSON object a line.
    Jsonl,
    /// libCacheSim's binary trace of 24-byte records.
    OracleGeneral,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Combined, Self::Common, Self::Delimited, Self::Jsonl, Self::OracleGeneral];

    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Combined => "combined",
            Self::Common => "common",
            Self::Delimited => "delimited",
            Self::Jsonl => "jsonl",
            Self::OracleGeneral => "oracle-general",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        let format = Self::ALL.into_iter().find(|format| format.as_str() == text);
        format.ok_or_else(|| format!("\"{text}\" is no format; use auto, {}", names()))
    }
}

/// How lines become requests.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The format; `None` looks at the beginning of each input.
    pub format: Option<Format>,
    /// Where columns are; empty means the well-known names.
    pub columns: ColumnMap,
    /// What separates the fields of delimited text; `None` tries tab, comma, semicolon, pipe and space.
    pub delimiter: Option<u8>,
    /// Whether the first line is a header to leave out although columns are numbered.
    pub header: bool,
    /// How timestamps are written in delimited text and JSON lines.
    pub time_format: TimeFormat,
    /// Which requests are kept.
    pub filter: Filter,
    /// How request targets become keys.
    pub key_rule: KeyRule,
    /// What stands before the number of an object in an oracleGeneral trace.
    pub key_prefix: String,
    /// The instant of time 0 in an oracleGeneral trace.
    pub start: Timestamp,
    /// The size of objects of which no line tells it, in bytes; `None` takes the median of the known sizes.
    pub default_size_bytes: Option<u64>,
    /// Where regions come from when no column holds them.
    pub region: RegionRule,
    /// The secret behind pseudonyms.
    pub pseudonym_key: PseudonymKey,
    /// The share of lines that may be rejected before the import fails.
    pub max_reject_share: f64,
    /// Where rejected lines go.
    pub rejects_path: PathBuf,
    /// What is held in memory at most.
    pub bounds: ImportBounds,
}

impl ImportOptions {
    /// The usual options, with the two that have no default.
    pub fn new(pseudonym_key: PseudonymKey, rejects_path: PathBuf) -> Self {
        Self {
            format: None,
            columns: ColumnMap::default(),
            delimiter: None,
            header: false,
            time_format: TimeFormat::default(),
            filter: Filter::default(),
            key_rule: KeyRule::default(),
            key_prefix: "object/".into(),
            start: Timestamp::default(),
            default_size_bytes: None,
            region: RegionRule::default(),
            pseudonym_key,
            max_reject_share: 0.01,
            rejects_path,
            bounds: ImportBounds::default(),
        }
    }

    pub(crate) fn field_rules(&self) -> FieldRules {
        FieldRules { time_format: self.time_format.clone(), filter: self.filter.clone(), key_rule: self.key_rule }
    }
}

/// What an import holds in memory at most.
///
/// | bound | default | when it is hit |
/// | --- | --- | --- |
/// | `line_bytes_max` | 1 MiB | the line is rejected |
/// | `rows_in_memory` | 2,000,000 (about 120 MB) | rows are spilled to disk in sorted runs |
/// | `distinct_max` | 50,000,000 clients and keys | the import fails |
/// | `rejects_max` | 100,000 lines | further rejected lines are counted but not kept |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportBounds {
    /// Bytes of one line.
    pub line_bytes_max: usize,
    /// Rows held before they are spilled.
    pub rows_in_memory: usize,
    /// Distinct clients and keys together.
    pub distinct_max: usize,
    /// Rejected lines kept in the rejects file.
    pub rejects_max: u64,
}

impl Default for ImportBounds {
    fn default() -> Self {
        Self { line_bytes_max: 1 << 20, rows_in_memory: 2_000_000, distinct_max: 50_000_000, rejects_max: 100_000 }
    }
}
