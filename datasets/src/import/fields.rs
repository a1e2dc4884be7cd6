//! Turns a source's named text fields into a record: what delimited text and JSON lines have in common.

use std::borrow::Cow;

use super::{
    columns::Column,
    record::{Filter, Parsed, Reason, Record, SizeClue},
    target::{KeyRule, key_of_field},
    time::TimeFormat,
};
use crate::{ByteRange, Timestamp};

/// The rules that apply to fields, whatever they were read from.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldRules {
    /// How timestamps are written.
    pub(crate) time_format: TimeFormat,
    /// Which requests are kept.
    pub(crate) filter: Filter,
    /// How fields become keys.
    pub(crate) key_rule: KeyRule,
}

impl FieldRules {
    /// The record of the fields that `field` finds; a field that is absent, empty or `-` is no value.
    pub(crate) fn record<'a>(
        &self,
        mut field: impl FnMut(Column) -> Result<Option<Cow<'a, str>>, Reason>,
    ) -> Result<Parsed<'a>, Reason> {
        let mut value = |column| Ok(field(column)?.filter(|text| !matches!(text.trim(), "" | "-")));
        let timestamp = self.timestamp(&value(Column::Timestamp)?.ok_or(Reason::MissingField)?)?;
        let status = value(Column::Status)?.map(|text| status(&text)).transpose()?;
        let method = value(Column::Method)?;
        if let Some(skip) = status.and_then(|status| self.filter.check_status(status)) {
            return Ok(Parsed::Skipped(skip));
        }
        if let Some(skip) = method.as_ref().and_then(|method| self.filter.check_method(method.as_bytes())) {
            return Ok(Parsed::Skipped(skip));
        }
        let key = key_of_field(value(Column::Key)?.ok_or(Reason::KeyEmpty)?, self.key_rule);
        let object = value(Column::Size)?.map(|text| number(&text)).transpose()?;
        let body = value(Column::Bytes)?.map(|text| number(&text)).transpose()?;
        let method = method.as_ref().map_or(&b"GET"[..], |method| method.as_bytes());
        let size = match object {
            Some(bytes) => SizeClue::Object(bytes),
            None => SizeClue::of_response(status.unwrap_or(200), method, body),
        };
        let start = value(Column::RangeStart)?.map(|text| number(&text)).transpose()?;
        let end = value(Column::RangeEnd)?.map(|text| number(&text)).transpose()?;
        let range = byte_range(start, end)?;
        let region = value(Column::Region)?;
        let client = match value(Column::Client)?.unwrap_or_default() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Ok(Parsed::Record(Record { timestamp, client, region, key, size, range }))
    }

    fn timestamp(&self, text: &str) -> Result<Timestamp, Reason> {
        self.time_format.read(text).ok_or(Reason::BadTimestamp)
    }
}

fn status(text: &str) -> Result<u16, Reason> {
    text.trim().parse().ok().filter(|status| (100..1_000).contains(status)).ok_or(Reason::BadStatus)
}

fn number(text: &str) -> Result<u64, Reason> {
    let text = text.trim();
    // Spreadsheets and JSON writers turn whole numbers into `12.0`.
    text.strip_suffix(".0").unwrap_or(text).parse().map_err(|_| Reason::BadBytes)
}

/// A half-open range; a start without an end is no known range.
fn byte_range(start: Option<u64>, end: Option<u64>) -> Result<Option<ByteRange>, Reason> {
    match (start, end) {
        (Some(start), Some(end)) if start < end => Ok(Some(ByteRange { start, end })),
        (Some(_), Some(_)) => Err(Reason::BadRange),
        _ => Ok(None),
    }
}
