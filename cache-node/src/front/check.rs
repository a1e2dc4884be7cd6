//! Requests that are refused on sight, because nodes and origins could understand them differently.

use http::{Method, Request, StatusCode, Version, header, uri::Authority};

/// Why a request is refused; its connection is closed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) words: &'static str,
}

/// Looks at what the HTTP library lets through: the host (RFC 9112, section 3.2), the form of the target and the coding
/// of the body.
///
/// # Errors
/// When the request is to be refused.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    let bad = |words| Err(Refusal { status: StatusCode::BAD_REQUEST, words });
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => return bad("the request names no host"),
        (Some(_), Some(_)) => return bad("the request names several hosts"),
        (host, _) => host,
    };
    if let Some(host) = host {
        // An empty one stands for a target without an authority.
        if !host.is_empty() && Authority::try_from(host.as_bytes()).is_err() {
            return bad("the request's host is none");
        }
        let named = request.uri().authority().filter(|_| request.version() == Version::HTTP_2);
        if named.is_some_and(|named| !named.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())) {
            return bad("the request names two hosts");
        }
    }
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {}
        _ => {
            let words = "a transfer coding other than chunked is not understood";
            return Err(Refusal { status: StatusCode::NOT_IMPLEMENTED, words });
        }
    }
    let path = request.uri().path();
    let is_of_the_server = path == "*" && *request.method() == Method::OPTIONS;
    if !path.starts_with('/') && !is_of_the_server && *request.method() != Method::CONNECT {
        return bad("the request's target is no path");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().version(version).method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn hosts_targets_and_codings_are_unambiguous() {
        let (old, new, two) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        for (expected, version, method, target, headers) in [
            (200, new, "GET", "/x", &[("host", "a:80")][..]),
            (200, new, "GET", "/x", &[("host", "[::1]:80")]),
            (200, new, "GET", "/x", &[("host", "")]),
            (200, old, "GET", "/x", &[]),
            (400, new, "GET", "/x", &[]),
            (400, new, "GET", "/x", &[("host", "a"), ("host", "a")]),
            (400, new, "GET", "/x", &[("host", "a b")]),
            (400, new, "GET", "/x", &[("host", "a/b")]),
            (200, new, "GET", "http://b/x", &[("host", "a")]),
            (200, two, "GET", "http://a/x", &[("host", "A")]),
            (400, two, "GET", "http://b/x", &[("host", "a")]),
            (200, new, "POST", "/x", &[("host", "a"), ("transfer-encoding", "Chunked")]),
            (501, new, "POST", "/x", &[("host", "a"), ("transfer-encoding", "gzip, chunked")]),
            (501, new, "POST", "/x", &[("host", "a"), ("transfer-encoding", "x"), ("transfer-encoding", "chunked")]),
            (200, new, "OPTIONS", "*", &[("host", "a")]),
            (400, new, "GET", "*", &[("host", "a")]),
            (400, new, "GET", "a.example", &[("host", "a")]),
        ] {
            assert_eq!(status(version, method, target, headers), expected, "{method} {target} {headers:?}");
        }
    }
}
