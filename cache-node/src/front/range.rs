//! The `Range` header of a request (RFC 9110, section 14).

use http::{HeaderMap, StatusCode, header};
use nearcast_datasets::ByteRange;

use super::conditional::if_range_holds;
use crate::object::{Object, digits};

/// What a request asks for of an object, before the object's size is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RangeAsk {
    /// One range or several, in the order in which they were asked for.
    Parts(Vec<RangeSpec>),
    /// All of it: no range, too many, or one that makes no sense.
    Whole,
}

/// One range as a request writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RangeSpec {
    /// From a byte on, up to and including another if one is given.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Suffix(u64),
}

/// The part of an object that a request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// These bytes.
    Part(ByteRange),
    /// Several parts, disjoint, in the order in which they are sent.
    Parts(Vec<ByteRange>),
    /// Nothing: every range begins beyond the end.
    Unsatisfiable,
    /// All of it.
    Whole,
}

impl RangeAsk {
    /// Reads the header. What cannot be understood is ignored, as HTTP asks, and so are more than `count_max` ranges:
    /// then the whole object is sent, at what any request for it costs.
    pub(super) fn of(headers: &HeaderMap, count_max: usize) -> Self {
        let mut values = headers.get_all(header::RANGE).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => {
                value.to_str().ok().and_then(|text| Self::parse(text, count_max)).unwrap_or(Self::Whole)
            }
            _ => Self::Whole,
        }
    }

    /// The ranges of a header; `None` where one of them makes no sense, or there are none, or more than `count_max`.
    pub(crate) fn parse(text: &str, count_max: usize) -> Option<Self> {
        let (unit, ranges) = text.trim().split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let mut specs = Vec::new();
        // A list may have empty elements (RFC 9110, section 5.6.1.2).
        for range in ranges.split(',').map(|range| range.trim_matches([' ', '\t'])).filter(|range| !range.is_empty()) {
            specs.push(RangeSpec::parse(range)?);
            if specs.len() > count_max {
                return None;
            }
        }
        (!specs.is_empty()).then_some(Self::Parts(specs))
    }

    /// The segment to ask for while the object's size is not known: the earliest that is needed in any case.
    pub(super) fn first_segment(&self, segment_bytes: u64) -> u32 {
        let Self::Parts(specs) = self else { return 0 };
        let starts = specs.iter().filter_map(|spec| match spec {
            RangeSpec::From(first, _) => Some(*first),
            RangeSpec::Suffix(_) => None,
        });
        u32::try_from(starts.min().unwrap_or_default() / segment_bytes).unwrap_or(u32::MAX - 1)
    }

    /// Whether it could be satisfied although none of its bytes that count from the start are there.
    pub(super) fn has_suffix(&self) -> bool {
        matches!(self, Self::Parts(specs) if specs.iter().any(|spec| matches!(spec, RangeSpec::Suffix(_))))
    }

    /// What to send of `object`. An error or a redirect has no parts.
    pub(super) fn select(&self, object: &Object, headers: &HeaderMap) -> Selection {
        match self {
            Self::Parts(specs) if object.status == StatusCode::OK && if_range_holds(headers, object) => {
                let found = specs.iter().filter_map(|spec| spec.within(object.size_bytes));
                let parts = coalesce(found.collect());
                match parts[..] {
                    [] => Selection::Unsatisfiable,
                    [part] => Selection::Part(part),
                    _ => Selection::Parts(parts),
                }
            }
            Self::Parts(_) | Self::Whole => Selection::Whole,
        }
    }
}

impl RangeSpec {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        match (first, last) {
            ("", last) => Some(Self::Suffix(number(last)?)),
            (first, "") => Some(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// Its bytes of an object; `None` where there are none.
    fn within(self, size: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::From(first, last) => (first, last.map_or(size, |last| last.saturating_add(1).min(size))),
            Self::Suffix(count) => (size.saturating_sub(count), size),
        };
        (start < end).then_some(ByteRange { start, end })
    }
}

/// Joins ranges that overlap, or between which fewer bytes lie than a part of its own would cost, so that no byte is
/// sent twice however they overlap. The order stays as asked, each where the first of what it joins stood; where it
/// jumps back so often that segments would be fetched again and again, the parts ascend.
fn coalesce(ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut sorted: Vec<(usize, ByteRange)> = ranges.into_iter().enumerate().collect();
    sorted.sort_by_key(|(_, range)| range.start);
    let mut joined: Vec<(usize, ByteRange)> = Vec::with_capacity(sorted.len());
    for (position, range) in sorted {
        match joined.last_mut() {
            Some((at, last)) if range.start <= last.end.saturating_add(PART_OVERHEAD_BYTES) => {
                last.end = last.end.max(range.end);
                *at = position.min(*at);
            }
            _ => joined.push((position, range)),
        }
    }
    let ascending: Vec<ByteRange> = joined.iter().map(|(_, range)| *range).collect();
    joined.sort_by_key(|(position, _)| *position);
    let jumps_back = joined.windows(2).filter(|pair| pair[0].1.start > pair[1].1.start).count();
    if jumps_back > JUMPS_BACK_MAX { ascending } else { joined.into_iter().map(|(_, range)| range).collect() }
}

/// A number of at most 19 digits; a longer one is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits(text).unwrap_or(u64::MAX))
}

