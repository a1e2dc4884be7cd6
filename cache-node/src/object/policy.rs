//! Whether and how long a response may be kept, by the rules of HTTP caching (RFC 9111, with RFC 5861 and RFC 9213).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use nearcast_datasets::Timestamp;

use super::{
    directives::{CacheDirectives, targeted},
    variant,
};
use crate::clock;

/// How long a response may be served without asking the origin again, and for how much longer when that must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// From now on.
    pub(crate) time_to_live: Duration,
    /// How old it is now.
    pub(crate) age: Duration,
    /// After that, while the origin is being asked.
    pub(crate) while_revalidate: Duration,
    /// After that, when the origin answers with an error.
    pub(crate) if_error: Duration,
    /// After that, when the origin cannot be reached.
    pub(crate) if_unreachable: Duration,
}

/// A response to a plain GET, as far as caching is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    /// The headers of the request that it answers.
    pub(crate) asked: &'a HeaderMap,
}

/// Assesses an answer, a part of an object as the object that it is a part of; `None` when it must not be kept.
///
/// A response that is stale at once is kept only if a validator lets the origin confirm it later, and one that sets a
/// cookie never, although RFC 9111 would allow it: a cookie given to two clients is the worst that a cache can do.
pub(crate) fn assess(reply: Reply<'_>, now: Timestamp) -> Option<Freshness> {
    let Reply { status, headers, asked } = reply;
    let targeted = targeted(headers);
    let is_targeted = targeted.is_some();
    let directives = targeted.unwrap_or_else(|| CacheDirectives::of(headers));
    let is_understood = UNDERSTOOD.contains(&status.as_u16());
    // Who knows the status need not heed a `no-store` that stands beside `must-understand` (RFC 9111, section 5.2.2.3).
    let forbids_storing = if directives.must_understand { !is_understood } else { directives.no_store };
    let forbids = forbids_storing
        || directives.private
        || ABOUT_THE_REQUEST.contains(&status)
        || headers.contains_key(header::SET_COOKIE)
        || variant::varies_by_everything(headers);
    let may_be_shared = !asked.contains_key(header::AUTHORIZATION)
        || directives.public
        || directives.must_revalidate
        || directives.s_maxage.is_some();
    if forbids || !may_be_shared {
        return None;
    }
    let explicit = explicit_lifetime(&directives, is_targeted, headers, now);
    let lifetime = match explicit {
        Some(lifetime) => lifetime,
        None if HEURISTIC.contains(&status.as_u16()) || directives.public => heuristic_lifetime(headers),
        None => return None,
    };
    let age = age_of(headers, now);
    let has_validator = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    let time_to_live = if directives.no_cache { Duration::ZERO } else { lifetime.saturating_sub(age) };
    let if_error = directives.stale_if_error.unwrap_or_default();
    if time_to_live.is_zero() && !has_validator && if_error.is_zero() {
        return None;
    }
    let must_ask = directives.must_revalidate
        || directives.proxy_revalidate
        || directives.no_cache
        || directives.s_maxage.is_some();
    let stale = |window: Duration| if must_ask { Duration::ZERO } else { window };
    // What has been stale on arrival for a while has used up that much of what it may be stale.
    let overdue = age.saturating_sub(lifetime);
    Some(Freshness {
        time_to_live,
        age,
        while_revalidate: stale(directives.stale_while_revalidate.unwrap_or_default().saturating_sub(overdue)),
        if_error: stale(if_error.saturating_sub(overdue)),
        if_unreachable: stale(if explicit.is_some() { UNREACHABLE_STALE.max(if_error) } else { if_error }),
    })
}

/// The lifetime that the origin states; `None` when it states none.
fn explicit_lifetime(
    directives: &CacheDirectives,
    is_targeted: bool,
    headers: &HeaderMap,
    now: Timestamp,
) -> Option<Duration> {
    // A directive that makes no sense means stale: whoever wrote it wanted to say something about freshness.
    if let Some(stated) = directives.s_maxage.or(directives.max_age) {
        return Some(stated.unwrap_or_default());
    }
    if is_targeted {
        return None;
    }
    let mut expires = headers.get_all(header::EXPIRES).iter();
    let value = expires.next()?;
    // Several of them contradict each other, and so does what is no date.
    let at = if expires.next().is_some() { None } else { date(value) };
    let base = headers.get(header::DATE).and_then(date).unwrap_or_else(|| clock::system_time(now));
    Some(at.and_then(|at| at.duration_since(base).ok()).unwrap_or_default())
}

