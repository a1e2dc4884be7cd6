//! What a parser reads out of one line, before keys, clients and sizes are settled.

use std::{borrow::Cow, fmt};

use crate::{ByteRange, Timestamp};

/// One request as its source recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// When.
    pub(crate) timestamp: Timestamp,
    /// Who, in the clear: an address or a name. Never written anywhere.
    pub(crate) client: Cow<'a, [u8]>,
    /// From where, when the source says so.
    pub(crate) region: Option<Cow<'a, str>>,
    /// What.
    pub(crate) key: Cow<'a, str>,
    /// What the source says about the object's size.
    pub(crate) size: SizeClue,
    /// Which part.
    pub(crate) range: Option<ByteRange>,
}

/// What one line tells about the size of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SizeClue {
    /// The size of the object at that time, in bytes.
    Object(u64),
    /// Bytes of a whole response body; less than the object when the transfer was cut short.
    Body(u64),
    /// Bytes of a partial response: the object has at least as many.
    Part(u64),
    /// Nothing.
    None,
}

impl SizeClue {
    /// The clue in a response's status and body bytes.
    pub(crate) fn of_response(status: u16, method: &[u8], body_bytes: Option<u64>) -> Self {
        match (status, body_bytes) {
            (200, Some(bytes)) if method != b"HEAD" => Self::Body(bytes),
            (206, Some(bytes)) if method != b"HEAD" => Self::Part(bytes),
            _ => Self::None,
        }
    }
}

/// What became of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// A request to keep.
    Record(Record<'a>),
    /// A well-formed request that the options leave out.
    Skipped(Skip),
    /// No request at all: a header line.
    Header,
}

/// Why a well-formed request is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Skip {
    /// Its method is not among those kept.
    Method,
    /// Its status is not among those kept.
    Status(u16),
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("method"),
            Self::Status(status) => write!(f, "status {status}"),
        }
    }
}

/// Why a line is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The byte count or size is no number.
    BadBytes,
    /// JSON that does not parse, or is not an object.
    BadJson,
    /// A range whose end is not after its start.
    BadRange,
    /// The request line is no HTTP request.
    BadRequestLine,
    /// The request target is no path.
    BadRequestTarget,
    /// The status is no number from 100 to 999.
    BadStatus,
    /// The time does not parse.
    BadTimestamp,
    /// The key is empty.
    KeyEmpty,
    /// The key is longer than a key may be.
    KeyTooLong,
    /// The line or record is longer than the bound.
    LineTooLong,
    /// A field that is needed is not there.
    MissingField,
    /// A field is not UTF-8.
    NotText,
    /// A quote is opened and never closed.
    OpenQuote,
    /// The file ends within a record.
    Truncated,
}

impl Reason {
    /// The stable word for reports and the rejects file.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BadBytes => "bad_bytes",
            Self::BadJson => "bad_json",
            Self::BadRange => "bad_range",
            Self::BadRequestLine => "bad_request_line",
            Self::BadRequestTarget => "bad_request_target",
            Self::BadStatus => "bad_status",
            Self::BadTimestamp => "bad_timestamp",
            Self::KeyEmpty => "key_empty",
            Self::KeyTooLong => "key_too_long",
            Self::LineTooLong => "line_too_long",
            Self::MissingField => "missing_field",
            Self::NotText => "not_text",
            Self::OpenQuote => "open_quote",
            Self::Truncated => "truncated",
        }
    }
}

/// Turns lines of one format into records.
pub(crate) trait LineParser {
    /// Reads one line, without its line end.
    fn parse<'a>(&mut self, line: &'a [u8]) -> Result<Parsed<'a>, Reason>;

    /// The client in a line that may be malformed, so that a rejected line can be kept without it.
    fn client<'a>(&self, line: &'a [u8]) -> Option<Cow<'a, [u8]>>;
}

/// Which well-formed requests are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The methods kept.
    pub methods: Vec<String>,
    /// The statuses kept.
    pub statuses: Vec<u16>,
}

impl Default for Filter {
    /// `GET` answered by 200, 206 or 304: what a cache could have answered.
    fn default() -> Self {
        Self { methods: vec!["GET".into()], statuses: vec![200, 206, 304] }
    }
}

impl Filter {
    pub(crate) fn check_status(&self, status: u16) -> Option<Skip> {
        (!self.statuses.contains(&status)).then_some(Skip::Status(status))
    }

    pub(crate) fn check_method(&self, method: &[u8]) -> Option<Skip> {
        (!self.methods.iter().any(|kept| kept.as_bytes() == method)).then_some(Skip::Method)
    }
}
