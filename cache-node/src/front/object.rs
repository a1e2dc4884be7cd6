//! Requests for objects: from the request's head to the answer's head.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::FuturesOrdered;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use nearcast_datasets::{ByteRange, ServedFrom};

use super::{
    Connection, Front,
    account::Account,
    admin,
    body::{ResponseBody, SegmentsBody},
    client,
    conditional::{Verdict, judge},
    pass,
    plan::{Plan, Taken, multipart_type},
    range::{RangeAsk, Selection},
    respond::{cache_status, content_range, object_headers, status_of, text},
    wants::Wants,
};
use crate::{
    clock,
    core::MissCause,
    key::Key,
    object::{Object, SharedObject, end_to_end},
    shell::{Answered, Ask, Delivery, FetchError, Obtained, Route, SharedHead},
};

/// Answers a request for an object.
pub(super) async fn handle(
    front: &Arc<Front>,
    connection: &Connection,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let head = request.extensions().get().cloned();
    if request.uri().path() == "*" {
        return allowed(StatusCode::NO_CONTENT, "");
    }
    let key = match Key::from_target(request.uri().path(), request.uri().query()) {
        // Percent-encoded, the nodes' own paths would reach those of a node behind this one.
        Ok(key) if key.as_str().starts_with(admin::PREFIX) => return text(StatusCode::NOT_FOUND, "no object's path"),
        Ok(key) => key,
        Err(error) => {
            front.shell.metrics.bad_requests.inc();
            return text(StatusCode::BAD_REQUEST, error.to_string());
        }
    };
    let client = client::named(request.headers()).unwrap_or_else(|| {
        let hash = || front.pseudonyms.of_address(connection.peer.ip());
        Arc::clone(connection.pseudonym.get_or_init(hash))
    });
    let account = Account::open(front, clock::now(), client, key.clone()).with_head(head);
    let (mut head, body) = request.into_parts();
    if head.headers.contains_key(header::CONNECTION) {
        // What ends here must not select a variant either: the origin does not see it.
        head.headers = end_to_end(&head.headers);
    }
    let asked: SharedHead = Arc::new(head.headers);
    let wants = Wants::of(&asked);
    match head.method {
        Method::GET | Method::HEAD if !wants.no_store => {
            Lookup::new(front, head.method == Method::HEAD, asked, wants, key).answer(front, body, account).await
        }
        Method::CONNECT | Method::TRACE => {
            let mut refusal = allowed(StatusCode::METHOD_NOT_ALLOWED, "this method is not passed on");
            refusal.body_mut().carry(account);
            refusal
        }
        method => pass::handle(front, method, &asked, body, key, account).await,
    }
}

