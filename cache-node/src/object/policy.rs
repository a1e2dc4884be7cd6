//! Whether and how long a response may be kept, by the rules of HTTP caching.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_cache_semantics::{CacheOptions, CachePolicy};
use nearcast_datasets::Timestamp;

use crate::clock;

/// How long a response may be served without asking the origin again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// From now on.
    pub(crate) time_to_live: Duration,
    /// How old it is now.
    pub(crate) age: Duration,
}

/// Assesses a complete or partial answer to a plain GET; `None` when it must not be kept.
///
/// A response that is stale at once is kept only if a validator lets the origin confirm it later. Answers that vary
/// with request headers are not kept, except with `accept-encoding`, which this node always sends as `identity`.
pub(crate) fn assess(target: &str, headers: &HeaderMap, now: Timestamp) -> Option<Freshness> {
    let request = Request::get(target).body(()).ok()?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    *response.headers_mut() = headers.clone();
    let received_at = clock::system_time(now);
    let policy = CachePolicy::new_options(&request, &response, received_at, CacheOptions::default());
    let age = policy.age(received_at);
    let time_to_live = policy.time_to_live(received_at);
    let has_validator = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    let may_be_kept = policy.is_storable()
        && !varies(headers)
        && !headers.contains_key(header::SET_COOKIE)
        && (!time_to_live.is_zero() || has_validator);
    may_be_kept.then_some(Freshness { time_to_live, age })
}

/// Whether the response depends on request headers that this node does not fix.
fn varies(headers: &HeaderMap) -> bool {
    let names = headers.get_all(header::VARY).iter();
    names
        .flat_map(|value| value.to_str().unwrap_or("*").split(','))
        .any(|name| !name.trim().is_empty() && !name.trim().eq_ignore_ascii_case("accept-encoding"))
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

const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn assess_headers(headers: &[(&str, &str)]) -> Option<Duration> {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        });
        assess("/x", &headers.collect(), Timestamp::from_micros(1_000_000)).map(|freshness| freshness.time_to_live)
    }

    #[test]
    fn keeps_what_a_shared_cache_may_keep() {
        assert_eq!(assess_headers(&[("cache-control", "max-age=60")]), Some(Duration::from_secs(60)));
        assert_eq!(assess_headers(&[("cache-control", "max-age=60"), ("age", "20")]), Some(Duration::from_secs(40)));
        assert_eq!(assess_headers(&[("cache-control", "max-age=0"), ("etag", "\"a\"")]), Some(Duration::ZERO));
        assert_eq!(
            assess_headers(&[("cache-control", "max-age=9"), ("vary", "Accept-Encoding")]),
            Some(Duration::from_secs(9))
        );
    }

    #[test]
    fn refuses_what_is_private_varies_or_could_never_be_confirmed() {
        for headers in [
            &[("cache-control", "private, max-age=60")][..],
            &[("cache-control", "no-store")],
            &[("cache-control", "max-age=60"), ("vary", "cookie")],
            &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
            &[],
        ] {
            assert_eq!(assess_headers(headers), None, "{headers:?}");
        }
    }

    #[test]
    fn drops_hop_by_hop_headers_and_those_that_connection_names() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("close, X-Private"));
        headers.insert("x-private", HeaderValue::from_static("1"));
        headers.insert("keep-alive", HeaderValue::from_static("1"));
        headers.insert("etag", HeaderValue::from_static("\"a\""));
        let kept = end_to_end(&headers);
        assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["etag"]);
    }
}
