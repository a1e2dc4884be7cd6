//! What an origin's response means for the segment that was asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};

use super::Shell;
use crate::{
    clock,
    key::Key,
    object::{ContentRange, Object, ObjectParts, SharedObject, assess, end_to_end},
    origin::{BodyError, Condition, OriginBody, OriginError, Span, read_up_to},
    store::Payload,
};

/// An origin's complete answer that is not the object: an error or a redirect.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What an origin's response means.
#[derive(Debug)]
pub(super) enum OriginAnswer {
    /// Something else than the object, the same for everyone.
    Answered(Arc<Answered>),
    /// The object is no longer in the state that was asked for.
    Changed,
    /// The object is still in the state that is known; these headers came with that.
    NotModified(HeaderMap),
    /// Exactly the segment asked for.
    Segment(Object, Payload),
    /// Not to be kept, or for one client only.
    Uncacheable,
    /// The whole object, because the origin ignores ranges.
    Whole(Object, OriginBody),
}

impl Shell {
    /// Asks the origin for one segment.
    pub(super) async fn ask_origin(
        &self,
        key: &Key,
        index: u32,
        condition: Condition<'_>,
    ) -> Result<OriginAnswer, OriginError> {
        let segment_bytes = self.config.segment_bytes;
        let span = Span { start: u64::from(index) * segment_bytes, bytes: segment_bytes };
        let response = self.origin.fetch(key, Some(span), condition).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => self.partial(key, span, response).await,
            StatusCode::OK => self.whole(key, response).await,
            StatusCode::NOT_MODIFIED => Ok(OriginAnswer::NotModified(response.into_parts().0.headers)),
            StatusCode::PRECONDITION_FAILED => Ok(OriginAnswer::Changed),
            StatusCode::RANGE_NOT_SATISFIABLE if index == 0 => self.empty(key).await,
            _ => other(key, response).await,
        }
    }

    async fn partial(
        &self,
        key: &Key,
        span: Span,
        response: Response<OriginBody>,
    ) -> Result<OriginAnswer, OriginError> {
        let (head, mut body) = response.into_parts();
        let range =
            ContentRange::of(&head.headers).ok_or(OriginError::Unusable("206 without a sound Content-Range"))?;
        let (Some((first, last)), Some(size_bytes)) = (range.first_and_last, range.size_bytes) else {
            return Ok(OriginAnswer::Uncacheable);
        };
        let expected = span.bytes.min(size_bytes.saturating_sub(span.start));
        if first != span.start || last - first + 1 != expected {
            return Err(OriginError::Unusable("206 with another range than was asked for"));
        }
        let Some(object) = self.describe(key, &head.headers, size_bytes) else { return Ok(OriginAnswer::Uncacheable) };
        let mut surplus = Bytes::new();
        let bytes = read_up_to(&mut body, expected, &mut surplus).await.map_err(broken)?;
        if bytes.len() as u64 != expected || !surplus.is_empty() {
            return Err(OriginError::Unusable("206 with a body of another length than it says"));
        }
        Ok(OriginAnswer::Segment(object, Payload::new(bytes)))
    }

    async fn whole(&self, key: &Key, response: Response<OriginBody>) -> Result<OriginAnswer, OriginError> {
        let (head, mut body) = response.into_parts();
        if let Some(size_bytes) = http_body::Body::size_hint(&body).exact() {
            let object = self.describe(key, &head.headers, size_bytes);
            return Ok(object.map_or(OriginAnswer::Uncacheable, |object| OriginAnswer::Whole(object, body)));
        }
        // Its size is known only once it has been read.
        let bytes_max = self.config.origin.unsized_body_bytes_max;
        let mut surplus = Bytes::new();
        let bytes = read_up_to(&mut body, bytes_max.saturating_add(1), &mut surplus).await.map_err(broken)?;
        if bytes.len() as u64 > bytes_max {
            self.metrics.bodies_too_long.inc();
            return Ok(OriginAnswer::Uncacheable);
        }
        let object = self.describe(key, &head.headers, bytes.len() as u64);
        Ok(object.map_or(OriginAnswer::Uncacheable, |object| OriginAnswer::Whole(object, OriginBody::from(bytes))))
    }

    /// No range of an empty object can be satisfied, so it is asked for without.
    async fn empty(&self, key: &Key) -> Result<OriginAnswer, OriginError> {
        let response = self.origin.fetch(key, None, Condition::Always).await?;
        match response.status() {
            StatusCode::OK => self.whole(key, response).await,
            _ => other(key, response).await,
        }
    }

    /// The object that a response describes; `None` when it must not be kept.
    fn describe(&self, key: &Key, headers: &HeaderMap, size_bytes: u64) -> Option<Object> {
        let now = clock::now();
        let freshness = assess(&key.to_target(), headers, now)?;
        if size_bytes > self.config.origin.object_bytes_max {
            self.metrics.bodies_too_long.inc();
            return None;
        }
        let mut kept = end_to_end(headers);
        for name in [header::AGE, header::CONTENT_LENGTH, header::CONTENT_RANGE, header::ACCEPT_RANGES] {
            kept.remove(name);
        }
        let object = Object::new(ObjectParts {
            key: key.clone(),
            size_bytes,
            segment_bytes: self.config.segment_bytes,
            headers: kept,
            received_at: now,
            freshness,
        });
        // Without a validator, segments fetched at different times could be of different states.
        (object.has_validator() || object.segment_count() == 1).then_some(object)
    }
}

