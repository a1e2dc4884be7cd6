//! The node's own endpoints, below `/_nearcast/`.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use prometheus_client::{encoding::text::encode, metrics::gauge::ConstGauge, registry::Registry};
use serde::Serialize;
use url::form_urlencoded;

use super::{Front, body::ResponseBody, operate, respond::text};
use crate::{
    clock, exposition,
    key::Key,
    object::SharedObject,
    peers::{self, SEGMENT_PATH},
    purge::PurgeOrder,
    reload::{self, ReloadReport},
    shell::{Ask, Delivery, Obtained, PurgeError, Route},
    status::{self, NodeStatus},
    store::Payload,
    tls::ServerTls,
};

/// What these paths start with. No object's key does.
pub(super) const PREFIX: &str = "/_nearcast/";

/// Answers a request to the node itself. `is_peer` says whether it comes with a peer's certificate.
pub(super) async fn handle(front: &Arc<Front>, is_peer: bool, request: Request<Incoming>) -> Response<ResponseBody> {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "/_nearcast/livez") => text(StatusCode::OK, "ok"),
        (&Method::GET | &Method::HEAD, "/_nearcast/readyz") => ready(front),
        (&Method::GET, "/_nearcast/metrics") => metrics(front, request.headers()),
        (&Method::GET, "/_nearcast/status") => json(&NodeStatus::of(&front.shell)),
        (&Method::POST, "/_nearcast/clear" | "/_nearcast/purge" | "/_nearcast/reload")
            if !is_peer && !may_change(front, request.headers()) =>
        {
            needs_token()
        }
        (&Method::POST, "/_nearcast/clear") => {
            front.shell.clear().await;
            text(StatusCode::OK, "cleared")
        }
        (&Method::POST, "/_nearcast/purge") => purge(front, request.into_body()).await,
        (&Method::POST, "/_nearcast/reload") => reloaded(&reload::reload(front).await),
        (&Method::GET, SEGMENT_PATH) if !is_peer && has_mutual_tls(front) => {
            front.shell.metrics.tls.peer_requests_refused.inc();
            text(StatusCode::FORBIDDEN, "segments are for peers that show their certificate")
        }
        (&Method::GET, SEGMENT_PATH) => segment(front, &request).await,
        (_, "/_nearcast/livez" | "/_nearcast/readyz" | "/_nearcast/metrics" | "/_nearcast/status" | SEGMENT_PATH) => {
            not_allowed("GET")
        }
        (_, "/_nearcast/clear" | "/_nearcast/purge" | "/_nearcast/reload") => not_allowed("POST"),
        _ if operate::PATHS.contains(&path) => operate::handle(front, is_peer, request).await,
        _ => text(StatusCode::NOT_FOUND, format!("there is no {path}")),
    }
}

/// The answer to who does not know the admin token.
pub(super) fn needs_token() -> Response<ResponseBody> {
    let mut refusal = text(
        StatusCode::UNAUTHORIZED,
        "this needs the node's admin token, or a peer's certificate where there are any",
    );
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refusal
}

/// Whether a request without a peer's certificate may change the node's state.
pub(super) fn may_change(front: &Front, headers: &HeaderMap) -> bool {
    match &*front.admin_token.load() {
        Some(token) => headers.get(header::AUTHORIZATION).is_some_and(|given| token.is_in(given.as_bytes())),
        None => !has_mutual_tls(front),
    }
}

fn has_mutual_tls(front: &Front) -> bool {
    front.shell.config.peers.tls.is_some()
}

fn reloaded(report: &ReloadReport) -> Response<ResponseBody> {
    let mut response = json(report);
    if report.error.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    response
}