/// A tenth of the time since the last change (RFC 9111, section 4.2.2), at most a day.
fn heuristic_lifetime(headers: &HeaderMap) -> Duration {
    let (Some(sent), Some(modified)) =
        (headers.get(header::DATE).and_then(date), headers.get(header::LAST_MODIFIED).and_then(date))
    else {
        return Duration::ZERO;
    };
    (sent.duration_since(modified).unwrap_or_default() / 10).min(HEURISTIC_MAX)
}

/// How old a response is on arrival (RFC 9111, section 4.2.3).
fn age_of(headers: &HeaderMap, now: Timestamp) -> Duration {
    let since_sent = headers
        .get(header::DATE)
        .and_then(date)
        .and_then(|sent| clock::system_time(now).duration_since(sent).ok())
        // Clocks that differ by less than a request's way say nothing about age.
        .filter(|elapsed| *elapsed >= Duration::from_secs(1))
        .unwrap_or_default();
    // Of several the first counts, as with any field that should be there once.
    let stated = headers.get(header::AGE).and_then(|value| value.to_str().ok()).map(|text| {
        let first = text.split(',').next().unwrap_or_default().trim();
        let digits = first.bytes().all(|byte| byte.is_ascii_digit()) && !first.is_empty();
        // Too many digits are an age too.
        if digits { Duration::from_secs(first.parse().unwrap_or(AGE_MAX_SECONDS)) } else { Duration::ZERO }
    });
    since_sent.max(stated.unwrap_or_default())
}

/// A date as HTTP writes it.
pub(crate) fn date(value: &HeaderValue) -> Option<std::time::SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// The headers that concern the message and not one connection, nor this node's own answers.
pub(crate) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let listed: Vec<&str> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    let is_kept = |name: &HeaderName| {
        !HOP_BY_HOP.contains(name) && !listed.iter().any(|listed| name.as_str().eq_ignore_ascii_case(listed))
    };
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| is_kept(name)) {
        kept.append(name.clone(), HeaderValue::clone(value));
    }
    kept
}

/// What of a request's headers is told to origins and peers when the answer may be kept: not what selects a part or a
/// state of the object, which this node sees to, nor what concerns one connection, nor what could make an origin answer
/// as if another address or method had been asked for: that answer would be kept for everyone who asks for this one.
pub(crate) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(headers);
    for name in OWN_BUSINESS {
        kept.remove(name);
    }
    for name in OVERRIDES {
        kept.remove(name);
    }
    kept
}

const OWN_BUSINESS: [HeaderName; 12] = [
    header::ACCEPT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    CLIENT_HEADER,
];

/// Headers by which applications let a request say that it is for another host, scheme, path or method than it is.
const OVERRIDES: [&str; 17] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-uri",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-url-scheme",
];

/// The request header by which a trusted load generator or proxy names the client itself.
pub(crate) const CLIENT_HEADER: HeaderName = HeaderName::from_static("nearcast-client");

const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Statuses that answer a condition or a range of the request and not the object. Whoever asked for a part knows what it
/// is a part of.
const ABOUT_THE_REQUEST: [StatusCode; 4] = [
    StatusCode::PARTIAL_CONTENT,
    StatusCode::NOT_MODIFIED,
    StatusCode::PRECONDITION_FAILED,
    StatusCode::RANGE_NOT_SATISFIABLE,
];

/// Statuses whose meaning for caches this node knows.
const UNDERSTOOD: [u16; 22] =
    [200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 414, 421, 451, 500, 501, 502, 503];
