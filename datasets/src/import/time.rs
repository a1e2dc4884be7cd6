//! Reads the ways in which logs write an instant.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::Timestamp;

/// How a text stands for an instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// RFC 3339, or a number whose size tells seconds, milliseconds, microseconds or nanoseconds since 1970.
    #[default]
    Auto,
    /// Seconds since 1970, with or without a fraction.
    EpochSeconds,
    /// Milliseconds since 1970, with or without a fraction.
    EpochMillis,
    /// Microseconds since 1970.
    EpochMicros,
    /// Nanoseconds since 1970.
    EpochNanos,
    /// RFC 3339; a space may stand for the `T`, and without an offset it is UTC.
    Rfc3339,
    /// A `strftime` pattern; without an offset in it, UTC.
    Pattern(String),
}

impl FromStr for TimeFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "epoch-s" => Ok(Self::EpochSeconds),
            "epoch-ms" => Ok(Self::EpochMillis),
            "epoch-us" => Ok(Self::EpochMicros),
            "epoch-ns" => Ok(Self::EpochNanos),
            "rfc3339" => Ok(Self::Rfc3339),
            pattern if pattern.contains('%') => Ok(Self::Pattern(pattern.into())),
            other => Err(format!(
                "\"{other}\" is no time format; use auto, epoch-s, epoch-ms, epoch-us, epoch-ns, rfc3339 or a strftime pattern such as %Y-%m-%d %H:%M:%S"
            )),
        }
    }
}

impl TimeFormat {
    /// The instant that `text` stands for, or `None`.
    pub fn read(&self, text: &str) -> Option<Timestamp> {
        match self {
            Self::Auto => read_auto(text),
            Self::EpochSeconds => read_epoch(text, 1_000_000, 1),
            Self::EpochMillis => read_epoch(text, 1_000, 1),
            Self::EpochMicros => read_epoch(text, 1, 1),
            Self::EpochNanos => read_epoch(text, 1, 1_000),
            Self::Rfc3339 => read_rfc3339(text),
            Self::Pattern(pattern) => read_pattern(text, pattern),
        }
    }
}

/// `10/Oct/2000:13:55:36 -0700`, as access logs write it.
pub(crate) fn read_access_log(text: &[u8]) -> Option<Timestamp> {
    let text: &[u8; 26] = text.try_into().ok()?;
    let separators = [text[2], text[6], text[11], text[14], text[17], text[20]];
    if separators != [b'/', b'/', b':', b':', b':', b' '] {
        return None;
    }
    let month = MONTHS.iter().position(|name| text[3..6].eq_ignore_ascii_case(name))?;
    let date = NaiveDate::from_ymd_opt(
        i32::try_from(digits(&text[7..11])?).ok()?,
        u32::try_from(month).ok()? + 1,
        digits(&text[..2])?,
    )?;
    // A leap second is written as :60 and counted as the next second, as Unix time does.
    let (second, leap) = match digits(&text[18..20])? {
        60 => (59, 1),
        second => (second, 0),
    };
    let local = date.and_hms_opt(digits(&text[12..14])?, digits(&text[15..17])?, second)?.and_utc().timestamp() + leap;
    let (hours, minutes) = (digits(&text[22..24])?, digits(&text[24..26])?);
    let offset = i64::from(hours * 3_600 + minutes * 60);
    let utc = match text[21] {
        b'+' if minutes < 60 => local - offset,
        b'-' if minutes < 60 => local + offset,
        _ => return None,
    };
    Some(Timestamp::from_micros(utc.checked_mul(1_000_000)?))
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')))
}

fn read_auto(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let whole = text.split('.').next()?.trim_start_matches(['+', '-']);
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return read_rfc3339(text);
    }
    // Seconds reach 100 billion in the year 5138; milliseconds passed it in 1973.
    match whole.trim_start_matches('0').len() {
        ..=11 => read_epoch(text, 1_000_000, 1),
        12..=14 => read_epoch(text, 1_000, 1),
        15..=17 => read_epoch(text, 1, 1),
        _ => read_epoch(text, 1, 1_000),
    }
}

