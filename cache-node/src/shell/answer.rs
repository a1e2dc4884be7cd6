//! What an origin's response means for the segment that was asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{Shell, flight::Passed, transfer::Transfer};
use crate::{
    clock::{self, Stopwatch},
    object::{ContentRange, Object, ObjectParts, Reply, SharedObject, answer_key, assess, end_to_end},
    origin::{BodyError, Condition, OriginBody, OriginError, Span, read_up_to},
    store::Payload,
};

/// An origin's complete answer that cannot be kept, but is the same for all who wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answered {
    /// That a range begins beyond the end of an object of so many bytes, where that is known.
    pub(super) fn unsatisfiable(size_bytes: Option<u64>) -> Arc<Self> {
        let mut headers = HeaderMap::new();
        if let Some(size_bytes) = size_bytes
            && let Ok(value) = HeaderValue::try_from(format!("bytes */{size_bytes}"))
        {
            headers.insert(header::CONTENT_RANGE, value);
        }
        Arc::new(Self { status: StatusCode::RANGE_NOT_SATISFIABLE, headers, body: Bytes::new() })
    }
}

/// What an origin's response means.
#[derive(Debug)]
pub(super) enum OriginAnswer {
    /// Something that cannot be kept, the same for everyone.
    Answered(Arc<Answered>),
    /// The object is no longer in the state that was asked for.
    Changed,
    /// The object is still in the state that is known; these headers came with that.
    NotModified(HeaderMap),
    /// Exactly the segment asked for.
    Segment(Object, Payload),
    /// Not to be kept, or for one client only. The response is there when it is an answer to that client's request.
    Uncacheable(Option<Arc<Passed>>),
    /// The whole object, because it was asked for or the origin ignores ranges.
    Whole(Object, OriginBody),
}

impl Transfer {
    /// The range to ask for; `None` for all there is.
    fn span(&self, segment_bytes: u64, condition: Condition<'_>) -> Option<Span> {
        let in_one = self.is_whole && self.index == 0 && !matches!(condition, Condition::IfSame(_));
        (!in_one).then(|| Span { start: u64::from(self.index) * segment_bytes, bytes: segment_bytes })
    }

    /// What to do with a response that cannot be kept: hand it to the client that it answers.
    fn pass(&self, span: Option<Span>, response: Response<OriginBody>) -> OriginAnswer {
        let answers_it = span.is_none() && self.is_whole;
        OriginAnswer::Uncacheable(answers_it.then(|| Passed::new(&self.asked, response)))
    }
}

