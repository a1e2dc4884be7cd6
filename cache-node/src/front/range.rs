//! The `Range` header of a request.

use http::{HeaderMap, StatusCode, header};
use nearcast_datasets::ByteRange;

use super::conditional::if_range_holds;
use crate::object::{Object, digits};

/// The part of an object that a request asks for, before the object's size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RangeAsk {
    /// From a byte on, up to and including another if one is given.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Suffix(u64),
    /// All of it: no range, several, or one that makes no sense.
    Whole,
}

/// The part of an object that a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// These bytes.
    Part(ByteRange),
    /// Nothing: the range begins beyond the end.
    Unsatisfiable,
    /// All of it.
    Whole,
}

impl RangeAsk {
    /// Reads the header. A range that cannot be understood is ignored, as HTTP asks; so are several ranges at once,
    /// which a server may answer with the whole object.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::RANGE).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().and_then(Self::parse).unwrap_or(Self::Whole),
            _ => Self::Whole,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (unit, range) = text.trim().split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        match (first, last) {
            ("", last) => Some(Self::Suffix(number(last)?)),
            (first, "") => Some(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The first segment that the answer needs, as far as that is known.
    pub(super) fn first_segment(self, segment_bytes: u64, known_size_bytes: Option<u64>) -> u32 {
        let start = match (self, known_size_bytes) {
            (Self::From(first, _), _) => first,
            (Self::Suffix(count), Some(size_bytes)) => size_bytes.saturating_sub(count),
            (Self::Suffix(_), None) | (Self::Whole, _) => 0,
        };
        u32::try_from(start / segment_bytes).unwrap_or(u32::MAX - 1)
    }

    /// What to send of `object`. An error or a redirect has no parts.
    pub(super) fn select(self, object: &Object, headers: &HeaderMap) -> Selection {
        let size = object.size_bytes;
        let part = |start: u64, end: u64| {
            if start < end { Selection::Part(ByteRange { start, end }) } else { Selection::Unsatisfiable }
        };
        match self {
            _ if object.status != StatusCode::OK || !if_range_holds(headers, object) => Selection::Whole,
            Self::Whole => Selection::Whole,
            Self::From(first, last) => part(first, last.map_or(size, |last| last.saturating_add(1).min(size))),
            Self::Suffix(count) => part(size - count.min(size), size),
        }
    }
}

/// A number of at most 19 digits; a longer one is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits(text).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use nearcast_datasets::Timestamp;

    use super::*;
    use crate::{
        key::Key,
        object::{Freshness, ObjectParts},
    };

    fn select(range: &str, if_range: Option<&str>) -> Selection {
        let mut object_headers = HeaderMap::new();
        object_headers.insert(header::ETAG, HeaderValue::from_static("\"v1\""));
        let object = Object::new(ObjectParts {
            key: Key::parse("/a").unwrap(),
            status: StatusCode::OK,
            size_bytes: 100,
            segment_bytes: 10,
            headers: object_headers,
            received_at: Timestamp::from_micros(0),
            freshness: Freshness::default(),
        });
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
        if let Some(if_range) = if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_str(if_range).unwrap());
        }
        RangeAsk::of(&headers).select(&object, &headers)
    }

    #[test]
    fn a_single_range_selects_its_bytes() {
        let part = |start, end| Selection::Part(ByteRange { start, end });
        assert_eq!(select("bytes=0-9", None), part(0, 10));
        assert_eq!(select("bytes=90-", None), part(90, 100));
        assert_eq!(select("bytes=90-1000", None), part(90, 100));
        assert_eq!(select("Bytes=-5", None), part(95, 100));
        assert_eq!(select("bytes=-500", None), part(0, 100));
        assert_eq!(select("bytes=99999999999999999999-", None), Selection::Unsatisfiable);
        assert_eq!(select("bytes=100-", None), Selection::Unsatisfiable);
        assert_eq!(select("bytes=-0", None), Selection::Unsatisfiable);
    }

    #[test]
    fn what_makes_no_sense_or_no_longer_fits_selects_the_whole() {
        for range in ["bytes=9-5", "bytes=a-b", "bytes=0-1,5-6", "pages=1-2", "bytes=+1-2", "bytes="] {
            assert_eq!(select(range, None), Selection::Whole, "{range}");
        }
        assert_eq!(select("bytes=0-9", Some("\"other\"")), Selection::Whole);
        assert_eq!(select("bytes=0-9", Some("\"v1\"")), Selection::Part(ByteRange { start: 0, end: 10 }));
        assert_eq!(select("bytes=0-9", Some("W/\"v1\"")), Selection::Whole);
    }

    #[test]
    fn the_first_segment_follows_from_start_or_size() {
        assert_eq!(RangeAsk::From(25, None).first_segment(10, None), 2);
        assert_eq!(RangeAsk::Suffix(5).first_segment(10, Some(100)), 9);
        assert_eq!(RangeAsk::Suffix(5).first_segment(10, None), 0);
        assert_eq!(RangeAsk::Whole.first_segment(10, Some(100)), 0);
    }
}