/// A decimal number in units of `multiplier / divisor` microseconds; digits below a microsecond are cut off.
fn read_epoch(text: &str, multiplier: i64, divisor: i64) -> Option<Timestamp> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let negative = whole.starts_with('-');
    let whole: i64 = whole.parse().ok()?;
    let mut micros = whole.checked_mul(multiplier)?.div_euclid(divisor);
    let mut unit = multiplier / divisor;
    for digit in fraction.bytes() {
        unit /= 10;
        let part = i64::from(digit - b'0') * unit;
        micros = if negative { micros.checked_sub(part)? } else { micros.checked_add(part)? };
    }
    Some(Timestamp::from_micros(micros))
}

fn read_rfc3339(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(Timestamp::from_micros(instant.timestamp_micros()));
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let naive = naive.iter().find_map(|pattern| NaiveDateTime::parse_from_str(text, pattern).ok());
    naive.map(|utc| Timestamp::from_micros(utc.and_utc().timestamp_micros()))
}

fn read_pattern(text: &str, pattern: &str) -> Option<Timestamp> {
    let micros = match DateTime::parse_from_str(text, pattern) {
        Ok(instant) => instant.timestamp_micros(),
        Err(_) => NaiveDateTime::parse_from_str(text, pattern).ok()?.and_utc().timestamp_micros(),
    };
    Some(Timestamp::from_micros(micros))
}

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, text: &str, micros: Option<i64>) {
        let format: TimeFormat = format.parse().unwrap();
        assert_eq!(format.read(text).map(Timestamp::micros), micros, "{format:?} {text}");
    }

    #[test]
    fn access_log_times_apply_their_offset() {
        let read = |text: &str| read_access_log(text.as_bytes()).map(Timestamp::micros);
        assert_eq!(read("01/Jan/1970:00:00:01 +0000"), Some(1_000_000));
        assert_eq!(read("01/Jan/1970:01:30:00 +0130"), Some(0));
        assert_eq!(read("31/Dec/1969:19:00:00 -0500"), Some(0));
        assert_eq!(read("30/Jun/2012:23:59:60 +0000"), read("01/Jul/2012:00:00:00 +0000"));
        assert_eq!(read("29/Feb/2000:00:00:00 +0000"), Some(951_782_400_000_000));
        for bad in ["31/Feb/2001:00:00:00 +0000", "01/Jan/1970:24:00:00 +0000", "01/Jan/1970:00:00:00", "", "-"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read("01/Jan/1970:00:00:00 +0075"), None);
    }

    #[test]
    fn numbers_tell_their_unit_by_their_size() {
        for text in ["1700000000", "1700000000000", "1700000000000000", "1700000000000000000", "1700000000.0"] {
            check("auto", text, Some(1_700_000_000_000_000));
        }
        check("auto", "0", Some(0));
        check("auto", "1700000000.123456789", Some(1_700_000_000_123_456));
        check("epoch-s", "-1.5", Some(-1_500_000));
        check("epoch-ms", "1.5", Some(1_500));
        check("epoch-ns", "1999", Some(1));
        check("epoch-s", "99999999999999999", None);
        check("epoch-s", "1e9", None);
        check("auto", "soon", None);
    }

    #[test]
    fn texts_without_an_offset_are_utc() {
        check("rfc3339", "1970-01-01T00:00:01Z", Some(1_000_000));
        check("auto", "1970-01-01 01:00:01.5+01:00", Some(1_500_000));
        check("auto", "1970-01-01 00:00:01.25", Some(1_250_000));
        check("%d.%m.%Y %H:%M:%S", "02.01.1970 00:00:00", Some(86_400_000_000));
        check("%Y-%m-%dT%H:%M:%S%z", "1970-01-01T01:00:00+0100", Some(0));
        assert!("fortnight".parse::<TimeFormat>().is_err());
    }
}