impl Shell {
    /// Asks the origin for one segment, or for all of them.
    pub(super) async fn ask_origin(
        &self,
        transfer: &Transfer,
        condition: Condition<'_>,
    ) -> Result<OriginAnswer, OriginError> {
        let span = transfer.span(self.config.segment_bytes, condition);
        let asking = Stopwatch::start();
        let response = self.origin.fetch(&transfer.key, &transfer.asked, span, condition, transfer.lane).await?;
        self.round_trips.note(clock::now(), None, asking.elapsed());
        match (response.status(), span) {
            (StatusCode::PARTIAL_CONTENT, Some(span)) => self.partial(transfer, span, response).await,
            (StatusCode::NOT_MODIFIED, _) if !matches!(condition, Condition::Always) => {
                Ok(OriginAnswer::NotModified(response.into_parts().0.headers))
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) if transfer.index == 0 => self.empty(transfer).await,
            (StatusCode::PRECONDITION_FAILED, _) | (StatusCode::RANGE_NOT_SATISFIABLE, Some(_))
                if matches!(condition, Condition::IfSame(_)) =>
            {
                Ok(OriginAnswer::Changed)
            }
            // It answers this range and says nothing about the object but its size.
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
                let size_bytes = ContentRange::of(response.headers()).and_then(|range| range.size_bytes);
                Ok(OriginAnswer::Answered(Answered::unsatisfiable(size_bytes)))
            }
            (StatusCode::NOT_MODIFIED, _) => Err(OriginError::Unusable("304 to an unconditional request")),
            (status, _) if status.is_server_error() && matches!(condition, Condition::IfChanged(_)) => {
                let (answered, is_complete) = read(response).await?;
                if !is_complete {
                    return Err(OriginError::Unusable("an error with a body that is too long"));
                }
                Ok(OriginAnswer::Answered(Arc::new(answered)))
            }
            _ => self.whole(transfer, span, response).await,
        }
    }

    async fn partial(
        &self,
        transfer: &Transfer,
        span: Span,
        response: Response<OriginBody>,
    ) -> Result<OriginAnswer, OriginError> {
        let (head, mut body) = response.into_parts();
        let range =
            ContentRange::of(&head.headers).ok_or(OriginError::Unusable("206 without a sound Content-Range"))?;
        let (Some((first, last)), Some(size_bytes)) = (range.first_and_last, range.size_bytes) else {
            return Ok(OriginAnswer::Uncacheable(None));
        };
        let expected = span.bytes.min(size_bytes.saturating_sub(span.start));
        if first != span.start || last - first + 1 != expected {
            // It may make sense to the client that asked.
            return Ok(OriginAnswer::Uncacheable(None));
        }
        let Some(object) = self.describe(transfer, StatusCode::OK, &head.headers, Some(size_bytes)) else {
            return Ok(OriginAnswer::Uncacheable(None));
        };
        let mut surplus = Bytes::new();
        let bytes = read_up_to(&mut body, expected, &mut surplus).await.map_err(broken)?;
        if bytes.len() as u64 != expected || !surplus.is_empty() {
            return Err(OriginError::Unusable("206 with a body of another length than it says"));
        }
        Ok(OriginAnswer::Segment(object, Payload::new(bytes)))
    }

    /// A complete response: the object, if it may be kept.
    async fn whole(
        &self,
        transfer: &Transfer,
        span: Option<Span>,
        response: Response<OriginBody>,
    ) -> Result<OriginAnswer, OriginError> {
        let status = response.status();
        let size_bytes = http_body::Body::size_hint(response.body()).exact();
        let Some(object) = self.describe(transfer, status, response.headers(), size_bytes) else {
            return if status.is_success() {
                Ok(transfer.pass(span, response))
            } else {
                shared(transfer, span, response).await
            };
        };
        let (head, mut body) = response.into_parts();
        let mut surplus = Bytes::new();
        if size_bytes.is_some() {
            let is_long = object.segment_count() > SEGMENTS_IN_ONE_MAX;
            if span.is_none() && is_long && object.has_validator() && serves_ranges(&head.headers) {
                // The others are fetched as clients come to read them, so that a slow one slows the origin down.
                let expected = object.segment_len(0);
                let bytes = read_up_to(&mut body, expected, &mut surplus).await.map_err(broken)?;
                if bytes.len() as u64 != expected {
                    return Err(OriginError::Unusable("a body shorter than its Content-Length"));
                }
                return Ok(OriginAnswer::Segment(object, Payload::new(bytes)));
            }
            return Ok(OriginAnswer::Whole(object, body));
        }
        // Its size is known only once it has been read.
        let bytes_max = self.live().origin.unsized_body_bytes_max;
        let bytes = read_up_to(&mut body, bytes_max.saturating_add(1), &mut surplus).await.map_err(broken)?;
        if bytes.len() as u64 > bytes_max {
            self.metrics.bodies_too_long.inc();
            return Ok(OriginAnswer::Uncacheable(None));
        }
        let object = self.describe(transfer, status, &head.headers, Some(bytes.len() as u64));
        Ok(object
            .map_or(OriginAnswer::Uncacheable(None), |object| OriginAnswer::Whole(object, OriginBody::from(bytes))))
    }

    /// No range of an empty object can be satisfied, so it is asked for without.
    async fn empty(&self, transfer: &Transfer) -> Result<OriginAnswer, OriginError> {
        let response =
            self.origin.fetch(&transfer.key, &transfer.asked, None, Condition::Always, transfer.lane).await?;
        self.whole(transfer, None, response).await
    }

    /// The object that a response describes; `None` when it must not be kept. Of one whose size is not known yet, only
    /// that can be told.
    fn describe(
        &self,
        transfer: &Transfer,
        status: StatusCode,
        headers: &HeaderMap,
        size_bytes: Option<u64>,
    ) -> Option<Object> {
        let now = clock::now();
        let freshness = assess(Reply { status, headers, asked: &transfer.asked }, now)?;
        let size_bytes = size_bytes.unwrap_or_default();
        if size_bytes > self.live().origin.object_bytes_max {
            self.metrics.bodies_too_long.inc();
            return None;
        }
        // They are held in memory, and told to peers.
        let header_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if header_bytes > HEADER_BYTES_MAX {
            return None;
        }
        let mut kept = end_to_end(headers);
        for name in [header::AGE, header::CONTENT_LENGTH, header::CONTENT_RANGE, header::ACCEPT_RANGES] {
            kept.remove(name);
        }
        let object = Object::new(ObjectParts {
            key: answer_key(&transfer.key, headers, &transfer.asked),
            status,
            size_bytes,
            segment_bytes: self.config.segment_bytes,
            headers: kept,
            received_at: now,
            freshness,
        });
        // Without a validator, segments fetched at different times could be of different states; and only a complete
        // answer other than 200 is worth keeping.
        (object.segment_count() == 1 || status == StatusCode::OK && object.has_validator()).then_some(object)
    }
}