/// The known object with the headers of a 304; `None` when it must not be kept any longer.
pub(super) fn refresh(known: &SharedObject, headers: &HeaderMap) -> Option<Object> {
    let now = clock::now();
    let mut merged = known.headers.clone();
    merged.remove(header::AGE);
    for (name, value) in headers {
        merged.insert(name.clone(), value.clone());
    }
    let freshness = assess(&known.key.to_target(), &merged, now)?;
    Some(known.refreshed(headers, now, freshness))
}

/// An answer that is not the object, if it is short and for everyone.
async fn other(key: &Key, response: Response<OriginBody>) -> Result<OriginAnswer, OriginError> {
    let (head, mut body) = response.into_parts();
    // A cache may keep it, so it may as well give it to all who wait for it now.
    let is_for_everyone = !head.headers.contains_key(header::SET_COOKIE)
        && !head.headers.contains_key(header::VARY)
        && !forbids_sharing(&head.headers);
    let mut surplus = Bytes::new();
    let bytes = read_up_to(&mut body, ANSWERED_BYTES_MAX, &mut surplus).await.map_err(broken)?;
    if !is_for_everyone || bytes.len() as u64 == ANSWERED_BYTES_MAX {
        tracing::debug!(%key, status = %head.status, "the origin's answer is for one client only");
        return Ok(OriginAnswer::Uncacheable);
    }
    let mut headers = end_to_end(&head.headers);
    headers.remove(header::CONTENT_LENGTH);
    Ok(OriginAnswer::Answered(Arc::new(Answered { status: head.status, headers, body: bytes })))
}

fn forbids_sharing(headers: &HeaderMap) -> bool {
    let directives = headers.get_all(header::CACHE_CONTROL).iter();
    directives
        .flat_map(|value| value.to_str().unwrap_or("private").split(','))
        .map(|directive| directive.split('=').next().unwrap_or_default().trim())
        .any(|name| name.eq_ignore_ascii_case("private") || name.eq_ignore_ascii_case("no-store"))
}

fn broken(error: BodyError) -> OriginError {
    OriginError::Body(Arc::new(error))
}

/// Bytes of an error or redirect that is shared; longer ones are passed through.
const ANSWERED_BYTES_MAX: u64 = 64 << 10;
