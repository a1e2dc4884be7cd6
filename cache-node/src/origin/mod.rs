//! Where objects come from: an HTTP(S) server or an object store, behind one interface that speaks HTTP responses.

mod body;
mod http_origin;
mod store_origin;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use prometheus_client::metrics::counter::Counter;
use thiserror::Error;
use tokio::sync::Semaphore;

pub(crate) use self::body::{BodyError, OriginBody, read_up_to};
use self::{http_origin::HttpOrigin, store_origin::StoreOrigin};
use crate::{
    background::{Lane, PerLane},
    config::OriginConfig,
    error::{Error, Result},
    key::Key,
    object::{Object, forwarded},
};

/// The body of a request to the origin: empty, or a client's passed on.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The body of a request that has none.
pub(crate) fn empty_body() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Bytes asked for, counted from the start of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// First byte.
    pub(crate) start: u64,
    /// How many; fewer come at the end of the object.
    pub(crate) bytes: u64,
}

/// Under which condition the origin shall answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Condition<'a> {
    /// None.
    Always,
    /// Only if the object is no longer in this state.
    IfChanged(&'a Object),
    /// Only if the object is still in this state.
    IfSame(&'a Object),
}

/// Why the origin gave no usable answer.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub(crate) enum OriginError {
    /// The body broke off or stalled.
    #[error("the origin's body failed: {0}")]
    Body(Arc<BodyError>),
    /// The client's request body, passed on, broke off or makes no sense.
    #[error("the request's body failed: {0}")]
    RequestBody(String),
    /// The client's request body turned out too long.
    #[error("the request's body is too long")]
    RequestTooLong,
    /// The request could not be made or no answer came.
    #[error("the origin cannot be reached: {0}")]
    Unreachable(String),
    /// The origin took too long.
    #[error("the origin did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The answer contradicts itself or the request.
    #[error("the origin's answer is unusable: {0}")]
    Unusable(&'static str),
}

/// How the origin does.
#[derive(Clone, Debug, Default)]
pub(crate) struct OriginCounters {
    /// Requests to it.
    pub(crate) requests: Counter,
    /// Those that brought no answer, or none in time.
    pub(crate) failures: Counter,
}

/// The configured origin, asked by a client that can be replaced.
#[derive(Debug)]
pub(crate) struct Origin {
    client: ArcSwap<OriginClient>,
}

impl Origin {
    /// The origin of `config`; each request first sleeps `emulated_rtt`.
    ///
    /// # Errors
    /// When an object store's address or environment is not understood, or `origin.ca` cannot be used. Nothing is
    /// connected yet.
    pub(crate) fn new(config: &OriginConfig, emulated_rtt: Duration) -> Result<Self> {
        let permits = Arc::new(Semaphore::new(config.concurrency_max));
        Ok(Self {
            client: ArcSwap::from_pointee(OriginClient::new(config, emulated_rtt, permits, OriginCounters::default())?),
        })
    }

    /// A client after a changed configuration; it shares the bound on requests at a time, and what was counted, with the present one.
    ///
    /// # Errors
    /// As [`Origin::new`].
    pub(crate) fn changed(&self, config: &OriginConfig) -> Result<OriginClient> {
        let present = self.client.load();
        OriginClient::new(config, present.emulated_rtt, Arc::clone(&present.permits), present.counters.clone())
    }

    /// Asks by `client` from now on; what is under way ends as it began.
    pub(crate) fn replace(&self, client: OriginClient) {
        self.client.store(Arc::new(client));
    }

    /// What was asked and what came of it.
    pub(crate) fn counters(&self) -> OriginCounters {
        self.client.load().counters.clone()
    }

    /// Requests that could begin now; more wait.
    pub(crate) fn free_permits(&self) -> usize {
        self.client.load().permits.available_permits()
    }

    /// Asks for some bytes of an object on behalf of a request, or of none, over `lane`'s connections.
    pub(crate) async fn fetch(
        &self,
        key: &Key,
        asked: &HeaderMap,
        span: Option<Span>,
        condition: Condition<'_>,
        lane: Lane,
    ) -> Result<Response<OriginBody>, OriginError> {
        self.client.load_full().fetch(key, asked, span, condition, lane).await
    }

    /// Passes a client's request through as it is.
    pub(crate) async fn pass(
        &self,
        method: Method,
        key: &Key,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<OriginBody>, OriginError> {
        self.client.load_full().pass(method, key, headers, body).await
    }
}

/// A client of the origin.
#[derive(Debug)]
pub(crate) struct OriginClient {
    backend: PerLane<Backend>,
    permits: Arc<Semaphore>,
    counters: OriginCounters,
    emulated_rtt: Duration,
    response_timeout: Duration,
    read_timeout: Duration,
}

#[derive(Clone, Debug)]
enum Backend {
    Http(Box<HttpOrigin>),
    Store(StoreOrigin),
}

impl OriginClient {
    fn new(
        config: &OriginConfig,
        emulated_rtt: Duration,
        permits: Arc<Semaphore>,
        counters: OriginCounters,
    ) -> Result<Self> {
        let backend = PerLane::try_new(|| {
            Ok::<_, Error>(match config.url.scheme() {
                "http" | "https" => Backend::Http(Box::new(HttpOrigin::new(config)?)),
                _ => Backend::Store(StoreOrigin::new(config)?),
            })
        })?;
        Ok(Self {
            backend,
            permits,
            counters,
            emulated_rtt,
            response_timeout: config.response_timeout,
            read_timeout: config.read_timeout,
        })
    }

    async fn fetch(
        &self,
        key: &Key,
        asked: &HeaderMap,
        span: Option<Span>,
        condition: Condition<'_>,
        lane: Lane,
    ) -> Result<Response<OriginBody>, OriginError> {
        let mut headers = forwarded(asked);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(Span { start, bytes }) = span {
            let last = start.saturating_add(bytes.saturating_sub(1));
            let range = HeaderValue::try_from(format!("bytes={start}-{last}"));
            headers.insert(header::RANGE, range.map_err(|_| OriginError::Unusable("no such range"))?);
        }
        add_condition(&mut headers, condition);
        self.answer(self.prepare(Method::GET, key, headers, empty_body())?, key, span, condition, lane).await
    }

    async fn pass(
        &self,
        method: Method,
        key: &Key,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<OriginBody>, OriginError> {
        if matches!(self.backend.get(Lane::Demand), Backend::Store(_)) && !matches!(method, Method::GET | Method::HEAD)
        {
            let mut refusal = Response::new(OriginBody::from(Bytes::from_static(
                b"the origin is an object store: only GET and HEAD\n",
            )));
            *refusal.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Ok(refusal);
        }
        self.answer(self.prepare(method, key, headers, body)?, key, None, Condition::Always, Lane::Demand).await
    }

    fn prepare(
        &self,
        method: Method,
        key: &Key,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, OriginError> {
        let uri = match self.backend.get(Lane::Demand) {
            Backend::Http(origin) => origin.uri(key)?,
            Backend::Store(_) => http::Uri::default(),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn answer(
        &self,
        request: Request<RequestBody>,
        key: &Key,
        span: Option<Span>,
        condition: Condition<'_>,
        lane: Lane,
    ) -> Result<Response<OriginBody>, OriginError> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let head = async {
            let permit = permit.await.map_err(|_| OriginError::Unusable("the node is stopping"))?;
            if !self.emulated_rtt.is_zero() {
                tokio::time::sleep(self.emulated_rtt).await;
            }
            let response = match self.backend.get(lane) {
                Backend::Http(origin) => origin.request(request).await?,
                Backend::Store(origin) => origin.get(request.method(), key, span, condition).await?,
            };
            if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
                return Err(OriginError::Unusable("101 to a request that asks for no other protocol"));
            }
            Ok(response.map(|body| body.bounded(self.read_timeout, permit)))
        };
        let limit = self.response_timeout + self.emulated_rtt;
        self.counters.requests.inc();
        let answer = tokio::time::timeout(limit, head).await.unwrap_or(Err(OriginError::Timeout(limit)));
        if answer.is_err() {
            self.counters.failures.inc();
        }
        answer
    }
}

fn add_condition(headers: &mut HeaderMap, condition: Condition<'_>) {
    let (object, if_tag, if_date) = match condition {
        Condition::Always => return,
        Condition::IfChanged(object) => (object, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE),
        Condition::IfSame(object) => (object, header::IF_MATCH, header::IF_UNMODIFIED_SINCE),
    };
    // If-Match compares strongly, so a weak tag would never match.
    let is_usable = |tag: &HeaderValue| if_tag != header::IF_MATCH || !tag.as_bytes().starts_with(b"W/");
    if let Some(tag) = object.etag().filter(is_usable) {
        headers.insert(if_tag, tag);
    } else if let Some(date) = object.last_modified() {
        headers.insert(if_date, date);
    }
}
