//! The heads of answers.

use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use nearcast_datasets::{ByteRange, ServedFrom, Timestamp};

use super::{body::ResponseBody, check::Refusal};
use crate::{
    core::MissCause,
    object::Object,
    origin::{BodyError, OriginError},
    shell::FetchError,
};

/// The `Cache-Status` of RFC 9211: who answered, and why the node could not on its own.
pub(super) fn cache_status(served: ServedFrom, cause: Option<MissCause>) -> HeaderValue {
    let text = match (served, cause) {
        (ServedFrom::Memory, _) => return HeaderValue::from_static("nearcast; hit; detail=memory"),
        (ServedFrom::Disk, _) => return HeaderValue::from_static("nearcast; hit; detail=disk"),
        (ServedFrom::Prefetched, _) => return HeaderValue::from_static("nearcast; hit; detail=prefetched"),
        (_, Some(MissCause::Expired)) => format!("nearcast; fwd=stale; detail={served}; cause=expired"),
        (_, Some(MissCause::Uncacheable)) => format!("nearcast; fwd=bypass; detail={served}; cause=uncacheable"),
        (_, Some(cause)) => format!("nearcast; fwd=miss; detail={served}; cause={}", cause.as_str()),
        (_, None) => format!("nearcast; fwd=miss; detail={served}"),
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("nearcast"))
}

/// The headers that an answer with this object always has.
pub(super) fn object_headers(object: &Object, now: Timestamp) -> HeaderMap {
    let mut headers = object.head.to_map(ADDED);
    headers.insert(header::AGE, HeaderValue::from(object.age(now).as_secs()));
    if object.status == StatusCode::OK {
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    headers
}

/// Headers that an answer adds to an object's: age, ranges, length, part and cache status.
const ADDED: usize = 5;

/// The `Content-Range` of a part of an object, or of none.
pub(super) fn content_range(part: Option<ByteRange>, size_bytes: u64) -> HeaderValue {
    let text = match part {
        Some(ByteRange { start, end }) => format!("bytes {start}-{}/{size_bytes}", end.saturating_sub(1)),
        None => format!("bytes */{size_bytes}"),
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes */0"))
}

/// A short answer in words.
pub(super) fn text(status: StatusCode, words: impl Into<String>) -> Response<ResponseBody> {
    let mut words = words.into();
    words.push('\n');
    let mut response = Response::new(ResponseBody::bytes(words, None));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer to a request that is refused; nothing more is read of its connection.
pub(super) fn refuse(refusal: Refusal, version: Version) -> Response<ResponseBody> {
    let mut response = text(refusal.status, refusal.words);
    if version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The status for a request that no source could answer.
pub(super) fn status_of(error: &FetchError) -> StatusCode {
    match error {
        FetchError::Origin(OriginError::Timeout(_)) => StatusCode::GATEWAY_TIMEOUT,
        FetchError::Origin(OriginError::RequestBody(_)) => StatusCode::BAD_REQUEST,
        FetchError::Origin(OriginError::RequestTooLong) => StatusCode::PAYLOAD_TOO_LARGE,
        FetchError::Origin(OriginError::Body(body)) if matches!(**body, BodyError::Stalled(_)) => {
            StatusCode::GATEWAY_TIMEOUT
        }
        FetchError::Aborted | FetchError::Origin(_) | FetchError::Unsettled => StatusCode::BAD_GATEWAY,
    }
}
