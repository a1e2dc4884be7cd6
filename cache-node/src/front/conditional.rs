//! Conditional requests: whether a client's copy is still good.

use std::time::SystemTime;

use http::{HeaderMap, header};

use crate::{
    clock,
    object::{Object, date},
};

/// What a request's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client's copy is still good: 304.
    NotModified,
    /// The client wants another state than this one: 412.
    PreconditionFailed,
    /// Send the object.
    Send,
}

/// Judges `If-Match`, `If-Unmodified-Since`, `If-None-Match` and `If-Modified-Since`, in the order that HTTP prescribes.
///
/// Conditions concern an object that is there (RFC 9110, section 13.2.1): an error or a redirect is sent in any case.
pub(super) fn judge(headers: &HeaderMap, object: &Object) -> Verdict {
    if !object.status.is_success() {
        return Verdict::Send;
    }
    if headers.contains_key(header::IF_MATCH) {
        if !any_tag(headers, &header::IF_MATCH, |tag| tag == "*" || is_same_strong(tag, object)) {
            return Verdict::PreconditionFailed;
        }
    } else if let (Some(since), Some(modified)) = (date_in(headers, &header::IF_UNMODIFIED_SINCE), modified(object))
        && modified > since
    {
        return Verdict::PreconditionFailed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if any_tag(headers, &header::IF_NONE_MATCH, |tag| tag == "*" || is_same_weak(tag, object)) {
            return Verdict::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (date_in(headers, &header::IF_MODIFIED_SINCE), modified(object))
        && modified <= since
    {
        return Verdict::NotModified;
    }
    Verdict::Send
}

/// Whether a range may be sent: there is no `If-Range`, or it names this very state of the object. A date does so only
/// if the object cannot have changed twice in that second (RFC 9110, sections 8.8.2.2 and 13.1.5).
pub(super) fn if_range_holds(headers: &HeaderMap, object: &Object) -> bool {
    let mut conditions = headers.get_all(header::IF_RANGE).iter();
    let condition = match (conditions.next(), conditions.next()) {
        (None, _) => return true,
        (Some(condition), None) => condition,
        (Some(_), Some(_)) => return false,
    };
    if let Ok(tag) = condition.to_str()
        && (tag.starts_with('"') || tag.starts_with("W/"))
    {
        return is_same_strong(tag, object);
    }
    let sent = object.head.get(&header::DATE).as_ref().and_then(date);
    let sent = sent.unwrap_or_else(|| clock::system_time(object.received_at));
    let is_strong = |modified: SystemTime| sent.duration_since(modified).is_ok_and(|since| since.as_secs() >= 1);
    matches!((date(condition), modified(object)), (Some(at), Some(modified)) if at == modified && is_strong(modified))
}

fn any_tag(headers: &HeaderMap, name: &header::HeaderName, is_match: impl Fn(&str) -> bool) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|tag| is_match(tag.trim()))
}

fn is_same_strong(tag: &str, object: &Object) -> bool {
    !tag.starts_with("W/") && object.etag().is_some_and(|own| own.as_bytes() == tag.as_bytes())
}

fn is_same_weak(tag: &str, object: &Object) -> bool {
    object.etag().is_some_and(|own| own.to_str().is_ok_and(|own| opaque(own) == opaque(tag)))
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

fn date_in(headers: &HeaderMap, name: &header::HeaderName) -> Option<SystemTime> {
    headers.get(name).and_then(date)
}

fn modified(object: &Object) -> Option<SystemTime> {
    object.last_modified().as_ref().and_then(date)
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

    fn check(conditions: &[(&'static str, &'static str)], expected: Verdict) {
        let mut own = HeaderMap::new();
        own.insert(header::ETAG, HeaderValue::from_static("\"v1\""));
        own.insert(header::LAST_MODIFIED, HeaderValue::from_static("Tue, 15 Nov 1994 12:45:26 GMT"));
        let object = Object::new(ObjectParts {
            key: Key::parse("/a").unwrap(),
            status: http::StatusCode::OK,
            size_bytes: 1,
            segment_bytes: 10,
            headers: own,
            received_at: Timestamp::from_micros(0),
            freshness: Freshness::default(),
        });
        let mut headers = HeaderMap::new();
        for (name, value) in conditions {
            headers.append(*name, HeaderValue::from_static(value));
        }
        assert_eq!(judge(&headers, &object), expected, "{conditions:?}");
    }

    #[test]
    fn tags_and_dates_are_judged_in_the_prescribed_order() {
        check(&[], Verdict::Send);
        check(&[("if-none-match", "\"v0\", W/\"v1\"")], Verdict::NotModified);
        check(&[("if-none-match", "*")], Verdict::NotModified);
        check(&[("if-none-match", "\"v0\""), ("if-modified-since", "Tue, 15 Nov 1994 12:45:26 GMT")], Verdict::Send);
        check(&[("if-modified-since", "Tue, 15 Nov 1994 12:45:26 GMT")], Verdict::NotModified);
        check(&[("if-modified-since", "Tue, 15 Nov 1994 12:45:25 GMT")], Verdict::Send);
        check(&[("if-match", "W/\"v1\"")], Verdict::PreconditionFailed);
        check(&[("if-match", "\"v1\"")], Verdict::Send);
        check(&[("if-unmodified-since", "Tue, 15 Nov 1994 12:45:25 GMT")], Verdict::PreconditionFailed);
    }
}