/// An answer that lists the methods that are passed on.
fn allowed(status: StatusCode, words: &str) -> Response<ResponseBody> {
    let mut response = text(status, words);
    let methods = HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

/// A GET or HEAD that the cache may answer.
struct Lookup {
    ask: Ask,
    range: RangeAsk,
    is_head: bool,
    has_condition: bool,
    /// The object, when it can be served without a look at the origin.
    usable: Option<SharedObject>,
}

impl Lookup {
    fn new(front: &Front, is_head: bool, asked: SharedHead, wants: Wants, key: Key) -> Self {
        let now = clock::now();
        let has_range = wants.has_range && !is_head;
        let range = if has_range { RangeAsk::of(&asked, front.shell.live().front.ranges_max) } else { RangeAsk::Whole };
        let is_whole = range == RangeAsk::Whole;
        // Who wants all of it in any case gets it without a look at what is known.
        let takes_a_look = is_head || wants.has_condition || !is_whole;
        let known = if takes_a_look { front.shell.find_object(&key, &asked) } else { None };
        let needed = |object: &SharedObject| Some(plan(front, object, &range.select(object, &asked))?.first_segment());
        let index = known.as_ref().and_then(needed);
        let index = index.unwrap_or_else(|| range.first_segment(front.shell.config.segment_bytes));
        let must_validate = wants.must_validate;
        let usable = known.filter(|object| !must_validate && object.is_fresh(now));
        let route = if wants.only_if_cached { Route::HeldOnly } else { Route::Anywhere };
        let ask = Ask { key, index, pinned: None, route, asked_at: now, must_validate, asked, is_whole };
        Self { ask, range, is_head, has_condition: wants.has_condition, usable }
    }

    async fn answer(mut self, front: &Arc<Front>, body: Incoming, mut account: Account) -> Response<ResponseBody> {
        let asked = Arc::clone(&self.ask.asked);
        if let Some(object) = self.usable.take() {
            match self.answer_from_head(&asked, &object, account) {
                Ok(response) => return response,
                Err(returned) => account = returned,
            }
        }
        if self.is_head {
            return pass::handle(front, Method::HEAD, &asked, body, self.ask.key, account).await;
        }
        // Until the object's size is known, which segment comes first can only be guessed: a suffix begins later, and
        // what begins beyond the end may have a suffix beside it that does not.
        for _ in 0..ROUNDS_MAX {
            match front.shell.obtain(&self.ask).await {
                Err(error) => return failed(&self.ask.key, &error, account),
                Ok(Obtained::Answered(answered))
                    if answered.status == StatusCode::RANGE_NOT_SATISFIABLE
                        && self.range.has_suffix()
                        && self.ask.index > 0 =>
                {
                    self.ask.index = 0;
                }
                Ok(Obtained::Answered(answered)) => return answer_otherwise(&answered, account),
                Ok(Obtained::Passed(response)) => return pass::hand_on(response, account),
                Ok(Obtained::Uncacheable) => {
                    return pass::handle(front, Method::GET, &asked, body, self.ask.key, account).await;
                }
                Ok(Obtained::NotHeld) => return not_held(account),
                Ok(Obtained::Changed) => break,
                Ok(Obtained::Segment(delivery)) => match self.begin(front, &asked, delivery, account) {
                    Ok(response) => return response,
                    Err(returned) => account = returned,
                },
            }
        }
        failed(&self.ask.key, &FetchError::Unsettled, account)
    }

    /// Answers if that takes none of the object's bytes, else hands the account back.
    fn answer_from_head(
        &self,
        headers: &HeaderMap,
        object: &Object,
        mut account: Account,
    ) -> Result<Response<ResponseBody>, Account> {
        let served = ServedFrom::Memory;
        let (status, length) = match judge(headers, object) {
            Verdict::NotModified => (StatusCode::NOT_MODIFIED, None),
            Verdict::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, Some(0)),
            Verdict::Send if self.is_head => (object.status, Some(object.size_bytes)),
            Verdict::Send => match self.range.select(object, headers) {
                Selection::Unsatisfiable => return Ok(unsatisfiable(object, served, None, account)),
                Selection::Part(_) | Selection::Parts(_) | Selection::Whole => return Err(account),
            },
        };
        account.begin(object.size_bytes, None, served, None);
        let mut head = object_headers(object, clock::now());
        if let Some(length) = length {
            head.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        head.insert(CACHE_STATUS, cache_status(served, None));
        Ok(respond(status, head, ResponseBody::bytes(Bytes::new(), Some(account))))
    }

    /// Answers with the first segment at hand; hands the account back when another segment comes first after all.
    fn begin(
        &mut self,
        front: &Arc<Front>,
        headers: &HeaderMap,
        delivery: Delivery,
        mut account: Account,
    ) -> Result<Response<ResponseBody>, Account> {
        let object = Arc::clone(&delivery.object);
        let (served, cause) = (delivery.served, delivery.cause);
        let mut head = object_headers(&object, clock::now());
        head.insert(CACHE_STATUS, cache_status(served, cause));
        let verdict = if self.has_condition { judge(headers, &object) } else { Verdict::Send };
        if verdict != Verdict::Send {
            account.begin(object.size_bytes, None, served, cause);
            let is_same = verdict == Verdict::NotModified;
            let status = if is_same { StatusCode::NOT_MODIFIED } else { StatusCode::PRECONDITION_FAILED };
            return Ok(respond(status, head, ResponseBody::bytes(Bytes::new(), Some(account))));
        }
        let selection = self.range.select(&object, headers);
        let Some(plan) = plan(front, &object, &selection) else {
            return Ok(unsatisfiable(&object, served, cause, account));
        };
        if plan.first_segment() != self.ask.index {
            self.ask.index = plan.first_segment();
            self.ask.pinned = Some(object);
            return Err(account);
        }
        let status = if selection == Selection::Whole { object.status } else { StatusCode::PARTIAL_CONTENT };
        let range = match &selection {
            Selection::Part(part) => {
                head.insert(header::CONTENT_RANGE, content_range(Some(*part), object.size_bytes));
                Some(*part)
            }
            Selection::Parts(parts) => {
                let boundary = front.pseudonyms.boundary(object.version);
                head.insert(header::CONTENT_TYPE, multipart_type(&boundary));
                // Logs have one range per request: the one that all parts lie in.
                let start = parts.iter().map(|part| part.start).min();
                start.zip(parts.iter().map(|part| part.end).max()).map(|(start, end)| ByteRange { start, end })
            }
            Selection::Unsatisfiable | Selection::Whole => None,
        };
        account.begin(object.size_bytes, range, served, cause);
        head.insert(header::CONTENT_LENGTH, HeaderValue::from(plan.remaining_bytes()));
        Ok(respond(status, head, segments(front, &self.ask, object, plan, delivery.bytes, account)))
    }
}

/// What to send of an object; `None` where nothing of it was asked for.
fn plan(front: &Front, object: &Object, selection: &Selection) -> Option<Plan> {
    match selection {
        Selection::Whole => Some(Plan::part(ByteRange { start: 0, end: object.size_bytes }, object.segment_bytes)),
        Selection::Part(part) => Some(Plan::part(*part, object.segment_bytes)),
        Selection::Parts(parts) => Some(Plan::parts(parts, object, &front.pseudonyms.boundary(object.version))),
        Selection::Unsatisfiable => None,
    }
}

/// Answers that every range begins beyond the object's end. Whoever keeps answers must not take it for the object's.
fn unsatisfiable(
    object: &Object,
    served: ServedFrom,
    cause: Option<MissCause>,
    mut account: Account,
) -> Response<ResponseBody> {
    account.begin(object.size_bytes, None, served, cause);
    let mut head = HeaderMap::new();
    head.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    head.insert(header::CONTENT_RANGE, content_range(None, object.size_bytes));
    head.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    head.insert(CACHE_STATUS, cache_status(served, cause));
    respond(StatusCode::RANGE_NOT_SATISFIABLE, head, ResponseBody::bytes(Bytes::new(), Some(account)))
}

/// The body for what is planned of `object`, of which the first segment is at hand.
fn segments(
    front: &Front,
    ask: &Ask,
    object: SharedObject,
    mut plan: Plan,
    first: Bytes,
    account: Account,
) -> ResponseBody {
    if plan.is_in_one()
        && let Taken::Piece(piece) = plan.take(ask.index, &first)
    {
        return ResponseBody::bytes(piece, Some(account));
    }
    // The one at hand.
    plan.next_segment();
    ResponseBody::Segments(Box::new(SegmentsBody {
        shell: Arc::clone(&front.shell),
        ask: Ask { pinned: Some(object), ..ask.clone() },
        plan,
        current: first,
        ahead: FuturesOrdered::new(),
        ahead_max: front.shell.live().front.read_ahead_max,
        account,
    }))
}

/// Answers a client that wants only what is held.
fn not_held(mut account: Account) -> Response<ResponseBody> {
    account.begin(0, None, ServedFrom::Error, None);
    let mut response = text(StatusCode::GATEWAY_TIMEOUT, "not held, and the request allows nothing else");
    response.body_mut().carry(account);
    response
}

/// Answers what the origin answered instead of the object.
fn answer_otherwise(answered: &Answered, mut account: Account) -> Response<ResponseBody> {
    let (served, cause) = (ServedFrom::Origin, Some(MissCause::Uncacheable));
    account.begin(answered.body.len() as u64, None, served, cause);
    let mut head = answered.headers.clone();
    head.insert(CACHE_STATUS, cache_status(served, cause));
    respond(answered.status, head, ResponseBody::bytes(answered.body.clone(), Some(account)))
}

/// Answers that no source gave the object, and why.
pub(super) fn failed(key: &Key, error: &FetchError, mut account: Account) -> Response<ResponseBody> {
    account.begin(0, None, ServedFrom::Error, None);
    tracing::info!(%key, %error, "a request could not be answered");
    let mut response = text(status_of(error), format!("nearcast cannot fetch {key}: {error}"));
    response.headers_mut().insert(CACHE_STATUS, cache_status(ServedFrom::Error, None));
    response.body_mut().carry(account);
    response
}

pub(super) fn respond(status: StatusCode, headers: HeaderMap, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Tries to find out where an answer begins: a guess, a correction once the size is known, and one to spare.
const ROUNDS_MAX: usize = 3;
pub(super) const CACHE_STATUS: header::HeaderName = header::HeaderName::from_static("cache-status");