/// About what stands between two parts (RFC 9110, section 15.3.7.2).
const PART_OVERHEAD_BYTES: u64 = 80;
/// Ranges that begin before the one that they follow; a set of many such is no honest client's (section 14.2).
const JUMPS_BACK_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use nearcast_datasets::Timestamp;

    use super::*;
    use crate::{
        key::Key,
        object::{Freshness, ObjectParts},
    };

    const SIZE: u64 = 1_000;

    fn select(range: &str, if_range: Option<&str>) -> Selection {
        let mut object_headers = HeaderMap::new();
        object_headers.insert(header::ETAG, HeaderValue::from_static("\"v1\""));
        object_headers.insert(header::LAST_MODIFIED, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:05 GMT"));
        let object = Object::new(ObjectParts {
            key: Key::parse("/a").unwrap(),
            status: StatusCode::OK,
            size_bytes: SIZE,
            segment_bytes: 10,
            headers: object_headers,
            received_at: Timestamp::from_micros(60_000_000),
            freshness: Freshness::default(),
        });
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
        if let Some(if_range) = if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_str(if_range).unwrap());
        }
        RangeAsk::of(&headers, 100).select(&object, &headers)
    }

    fn part(start: u64, end: u64) -> Selection {
        Selection::Part(ByteRange { start, end })
    }

    fn parts(parts: &[(u64, u64)]) -> Selection {
        Selection::Parts(parts.iter().map(|&(start, end)| ByteRange { start, end }).collect())
    }

    #[test]
    fn a_single_range_selects_its_bytes() {
        assert_eq!(select("bytes=0-9", None), part(0, 10));
        assert_eq!(select("bytes=990-", None), part(990, 1_000));
        assert_eq!(select("bytes=990-10000", None), part(990, 1_000));
        assert_eq!(select("Bytes=-5", None), part(995, 1_000));
        assert_eq!(select("bytes=-5000", None), part(0, 1_000));
        assert_eq!(select("bytes= 0-9", None), part(0, 10));
        for beyond in
            ["bytes=99999999999999999999-", "bytes=1000-", "bytes=-0", "bytes=1000-1001,-0", "bytes=5000-,6000-"]
        {
            assert_eq!(select(beyond, None), Selection::Unsatisfiable, "{beyond}");
        }
    }

    #[test]
    fn several_ranges_select_their_parts_in_the_order_asked() {
        assert_eq!(select("bytes=0-9,500-509", None), parts(&[(0, 10), (500, 510)]));
        assert_eq!(select("bytes=500-509 ,\t0-9,,-10", None), parts(&[(500, 510), (0, 10), (990, 1_000)]));
        assert_eq!(select("bytes=0-9,5000-", None), part(0, 10), "what cannot be satisfied is left out");
    }

    #[test]
    fn ranges_that_overlap_or_nearly_touch_become_one() {
        assert_eq!(select("bytes=0-9,10-19", None), part(0, 20));
        assert_eq!(select("bytes=0-9,90-99", None), part(0, 100));
        assert_eq!(select("bytes=0-9,91-99", None), parts(&[(0, 10), (91, 100)]));
        assert_eq!(select("bytes=900-,400-409,100-199,150-420,0-5", None), parts(&[(900, 1_000), (100, 421), (0, 6)]));
        let attack = format!("bytes={}", (0..100).map(|start| format!("{start}-")).collect::<Vec<_>>().join(","));
        assert_eq!(select(&attack, None), part(0, 1_000));
    }

    #[test]
    fn many_jumps_back_are_put_in_order_and_too_many_ranges_ignored() {
        let descending = |count: u64| {
            let ranges: Vec<String> = (0..count).rev().map(|at| format!("{0}-{0}", at * 90)).collect();
            select(&format!("bytes={}", ranges.join(",")), None)
        };
        let expected = |order: &[u64]| parts(&order.iter().map(|at| (at * 90, at * 90 + 1)).collect::<Vec<_>>());
        assert_eq!(descending(9), expected(&[8, 7, 6, 5, 4, 3, 2, 1, 0]));
        assert_eq!(descending(10), expected(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
        let many = |count| format!("bytes={}", vec!["0-0"; count].join(","));
        assert_eq!(select(&many(100), None), part(0, 1));
        assert_eq!(select(&many(101), None), Selection::Whole);
    }

    #[test]
    fn what_makes_no_sense_or_no_longer_fits_selects_the_whole() {
        for range in [
            "bytes=9-5",
            "bytes=a-b",
            "bytes=0-1,5",
            "bytes=0-1,9-5",
            "pages=1-2",
            "bytes=+1-2",
            "bytes=--1",
            "bytes=1-2-3",
            "bytes=-",
            "bytes=",
            "bytes=,",
            "bytes 0-1",
            "bytes =0-1",
            "bytes=0 -1",
        ] {
            assert_eq!(select(range, None), Selection::Whole, "{range}");
        }
        for (if_range, holds) in [
            ("\"v1\"", true),
            ("\"other\"", false),
            ("W/\"v1\"", false),
            ("Thu, 01 Jan 1970 00:00:05 GMT", true),
            ("Thu, 01 Jan 1970 00:00:06 GMT", false),
            ("Thu, 01 Jan 1970 00:00:04 GMT", false),
            ("yesterday", false),
        ] {
            let expected = if holds { part(0, 10) } else { Selection::Whole };
            assert_eq!(select("bytes=0-9", Some(if_range)), expected, "{if_range}");
        }
    }

    #[test]
    fn the_first_segment_is_one_that_is_needed_in_any_case() {
        let first = |text: &str| RangeAsk::parse(text, 9).unwrap().first_segment(10);
        assert_eq!((first("bytes=25-"), first("bytes=900-,40-49,-1"), first("bytes=-5")), (2, 4, 0));
        assert_eq!(first("bytes=99999999999999999999-"), u32::MAX - 1);
        assert_eq!(RangeAsk::Whole.first_segment(10), 0);
    }
}