/// The known object with the headers of a 304; `None` when it must not be kept any longer.
pub(super) fn refresh(known: &SharedObject, headers: &HeaderMap) -> Option<Object> {
    let now = clock::now();
    let mut merged = known.head.to_map(headers.len());
    merged.remove(header::AGE);
    for (name, value) in headers {
        merged.insert(name.clone(), value.clone());
    }
    // What was kept once may be kept on for whoever may get it.
    let reply = Reply { status: known.status, headers: &merged, asked: &HeaderMap::new() };
    let freshness = assess(reply, now)?;
    Some(known.refreshed(headers, now, freshness))
}

/// An answer that cannot be kept: when it says that there is nothing, or that the origin is in trouble, it is given to
/// all who wait for it, if it is short and for everyone.
async fn shared(
    transfer: &Transfer,
    span: Option<Span>,
    response: Response<OriginBody>,
) -> Result<OriginAnswer, OriginError> {
    let head = response.headers();
    let status = response.status();
    let is_for_everyone = (status.is_server_error() || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE))
        && !is_personal(&transfer.asked)
        && !head.contains_key(header::SET_COOKIE)
        && !head.contains_key(header::VARY)
        && !forbids_sharing(head);
    let size_bytes = http_body::Body::size_hint(response.body()).exact();
    if !is_for_everyone || size_bytes.is_some_and(|size_bytes| size_bytes >= ANSWERED_BYTES_MAX) {
        return Ok(transfer.pass(span, response));
    }
    let (answered, is_complete) = read(response).await?;
    Ok(if is_complete { OriginAnswer::Answered(Arc::new(answered)) } else { OriginAnswer::Uncacheable(None) })
}

/// Whether a request says who asks, so that its answer may be meant for nobody else.
pub(super) fn is_personal(asked: &HeaderMap) -> bool {
    asked.contains_key(header::AUTHORIZATION) || asked.contains_key(header::COOKIE)
}

/// Reads a short response; tells whether that was all of it.
async fn read(response: Response<OriginBody>) -> Result<(Answered, bool), OriginError> {
    let (head, mut body) = response.into_parts();
    let mut surplus = Bytes::new();
    let bytes = read_up_to(&mut body, ANSWERED_BYTES_MAX, &mut surplus).await.map_err(broken)?;
    let is_complete = (bytes.len() as u64) < ANSWERED_BYTES_MAX;
    let mut headers = end_to_end(&head.headers);
    headers.remove(header::CONTENT_LENGTH);
    Ok((Answered { status: head.status, headers, body: bytes }, is_complete))
}

fn serves_ranges(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT_RANGES).is_some_and(|units| units.as_bytes().eq_ignore_ascii_case(b"bytes"))
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

/// Segments that are fetched in one piece, whoever reads them.
const SEGMENTS_IN_ONE_MAX: u32 = 4;
/// Bytes of the headers of an object; what has more is passed through.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// Bytes of an error or redirect that is shared; longer ones are passed through.
const ANSWERED_BYTES_MAX: u64 = 64 << 10;
