//! What the conditional and range headers of a request ask for.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};

/// What identifies the state of an object.
#[derive(Clone, Debug)]
pub(super) struct Validators {
    /// The entity tag, with its quotes.
    pub(super) etag: String,
    /// The date, as in `Last-Modified`.
    pub(super) modified: std::time::SystemTime,
}

/// Which part of the object is to be sent, or why none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// A part.
    Part(Range<u64>),
    /// Nothing but this status.
    Nothing(StatusCode),
}

/// Evaluates the headers in the order of RFC 9110, section 13.2.2.
pub(super) fn wanted(headers: &HeaderMap, validators: &Validators, size: u64) -> Wanted {
    let tags = |name| text(headers, name).map(|tags| names(tags, &validators.etag));
    let date = |name| text(headers, name).and_then(|date| httpdate::parse_http_date(date).ok());
    let unmodified = |since| validators.modified <= since;
    let is_same = tags(header::IF_MATCH).or_else(|| date(header::IF_UNMODIFIED_SINCE).map(unmodified));
    if is_same == Some(false) {
        return Wanted::Nothing(StatusCode::PRECONDITION_FAILED);
    }
    let is_known = tags(header::IF_NONE_MATCH).or_else(|| date(header::IF_MODIFIED_SINCE).map(unmodified));
    if is_known == Some(true) {
        return Wanted::Nothing(StatusCode::NOT_MODIFIED);
    }
    let current = |condition: &str| match httpdate::parse_http_date(condition) {
        Ok(date) => date == validators.modified,
        Err(_) => condition == validators.etag,
    };
    if text(headers, header::IF_RANGE).is_some_and(|condition| !current(condition)) {
        return Wanted::Whole;
    }
    text(headers, header::RANGE).map_or(Wanted::Whole, |range| part(range, size))
}

/// What a `Range` header asks for; what is no single range of bytes is ignored, as RFC 9110 allows.
fn part(range: &str, size: u64) -> Wanted {
    let Some((first, last)) = range.trim().strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Wanted::Whole;
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let range = match (first, last) {
        ("", suffix) => number(suffix).map(|suffix| size.saturating_sub(suffix)..size),
        (first, "") => number(first).map(|first| first..size),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some(first..last.saturating_add(1).min(size)),
            _ => None,
        },
    };
    match range {
        None => Wanted::Whole,
        Some(range) if range.start >= range.end => Wanted::Nothing(StatusCode::RANGE_NOT_SATISFIABLE),
        Some(range) => Wanted::Part(range),
    }
}

fn names(tags: &str, etag: &str) -> bool {
    tags.trim() == "*" || tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn check(name: &str, value: &str, expected: &Wanted) {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let validators = Validators { etag: "\"e\"".into(), modified };
        let name = HeaderName::try_from(name).unwrap();
        let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
        assert_eq!(&wanted(&headers, &validators, 100), expected, "{value}");
    }

    #[test]
    fn ranges_are_cut_at_the_end_and_refused_past_it() {
        let unsatisfiable = Wanted::Nothing(StatusCode::RANGE_NOT_SATISFIABLE);
        for (range, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=10-19", Wanted::Part(10..20)),
            ("bytes=99-", Wanted::Part(99..100)),
            ("bytes=90-500", Wanted::Part(90..100)),
            ("bytes=-5", Wanted::Part(95..100)),
            ("bytes=-500", Wanted::Part(0..100)),
            ("bytes=100-", unsatisfiable.clone()),
            ("bytes=-0", unsatisfiable),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=1-2,4-5", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("items=1-2", Wanted::Whole),
        ] {
            check("range", range, &expected);
        }
    }

    #[test]
    fn validators_are_compared_as_http_asks() {
        let (known, changed) =
            (Wanted::Nothing(StatusCode::NOT_MODIFIED), Wanted::Nothing(StatusCode::PRECONDITION_FAILED));
        check("if-none-match", "\"x\", W/\"e\"", &known);
        check("if-none-match", "*", &known);
        check("if-none-match", "\"x\"", &Wanted::Whole);
        check("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT", &known);
        check("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT", &Wanted::Whole);
        check("if-match", "\"e\"", &Wanted::Whole);
        check("if-match", "\"x\"", &changed);
        check("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT", &changed);
    }
}