/// Carries out the purge that the body orders, as JSON.
async fn purge(front: &Front, body: Incoming) -> Response<ResponseBody> {
    let bad = |problem: String| {
        front.shell.metrics.bad_requests.inc();
        text(StatusCode::BAD_REQUEST, problem)
    };
    let body = match Limited::new(body, PURGE_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return bad(format!("the order cannot be read, or is above {PURGE_BYTES_MAX} bytes: {error}")),
    };
    let order: PurgeOrder = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => {
            return bad(format!("no order such as {{\"keys\": [\"/a\"], \"prefixes\": [], \"tags\": []}}: {error}"));
        }
    };
    match front.shell.purge(order).await {
        Ok(objects) => typed(
            serde_json::json!({ "schema": "nearcast.purge/1", "objects": objects }).to_string(),
            "application/json",
        ),
        Err(PurgeError::Order(error)) => bad(error.to_string()),
        Err(error @ PurgeError::TooMany) => text(StatusCode::TOO_MANY_REQUESTS, error.to_string()),
        Err(error @ PurgeError::Log { .. }) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn ready(front: &Front) -> Response<ResponseBody> {
    if front.stop.is_cancelled() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    text(StatusCode::OK, "ready")
}

pub(super) fn not_allowed(allowed: &'static str) -> Response<ResponseBody> {
    let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} is allowed here"));
    refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    refusal
}

fn json(document: &impl Serialize) -> Response<ResponseBody> {
    match serde_json::to_string(document) {
        Ok(document) => typed(document, "application/json"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn metrics(front: &Front, headers: &HeaderMap) -> Response<ResponseBody> {
    let mut registry = Registry::with_prefix("nearcast");
    front.shell.metrics.register(&mut registry);
    if let Some(end) = front.tls.as_ref().and_then(ServerTls::not_after) {
        registry.register(
            "tls_certificate_not_after_timestamp_seconds",
            "When the listener's certificate ends",
            ConstGauge::new(end.micros() / 1_000_000),
        );
    }
    status::register(&front.shell, &mut registry);
    let mut document = String::new();
    match encode(&mut document, &registry) {
        Ok(()) if exposition::wants_openmetrics(headers) => typed(document, exposition::OPENMETRICS),
        Ok(()) => typed(exposition::prometheus(&document), exposition::PROMETHEUS),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

pub(super) fn typed(document: String, content_type: &'static str) -> Response<ResponseBody> {
    let mut response = text(StatusCode::OK, "");
    // As it is: nothing may follow the end of an OpenMetrics document.
    *response.body_mut() = ResponseBody::bytes(document, None);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Hands a segment to a peer: from what is held, or, unless the peer forbids it, from the origin.
async fn segment(front: &Arc<Front>, request: &Request<Incoming>) -> Response<ResponseBody> {
    let Some((key, index)) = wanted(front, request.uri().query().unwrap_or_default()) else {
        front.shell.metrics.bad_requests.inc();
        return text(StatusCode::CONFLICT, "no key, index and segment_bytes that this node understands");
    };
    let only_if_held = request.headers().get(header::CACHE_CONTROL).is_some_and(|value| value == "only-if-cached");
    let route = if only_if_held { Route::Copy } else { Route::OriginOnly };
    let ask = Ask {
        key,
        index,
        pinned: None,
        route,
        asked_at: clock::now(),
        must_validate: false,
        asked: Arc::new(request.headers().clone()),
        is_whole: false,
    };
    match front.shell.obtain(&ask).await {
        Ok(Obtained::Segment(delivery)) => {
            front.shell.metrics.peer_segments_sent.inc();
            hand_out(delivery)
        }
        Ok(Obtained::NotHeld) => text(StatusCode::NOT_FOUND, "not held"),
        Ok(Obtained::Answered(_) | Obtained::Changed | Obtained::Passed(_) | Obtained::Uncacheable) => {
            text(StatusCode::MISDIRECTED_REQUEST, "not for sharing: ask the origin")
        }
        Err(error) => text(super::respond::status_of(&error), error.to_string()),
    }
}

fn hand_out(delivery: Delivery) -> Response<ResponseBody> {
    let Delivery { object, bytes, served, .. } = delivery;
    let object: SharedObject = object;
    let mut response =
        Response::new(ResponseBody::pieces(peers::encode(&object, &Payload::new(bytes), served.is_hit())));
    let content_type = HeaderValue::from_static("application/vnd.nearcast.segment");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn wanted(front: &Front, query: &str) -> Option<(Key, u32)> {
    let (mut key, mut index, mut segment_bytes) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "key" => key = Key::parse(&value).ok(),
            "index" => index = value.parse().ok(),
            "segment_bytes" => segment_bytes = value.parse().ok(),
            _ => {}
        }
    }
    let is_same_cut = segment_bytes == Some(front.shell.config.segment_bytes);
    is_same_cut.then_some((key?, index?))
}

/// Bytes of a purge's order.
const PURGE_BYTES_MAX: usize = 4 << 20;