/// Statuses that may be kept without a stated lifetime (RFC 9110, section 15.1).
const HEURISTIC: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
/// An age of more digits than can be read.
const AGE_MAX_SECONDS: u64 = u32::MAX as u64;
/// The longest lifetime that is guessed.
const HEURISTIC_MAX: Duration = Duration::from_secs(86_400);
/// How long a response that states its lifetime may outlast it while the origin cannot be reached.
const UNREACHABLE_STALE: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(headers: &[(&str, &str)]) -> HeaderMap {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        });
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    }

    fn assess_status(status: u16, response: &[(&str, &str)], asked: &[(&str, &str)]) -> Option<Freshness> {
        let (response, asked) = (headers(response), headers(asked));
        let status = StatusCode::from_u16(status).unwrap();
        assess(Reply { status, headers: &response, asked: &asked }, Timestamp::from_micros(1_000_000))
    }

    fn lifetime(response: &[(&str, &str)]) -> Option<Duration> {
        assess_status(200, response, &[]).map(|freshness| freshness.time_to_live)
    }

    #[test]
    fn keeps_what_a_shared_cache_may_keep() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (response, expected) in [
            (&[("cache-control", "max-age=60")][..], seconds(60)),
            (&[("cache-control", "max-age=60"), ("age", "20")], seconds(40)),
            (&[("cache-control", "max-age=60, s-maxage=9")], seconds(9)),
            (&[("cache-control", "max-age=0"), ("etag", "\"a\"")], seconds(0)),
            (&[("cache-control", "no-cache, max-age=9"), ("etag", "\"a\"")], seconds(0)),
            (&[("cache-control", "max-age=9"), ("vary", "Accept-Encoding, cookie")], seconds(9)),
            (&[("expires", "Thu, 01 Jan 1970 00:01:00 GMT"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT")], seconds(59)),
            (&[("cache-control", "max-age=60"), ("expires", "0")], seconds(60)),
            (&[("cache-control", "no-store"), ("cdn-cache-control", "max-age=30")], seconds(30)),
            (&[("cache-control", "max-age=60"), ("cdn-cache-control", "max-age=\"x")], seconds(60)),
        ] {
            assert_eq!(lifetime(response), expected, "{response:?}");
        }
    }

    #[test]
    fn refuses_what_is_private_or_could_never_be_confirmed() {
        for response in [
            &[("cache-control", "private, max-age=60")][..],
            &[("cache-control", "no-store")],
            &[("cache-control", "max-age=60"), ("cdn-cache-control", "no-store")],
            &[("cache-control", "max-age=60"), ("vary", "cookie, *")],
            &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
            &[("cache-control", "max-age=soon")],
            &[("expires", "0")],
            &[],
        ] {
            assert_eq!(lifetime(response), None, "{response:?}");
        }
    }

    #[test]
    fn an_authorized_answer_is_shared_only_if_the_origin_says_so() {
        let asked = [("authorization", "Basic x")];
        assert_eq!(assess_status(200, &[("cache-control", "max-age=60")], &asked), None);
        for allowed in ["max-age=60, public", "max-age=60, must-revalidate", "s-maxage=60"] {
            assert!(assess_status(200, &[("cache-control", allowed)], &asked).is_some(), "{allowed}");
        }
    }

    #[test]
    fn errors_and_redirects_are_kept_as_long_as_they_say() {
        assert!(assess_status(404, &[("cache-control", "max-age=60")], &[]).is_some());
        assert!(assess_status(503, &[("cache-control", "max-age=60")], &[]).is_some());
        assert!(assess_status(599, &[("cache-control", "max-age=60")], &[]).is_some());
        assert_eq!(assess_status(599, &[("cache-control", "max-age=60, must-understand")], &[]), None);
        for about_the_request in [206, 304, 412, 416] {
            assert_eq!(assess_status(about_the_request, &[("cache-control", "max-age=60")], &[]), None);
        }
        let guessed = [("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT"), ("date", "Thu, 01 Jan 1970 01:00:00 GMT")];
        assert_eq!(assess_status(403, &guessed, &[]), None);
        assert_eq!(assess_status(410, &guessed, &[]).map(|it| it.time_to_live), Some(Duration::from_secs(360)));
    }

    #[test]
    fn what_must_be_revalidated_is_never_served_stale() {
        let stale = |text: &str| {
            let freshness = assess_status(200, &[("cache-control", text)], &[]).unwrap();
            [freshness.while_revalidate, freshness.if_error, freshness.if_unreachable].map(|time| time.as_secs())
        };
        assert_eq!(stale("max-age=1, stale-while-revalidate=5, stale-if-error=9000"), [5, 9_000, 9_000]);
        assert_eq!(stale("max-age=1"), [0, 0, UNREACHABLE_STALE.as_secs()]);
        for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=1"] {
            assert_eq!(stale(&format!("max-age=1, stale-while-revalidate=5, stale-if-error=9, {strict}")), [0, 0, 0]);
        }
    }

    #[test]
    fn drops_hop_by_hop_headers_and_those_that_connection_names() {
        let headers =
            headers(&[("connection", "close, X-Private"), ("x-private", "1"), ("keep-alive", "1"), ("etag", "\"a\"")]);
        let kept = end_to_end(&headers);
        assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["etag"]);
    }
}
